"""What generated clips are made of: portraits of held-out people, and parts of photos without faces."""

from dataclasses import dataclass

import cv2
import numpy as np

from facelib.alignment.align import TEMPLATE, similarity_transform
from facelib.alignment.landmarker import load_landmarker
from facelib.datasets.face_list import CROP_SIDE, FaceList
from facelib.datasets.splits import hash_order, open_set_faces
from facelib.evaluation.detection import load_photo_faces
from facelib.io.images import read_image
from facelib.settings import data_folder

PORTRAIT_POINTS = (TEMPLATE * 0.912 + [21.0, 14.2]).astype(np.float32)  # mean landmarks of the crops of open_val
# Box of the face in a portrait: median of the boxes of both detectors on 60 portraits of open_val.
PORTRAIT_BOX = np.array([35.5, 23.5, 108.0, 122.0], np.float32)
HEAD_CENTRE, HEAD_AXES = (72.0, 69.0), (46.0, 58.0)  # ellipse around the head in a portrait, pixels
FEATHER = 4.0  # pixels, standard deviation of the soft edge of the head
PHOTOS_PER_PERSON = 20
FREE_MARGIN = 0.35  # of a face's side: a background keeps this distance from each labelled face
SMALLEST_BACKGROUND = 350  # pixels, width of a part of a photo that still serves as a background


@dataclass(frozen=True)
class ClipSources:
    """Pictures that clips are made of.

    portraits: person -> (k, 144, 144, 3) RGB uint8 with the landmarks near `PORTRAIT_POINTS`.
    backgrounds: RGB uint8 (H, W, 3) pictures without faces, of any size.
    """

    portraits: dict[str, np.ndarray]
    backgrounds: list[np.ndarray]


def load_clip_sources(part: str = "open_test", aspect: float = 16 / 9, photos: int = PHOTOS_PER_PERSON) -> ClipSources:
    """Portraits of held-out people, and backgrounds of the photos whose faces were labelled by hand.

    Args:
        part: "open_val" or "open_test".
        aspect: width / height of the backgrounds.
        photos: largest number of portraits of each person.

    Raises:
        FileNotFoundError: the set of these people or <FACELIB_DATA>/photos is not there.
        ValueError: another part.
    """
    faces = open_set_faces(part)
    faces = faces.select(hash_order(faces))
    people = {name: faces.select(np.flatnonzero(faces.people == name)[:photos]) for name in np.unique(faces.people)}
    return ClipSources({str(name): portraits_of(photos) for name, photos in people.items()}, face_free_parts(aspect))


def portraits_of(faces: FaceList) -> np.ndarray:
    """(n, 144, 144, 3) RGB uint8: prepared face crops, moved so that the landmarks are near `PORTRAIT_POINTS`."""
    images = [read_image(file) for file in faces.files]
    points = faces.points
    if points is None:
        points = np.concatenate(load_landmarker(runtime="auto").predict(images, list(faces.boxes[:, None])))
    return np.stack([make_portrait(image, marks) for image, marks in zip(images, points)])


def make_portrait(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(144, 144, 3) RGB uint8, the face of an image with the landmarks (5, 2)."""
    matrix = similarity_transform(landmarks, PORTRAIT_POINTS)
    return cv2.warpAffine(image, matrix, (CROP_SIDE, CROP_SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def head_mask() -> np.ndarray:
    """(144, 144) uint8, how opaque a portrait is: an ellipse around the head with a soft edge."""
    mask = np.zeros((CROP_SIDE, CROP_SIDE), np.uint8)
    cv2.ellipse(mask, (HEAD_CENTRE, (2 * HEAD_AXES[0], 2 * HEAD_AXES[1]), 0), 255, -1)
    return cv2.GaussianBlur(mask, (0, 0), FEATHER)


def face_free_parts(aspect: float) -> list[np.ndarray]:
    """For each photo whose faces are labelled, its largest part of this aspect (width / height) without a face; photos
    where that is narrower than `SMALLEST_BACKGROUND` are skipped.

    Raises:
        FileNotFoundError: the photos are not there.
    """
    folder = data_folder() / "photos"
    files = {path.name: path for path in folder.rglob("*.jpg")}
    parts = []
    for photo, (boxes, _) in sorted(load_photo_faces().items()):
        if photo not in files:
            raise FileNotFoundError(f"{folder} lacks the photo {photo}: see data/README.md for how to get it")
        image = read_image(files[photo])
        if part := largest_free_part(image.shape[1], image.shape[0], boxes, aspect):
            x, y, width, height = part
            parts.append(image[y : y + height, x : x + width])
    return parts


def largest_free_part(
    width: int, height: int, boxes: np.ndarray, aspect: float, steps: int = 24
) -> tuple[int, int, int, int] | None:
    """x, y, width and height of the largest rectangle of an aspect in an image that touches no box; None where it is
    narrower than `SMALLEST_BACKGROUND`.

    Args:
        boxes: (n, 4) x1 y1 x2 y2, which are enlarged by `FREE_MARGIN`.
        steps: positions along each side, and sizes, that are tried.
    """
    margin = FREE_MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    widest = min(width, height * aspect)
    for part_width in np.linspace(widest, SMALLEST_BACKGROUND, steps):
        size = np.array([part_width, part_width / aspect])
        grids = np.meshgrid(*(np.linspace(0, whole - one, steps) for whole, one in zip((width, height), size)))
        corners = np.stack(grids, -1).reshape(-1, 1, 2)
        free = ~((corners < high) & (corners + size > low)).all(2).any(1)
        if free.any():
            x, y = corners[np.flatnonzero(free)[0], 0].astype(int).tolist()
            return x, y, int(size[0]), int(size[1])
    return None
