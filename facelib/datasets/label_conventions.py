"""Label sets do not agree on where a landmark is; these functions measure by how much, and move labels."""

from dataclasses import replace

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList
from facelib.io.images import read_image


def find_landmarks(landmarker: HourglassLandmarker, faces: FaceList, stack: int = -1) -> np.ndarray:
    """Landmarks (n, 5, 2) in the pixels of each photo; few photos are in memory at a time."""
    return find_with_confidence(landmarker, faces, stack)[0]


def find_with_confidence(
    landmarker: HourglassLandmarker, faces: FaceList, stack: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """As `find_landmarks`, and how sure each landmark is, (n, 5)."""
    points, confidence = [np.zeros((0, 5, 2), np.float32)], [np.zeros((0, 5), np.float32)]
    for start in range(0, len(faces), 256):
        images = [read_image(file) for file in faces.files[start : start + 256]]
        found, sure = landmarker.predict_with_confidence(images, list(faces.boxes[start : start + 256, None]), stack)
        points += found
        confidence += sure
    return np.concatenate(points), np.concatenate(confidence)


def face_frame(points: np.ndarray, vectors: np.ndarray, back: bool = False) -> np.ndarray:
    """Displacements (n, 5, 2) in units of the eye line of `points` (n, 5, 2): along it, and square to it downwards.

    With `back`, from those units to pixels.
    """
    eyes = (points[:, 1] - points[:, 0]) @ [1, 1j]
    numbers = vectors @ [1, 1j]
    numbers = numbers * eyes[:, None] if back else numbers / eyes[:, None]
    return np.stack([numbers.real, numbers.imag], -1).astype(np.float32)


def move_points(points: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n, 5, 2) points moved by `offsets` (5, 2) of each face's own frame."""
    return points + face_frame(points, np.broadcast_to(offsets, points.shape), back=True)


def label_offsets(landmarker: HourglassLandmarker, faces: FaceList) -> np.ndarray:
    """(5, 2): how far the labels of `faces` lie from the convention of `landmarker`, in the face frame.

    The median over faces, so that failures do not count. Measure it on faces that are not the test.
    """
    found = find_landmarks(landmarker, faces)
    return np.median(face_frame(found, faces.points - found), axis=0)


def label_set_offsets(
    landmarker: HourglassLandmarker, faces: FaceList, reference: str = "celeba"
) -> dict[str, np.ndarray]:
    """For each other data set in `faces`, how far its labels lie from where `reference` would have them, (5, 2).

    The landmarker stands between them: what it puts too far to the left in all sets drops out. It should
    average over mirror images, else it may have learned that the labels of a set lie to one side.

    Raises:
        ValueError: no faces of `reference`.
    """
    names = sorted(set(faces.sets.tolist()))
    if reference not in names:
        raise ValueError(f"no faces of {reference!r}, whose labels the others are moved to: only {', '.join(names)}")
    own = {name: label_offsets(landmarker, faces.select(faces.sets == name)) for name in names}
    return {name: own[name] - own[reference] for name in names if name != reference}


def move_labels(faces: FaceList, offsets: dict[str, np.ndarray]) -> FaceList:
    """The labels of each set in `offsets` moved back by them; those of all others as they are."""
    points = faces.points.copy()
    for name, offset in offsets.items():
        rows = faces.sets == name
        points[rows] = move_points(points[rows], -np.asarray(offset))
    return replace(faces, points=points)
