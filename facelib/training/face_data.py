"""What the embedder is trained on: aligned faces and their augmentation."""

import albumentations as A
import cv2
import numpy as np
from torch import Tensor

from facelib.alignment import SIZE
from facelib.embedding import face_to_tensor
from facelib.training.sampling import EpochDataset


class AlignedDataset(EpochDataset):
    """index -> (image (3, size, size) float32, label).

    Without augmentation, the image is exactly what `Embedder.embed` shows to the network.

    Args:
        aligned: (n, 112, 112, 3) uint8; labels: (n,) int.
        rows: which of them are used; None: all.
        size: side of the network's input.
        strength, tight_crop: of `face_augmentation`; with strength None no augmentation, not even mirror images.
    """

    def __init__(
        self,
        aligned: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        size: int = SIZE,
        strength: float | None = 1.0,
        tight_crop: float = 0.3,
    ):
        self.aligned, self.labels, self.size = aligned, labels, size
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.augment = None if strength is None else face_augmentation(strength, tight_crop)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = int(self.rows[index % len(self)])
        face = np.array(self.aligned[row])
        if self.augment:
            self.augment.set_random_seed(self.augmentation_seed(index))
            face = self.augment(image=face)["image"]
        return face_to_tensor(face, self.size), int(self.labels[row])


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
