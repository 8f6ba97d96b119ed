"""Landmark label sets disagree on where a landmark is: measure by how much, and move labels to one convention."""

from dataclasses import replace

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList
from facelib.io.images import read_image

PHOTOS_AT_ONCE = 256  # photos in memory at a time


def find_landmarks(landmarker: HourglassLandmarker, faces: FaceList, stack: int = -1) -> np.ndarray:
    """Landmarks of a whole list, see `find_with_confidence`: (n, 5, 2) float32 in pixels of each photo."""
    return find_with_confidence(landmarker, faces, stack)[0]


def find_with_confidence(
    landmarker: HourglassLandmarker, faces: FaceList, stack: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of a whole list, with a bounded number of photos in memory.

    Args:
        faces: n photos with boxes.
        stack: see `HourglassLandmarker.predict`.

    Returns:
        Landmarks (n, 5, 2) float32 in pixels of each photo, and the confidence of each (n, 5) float32, 0 to 1.
    """
    points, confidences = [np.zeros((0, 5, 2), np.float32)], [np.zeros((0, 5), np.float32)]
    for start in range(0, len(faces), PHOTOS_AT_ONCE):
        part = slice(start, start + PHOTOS_AT_ONCE)
        images = [read_image(file) for file in faces.files[part]]
        part_points, part_confidences = landmarker.predict_with_confidence(images, list(faces.boxes[part, None]), stack)
        points += part_points
        confidences += part_confidences
    return np.concatenate(points), np.concatenate(confidences)


def face_frame(points: np.ndarray, offsets: np.ndarray, inverse: bool = False) -> np.ndarray:
    """Convert displacements from pixels to the frame of each face, or back.

    The unit of the frame is the distance between the eyes; its x axis goes from the first eye to the second, its y axis
    is perpendicular to it, downwards. As complex numbers, the conversion is a division by the vector between the eyes.

    Args:
        points: (n, 5, 2) landmarks, which define the frames.
        offsets: (n, 5, 2) displacements.
        inverse: from the frames to pixels.

    Returns:
        (n, 5, 2) float32.
    """
    eyes = (points[:, 1] - points[:, 0]) @ [1, 1j]
    values = offsets @ [1, 1j]
    values = values * eyes[:, None] if inverse else values / eyes[:, None]
    return np.stack([values.real, values.imag], -1).astype(np.float32)


def move_points(points: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Landmarks (n, 5, 2) moved by `offsets` (5, 2) in the frame of each face, see `face_frame`."""
    return points + face_frame(points, np.broadcast_to(offsets, points.shape), inverse=True)


def label_offsets(landmarker: HourglassLandmarker, faces: FaceList) -> np.ndarray:
    """Offset of the labels of `faces` from the predictions of `landmarker`, (5, 2) in the frame of a face.

    It is the median over faces, so that failures of the landmarker do not count. To be measured on faces that are not
    in a test split.
    """
    predicted = find_landmarks(landmarker, faces)
    return np.median(face_frame(predicted, faces.points - predicted), axis=0)


def label_set_offsets(
    landmarker: HourglassLandmarker, faces: FaceList, reference: str = "celeba"
) -> dict[str, np.ndarray]:
    """Offset of the labels of each label set in `faces` from those of the set `reference`.

    Both are measured against the landmarker, whose own bias cancels out. It should average over mirror images,
    because it may have learned that the labels of one set lie to one side.

    Returns:
        Name of each other set -> (5, 2) in the frame of a face.

    Raises:
        ValueError: there are no faces of `reference`.
    """
    names = sorted(set(faces.sets.tolist()))
    if reference not in names:
        raise ValueError(f"no faces of {reference!r}, the reference of the label offsets: only {', '.join(names)}")
    offsets = {name: label_offsets(landmarker, faces.select(faces.sets == name)) for name in names}
    return {name: offsets[name] - offsets[reference] for name in names if name != reference}


def move_labels(faces: FaceList, offsets: dict[str, np.ndarray]) -> FaceList:
    """Subtract the offset of each label set from its labels; labels of sets without an offset stay unchanged.

    Args:
        offsets: see `label_set_offsets`.
    """
    points = faces.points.copy()
    for name, offset in offsets.items():
        rows = faces.sets == name
        points[rows] = move_points(points[rows], -np.asarray(offset))
    return replace(faces, points=points)
