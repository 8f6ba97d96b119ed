"""Network inputs of aligned faces, in NumPy and OpenCV; `faces_to_tensor` in `network.py` is the PyTorch form."""

import functools

import cv2
import numpy as np

from facelib.alignment.align import SIZE
from facelib.alignment.crop import image_to_input


def check_aligned(aligned: np.ndarray) -> None:
    """Raise ValueError unless `aligned` are aligned faces: uint8 (n, 112, 112, 3)."""
    if aligned.ndim != 4 or aligned.shape[1:] != (SIZE, SIZE, 3) or aligned.dtype != np.uint8:
        raise ValueError(
            f"faces of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (n, {SIZE}, {SIZE}, 3)"
        )


def faces_to_input(aligned: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Aligned faces (n, 112, 112, 3) uint8 -> network input (n, 3, size, size) float32 from -1 to 1.

    Resized bilinearly, with an antialiasing filter where the faces shrink, as PyTorch's `interpolate` does.

    Raises:
        ValueError: faces of another size or type.
    """
    check_aligned(aligned)
    if size == SIZE:
        return image_to_input(aligned)
    faces = np.empty((len(aligned), size, size, 3), np.float32)
    for face, resized in zip(aligned, faces):
        if size > SIZE:
            cv2.resize(face.astype(np.float32), (size, size), dst=resized, interpolation=cv2.INTER_LINEAR)
        else:
            matrix = _shrinking_matrix(size)
            resized[:] = np.einsum("yh,hwc,xw->yxc", matrix, face.astype(np.float32), matrix, optimize=True)
    return image_to_input(faces)


@functools.cache
def _shrinking_matrix(size: int) -> np.ndarray:
    """Weights (size, 112) of a row's pixels in each pixel of the shrunk row: a triangle as wide as two new pixels."""
    scale = SIZE / size
    centres = (np.arange(size) + 0.5) * scale - 0.5
    weights = np.maximum(1 - np.abs(np.arange(SIZE) - centres[:, None]) / scale, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
