"""Photos to prepared crops, and the downloads of public sets."""

import csv
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facelib.alignment.crop import crop_matrix, warp_image
from facelib.datasets.face_list import CROP_SIDE, FaceList
from facelib.datasets.sources import load_celeba, load_people_folder
from facelib.datasets.splits import UNSEEN, hold_out_photos, open_set_photos
from facelib.detection.detector import FaceDetector, load_detector
from facelib.io.files import atomic_write, printable, unique_names
from facelib.io.images import read_image
from facelib.settings import data_folder


def prepare_crops(faces: FaceList, name: str, detector: FaceDetector | None = None, central: bool = False) -> Path:
    """Cut the face out of every photo and write <FACELIB_DATA>/<name>/<person>/*.webp and faces.csv.

    The largest face of a photo counts, or with `central` the one nearest to its middle. Photos that
    cannot be read or show no face are left out, counted and named in a warning. Where photos of a person
    differ only in their ending (1.jpg, 1.png), their crops are numbered.

    Returns:
        The folder, ready for `load_faces(name)`.

    Raises:
        ValueError: no photo gave a face, or `name` is no plain name. OSError: a crop cannot be written.
    """
    folder = data_folder() / name
    if Path(name).name != name:
        raise ValueError(f"{name!r}: expected a name, not a path; the crops go to {data_folder()}/<name>")
    detector = detector or load_detector()
    rows, left_out = [], []
    names = crop_names(faces)
    for i, (file, person, split) in enumerate(tqdm(list(zip(faces.files, faces.people, faces.splits)), "cutting")):
        try:
            image = read_image(file)
        except (ValueError, OSError) as error:
            left_out.append(str(error))
            continue
        boxes, scores = detector.detect(image)
        if len(boxes) == 0:
            left_out.append(f"{printable(file)}: no face found")
            continue
        best = _most_central(boxes, image) if central else 0
        target = folder / str(person) / f"{names[i]}.webp"
        _write_crop(warp_image(image, crop_matrix(boxes[best], CROP_SIDE), CROP_SIDE), target)
        width = boxes[best, 2] - boxes[best, 0]
        rows.append([f"{person}/{target.name}", person, name, split, f"{width:.1f}", f"{scores[best]:.3f}"])
    if left_out:
        warnings.warn(f"{len(left_out)} of {len(faces)} photos left out: {'; '.join(left_out[:5])}", stacklevel=2)
    if not rows:
        raise ValueError(f"none of {len(faces)} photos shows a face: {'; '.join(left_out[:5])}")
    with atomic_write(folder / "faces.csv") as path, open(path, "w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["file", "person", "source", "split", "face_width", "det_score"])
        writer.writerows(rows)
    return folder


def _most_central(boxes: np.ndarray, image: np.ndarray) -> int:
    middle = np.array(image.shape[1::-1]) / 2
    return int(np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1).argmin())


def _write_crop(crop: np.ndarray, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as path:
        path.write_bytes(cv2.imencode(".webp", crop[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, 95])[1].tobytes())


def crop_names(faces: FaceList) -> list[str]:
    """The names (without ending) of the crops of a list, different for the photos of a person."""
    names = [""] * len(faces)
    for person in np.unique(faces.people):
        rows = np.flatnonzero(faces.people == person)
        for i, name in zip(rows, unique_names(faces.files[i] for i in rows)):
            names[i] = name
    return names


def fetch_lfw() -> Path:
    """Download LFW with scikit-learn, and prepare the photos that View 2 names."""
    from sklearn.datasets import fetch_lfw_pairs

    try:
        fetch_lfw_pairs(subset="10_folds", funneled=False, data_home=data_folder(), resize=0.1)
    except OSError as error:
        raise RuntimeError(f"LFW could not be downloaded ({error}): is there a way to the network?") from error
    home = data_folder() / "lfw_home"
    named = set()
    for parts in (line.split("\t") for line in (home / "pairs.txt").read_text().splitlines()[1:]):
        people = [parts[0], parts[0]] if len(parts) == 3 else [parts[0], parts[2]]
        named |= {f"{person}_{int(photo):04d}" for person, photo in zip(people, (parts[1], parts[-1]))}
    faces = load_people_folder(home / "lfw")
    faces = faces.select(np.array([file.stem in named for file in faces.files]))
    folder = prepare_crops(replace(faces, splits=np.full(len(faces), "lfw")), "lfw", central=True)
    shutil.copy(home / "pairs.txt", folder / "pairs.txt")
    return folder


def fetch_celeba() -> Path:
    """Download CelebA with torchvision (from Google Drive, 1.4 GB), and prepare the crops of the people of whom nobody
    is in open_val or open_test."""
    faces = _download_celeba()  # whose own splits hold out people, not photos
    held_out = {row["person"] for row in open_set_photos().values()}
    faces = faces.select(~np.isin(faces.people, list(held_out)))
    faces = hold_out_photos(replace(faces, splits=np.full(len(faces), "train")), 0.1)
    return prepare_crops(faces, "celeba_crops")


def fetch_open_set() -> Path:
    """Download CelebA as `fetch_celeba` does, and prepare the photos of open_val and open_test that data/open_set.csv
    names."""
    faces, listed = _download_celeba(), open_set_photos()
    faces = faces.select(np.array([file.name in listed for file in faces.files]))
    return prepare_crops(replace(faces, splits=np.array([listed[file.name]["split"] for file in faces.files])), UNSEEN)


def _download_celeba() -> FaceList:
    from torchvision.datasets import CelebA

    try:
        CelebA(str(data_folder()), split="all", download=True)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"CelebA could not be downloaded ({error}): its host limits downloads a day; put the files of "
            f"img_align_celeba and its lists into {data_folder() / 'celeba'} by hand"
        ) from error
    return load_celeba()
