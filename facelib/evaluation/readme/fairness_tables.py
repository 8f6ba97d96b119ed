"""The tables of error rates by group of people, see `facelib.evaluation.fairness`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from facelib.datasets.groups import group_title
from facelib.evaluation.fairness import WHITE_FMR
from facelib.evaluation.readme.formatting import percent, table
from facelib.io import records
from facelib.io.records import read_record, read_table

COLLECTIONS = {"utkface": "UTKFace", "fairface": "FairFace"}
NOT_MEASURED = "Not measured yet: `python -m facelib.evaluation fairness`."
ORIGINS = ("White", "Black", "Indian", "East Asian")
OWN_FPRS = (0.1, 0.01, 0.001)
SHOWN_RATES = ("0.001", "0.001_low", "0.001_high", "0.001_all", "0.01")


def group_rows(folder: Path | None = None) -> list[dict[str, Any]]:
    """The rows of fairness.csv of a folder (None: models/results); none before it was measured."""
    path = (folder or records.RESULTS) / "fairness.csv"
    return read_table(path) if path.is_file() else []


def worst_group(embedder: str) -> str:
    """The highest false match rate of a group at target 0.001; "-" where it was not measured."""
    rates = [row["fmr_0.001"] for row in group_rows() if row["embedder"] == embedder]
    return f"{max(rates):.2g}" if rates else "-"


def fairness(folder: Path | None = None) -> str:
    """False match rates of all groups and embedders; see `group_rows` for the folder."""
    rows = group_rows(folder)
    if not rows:
        return NOT_MEASURED
    embedders = list(dict.fromkeys(row["embedder"] for row in rows))
    at_targets, times_white = [["group", "people"]], [["group"]]
    for name in embedders:
        at_targets[0] += [f"`{name}`, 0.001", "95 % interval", "with all people", "0.01"]
        times_white[0] += [f"`{name}`, cosine", "score"]
    for of_group in zip(*([row for row in rows if row["embedder"] == name] for name in embedders)):
        collection = of_group[0]["collection"]
        group = f"{COLLECTIONS.get(collection, collection)}, {group_title(of_group[0]['group'])}"
        at_targets.append([group, f"{of_group[0]['people']:,}"])
        times_white.append([group])
        for row in of_group:
            rate, low, high, everyone, loose = (per_thousand(row[f"fmr_{key}"]) for key in SHOWN_RATES)
            at_targets[-1] += [f"**{rate}**", f"{low} to {high}", everyone, loose]
            times_white[-1] += [f"{row[name] / WHITE_FMR:.2g}" for name in ("cosine_white", "score_white")]
    return (
        "Impostor pairs accepted in 1,000, at the product's scores for the targets 0.001 and 0.01:\n\n"
        f"{table(at_targets)}\n\n{_duplicates(folder)}\n\n"
        f"Times the rate of white adults, at the cosine and at the score where those of the collection have "
        f"{WHITE_FMR:g}, to compare embedders:\n\n{table(times_white)}"
    )


def _duplicates(folder: Path | None) -> str:
    counts = read_record((folder or records.RESULTS) / "fairness.json")["duplicates"]
    pairs = [f"{sum(groups.values()):,} pairs of {COLLECTIONS.get(name, name)}" for name, groups in counts.items()]
    return (
        f"Some people are in a collection twice: {' and '.join(pairs)} have scores in the upper quarter of genuine "
        "scores with every embedder. The second photo is left out, but in the columns with all people."
    )


def in_short() -> str:
    """The default embedder's rates in UTKFace, by cosine and by score, in two lines."""
    found = {
        row["group"]: row for row in group_rows() if (row["embedder"], row["collection"]) == ("default", "utkface")
    }
    if not found:
        return NOT_MEASURED
    rows = [["men/women, in 1,000", *ORIGINS, "children", "over 60"]]
    for label, key in (("by cosine", "cosine_white"), ("**by score**", "fmr_0.001")):
        rates = {group: per_thousand(row[key]) for group, row in found.items()}
        pairs = [f"{rates[f'{origin.lower()} men']}/{rates[f'{origin.lower()} women']}" for origin in ORIGINS]
        rows.append([label, *pairs, rates["children to 12"], rates["over 60"]])
    return table(rows)


def per_thousand(share: float) -> str:
    """A share in 1,000, with two significant digits."""
    return f"{1000 * share:.2g}"


def world(folder: Path | None = None) -> str:
    """Verification of public figures from Asia and Africa, by group; see `group_rows` for the folder."""
    if not group_rows(folder):
        return NOT_MEASURED
    own = [f"{fpr:g}" for fpr in OWN_FPRS]
    rows = [["embedder", "group", "people", "photos", "TPR at the product's score", "FMR there"]]
    rows[0] += [f"cosine, own FPR {own[0]}", *own[1:], f"score, own FPR {own[0]}", *own[1:]]
    for name, figures in read_record((folder or records.RESULTS) / "fairness.json")["embedders"].items():
        for group, found in figures.get("faces_world", {}).items():
            row = [f"`{name}`", group, str(found["people"]), str(found["photos"])]
            row += [percent(found["tpr"], 1), percent(found["fmr"], 2)]
            for kind in ("cosine", "score"):
                tpr = {rate["fpr"]: f"{rate['tpr']:.3f}" for rate in found[kind]}
                row += [tpr.get(fpr, "-") for fpr in OWN_FPRS]
            rows.append(row)
    return table(rows)


TABLES: dict[str, Callable[[], str]] = {"fairness": fairness, "world": world, "in_short": in_short}
