"""Tables of face crops: which faces go into one, how they are cropped, and unfinished runs that go on."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facelib.alignment.crop import CROP_SCALE
from facelib.datasets.face_list import CROP_SIDE
from facelib.io.files import atomic_write
from facelib.settings import data_folder

LANDMARK_SIDE, LANDMARK_SCALE = 192, 1.8  # of a landmark crop: pixels, and its side / longer side of the face box


@dataclass(frozen=True)
class FaceToCrop:
    """A face of a photo.

    photo: the photo, a file or a name that `write_crops` is told how to read.
    crop: file of its crop beside the table, "<folder>/<name>.webp".
    columns: of its row in the table, such as person, source and split.
    points: (5, 2) labelled landmarks in pixels of the photo; None: the face is found by a detector.
    box: x1 y1 x2 y2 of the face where the detector finds none; None: the photo is skipped then.
    """

    photo: str | Path
    crop: str
    columns: dict[str, str]
    points: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class CropTable:
    """A table of crops, beside which they lie.

    path: the CSV file.
    side: of a crop, pixels.
    scale: side of a crop / longer side of the face box.
    central: whether the face nearest to the middle of a photo is cropped, instead of the largest one.
    merge_by: column by whose value ("source", "dataset") rows of other data sets are kept; "": the table is new.
    replace: whether rows of the same data set may be replaced.
    """

    path: Path
    side: int = CROP_SIDE
    scale: float = CROP_SCALE
    central: bool = True
    merge_by: str = ""
    replace: bool = False

    def other_rows(self, faces: list[FaceToCrop]) -> list[dict[str, str]]:
        """The rows of other data sets, which are kept.

        Raises:
            ValueError: the table has rows of the data set of `faces`, and `replace` is False.
        """
        if not self.merge_by or not self.path.is_file():
            return []
        with open(self.path, newline="") as file:
            rows = list(csv.DictReader(file))
        names = {face.columns[self.merge_by] for face in faces}
        kept = [row for row in rows if row.get(self.merge_by) not in names]
        if len(kept) < len(rows) and not self.replace:
            raise ValueError(
                f"{self.path} has {len(rows) - len(kept):,} faces of {' and '.join(sorted(names))} already: --replace "
                "replaces them, --name writes another set"
            )
        return kept

    def write(self, rows: list[dict[str, str]]) -> None:
        """Write the table; a column that a row lacks is empty."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with atomic_write(self.path) as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def face_table(name: str, merge: bool = False, replace: bool = False, central: bool = True) -> CropTable:
    """The table of face crops of the set <FACELIB_DATA>/<name>; `merge`: rows of other sources are kept.

    Raises:
        ValueError: `name` is not a plain name.
    """
    path = _table_path(name, "faces.csv")
    return CropTable(path, central=central, merge_by="source" if merge else "", replace=replace)


def landmark_table(name: str, replace: bool = False) -> CropTable:
    """The table of landmark crops of the set <FACELIB_DATA>/<name>; rows of other data sets are kept.

    Raises:
        ValueError: `name` is not a plain name.
    """
    path = _table_path(name, "landmarks.csv")
    return CropTable(path, LANDMARK_SIDE, LANDMARK_SCALE, merge_by="dataset", replace=replace)


def _table_path(name: str, table: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f"{name!r}: expected a name, not a path; the crops go to {data_folder()}/<name>")
    return data_folder() / name / table


@dataclass
class Journal:
    """The rows of a run that has not finished, a line of JSON each, so that the next run goes on where it ended.

    path: the file; removed by `finish`.
    rows: file of a crop -> row.
    """

    path: Path
    rows: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def opened(cls, table: Path, key: str) -> "Journal":
        """The journal beside a table; `key` changes with everything that the rows depend on."""
        table.parent.mkdir(parents=True, exist_ok=True)
        journal = cls(table.parent / f".{table.stem}.{key[:16]}.jsonl")
        for line in journal.path.read_text().splitlines() if journal.path.is_file() else []:
            with contextlib.suppress(ValueError):  # a line that was not written completely
                row = json.loads(line)
                if (table.parent / row["file"]).is_file():
                    journal.rows[row["file"]] = row
        return journal

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[dict[str, str]], None]]:
        """A function that adds a row."""
        with open(self.path, "a", buffering=1) as file:

            def add(row: dict[str, str]) -> None:
                self.rows[row["file"]] = row
                file.write(f"\n{json.dumps(row)}\n")

            yield add

    def finish(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
