"""Aligned faces as dlib cuts them, without PyTorch."""

import numpy as np

from facelib.alignment.align import alignment_matrix
from facelib.alignment.crop import check_rgb, warp_image

CHIP = 150  # side of the network's input, pixels; dlib calls an aligned face a chip
# Affine map from pixels of a chip to pixels of our aligned face: a least-squares fit to dlib's own chips of many faces.
CHIP_TO_ALIGNED = np.array([[0.67666, 0, 5.0887], [0, 0.67666, 21.7808]])


def dlib_chips(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Aligned faces as dlib cuts them by its own landmarks: chips (n, 150, 150, 3) uint8, for landmarks (n, 5, 2).

    Raises:
        ValueError: not RGB uint8, or landmarks that cannot be aligned.
    """
    check_rgb(image)
    chip_to_aligned = np.vstack([CHIP_TO_ALIGNED, [0, 0, 1]])
    chips = [np.zeros((0, CHIP, CHIP, 3), np.uint8)]
    for points in landmarks:
        photo_to_aligned = np.vstack([alignment_matrix(points), [0, 0, 1]])
        photo_to_chip = np.linalg.solve(chip_to_aligned, photo_to_aligned)[:2]
        chips.append(warp_image(image, photo_to_chip, CHIP)[None])
    return np.concatenate(chips)
