"""How much a face shows: a number that falls where a vector says little about who it is."""

import cv2
import numpy as np

INNER = (slice(16, 100), slice(20, 92))  # rows and columns of the aligned face that show face, whoever it is
FINE = 1.5  # pixels: details finer than this are what blur and few pixels take away
SHARP = 0.15  # share of the contrast in fine details, from which a face is sharp
BRIGHT = 20.0  # grey levels: the contrast from which a face is well lit


def face_quality(aligned: np.ndarray, confidence: np.ndarray) -> float:
    """From 0, nothing to recognise, to 1: how sharp times how well lit times how sure of its landmarks a face is.

    A first, simple number, not yet fitted to errors: it tells faces that are blurred, tiny, dark or upside down from
    those that show enough. It does not see what covers a face, nor that a blurred photo has noise or hard edges.

    Args:
        aligned: (112, 112, 3) RGB uint8. confidence: (5,) of its landmarks.
    """
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)[INNER].astype(np.float32)
    contrast = float(grey.std())
    fine = float((grey - cv2.GaussianBlur(grey, (0, 0), FINE)).std())
    sharp, lit = min(1.0, fine / max(contrast, 1e-3) / SHARP), min(1.0, contrast / BRIGHT)
    return sharp * lit * float(np.clip(confidence.min(), 0, 1))
