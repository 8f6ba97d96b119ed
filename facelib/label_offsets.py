"""Label sets do not agree on where a landmark is; these functions measure by how much, and move labels."""

import numpy as np

from facelib.datasets import FaceList
from facelib.landmarks import Landmarker
from facelib.train_landmarks import find_landmarks


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


def label_offsets(landmarker: Landmarker, faces: FaceList) -> np.ndarray:
    """(5, 2): how far the labels of `faces` lie from the convention of `landmarker`, in the face frame.

    The median over faces, so that failures do not count. Measure it on faces that are not the test.
    """
    found = find_landmarks(landmarker, faces)
    return np.median(face_frame(found, faces.points - found), axis=0)
