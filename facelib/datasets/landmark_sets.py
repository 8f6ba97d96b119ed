"""Landmark labels as their authors publish them, to landmark crops with five points.

Of 68 points (300-W) and 98 (WFLW), an eye is the mean of the points around it. Points become pixel centres with the
first pixel at 0: 300-W and MTFL count pixels from 1.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from facelib.datasets.celeba import (
    ALIGNED_POINTS,
    IDENTITIES,
    PARTITION,
    celeba_files,
    celeba_list,
    celeba_people,
    celeba_photo,
    read_celeba_list,
)
from facelib.datasets.crop_tables import FaceToCrop, landmark_table
from facelib.datasets.crops import crop_published
from facelib.datasets.published_files import PublishedFiles
from facelib.datasets.splits import stable_hash

Groups = tuple[list[int], ...]  # of each of the five points the labelled points whose mean it is
FROM_68: Groups = (list(range(36, 42)), list(range(42, 48)), [30], [48], [54])
FROM_98: Groups = (list(range(60, 68)), list(range(68, 76)), [54], [76], [82])
CELEBA_SPLITS = ("train", "val", "test")  # 0, 1 and 2 in list_eval_partition
WILD_POINTS = "list_landmarks_celeba"  # of CelebA's photos before they were aligned
# Folder in 300-W's archives -> split, by data set.
SPLIT_FOLDERS = {
    "helen": {"trainset": "train", "testset": "test"},
    "lfpw": {"trainset": "train", "testset": "test"},
    "afw": {"": "train"},
    "300w": {"01_Indoor": "test", "02_Outdoor": "test"},
}
WFLW_LISTS = {"train": "list_98pt_rect_attr_train.txt", "test": "list_98pt_rect_attr_test.txt"}
# List of MTFL -> folder of the photos that are used, data set, split. Its third folder, lfw_5590, is LFW.
MTFL_LISTS = {"training.txt": ("net_7876", "net", "train"), "testing.txt": ("AFLW", "aflw", "test")}


def five_points(points: np.ndarray, groups: Groups) -> np.ndarray:
    """Five landmarks (5, 2) float32 of more (n, 2): eyes, nose tip, mouth corners, left and right in the image."""
    return np.stack([points[group].mean(0) for group in groups]).astype(np.float32)


def fetch_celeba_landmarks(
    paths: Sequence[Path] = (), check: bool = True, name: str = "landmarks", replace: bool = False
) -> Path:
    """Landmark crops of one photo of each person of CelebA, chosen by its hash, in CelebA's own splits.

    The photos before alignment (folder img_celeba and list_landmarks_celeba.txt) are used where they are among
    `paths`, because their labels are finer; else the aligned ones.

    Args:
        paths, check: see `celeba_files`.
        name: of the set.
        replace: whether faces of CelebA that the set has already are replaced.

    Raises:
        DownloadError, FileNotFoundError, ValueError: see `celeba_files`.
    """
    with celeba_files(paths, [IDENTITIES, PARTITION, ALIGNED_POINTS], check) as files:
        return crop_published(files, celeba_landmarks(files), landmark_table(name, replace))


def celeba_landmarks(files: PublishedFiles) -> list[FaceToCrop]:
    """One labelled face of each person of CelebA."""
    people, splits = celeba_people(files), read_celeba_list(files, PARTITION)
    is_wild = celeba_list(files, WILD_POINTS) is not None and any(files.find(f"img_celeba/{photo}") for photo in people)
    points = read_celeba_list(files, WILD_POINTS if is_wild else ALIGNED_POINTS)
    chosen: dict[str, str] = {}
    for photo in sorted(people, key=stable_hash):
        found = files.find(f"img_celeba/{photo}") if is_wild else celeba_photo(files, photo)
        if found and photo in points and photo in splits:
            chosen.setdefault(people[photo], photo)
    return [
        FaceToCrop(
            files.find(f"img_celeba/{photo}") if is_wild else celeba_photo(files, photo),
            f"celeba/{Path(photo).stem}.webp",
            _columns("celeba", CELEBA_SPLITS[int(splits[photo][0])], person),
            np.array(points[photo], np.float32).reshape(5, 2),
        )
        for person, photo in chosen.items()
    ]


def _columns(dataset: str, split: str, person_or_photo: str) -> dict[str, str]:
    return {"dataset": dataset, "split": split, "person_or_photo": person_or_photo}


def pts_landmarks(files: PublishedFiles, dataset: str) -> list[FaceToCrop]:
    """The faces of one of 300-W's archives: photos with a .pts file of 68 points beside each.

    Args:
        dataset: a key of `SPLIT_FOLDERS`.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: a .pts file has another number of points.
    """
    by_stem = {name.rsplit(".", 1)[0]: name for name, _ in files.photos()}
    faces = []
    for name in files.names:
        path = PurePosixPath(name)
        photo = by_stem.get(name.removesuffix(".pts"))
        folders = SPLIT_FOLDERS[dataset]
        split = next((split for folder, split in folders.items() if not folder or folder in path.parts), None)
        if path.suffix != ".pts" or photo is None or split is None or path.stem.endswith("_mirror"):
            continue
        points = five_points(read_pts(files.text(name), name) - 1, FROM_68)
        # Several faces of a photo are numbered in HELEN and AFW; all of them belong to one split.
        same_photo = re.sub(r"_\d+$", "", path.stem) if dataset in ("helen", "afw") else path.stem
        crop = f"{dataset}/{path.stem}.webp"
        faces.append(FaceToCrop(photo, crop, _columns(dataset, split, same_photo), points))
    if not faces:
        below = " or ".join(f"{folder}/" for folder in SPLIT_FOLDERS[dataset] if folder) or "any folder"
        raise FileNotFoundError(f"{files}: no photo with a .pts file of 68 points beside it below {below}")
    return faces


def read_pts(text: str, name: str) -> np.ndarray:
    """The 68 points (68, 2) of a .pts file, as they are written.

    Raises:
        ValueError: they are not 68 points.
    """
    inside = re.search(r"\{(.*)\}", text, re.DOTALL)
    try:
        points = np.array(inside[1].split() if inside else [], np.float64).reshape(-1, 2)
    except ValueError:
        points = np.zeros((0, 2))
    if len(points) != 68:
        raise ValueError(f"{name} has {len(points)} points: expected 68 lines 'x y' between braces")
    return points


def wflw_landmarks(files: PublishedFiles) -> list[FaceToCrop]:
    """The faces of WFLW: photos, and two lists with 98 points, a box, six attributes and the photo in each line.

    Raises:
        FileNotFoundError: a list or a photo is not there.
        ValueError: a line has another number of values.
    """
    faces = []
    for split, list_name in WFLW_LISTS.items():
        lines = files.text(files.require(list_name, "WFLW_annotations.tar.gz, unpacked or not")).splitlines()
        for number, line in enumerate(lines):
            *values, photo = line.split()
            if len(values) != 98 * 2 + 4 + 6:
                raise ValueError(f"{list_name}, line {number + 1}: {len(values)} numbers, expected 206 and a photo")
            points = five_points(np.array(values[:196], np.float64).reshape(-1, 2), FROM_98)
            name = files.require(photo, "WFLW_images.tar.gz, unpacked or not")
            stem = PurePosixPath(photo).stem
            faces.append(FaceToCrop(name, f"wflw/{split}{number:04d}.webp", _columns("wflw", split, stem), points))
    return faces


def mtfl_landmarks(files: PublishedFiles) -> list[FaceToCrop]:
    """The faces of MTFL from AFLW (its test list, data set "aflw") and from the web (of its training list, "net").

    Raises:
        FileNotFoundError: a list or a photo is not there.
        ValueError: a line has another number of values.
    """
    faces = []
    for list_name, (folder, dataset, split) in MTFL_LISTS.items():
        lines = files.text(files.require(list_name, "MTFL.zip, unpacked or not")).splitlines()
        for number, line in enumerate(lines, 1):
            path, *values = line.replace("\\", "/").split() or [""]
            if not path.startswith(f"{folder}/"):
                continue
            if len(values) < 10:
                raise ValueError(f"{list_name}, line {number}: {len(values)} numbers, expected five x and five y")
            points = np.array(values[:10], np.float64).reshape(2, 5).T - 1  # five x, then five y
            stem = PurePosixPath(path).stem
            photo = stem.split("-", 1)[-1] if dataset == "aflw" else stem
            name = files.require(path, "MTFL.zip, unpacked or not")
            columns = _columns(dataset, split, photo)
            faces.append(FaceToCrop(name, f"{dataset}/{stem}.webp", columns, points.astype(np.float32)))
    return faces


LandmarkReader = Callable[[PublishedFiles], list[FaceToCrop]]
LANDMARK_SETS: dict[str, LandmarkReader] = {
    "helen": lambda files: pts_landmarks(files, "helen"),
    "lfpw": lambda files: pts_landmarks(files, "lfpw"),
    "afw": lambda files: pts_landmarks(files, "afw"),
    "300w": lambda files: pts_landmarks(files, "300w"),
    "wflw": wflw_landmarks,
    "mtfl": mtfl_landmarks,
}


def convert_landmarks(dataset: str, paths: Sequence[Path], name: str = "landmarks", replace: bool = False) -> Path:
    """Landmark crops of one of `LANDMARK_SETS`, added to a set.

    Args:
        paths: archives of the authors, or folders with them, packed or not.
        name: of the set.
        replace: whether faces of the same data set that it has already are replaced.

    Returns:
        The folder of the set, ready for `load_landmark_list`.

    Raises:
        FileNotFoundError: a file is missing; names it.
        ValueError: a file is not as expected, or the set has faces of this data set already.
    """
    with PublishedFiles(paths) as files:
        return crop_published(files, LANDMARK_SETS[dataset](files), landmark_table(name, replace))
