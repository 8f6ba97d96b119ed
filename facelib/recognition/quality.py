"""How much a face shows: a number that falls where a vector says little about who it is."""

import cv2
import numpy as np

INNER = (slice(16, 100), slice(20, 92))  # rows and columns of the aligned face that show face, whoever it is
FINE = 1.5  # pixels: details finer than this are what blur and few pixels take away
SHARP = 0.15  # share of the contrast in fine details, from which a face is sharp
BRIGHT = 20.0  # grey levels: the contrast from which a face is well lit
# Below these a face is not told from others.
LEAST_EYES, LEAST_LIGHT, LEAST_SHARP, LEAST_SURE = 7.0, 0.35, 0.5, 0.6  # eye distance in pixels; shares


def sharpness(aligned: np.ndarray) -> float:
    """Share of the contrast of an aligned face (112, 112, 3) that is in fine details, over `SHARP`; at most 1."""
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[INNER].astype(np.float32)
    fine = float((grey - cv2.GaussianBlur(grey, (0, 0), FINE)).std())
    return min(1.0, fine / max(float(grey.std()), 1e-3) / SHARP)


def lighting(aligned: np.ndarray) -> float:
    """Contrast of an aligned face (112, 112, 3) over `BRIGHT`; at most 1."""
    return min(1.0, float(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[INNER].std()) / BRIGHT)


def find_quality_issue(aligned: np.ndarray, confidence: np.ndarray, landmarks: np.ndarray) -> str:
    """Why a face shows too little to be told from others, or "".

    Args:
        aligned: (112, 112, 3) RGB uint8. confidence: (5,) of its landmarks. landmarks: (5, 2), pixels of the photo.
    """
    if np.linalg.norm(landmarks[1] - landmarks[0]) < LEAST_EYES:
        return "too small"
    if lighting(aligned) < LEAST_LIGHT:
        return "too dark, or without contrast"
    if sharpness(aligned) < LEAST_SHARP:
        return "too blurred"
    if confidence.min() < LEAST_SURE:
        return "hidden or turned away"
    return ""


def face_quality(aligned: np.ndarray, confidence: np.ndarray) -> float:
    """From 0, nothing to recognise, to 1: how sharp times how well lit times how sure of its landmarks a face is.

    On open_val it foretells which faces are not found again about as well as any product of these and the head's turn
    (`python -m facelib.evaluation who` has the curves). The length of a network's vector before it is normalised does a
    little better (22.6 % of the pairs missed among the best 70 % of the faces, not 24.2 %), but not every embedder has
    one. It does not see what covers a face, nor that a blurred photo has noise or hard edges.

    Args:
        aligned: (112, 112, 3) RGB uint8. confidence: (5,) of its landmarks.
    """
    return sharpness(aligned) * lighting(aligned) * float(np.clip(confidence.min(), 0, 1))
