"""Prepare face crops from photos, and download public sets."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facelib.alignment.crop import crop_matrix, warp_image
from facelib.datasets.face_list import CROP_SIDE, FaceList, warn_of_skipped
from facelib.datasets.sources import load_celeba, load_people_folder
from facelib.datasets.splits import OPEN_SET, hold_out_photos, open_set_photos
from facelib.detection.detector import FaceDetector, load_detector
from facelib.io.files import atomic_write, printable, unique_names
from facelib.io.images import read_image
from facelib.settings import data_folder
from facelib.types import DownloadError

COLUMNS = ["file", "person", "source", "split", "face_width", "det_score"]  # of faces.csv
WEBP_QUALITY = 95
CELEBA_HELD_OUT = 0.1  # share of the photos of CelebA's training people that become "val"


def prepare_crops(faces: FaceList, name: str, detector: FaceDetector | None = None, central: bool = False) -> Path:
    """Write a crop of one face of each photo to <FACELIB_DATA>/<name>/<person>/*.webp, and faces.csv.

    Unreadable photos and photos without a face are reported in a warning and skipped. Where photos of a person differ
    in their suffix only (1.jpg, 1.png), the names of their crops are numbered.

    Args:
        name: of the new set.
        detector: None: the default one.
        central: whether to crop the face nearest to the middle of the photo, instead of the largest one.

    Returns:
        The folder, ready for `load_faces(name)`.

    Raises:
        ValueError: no photo has a face, or `name` is not a plain name.
        OSError: a crop cannot be written.
    """
    folder = data_folder() / name
    if Path(name).name != name:
        raise ValueError(f"{name!r}: expected a name, not a path; the crops go to {data_folder()}/<name>")
    detector = detector or load_detector()
    rows, skipped = [], []
    names = crop_names(faces)
    for i, file in enumerate(tqdm(faces.files, "cropping")):
        try:
            image = read_image(file)
        except (ValueError, OSError) as error:
            skipped.append(str(error))
            continue
        boxes, scores = detector.detect(image)
        if len(boxes) == 0:
            skipped.append(f"{printable(file)}: no face found")
            continue
        face = _most_central(boxes, image) if central else 0
        person, split = faces.people[i], faces.splits[i]
        target = folder / str(person) / f"{names[i]}.webp"
        _write_crop(warp_image(image, crop_matrix(boxes[face], CROP_SIDE), CROP_SIDE), target)
        width = boxes[face, 2] - boxes[face, 0]
        rows.append([f"{person}/{target.name}", person, name, split, f"{width:.1f}", f"{scores[face]:.3f}"])
    warn_of_skipped(skipped, len(faces))
    if not rows:
        raise ValueError(f"none of {len(faces)} photos has a face: {'; '.join(skipped[:5])}")
    with atomic_write(folder / "faces.csv") as path, open(path, "w", newline="") as table:
        csv.writer(table).writerows([COLUMNS, *rows])
    return folder


def _most_central(boxes: np.ndarray, image: np.ndarray) -> int:
    """Index of the box (n, 4) whose centre is nearest to that of the image."""
    middle = np.array(image.shape[1::-1]) / 2
    return int(np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1).argmin())


def _write_crop(crop: np.ndarray, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    bgr = crop[:, :, ::-1]
    _, content = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    with atomic_write(target) as path:
        path.write_bytes(content.tobytes())


def crop_names(faces: FaceList) -> list[str]:
    """Names (without suffix) of the crops of n photos, unique for each person."""
    names = [""] * len(faces)
    for person in np.unique(faces.people):
        rows = np.flatnonzero(faces.people == person)
        for i, name in zip(rows, unique_names(faces.files[i] for i in rows)):
            names[i] = name
    return names


def fetch_lfw() -> Path:
    """Download LFW with scikit-learn, and prepare crops of the photos in the pairs of View 2.

    Raises:
        DownloadError: LFW could not be downloaded.
    """
    from sklearn.datasets import fetch_lfw_pairs

    try:
        fetch_lfw_pairs(subset="10_folds", funneled=False, data_home=data_folder(), resize=0.1)
    except OSError as error:
        raise DownloadError(f"LFW could not be downloaded ({error}): check the network, then try again") from error
    home = data_folder() / "lfw_home"
    listed = set()
    for parts in (line.split("\t") for line in (home / "pairs.txt").read_text().splitlines()[1:]):
        first_person = parts[0]
        second_person = parts[0] if len(parts) == 3 else parts[2]
        listed.add(f"{first_person}_{int(parts[1]):04d}")
        listed.add(f"{second_person}_{int(parts[-1]):04d}")
    faces = load_people_folder(home / "lfw")
    faces = faces.select(np.array([file.stem in listed for file in faces.files]))
    folder = prepare_crops(replace(faces, splits=np.full(len(faces), "lfw")), "lfw", central=True)
    shutil.copy(home / "pairs.txt", folder / "pairs.txt")
    return folder


def fetch_celeba() -> Path:
    """Download CelebA with torchvision (from Google Drive, 1.4 GB), and prepare crops of the people who are not in
    open_val and open_test, as "celeba_crops".

    Raises:
        DownloadError: CelebA could not be downloaded.
    """
    faces = _download_celeba()
    held_out = {row["person"] for row in open_set_photos().values()}
    faces = faces.select(~np.isin(faces.people, list(held_out)))
    # CelebA's own splits hold out people; a classifier needs held-out photos of its training people.
    faces = hold_out_photos(replace(faces, splits=np.full(len(faces), "train")), CELEBA_HELD_OUT)
    return prepare_crops(faces, "celeba_crops")


def fetch_open_set() -> Path:
    """Download CelebA as `fetch_celeba` does, and prepare crops of the photos of open_val and open_test that
    data/open_set.csv lists, as the set `OPEN_SET`.

    Raises:
        DownloadError: CelebA could not be downloaded.
    """
    faces = _download_celeba()
    listed = open_set_photos()
    faces = faces.select(np.array([file.name in listed for file in faces.files]))
    splits = np.array([listed[file.name]["split"] for file in faces.files])
    return prepare_crops(replace(faces, splits=splits), OPEN_SET)


def _download_celeba() -> FaceList:
    from torchvision.datasets import CelebA

    try:
        CelebA(str(data_folder()), split="all", download=True)
    except (OSError, RuntimeError) as error:
        raise DownloadError(
            f"CelebA could not be downloaded ({error}): its host limits downloads a day; try again tomorrow, or put "
            f"the folder img_align_celeba and the lists into {data_folder() / 'celeba'} by hand"
        ) from error
    return load_celeba()
