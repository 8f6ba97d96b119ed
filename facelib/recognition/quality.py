"""Face quality: how usable an aligned face is for recognition, from its sharpness, contrast and landmark confidence."""

import cv2
import numpy as np

INNER_FACE = (slice(16, 100), slice(20, 92))  # rows and columns of an aligned face without background and hair
DETAIL_SIGMA = 1.5  # pixels: blur and low resolution remove details finer than this
SHARP_DETAIL = 0.15  # share of the contrast that is in fine details, from which a face counts as fully sharp
FULL_CONTRAST = 20.0  # grey levels (standard deviation), from which a face counts as fully lit

# Below one of these a face has a quality issue.
MIN_EYE_DISTANCE = 7.0  # pixels of the photo
MIN_LIGHTING = 0.35  # of `lighting`
MIN_SHARPNESS = 0.5  # of `sharpness`
MIN_CONFIDENCE = 0.6  # of the least confident landmark


def sharpness(aligned: np.ndarray) -> float:
    """Sharpness of an aligned face (112, 112, 3), 0 to 1: the share of its contrast in fine details, relative to
    `SHARP_DETAIL`."""
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[INNER_FACE].astype(np.float32)
    details = float((grey - cv2.GaussianBlur(grey, (0, 0), DETAIL_SIGMA)).std())
    return min(1.0, details / max(float(grey.std()), 1e-3) / SHARP_DETAIL)


def lighting(aligned: np.ndarray) -> float:
    """Contrast of an aligned face (112, 112, 3), 0 to 1, relative to `FULL_CONTRAST`."""
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[INNER_FACE]
    return min(1.0, float(grey.std()) / FULL_CONTRAST)


def find_quality_issue(aligned: np.ndarray, confidence: np.ndarray, landmarks: np.ndarray) -> str:
    """The quality issue that makes recognition of a face unreliable, or "".

    Args:
        aligned: (112, 112, 3) RGB uint8.
        confidence: (5,) confidence of its landmarks, 0 to 1.
        landmarks: (5, 2) in pixels of the photo.
    """
    if not (np.isfinite(landmarks).all() and np.isfinite(confidence).all()):
        return "without usable landmarks"
    if np.linalg.norm(landmarks[1] - landmarks[0]) < MIN_EYE_DISTANCE:
        return "too small"
    if lighting(aligned) < MIN_LIGHTING:
        return "too dark, or without contrast"
    if sharpness(aligned) < MIN_SHARPNESS:
        return "too blurred"
    if confidence.min() < MIN_CONFIDENCE:
        return "hidden or turned away"
    return ""


def face_quality(aligned: np.ndarray, confidence: np.ndarray) -> float:
    """Quality of a face, 0 to 1: sharpness times lighting times the confidence of the least confident landmark.

    On open_val this product predicts false non-matches about as well as any product of these factors and the head
    pose (error-against-rejection curves: `python -m facelib.evaluation identification`). The norm of an embedding
    before normalisation predicts slightly better (22.6 % of genuine pairs missed among the best 70 % of the faces,
    here 24.2 %), but not every embedder provides it. Occlusion, and noise or hard edges in a blurred photo, are not
    detected.

    Args:
        aligned: (112, 112, 3) RGB uint8.
        confidence: (5,) confidence of its landmarks, 0 to 1.
    """
    certainty = float(np.nan_to_num(confidence.min()).clip(0, 1))
    return sharpness(aligned) * lighting(aligned) * certainty
