"""The embedder's training data: cleaned lists of people, aligned faces, augmentation."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from facelib.alignment import METHODS, SIZE, align_faces
from facelib.checkpoints import data_folder
from facelib.datasets import FaceList, assert_people_apart, load_faces, load_people_folder
from facelib.detection import load_detector
from facelib.embedding import face_to_tensor
from facelib.images import crop_matrix, read_image, warp_image
from facelib.landmarks import Landmarker
from facelib.preparation import align_photos, split_photos, warn_of_single_photos

LISTS = Path(__file__).parent.parent / "data"  # the frozen lists, see data/README.md


def photo_key(file: Path) -> str:
    """person/photo, the name of a prepared crop in the frozen lists."""
    return f"{file.parent.name}/{file.name}"


def clean_faces(faces: FaceList, lists: Path = LISTS) -> FaceList:
    """Without the people and photos of the frozen lists, and with one key for each person.

    `excluded_people.txt`: people who are also in an evaluation set. `same_people.txt`: two keys a line,
    the second becomes the first. `dropped_photos.txt`: photos that do not show their person.
    """
    excluded, dropped = ((lists / f"{name}.txt").read_text().split() for name in ("excluded_people", "dropped_photos"))
    same = dict(line.split()[::-1] for line in (lists / "same_people.txt").read_text().splitlines())
    keys = np.array([photo_key(file) for file in faces.files])
    faces = replace(faces, people=np.array([same.get(person, person) for person in faces.people.tolist()]))
    return faces.where(~np.isin(faces.people, excluded) & ~np.isin(keys, dropped))


def training_faces(names: list[str], landmarker: Landmarker) -> tuple[np.ndarray, FaceList]:
    """Aligned faces (n, 112, 112, 3) uint8 of prepared folders, and who they are, cleaned, without the
    held-out families.

    Raises:
        ValueError: a person of theirs is in an evaluation set that is here (faces_unseen, lfw).
    """
    lists, aligned = [], []
    for name in names:
        pictures, kept = align_photos(load_faces(name), landmarker, cache=data_folder() / "cache" / f"{name}.npy")
        lists.append(kept), aligned.append(pictures)
    assert_people_apart(**dict(zip(names, lists)))
    faces = FaceList.join(lists)
    cleaned = clean_faces(faces)
    cleaned = cleaned.where(~np.array([_in_held_out_family(person) for person in cleaned.people]))
    place = {file: i for i, file in enumerate(faces.files)}
    rows = np.array([place[file] for file in cleaned.files])
    there = [name for name in ("faces_unseen", "lfw") if (data_folder() / name).is_dir()]
    assert_people_apart(training=cleaned, **{name: load_faces(name) for name in there})
    warn_of_single_photos(cleaned)
    starts = np.cumsum([0] + [len(part) for part in lists])
    parts = [a[rows[(rows >= low) & (rows < high)] - low] for a, low, high in zip(aligned, starts, starts[1:])]
    return np.concatenate(parts), cleaned


def family(person: str) -> str:
    """The family of a person of Families in the Wild; of others the person itself."""
    return "_".join(person.split("_")[:2]) if person.startswith("fiw_") else person


def _in_held_out_family(person: str) -> bool:
    return family(person) != person and hashlib.sha256(family(person).encode()).digest()[0] % 12 == 0


def family_faces(landmarker: Landmarker) -> tuple[np.ndarray, FaceList]:
    """Aligned faces of a twelfth of the families of `faces_more`, who are in no training: people who look
    alike, photographed decades apart, for choosing recipes and for the figure of relatives."""
    cache = data_folder() / "cache" / "faces_more.npy"
    aligned, faces = align_photos(load_faces("faces_more"), landmarker, cache=cache)
    rows = np.flatnonzero([_in_held_out_family(person) for person in faces.people])
    return aligned[rows], faces.where(rows)


def own_faces(folder: Path, landmarker: Landmarker) -> tuple[np.ndarray, FaceList]:
    """Aligned faces of <folder>/<person>/<photo>, the largest of each photo, some held out as "val", see
    `split_photos`.

    Raises:
        FileNotFoundError, ValueError: see `load_people_folder` and `align_photos`; or fewer than two people.
    """
    faces = load_people_folder(folder)
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]  # folders of one name do not share a cache
    cache = data_folder() / "cache" / f"own_{folder.resolve().name}_{place}.npy"
    aligned, faces = align_photos(faces, landmarker, load_detector(), cache=cache)
    if len(set(faces.people.tolist())) < 2:
        raise ValueError(f"{folder} holds photos of one person only: two people are the least to tell apart")
    return aligned, split_photos(faces, 0.1)


def cut_faces(faces: FaceList, how: str, landmarker: Landmarker) -> tuple[np.ndarray, FaceList]:
    """Faces (n, 112, 112, 3) uint8 cut in other ways, for comparison.

    `how`: "box" (the detected box, no alignment), "detector" (five points of the detector, from the
    table of the crops), or a method of `align_faces` with the hourglass's points.
    """
    if how in METHODS:
        return align_photos(faces, landmarker, method=how)
    images = [read_image(file) for file in faces.files]
    if how == "box":
        return np.stack([warp_image(i, crop_matrix(box, SIZE), SIZE) for i, box in zip(images, faces.boxes)]), faces
    if how == "detector":
        return np.concatenate([align_faces(i, points[None]) for i, points in zip(images, faces.points)]), faces
    raise ValueError(f"how={how!r}: expected 'box', 'detector' or one of {', '.join(METHODS)}")


class AlignedDataset(Dataset):
    """(index, seed) -> (image (3, size, size) float32, label).

    Without augmentation, the image is exactly what `Embedder.embed` shows to the network.

    Args:
        aligned: (n, 112, 112, 3) uint8; labels: (n,) int.
        rows: which of them are used; None: all.
        size: side of the network's input.
        strength: of `face_augmentation`; None: no augmentation, not even mirror images.
    """

    def __init__(
        self,
        aligned: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        size: int = SIZE,
        strength: float | None = 1.0,
    ):
        self.aligned, self.labels, self.size = aligned, labels, size
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.augment = None if strength is None else face_augmentation(strength)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = int(self.rows[item[0]]), item[1]
        face = np.array(self.aligned[index])
        if self.augment:
            self.augment.set_random_seed(seed)
            face = self.augment(image=face)["image"]
        return face_to_tensor(face, self.size), int(self.labels[index])


class TightCrop(A.ImageOnlyTransform):
    """As if the photo had been cut close to the face: border pixels repeated from a random frame outwards.

    Some sources are cut like that, others never. Without this the network tells sources apart instead of
    people, and photos of one source gather in one place.
    """

    def apply(self, img: np.ndarray, **params) -> np.ndarray:
        height, width = img.shape[:2]
        share = self.py_random.uniform
        top, bottom = round(share(0, 0.33) * height), round(share(0, 0.12) * height)
        left, right = round(share(0, 0.2) * width), round(share(0, 0.2) * width)
        inner = img[top : height - bottom, left : width - right]
        return cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE)


def face_augmentation(strength: float = 1.0, tight_crop: float = 0.3) -> A.Compose:
    """Flip, tight crops, small moves, light, colour, low resolution and occlusion.

    `strength`: factor of all probabilities but that of the flip; 0: mirror images only. `tight_crop`:
    probability of `TightCrop` at strength 1.
    """
    return A.Compose(
        [
            TightCrop(p=strength * tight_crop),
            A.HorizontalFlip(p=0.5),
            A.Affine(
                scale=(0.9, 1.1), translate_percent=(-0.04, 0.04), rotate=(-8, 8), border_mode=1, p=strength * 0.7
            ),
            A.RandomBrightnessContrast(0.3, 0.3, p=strength * 0.5),
            A.HueSaturationValue(6, 40, 0, p=strength * 0.2),
            A.ToGray(p=strength * 0.15),
            A.OneOf([A.Downscale(scale_range=(0.2, 0.6)), A.GaussianBlur(sigma_limit=(0.5, 2.5))], p=strength * 0.25),
            A.CoarseDropout((1, 1), (0.2, 0.45), (0.2, 0.45), fill="random_uniform", p=strength * 0.2),
        ]
    )
