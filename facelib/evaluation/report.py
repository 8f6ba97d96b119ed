"""One page with all figures: `python -m facelib.evaluation report [--models FOLDER] --out report.html`.

It shows the records of the shipped networks, or of a folder with networks of one's own: tables, curves, where each
figure comes from, and the environment. The tables are those of README.md and models/README.md, written by the same
functions. The page is one file that loads nothing and links to nothing outside; figures are of data sets, not of the
people who use the package, so it follows the umask like any file that is made to be shown.
"""

import argparse
import datetime
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment

from facelib.evaluation.environment import environment
from facelib.evaluation.readme.__main__ import TABLES
from facelib.evaluation.readme.detection_tables import landmarks
from facelib.evaluation.readme.fairness_tables import fairness, group_rows, world
from facelib.evaluation.readme.formatting import table
from facelib.evaluation.readme.record_tables import decisions, identification, open_test
from facelib.evaluation.report_html import curves, group_picture, to_html
from facelib.io.files import atomic_write
from facelib.io.records import results_folder
from facelib.runtime.manifest import embedder_networks, embedder_uses_flip, named_embedders, read_manifest
from facelib.settings import MODELS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
# Tables of the pages that are on the page of the shipped networks once more; others are there by their records.
PAGE_TABLES = {
    "Other systems": ("systems", "peers", "libraries"),
    "How the embedders were chosen": ("embedders", "choice", "threshold"),
    "Trainings": (
        "training_distilled",
        "training_arcface",
        "training_triplet",
        "training_arcface_cpu",
        "labels_only",
        "celeba_quarters",
    ),
    "Detectors": ("detection", "crowds"),
    "Video": ("video_tracking", "video_by_kind", "video_speed", "video_memory"),
    "Hidden faces": ("hidden_faces", "hidden_in_clips", "recognised_although_hidden"),
    "Label conventions": ("label_offsets",),
    "Landmarks from CelebA alone": ("celeba_landmarks",),
    "Archives": ("archive_search", "archive_people", "archive_throughput", "archive_larger"),
}
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
div { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; margin: 1rem 0 }
td, th { border: 1px solid #ccc; padding: .2rem .5rem; text-align: left } th { background: #f3f3f3 }
h2 { margin-top: 2.5rem } nav { columns: 18rem } img { max-width: 100% } code { font-size: 13px }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>Written on {{ date }} by python -m facelib.evaluation report. TPR: true positive rate, FPR and FMR: false positive
and false match rate, over pairs of photos of people who are in no training set.</p>
<nav>{% for name in sections %}<a href="#s{{ loop.index }}">{{ name }}</a><br>{% endfor %}</nav>
{%- for name, content in sections.items() %}
<h2 id="s{{ loop.index }}">{{ name }}</h2>
{{ content | safe }}
{%- endfor %}
</body>
</html>
"""


def read_records(models: Path) -> dict[str, dict[str, Any]]:
    """The records of the networks and embedders of a folder, by name.

    Raises:
        FileNotFoundError: there is none.
    """
    folder, manifest = results_folder(models), read_manifest(models)
    names = [*named_embedders(models), *(Path(name).stem for name in manifest if name.endswith(".pt"))]
    names += ["dlib"] * (folder == results_folder(MODELS)) + ["identification", "fairness"]
    paths = {name: folder / f"{name}.json" for name in names}
    records = {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}
    if not records:
        command = f"python -m facelib.evaluation --models {models}"
        raise FileNotFoundError(f"{folder}: no records of the weights in {models}; measure them with {command}")
    return records


def weights_table(models: Path) -> str:
    """The weights files of a folder with their hashes, and which of them make which embedder."""
    rows = [["file", "SHA-256", "date", "learned from", "there"]]
    for name, entry in read_manifest(models).items():
        if "sha256" in entry:
            there = "yes" if (models / name).is_file() else "no"
            learned_from = str(entry.get("learned_from", "-"))
            rows.append([name, f"`{entry['sha256']}`", str(entry.get("date", "-")), learned_from, there])
    embedders = [["embedder", "networks", "flip averaging"]]
    for name in named_embedders(models):
        networks = " + ".join(path.name for path in embedder_networks(models, name))
        embedders.append([name, networks, "yes" if embedder_uses_flip(models, name) else "no"])
    return "\n\n".join(table(each) for each in (rows, embedders) if len(each) > 1)


def provenance_table(records: Mapping[str, dict[str, Any]]) -> str:
    """Command, date, weights, data and environment of each record."""
    rows = [["record", "date", "command", "weights", "data", "environment", "figures of earlier runs"]]
    for name, record in records.items():
        measured = record["measured"]
        cells = [_pairs(measured.get(key, {})) for key in ("weights", "data", "environment", "earlier")]
        rows.append([name, measured["date"], f"`{measured['command']}`", *cells])
    return table(rows)


def _pairs(values: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in values.items()) or "-"


def sections(models: Path) -> dict[str, str]:
    """Titles and HTML of the sections of the page."""
    folder, records = results_folder(models), read_records(models)
    versions = table([["part", "version"], *map(list, environment().items())])
    parts = {"Environment": to_html(f"{versions}\n\n{weights_table(models)}")}
    parts["Where each figure comes from"] = to_html(provenance_table(records))
    if compared := {name: record for name, record in records.items() if "open_test" in record}:
        parts["Curves on open_test"] = curves(compared)
    writers: dict[str, tuple[Callable[[str], str], ...]] = {}
    for name, record in records.items():
        if {"open_test", "lfw"} & record.keys():
            writers[name] = (open_test, decisions) if record.get("calibration") else (open_test,)
        elif name == "identification":
            writers[name] = (identification,)
        elif name != "fairness":
            writers[name] = (landmarks,)
    for name, functions in writers.items():
        parts[name] = to_html("\n\n".join(write(str(folder / name)) for write in functions))
    if "fairness" in records:
        pictures = group_picture(group_rows(folder))
        parts["Error rates by group"] = pictures + to_html(f"{fairness(folder)}\n\n{world(folder)}")
    if models.resolve() == MODELS.resolve():
        comparisons = tuple(name for name in TABLES if name.startswith("comparison_"))
        for title, names in (PAGE_TABLES | {"Comparisons": comparisons}).items():
            parts[title] = "".join(f"<h3>{name.replace('_', ' ')}</h3>{to_html(TABLES[name]())}" for name in names)
    return parts


def write_report(models: Path, out: Path) -> None:
    """Write the page of the networks of a folder.

    Raises:
        FileNotFoundError: see `read_records`.
        OSError: it cannot be written.
    """
    shipped = models.resolve() == MODELS.resolve()
    title = "Figures of the shipped networks" if shipped else f"Figures of the networks in {models.resolve().name}"
    render = partial(Environment(autoescape=True).from_string(TEMPLATE).render, policy=POLICY, title=title)
    page = render(date=datetime.date.today().isoformat(), sections=sections(models))
    with atomic_write(out) as path:
        path.write_text(page, encoding="utf-8")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m facelib.evaluation report", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the weights, with their records")
    parser.add_argument("--out", type=Path, required=True, help="HTML file to write")
    options = parser.parse_args(arguments)
    write_report(options.models, options.out)
    print(f"{options.out}: written")
    return 0
