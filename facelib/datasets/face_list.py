"""Lists of face photos, and the table beside prepared crops that they are read from."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from facelib.alignment.crop import CROP_SCALE
from facelib.settings import data_folder

CROP_SIDE = 144  # pixels, of the prepared face crops
COLUMNS = ("people", "splits", "boxes", "points", "sources", "sets")


@dataclass(frozen=True)
class FaceList:
    """n photos of one face each.

    files: n paths; people: (n,) names; splits: (n,) "train", "val", ...; boxes: (n, 4) float32 x1 y1 x2 y2, or
    None where a detector has to find them; points: (n, 5, 2) float32; sources: (n,) where a photo comes from;
    sets: (n,) the set of labels that a landmark face belongs to; each of the last three None where unknown.
    """

    files: list[Path]
    people: np.ndarray
    splits: np.ndarray
    boxes: np.ndarray | None = None
    points: np.ndarray | None = None
    sources: np.ndarray | None = None
    sets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files)

    def select(self, keep: np.ndarray) -> "FaceList":
        """The photos at which the mask (n,) is True, or those with the given indices."""
        index = np.arange(len(self))[keep]
        columns = {name: getattr(self, name)[index] for name in COLUMNS if getattr(self, name) is not None}
        return replace(self, files=[self.files[i] for i in index], **columns)

    @staticmethod
    def join(lists: list["FaceList"]) -> "FaceList":
        """Several lists in a row; a column is kept where all of them have it."""
        columns = {
            name: np.concatenate([getattr(part, name) for part in lists])
            for name in COLUMNS
            if all(getattr(part, name) is not None for part in lists)
        }
        return FaceList([file for part in lists for file in part.files], **columns)


def read_table(path: Path, what: str) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no {what} here. Set FACELIB_DATA to the folder that holds it, or see data/README.md for how "
            "to get it"
        )
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path} lists no photo")
    return rows


def files_of(rows: list[dict[str, str]], table: Path, *columns: str) -> list[Path]:
    """The column `file` as paths beside the table; `columns` must have something in every row too.

    Raises:
        ValueError: a column is missing, or a file lies elsewhere.
    """
    files = []
    for number, row in enumerate(rows, 2):
        missing = [name for name in ("file", "split", *columns) if not row.get(name)]
        if missing:
            raise ValueError(f"{table}, line {number}: nothing under {missing[0]}")
        place = PurePosixPath(row["file"].replace("\\", "/"))
        if (
            not place.parts
            or place.is_absolute()
            or ".." in place.parts
            or ":" in place.parts[0]
            or "\0" in row["file"]
        ):
            raise ValueError(f"{table}, line {number}: {row['file']!r} is no path below {table.parent}")
        files.append(table.parent / row["file"])
    return files


def five_points(rows: list[dict[str, str]]) -> np.ndarray:
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    return np.array([[[r[f"{n}_x"], r[f"{n}_y"]] for n in names] for r in rows], np.float32)


def load_faces(name: str, root: Path | None = None) -> FaceList:
    """Prepared face crops: <root>/<name>/faces.csv beside person/photo files, the box in the middle.

    `name`: "faces_train", "faces_more", "faces_unseen", "lfw", or your own, made by
    `python -m facelib.datasets prepare`. The columns `file`, `person` and `split` are read, and
    where there are such a detector's five points (left_eye_x ... right_mouth_y) and `source`.

    Raises:
        FileNotFoundError: the table is not there.
    """
    folder = (root or data_folder()) / name
    rows = read_table(folder / "faces.csv", "face crops")
    files = files_of(rows, folder / "faces.csv", "person")
    half = CROP_SIDE / CROP_SCALE / 2
    box = np.array([CROP_SIDE / 2 - half] * 2 + [CROP_SIDE / 2 + half] * 2, np.float32)
    return FaceList(
        files,
        np.array([row["person"] for row in rows]),
        np.array([row["split"] for row in rows]),
        np.tile(box, (len(rows), 1)),
        five_points(rows) if "left_eye_x" in rows[0] else None,
        sources=np.array([row["source"] for row in rows]) if "source" in rows[0] else None,
    )


def photo_key(file: Path) -> str:
    """person/photo, the name of a photo in the frozen lists, and what its hash is taken of."""
    return f"{file.parent.name}/{file.name}"
