"""Lists of face photos, and the CSV file beside prepared crops that they are read from."""

import csv
import warnings
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from facelib.alignment.crop import CROP_SCALE
from facelib.settings import data_folder

CROP_SIDE = 144  # pixels, side of a prepared face crop
COLUMNS = ("people", "splits", "boxes", "points", "sources", "sets")
POINT_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # columns <name>_x and <name>_y


@dataclass(frozen=True)
class FaceList:
    """n photos of one face each, in columns."""

    files: list[Path]  # n paths
    people: np.ndarray  # (n,) str, person ID of each photo
    splits: np.ndarray  # (n,) str, "train", "val", "test", "open_val", ...
    boxes: np.ndarray | None = None  # (n, 4) float32, x1 y1 x2 y2 in pixels; None: a detector has to find them
    points: np.ndarray | None = None  # (n, 5, 2) float32, landmarks in pixels; None: not labelled
    sources: np.ndarray | None = None  # (n,) str, data set that a photo comes from; None: unknown
    sets: np.ndarray | None = None  # (n,) str, set of landmark labels that a face belongs to; None: no such labels

    def __len__(self) -> int:
        return len(self.files)

    def select(self, keep: np.ndarray) -> "FaceList":
        """The photos where a mask (n,) is True, or those with the given indices (m,)."""
        index = np.arange(len(self))[keep]
        columns = {name: getattr(self, name)[index] for name in COLUMNS if getattr(self, name) is not None}
        return replace(self, files=[self.files[i] for i in index], **columns)

    @staticmethod
    def join(lists: list["FaceList"]) -> "FaceList":
        """Concatenate lists; an optional column is kept where all of them have it."""
        columns = {
            name: np.concatenate([getattr(part, name) for part in lists])
            for name in COLUMNS
            if all(getattr(part, name) is not None for part in lists)
        }
        return FaceList([file for part in lists for file in part.files], **columns)


def read_rows(path: Path, content: str) -> list[dict[str, str]]:
    """Rows of a CSV file of photos, column name -> text.

    Args:
        content: what the file lists, for the error message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no rows.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no {content} here. Set FACELIB_DATA to the folder that holds them, or see data/README.md for how "
            "to get them"
        )
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path} lists no photos: make it again, see data/README.md")
    return rows


def row_files(rows: list[dict[str, str]], table: Path, *required: str) -> list[Path]:
    """The column `file` of a CSV file as paths beside it.

    Args:
        table: the CSV file.
        required: further columns that must not be empty in any row.

    Raises:
        ValueError: a required column is missing or empty, or a path leads out of the folder of the CSV file.
    """
    files = []
    for number, row in enumerate(rows, 2):
        if missing := [name for name in ("file", "split", *required) if not row.get(name)]:
            raise ValueError(f"{table}, line {number}: the column {missing[0]} is empty or missing")
        path = PurePosixPath(row["file"].replace("\\", "/"))
        leads_out = not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
        if leads_out or "\0" in row["file"]:
            raise ValueError(f"{table}, line {number}: {row['file']!r} is not a path below {table.parent}")
        files.append(table.parent / row["file"])
    return files


def row_points(rows: list[dict[str, str]]) -> np.ndarray:
    """(n, 5, 2) float32, the five landmarks in the columns left_eye_x ... right_mouth_y."""
    return np.array([[[row[f"{name}_x"], row[f"{name}_y"]] for name in POINT_NAMES] for row in rows], np.float32)


def load_faces(name: str, root: Path | None = None) -> FaceList:
    """Prepared face crops, with the face box in the middle of each.

    Reads <root>/<name>/faces.csv, beside which the crops lie as <person>/<photo>. Its columns are `file`, `person`
    and `split`, and optionally `source` and a detector's five landmarks (left_eye_x ... right_mouth_y).

    Args:
        name: "faces_train", "faces_more", "faces_unseen", "lfw", or your own, see `python -m facelib.datasets prepare`.
        root: None: FACELIB_DATA.

    Raises:
        FileNotFoundError: there is no faces.csv.
        ValueError: faces.csv is invalid, see `row_files`.
    """
    folder = (root or data_folder()) / name
    rows = read_rows(folder / "faces.csv", "face crops")
    files = row_files(rows, folder / "faces.csv", "person")
    half_box = CROP_SIDE / CROP_SCALE / 2
    box = np.array([CROP_SIDE / 2 - half_box] * 2 + [CROP_SIDE / 2 + half_box] * 2, np.float32)
    return FaceList(
        files,
        people=np.array([row["person"] for row in rows]),
        splits=np.array([row["split"] for row in rows]),
        boxes=np.tile(box, (len(rows), 1)),
        points=row_points(rows) if "left_eye_x" in rows[0] else None,
        sources=np.array([row["source"] for row in rows]) if "source" in rows[0] else None,
    )


def photo_key(file: Path) -> str:
    """person/photo: the name of a photo in the frozen lists, and the text that its hash is taken of."""
    return f"{file.parent.name}/{file.name}"


def warn_of_skipped(skipped: list[str], photos: int) -> None:
    """Warn the caller's caller of skipped photos, with the first five of the reasons, out of `photos` photos."""
    if skipped:
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        warnings.warn(f"{len(skipped)} of {photos} photos skipped: {'; '.join(skipped[:5])}{more}", stacklevel=3)
