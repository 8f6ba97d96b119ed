"""The figures in README.md and models/README.md, made from models/results and the manifest:
`python -m facelib.evaluation.documents` writes them between their marks, with --check it says whether they are right.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from facelib.evaluation.recognition import CORRUPTIONS
from facelib.files import replacing
from facelib.metrics import TURNS
from facelib.records import RESULTS, read_record, read_table
from facelib.settings import MODELS, one_line_errors
from facelib.weights import read_manifest

ROOT = MODELS.parent
PAGES = (ROOT / "README.md", MODELS / "README.md")
TRAININGS = ("model_arcface_first_cycle", "model_arcface", "model_arcface_all_sources")  # of the shipped ensemble
SETS = {"celeba": "CelebA in the wild", "helen": "HELEN", "ytf": "YouTube Faces", "aflw": "AFLW (MTFL test)"}


def table(rows: list[list[str]]) -> str:
    """Markdown; the first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def percent(value: float | None, digits: int | None = None) -> str:
    """With the four significant digits that records have; fewer, where `digits` after the point are enough."""
    if value is None:
        return "-"
    return f"{100 * value:#.4g} %" if digits is None else f"{100 * value:.{digits}f} %"


def rate(value: float | None) -> str:
    """As records have it: rounding once more could move the last digit."""
    return "-" if value is None else f"{value:#.4g}"


def landmarks() -> str:
    """The hourglass on its test sets, beside others."""
    metrics, peers = read_record("hourglass_keypoints.json"), read_table("peers_landmarks.csv")
    head = ["test set", "faces", "NME", "faces above 10 %", "label offset removed", "with flip averaging", "both"]
    rows = [head + [peer["system"] for peer in peers]]
    for key, name in SETS.items():
        ours = metrics[key]
        row = [name, f"{ours['faces']:,}", f"**{percent(ours['nme'])}**", percent(ours["above_10"], 1)]
        row += [percent(ours.get(column)) for column in ("nme_offset", "nme_flip", "nme_flip_offset")]
        rows.append(row + [percent(peer.get(key), 2) for peer in peers])
    sources = "; ".join(f"{peer['system']}: {peer['source']}" for peer in peers)
    return f"{table(rows)}\n\nOthers: {sources}."


def open_test() -> str:
    """The embedder on people never seen, with intervals, and what else is measured of it."""
    metrics = read_record("embedder.json")
    test, lfw, kin = metrics["open_test"], metrics["lfw"], metrics["relatives"]
    rows = [[f"people never seen (open_test, {test['people']} people)", "TPR", "95 % interval"]]
    for row in test["identification_rate"]:
        low, high = row["interval_95"]
        rows.append([f"FPR {row['fpr']:g}", f"**{rate(row['tpr'])}**", f"{rate(low)} to {rate(high)}"])
    found = {name: f"{name} {percent(row['tpr'], 1)}" for name, row in metrics["robustness"].items()}
    changed = ", ".join(found[name] for name in CORRUPTIONS)
    turned = ", ".join(found[name] for name in TURNS)
    whole = percent(metrics["robustness"]["as they are"]["tpr"], 1)
    return (
        f"{table(rows)}\n\n"
        f"AUC {rate(test['auc'])}, EER {rate(test['eer'])}, rank-1 {rate(test['rank_1'])} (nearest other of all "
        f"photos). LFW View 2: {percent(lfw['accuracy'])} ± {percent(lfw['standard_error'])} (standard error over ten "
        f"folds), TPR {rate(lfw['tpr_at_fpr_0.001'])} at FPR 0.001. At the threshold of the manifest, "
        f"{percent(kin['same_person'], 1)} of the pairs of one person in held-out families (photos decades apart "
        f"among them), {percent(kin['relatives'])} of the pairs of relatives and {percent(kin['strangers'])} of the "
        "pairs of strangers there count as the same person.\n\n"
        f"Robustness at that threshold, pairs of one person in open_test: {whole} as they are; one of the two photos "
        f"{changed}; by the head turned further: {turned}."
    )


def network(name: str) -> str:
    """One network in a few lines: strangers, LFW, and the people that it was trained on."""
    metrics, training = read_record(f"{Path(name).stem}.json"), read_record(f"{Path(name).stem}_training.json")
    rates = {row["fpr"]: rate(row["tpr"]) for row in metrics["open_test"]["identification_rate"]}
    test, lfw = metrics["open_test"], metrics["lfw"]
    again = {row["networks"]: row for row in read_table("closed_set.csv")}[name]
    return (
        f"open_test: TPR {rates[0.1]}, {rates[0.01]}, {rates[0.001]} at FPR 0.1, 0.01, 0.001; "
        f"AUC {rate(test['auc'])}, EER {rate(test['eer'])}, rank-1 {rate(test['rank_1'])}. "
        f"LFW View 2: {percent(lfw['accuracy'])} ± {percent(lfw['standard_error'])}. "
        "Closed set, held-out photos of training people: as the training ended, by its own logits, "
        f"top-1 {rate(training['closed_set_top1'])}, top-5 {rate(training['closed_set_top5'])}; on the photos as they "
        f"are stored now, by the nearest class centre of {again['people']:,} people, {rate(again['top1'])} and "
        f"{rate(again['top5'])}."
    )


def threshold() -> str:
    """What the shipped threshold means."""
    distance = read_manifest()["embedder"]["threshold"]["cosine_distance"]
    return (
        f"Cosine distance **{distance:.3f}**: below it, one in 1,000 pairs of strangers among the people of open_val "
        "would be called the same person. Where a false match costs more, take a smaller one. It was chosen on pairs "
        "from different photos; people within one photo share its light and camera, and in the sample photo two of the "
        "six come below it (notebook 3)."
    )


def systems() -> str:
    """The front page's table: this repository beside others, and its landmarks beside one."""
    metrics, data = read_record("embedder.json"), read_record("model_arcface_training.json")["measured"]["data"]
    rates = {f"tpr_{row['fpr']:g}": row["tpr"] for row in metrics["open_test"]["identification_rate"]}
    photos = int(re.search(r"(\d+) photos", data)[1])
    passes = [row for name in TRAININGS for row in read_table(f"{name}_history.csv")]
    hours = sum(photos / row["images_per_s"] for row in passes) / 3600
    ours = {"system": "**this repository**", "learned_from": "labels only", "photos": f"{photos:,}", **rates}
    ours |= {"lfw": metrics["lfw"]["accuracy"], "source": f"measured; trained in {hours:.0f} hours on two CPU cores"}
    rows = [["", "learned from", "photos", "strangers told apart: TPR at FPR 0.01", "0.001", "LFW", "how we know"]]
    for one in (ours, *read_table("peers_recognition.csv")):
        digits = rate if one is ours else "{:.3f}".format  # others give three
        figures = [digits(one[key]) if key in one else "-" for key in ("tpr_0.01", "tpr_0.001")]
        rows.append(
            [one["system"], one["learned_from"], str(one["photos"]), *figures, percent(one.get("lfw")), one["source"]]
        )
    found = read_record("hourglass_keypoints.json")
    net = next(peer for peer in read_table("peers_landmarks.csv") if peer["system"] == "O-Net")
    celeba, aflw = (f"{percent(found[key]['nme_flip'])} ({percent(net[key], 2)})" for key in ("celeba", "aflw"))
    return (
        f"{table(rows)}\n\nLandmarks, mean error in % of the eye distance with flip averaging, in brackets MTCNN's "
        f"O-Net: CelebA {celeba}, AFLW, which the network never saw, {aflw}."
    )


def detection() -> str:
    """Faces found and made up by both detectors."""
    counts = {
        (r["detector"], r["rule"], r["version"]): f"{r['found']} / {r['false']}" for r in read_table("detection.csv")
    }
    versions = list(dict.fromkeys(version for _, _, version in counts))
    shipped = "as shipped: doubtful ones seen closer"
    rows = [["photos", "RetinaFace, from 0.8", "from 0.5", "**as shipped**", "SCRFD, from 0.5", "**as shipped**"]]
    for version in versions:
        row = [counts["retinaface", f"score from {score}", version] for score in (0.8, 0.5)]
        row += [f"**{counts['retinaface', shipped, version]}**", counts["insightface", "score from 0.5", version]]
        rows.append([version, *row, f"**{counts['insightface', shipped, version]}**"])
    return table(rows)


def crowds() -> str:
    """Faces found on large photos, as a whole and in parts, and what that costs."""
    by = {(row["picture"], row["detector"], row["rule"]): row for row in read_table("crowds.csv")}
    rows = [["picture", "faces"]]
    rows[0] += [f"{name}, {rule}" for name in ("SCRFD", "RetinaFace") for rule in ("whole", "in parts")] + [
        "peak memory"
    ]
    for picture in dict.fromkeys(picture for picture, _, _ in by):
        of = [by[picture, name, rule] for name in ("insightface", "retinaface") for rule in ("whole", "in parts")]
        cells = [f"{one['found']} / {one['false']}, {one['seconds']:.2f} s" for one in of]
        size = f"{picture} ({of[0]['width']:,} x {of[0]['height']:,})"
        memory = max(one["peak_memory_mb"] for one in of)
        rows.append([size, str(of[0]["faces"]), *cells, f"{memory:,.0f} MB"])
    return f"{table(rows)}\n\nFound / made up, and the time of the detector."


PARTS: dict[str, Callable[[], str]] = {
    "systems": systems,
    "landmarks": landmarks,
    "open_test": open_test,
    "threshold": threshold,
    "detection": detection,
    "crowds": crowds,
    **{
        stem: lambda name=f"{stem}.pt": network(name)
        for stem in ("model_arcface", "model_arcface_all_sources", "model_cross_entropy")
    },
}


def filled(text: str) -> str:
    """A page with every part between its marks, `<!-- NAME -->` and `<!-- end -->`, made anew.

    Raises:
        ValueError: a mark of no part.
    """

    def fill(match: re.Match) -> str:
        if match[1] not in PARTS:
            raise ValueError(f"<!-- {match[1]} -->: no such part; there are {', '.join(PARTS)}")
        return f"<!-- {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?\n?<!-- end -->", fill, text, flags=re.DOTALL)


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.documents", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a page is not as it should"
    )
    options = parser.parse_args()
    wrong = [page for page in PAGES if filled(page.read_text()) != page.read_text()]
    for page in wrong:
        if not options.check:
            text = filled(page.read_text())
            with replacing(page) as path:
                path.write_text(text)
        print(f"{page}: {'says something else than ' + str(RESULTS) if options.check else 'written'}")
    return int(options.check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
