"""What was measured: models/results, JSON and CSV with four significant digits, which a browser shows as tables."""

import csv
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facelib.io.files import atomic_write
from facelib.settings import MODELS

RESULTS = MODELS / "results"


def results_folder(models: Path) -> Path:
    """Where records of the weights in a folder go: models/results for the shipped ones, else beside the weights."""
    return RESULTS if models.resolve() == MODELS.resolve() else models


def significant(value: Any) -> Any:
    """Floats rounded to four significant digits, wherever they are in dicts and lists; all else as it is."""
    if isinstance(value, Mapping):
        return {name: significant(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [significant(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write_record(path: Path, metrics: Mapping[str, Any], **measured: Any) -> None:
    """A JSON file of `metrics`, which begins with the date and with how they were measured: `command`, `weights`
    (file name -> the first digits of its hash) and `data` (set -> how much of it)."""
    content = {"measured": {"date": datetime.date.today().isoformat(), **measured}, **metrics}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as new:
        new.write_text(json.dumps(significant(content), indent=1) + "\n")


def read_record(path: str | Path) -> dict[str, Any]:
    """What `write_record` wrote; a name alone is looked for in models/results."""
    return json.loads((RESULTS / path).read_text())


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file, a line a row; the columns are those of all rows, in the order in which they first appear."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as new, open(new, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(significant(row) for row in rows)


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, numbers as numbers, without what a row has nothing of; a name alone is looked for in
    models/results."""
    with open(RESULTS / path, newline="") as file:
        return [{name: _number(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
