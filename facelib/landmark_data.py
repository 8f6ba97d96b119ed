"""What the hourglass is trained on: augmented faces with their points, labelled and pseudo-labelled."""

import hashlib
from dataclasses import replace
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from torch.utils.data import Dataset

from facelib.datasets import FaceList, load_faces
from facelib.heatmaps import image_to_cells
from facelib.hourglass import StackedHourglass
from facelib.images import crop_matrix, read_image, warp_image
from facelib.landmarks import MIRRORED, Landmarker, image_to_tensor, transform_points
from facelib.preparation import decode_photos

YTF_WEIGHT = 1 / 3  # YouTube frames repeat themselves


class LandmarkDataset(Dataset):
    """(index, seed) -> (image (3, s, s) float32, landmarks (5, 2) float32 in heatmap cells).

    With `augment` off, an item is exactly what `Landmarker.predict` shows to the network. With it on
    the box is shifted and scaled like that of a sloppy detector, picture and points are turned and
    mirrored together, and the crop is recoloured, blurred, made grey or partly covered.

    `cache`: file to keep the decoded pictures in, see `decode_photos`; None: they are read each time.
    """

    def __init__(self, faces: FaceList, input_size: int = 128, augment: bool = True, cache: Path | None = None):
        self.faces, self.input_size = faces, input_size
        self.images = decode_photos(faces.files, cache) if cache else None
        self.move, self.spoil = (move_augmentation(), spoil_augmentation()) if augment else (None, None)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, item: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        index, seed = item
        image = self.images[index] if self.images else read_image(self.faces.files[index])
        box, points = self.faces.boxes[index], self.faces.points[index]
        if self.move:
            box = jitter_box(box, np.random.default_rng(seed))
            self.move.set_random_seed(seed)
            # The box travels as its centre and two axes, whose order tells whether the picture was mirrored.
            half, centre = (box[2:] - box[:2]) / 2, (box[:2] + box[2:]) / 2 - 0.5
            moved = self.move(image=image, keypoints=np.vstack([points, centre, centre + [1, 0], centre + [0, 1]]))
            image, points, (centre, x, y) = moved["image"], moved["keypoints"][:5], moved["keypoints"][5:]
            if np.linalg.det([x - centre, y - centre]) < 0:
                points = points[MIRRORED]
            box = np.concatenate([centre + 0.5 - half, centre + 0.5 + half])
        matrix = crop_matrix(box, self.input_size)
        crop = warp_image(image, matrix, self.input_size)
        if self.spoil:
            self.spoil.set_random_seed(seed)
            crop = self.spoil(image=crop)["image"]
        points = torch.from_numpy(transform_points(points, matrix))
        return image_to_tensor(crop), image_to_cells(points, StackedHourglass.STRIDE)


def jitter_box(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box shifted by up to 8 % of its side and scaled by 0.8 to 1.25."""
    side = max(box[2] - box[0], box[3] - box[1])
    centre = (box[:2] + box[2:]) / 2 + side * rng.uniform(-0.08, 0.08, 2)
    half = side / 2 * np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    return np.concatenate([centre - half, centre + half])


def move_augmentation() -> A.Compose:
    """Turns up to 40 degrees, a little shear, and mirroring, of picture and points together."""
    return A.Compose(
        [
            A.Affine(rotate=(-40, 40), shear=(-4, 4), scale=1.0, border_mode=1, p=0.8),
            A.HorizontalFlip(p=0.5),
        ],
        keypoint_params=A.KeypointParams("xy", remove_invisible=False),
    )


def spoil_augmentation() -> A.Compose:
    """Colour, grey, blur, low resolution and occlusion: what moves no landmark."""
    return A.Compose(
        [
            A.RandomBrightnessContrast(0.35, 0.35, p=0.6),
            A.HueSaturationValue(8, 40, 0, p=0.2),
            A.ToGray(p=0.15),
            A.OneOf(
                [
                    A.Downscale(scale_range=(0.25, 0.6)),
                    A.GaussianBlur(sigma_limit=(0.5, 3.0)),
                    A.MotionBlur(blur_limit=(3, 9)),
                    A.ImageCompression(quality_range=(20, 70)),
                ],
                p=0.4,
            ),
            A.CoarseDropout((1, 2), (0.1, 0.35), (0.1, 0.35), fill="random_uniform", p=0.2),
        ]
    )


def find_landmarks(landmarker: Landmarker, faces: FaceList, stack: int = -1) -> np.ndarray:
    """Landmarks (n, 5, 2) in the pixels of each photo; few photos are in memory at a time."""
    parts = [np.zeros((0, 5, 2), np.float32)]
    for start in range(0, len(faces), 256):
        images = [read_image(file) for file in faces.files[start : start + 256]]
        parts += landmarker.predict(images, list(faces.boxes[start : start + 256, None]), stack)
    return np.concatenate(parts)


def landmark_training_faces(faces: FaceList, pseudo: list[str]) -> FaceList:
    """The labelled training faces, and those of the face crops `pseudo` with a detector's points (set "detector")."""
    train = faces.where(faces.splits == "train")
    if not pseudo:
        return train
    return FaceList.join([train, pseudo_labelled_faces(pseudo, set(faces.people[faces.splits != "train"].tolist()))])


def sampling_weights(faces: FaceList, pseudo_share: float = 0.0) -> np.ndarray:
    """(n,) how often each face is drawn: pseudo-labelled ones `pseudo_share` of the time, YouTube frames seldom."""
    pseudo = faces.sets == "detector"
    labelled = np.where(pseudo, 0.0, np.where(faces.sets == "ytf", YTF_WEIGHT, 1.0))
    return (1 - pseudo_share) * labelled / labelled.sum() + pseudo_share * pseudo / max(pseudo.sum(), 1)


def pseudo_labelled_faces(names: list[str], forbidden: set[str], per_person: int = 4) -> FaceList:
    """Face crops with the detector's points instead of labels: up to `per_person` photos of each person.

    `forbidden`: people of the validation and test sets, whose photos are left out. Which photos of a
    person are taken is decided by the hash of their names, so it is always the same.
    """
    parts = []
    for name in names:
        faces = load_faces(name)
        if faces.points is None:
            raise ValueError(f"{name}/faces.csv has no columns left_eye_x ... right_mouth_y: no pseudo-labels")
        hashes = np.array([hashlib.sha256(f"{f.parent.name}/{f.name}".encode()).hexdigest() for f in faces.files])
        taken: dict[str, int] = {}
        keep = np.zeros(len(faces), bool)
        for i in np.argsort(hashes):
            person = faces.people[i]
            taken[person] = taken.get(person, 0) + 1
            keep[i] = taken[person] <= per_person and person not in forbidden
        parts.append(replace(faces, sets=np.full(len(faces), "detector")).where(keep))
    return FaceList.join(parts)
