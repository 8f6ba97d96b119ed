"""Photos that lie on their side or stand on their head: scans and old cameras write no orientation into the file."""

from dataclasses import dataclass

import cv2
import numpy as np

from facelib.detection import Detector
from facelib.landmarks import Landmarker

SURE = 0.98  # mean confidence of a face's landmarks, from which they are those of an upright face
FAR = 30.0  # degrees by which the surest faces of a photo are turned that may lie on its side; a doubt costs only time
TRIAL_SIDE = 1_600  # pixels to which a photo is shrunk to try how it stands


@dataclass(frozen=True)
class Finding:
    """What was found in a photo, in its coordinates: boxes (n, 4), scores (n,), landmarks (n, 5, 2) and how sure each
    of those is (n, 5)."""

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    confidence: np.ndarray

    @property
    def evidence(self) -> float:
        """That there are upright faces: the sum over faces of score times confidence of the landmarks."""
        return float((self.scores * self.confidence.mean(1)).sum())

    @property
    def is_doubtful(self) -> bool:
        """Whether the photo may not be upright: no face, none with landmarks that are sure, or most turned far."""
        if len(self.boxes) == 0 or self.confidence.mean(1).max() < SURE:
            return True
        sure = self.landmarks[self.confidence.mean(1) >= SURE]
        eyes = sure[:, 1] - sure[:, 0]
        return bool(np.median(np.abs(np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])))) > FAR)


def find(detector: Detector, landmarker: Landmarker, image: np.ndarray) -> Finding:
    """Faces and landmarks of a photo as it is."""
    boxes, scores = detector.detect(image)
    (landmarks,), (confidence,) = landmarker.predict_with_confidence([image], [boxes])
    return Finding(boxes, scores, landmarks, confidence)


def find_turned(detector: Detector, landmarker: Landmarker, image: np.ndarray, as_it_is: Finding) -> Finding:
    """What is found when the photo is turned as it shows most; `as_it_is`, where no quarter turn shows more."""
    shrink = min(1.0, TRIAL_SIDE / max(image.shape[:2]))
    size = [max(1, round(side * shrink)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
    least = 1.1 * max(as_it_is.evidence, find(detector, landmarker, small).evidence if shrink < 1 else 0.0)
    trials = {k: find(detector, landmarker, turned(small, k)) for k in (1, 2, 3)}
    best = max(trials, key=lambda k: trials[k].evidence)
    if trials[best].evidence <= least:
        return as_it_is
    found = trials[best] if shrink == 1 else find(detector, landmarker, turned(image, best))
    corners = turn_back(found.boxes.reshape(-1, 2, 2) - 0.5, best, image.shape) + 0.5  # boxes span edges
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    return Finding(boxes, found.scores, turn_back(found.landmarks, best, image.shape), found.confidence)


def turned(image: np.ndarray, quarters: int) -> np.ndarray:
    """By quarter turns to the left."""
    return np.ascontiguousarray(np.rot90(image, quarters))


def turn_back(points: np.ndarray, quarters: int, shape: tuple[int, ...]) -> np.ndarray:
    """(..., 2) points of a turned photo, pixel centres at whole numbers, in the photo of that shape (h, w, ...)."""
    height, width = shape[:2]
    x, y = points[..., 0], points[..., 1]
    back = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[quarters]
    return np.stack(back, -1).astype(np.float32)
