"""Faces of two people for tests of tracks."""

import numpy as np

from facelib.types import Face


def unit(*values: float) -> np.ndarray:
    vector = np.array([*values, *[0.0] * (8 - len(values))], np.float32)
    return vector / np.linalg.norm(vector)


def face(embedding: np.ndarray, quality: float = 0.8, issue: str = "", x: float = 0.0) -> Face:
    return Face(
        box=np.array([x, 0, x + 10, 12], np.float32),
        score=0.9,
        landmarks=np.zeros((5, 2), np.float32),
        aligned=np.zeros((112, 112, 3), np.uint8),
        embedding=embedding,
        landmark_confidence=np.ones(5, np.float32),
        quality=quality,
        quality_issue=issue,
    )


ANN, BOB = unit(1), unit(0, 1)
