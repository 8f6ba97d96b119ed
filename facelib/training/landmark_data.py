"""Training faces of the hourglass: images and their points, augmented together."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facelib.alignment.crop import crop_matrix, image_to_input, transform_points, warp_image
from facelib.alignment.heatmaps import image_to_cells
from facelib.alignment.landmarker import MIRRORED
from facelib.datasets.aligned_faces import decode_photos
from facelib.datasets.face_list import FaceList, load_faces
from facelib.datasets.splits import pseudo_labelled
from facelib.io.images import read_image
from facelib.training.sampling import EpochDataset

_before = os.environ.get("NO_ALBUMENTATIONS_UPDATE")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else it asks the network for its newest version when it is imported
import albumentations as A  # noqa: E402

if _before is None:
    del os.environ["NO_ALBUMENTATIONS_UPDATE"]

YTF_WEIGHT = 1 / 3  # YouTube frames repeat themselves


@dataclass(frozen=True)
class Augmentation:
    """How often training faces are harder than a detector's.

    large_rotation_probability: of a rotation by any angle up to 180 degrees instead of up to 40.
    truncation_probability: of a face that lies partly outside: the photo ends at a line through the face, or the box
        is off by up to a third of its side.
    """

    large_rotation_probability: float = 0.0
    truncation_probability: float = 0.0


class LandmarkDataset(EpochDataset):
    """index -> (image (3, s, s) float32, landmarks (5, 2) float32 in heatmap cells).

    Without `augment`, an item is exactly what `HourglassLandmarker.predict` shows to the network. With it, the box is
    shifted and scaled as an inaccurate detector's, image and points are rotated and mirrored together, and the crop is
    recoloured, blurred, made grey or partly covered.

    `cache`: file to keep the decoded photos in, see `decode_photos`; None: they are read each time.
    """

    def __init__(
        self,
        faces: FaceList,
        input_size: int = 128,
        augment: Augmentation | None = Augmentation(),
        cache: Path | None = None,
    ):
        self.faces, self.input_size, self.augment = faces, input_size, augment
        self.images = decode_photos(faces.files, cache) if cache else None
        self.geometric, self.degrade = (geometric_augmentation(augment), degradation()) if augment else (None, None)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        item, seed = index % len(self), self.augmentation_seed(index)
        image = self.images[item] if self.images else read_image(self.faces.files[item])
        box, points = self.faces.boxes[item], self.faces.points[item]
        if self.augment:
            rng = np.random.default_rng(seed)
            truncated = rng.random() < self.augment.truncation_probability
            by_box = rng.random() < 0.5
            box = jitter_box(box, rng, shift=1 / 3 if truncated and by_box else 0.08)
            self.geometric.set_random_seed(seed)
            image, box, points = augment_together(self.geometric, image, box, points)
            if truncated and not by_box:
                image, box, points = truncate(image, box, points, rng)
        matrix = crop_matrix(box, self.input_size)
        crop = warp_image(image, matrix, self.input_size)
        if self.degrade:
            self.degrade.set_random_seed(seed)
            crop = self.degrade(image=crop)["image"]
        cells = image_to_cells(transform_points(points, matrix))
        return torch.from_numpy(image_to_input(crop)), torch.from_numpy(cells)


def augment_together(
    geometric: A.Compose, image: np.ndarray, box: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, box (4,) and landmarks (5, 2) after the same augmentation; landmarks keep their order when mirrored."""
    # The box is carried as its centre and two axes, whose orientation tells whether the image was mirrored.
    half, centre = (box[2:] - box[:2]) / 2, (box[:2] + box[2:]) / 2 - 0.5
    augmented = geometric(image=image, keypoints=np.vstack([points, centre, centre + [1, 0], centre + [0, 1]]))
    points, (centre, x, y) = augmented["keypoints"][:5], augmented["keypoints"][5:]
    if np.linalg.det([x - centre, y - centre]) < 0:
        points = points[MIRRORED]
    return augmented["image"], np.concatenate([centre + 0.5 - half, centre + 0.5 + half]), points


def jitter_box(box: np.ndarray, rng: np.random.Generator, shift: float = 0.08) -> np.ndarray:
    """The box shifted by up to `shift` of its side and scaled by 0.8 to 1.25."""
    side = max(box[2] - box[0], box[3] - box[1])
    centre = (box[:2] + box[2:]) / 2 + side * rng.uniform(-shift, shift, 2)
    half = side / 2 * np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    return np.concatenate([centre - half, centre + half])


def truncate(
    image: np.ndarray, box: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, box and landmarks as if the photo ended at a line through the face: up to half of the box is lost."""
    axis = rng.integers(2)
    keep_low = rng.random() < 0.5  # the part left of, or above, the line
    side = box[2 + axis] - box[axis]
    line = round(box[2 + axis] - side * rng.uniform(0, 0.5) if keep_low else box[axis] + side * rng.uniform(0, 0.5))
    line = int(np.clip(line, 1, image.shape[1 - axis] - 1))
    kept = slice(None, line) if keep_low else slice(line, None)
    image = image[:, kept] if axis == 0 else image[kept]
    if not keep_low:
        shift = np.zeros(2)
        shift[axis] = line
        box, points = box - np.tile(shift, 2), points - shift
    return image, box, points


def geometric_augmentation(augment: Augmentation = Augmentation()) -> A.Compose:
    """Rotation up to 40 degrees (some by any angle), a little shear, and mirroring, of image and points together."""
    large = augment.large_rotation_probability
    common = {"shear": (-4, 4), "scale": 1.0, "border_mode": 1}
    return A.Compose(
        [
            A.OneOf(
                [A.Affine(rotate=(-40, 40), p=1 - large, **common), A.Affine(rotate=(-180, 180), p=large, **common)],
                p=0.8,
            ),
            A.HorizontalFlip(p=0.5),
        ],
        keypoint_params=A.KeypointParams("xy", remove_invisible=False),
    )


def degradation() -> A.Compose:
    """Augmentation that moves no landmark: colour, grey, blur, low resolution, compression, occlusion."""
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


def training_faces(labelled: FaceList, pseudo_label_sets: list[str], annotation_sets: list[str]) -> FaceList:
    """The labelled training faces of `annotation_sets` ([]: all), and the pseudo-labelled ones of `pseudo_label_sets`,
    folders of face crops with a detector's points (set "detector").

    Raises:
        ValueError: an unknown annotation set.
    """
    train = labelled.select(labelled.splits == "train")
    if unknown := sorted(set(annotation_sets) - set(train.sets.tolist())):
        raise ValueError(
            f"annotation_sets: no labels of {unknown[0]!r}; there are {', '.join(sorted(set(train.sets)))}"
        )
    if annotation_sets:
        train = train.select(np.isin(train.sets, annotation_sets))
    return FaceList.join([train, *(pseudo_labelled(load_faces(name), labelled) for name in pseudo_label_sets)])


def sampling_weights(faces: FaceList, pseudo_label_fraction: float = 0.0) -> np.ndarray:
    """(n,) sampling frequency of each face: pseudo-labelled faces get `pseudo_label_fraction` of the draws, frames of
    YouTube Faces a third of what others get."""
    pseudo = faces.sets == "detector"
    labelled = np.where(pseudo, 0.0, np.where(faces.sets == "ytf", YTF_WEIGHT, 1.0))
    of_labelled = (1 - pseudo_label_fraction) * labelled / labelled.sum()
    return of_labelled + pseudo_label_fraction * pseudo / max(pseudo.sum(), 1)
