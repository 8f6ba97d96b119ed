"""Records of results in models/results: JSON and CSV with four significant digits."""

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
    """Folder for the records of weights: models/results for the shipped weights, else the folder of the weights."""
    return RESULTS if models.resolve() == MODELS.resolve() else models


def significant(value: Any) -> Any:
    """The value with floats rounded to four significant digits, also inside mappings and lists."""
    if isinstance(value, Mapping):
        return {name: significant(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [significant(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write_record(path: Path, metrics: Mapping[str, Any], **measured: Any) -> None:
    """Write metrics as JSON, after the date and the circumstances of the measurement.

    Args:
        measured: `command`, `weights` (file name -> first digits of its SHA-256) and `data` (data set -> its size).
    """
    content = {"measured": {"date": datetime.date.today().isoformat(), **measured}, **metrics}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(significant(content), indent=1) + "\n")


def read_record(path: str | Path) -> dict[str, Any]:
    """Read what `write_record` wrote; a relative path is relative to models/results."""
    return json.loads((RESULTS / path).read_text())


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file with one line per row; its columns are those of all rows, in order of first appearance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(significant(row) for row in rows)


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a CSV file, numbers converted, empty cells omitted; a relative path is relative to
    models/results."""
    with open(RESULTS / path, newline="") as file:
        return [{name: _value(name, text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def _value(column: str, text: str) -> Any:
    if column.endswith("hash"):  # 7e193606 is not a number
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
