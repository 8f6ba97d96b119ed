"""Photos that lie on their side or stand on their head: scans and old cameras write no orientation into the file."""

from dataclasses import dataclass

import cv2
import numpy as np

from facelib.types import Detector, Landmarker

SURE = 0.98  # mean confidence of a face's landmarks, from which they are those of an upright face
FAR = 30.0  # degrees by which the surest faces of a photo are turned that may lie on its side; a doubt costs only time
TRIAL_SIDE = 1_600  # pixels to which a photo is shrunk to try how it stands


@dataclass(frozen=True)
class DetectedFaces:
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
    def may_be_rotated(self) -> bool:
        """Whether the photo may not be upright: no face, none with landmarks that are sure, or most turned far."""
        if len(self.boxes) == 0 or self.confidence.mean(1).max() < SURE:
            return True
        sure = self.landmarks[self.confidence.mean(1) >= SURE]
        eyes = sure[:, 1] - sure[:, 0]
        return bool(np.median(np.abs(np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])))) > FAR)


def predict_with_confidence(
    landmarker: Landmarker, images: list[np.ndarray], boxes: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Landmarks (n, 5, 2) of each image, and how sure each is (n, 5): 1 where the landmarker does not say."""
    if own := getattr(landmarker, "predict_with_confidence", None):
        return own(images, boxes)
    landmarks = landmarker.predict(images, boxes)
    return landmarks, [np.ones(points.shape[:2], np.float32) for points in landmarks]


def detect_faces(detector: Detector, landmarker: Landmarker, image: np.ndarray) -> DetectedFaces:
    """Faces and landmarks of a photo as it is."""
    boxes, scores = detector.detect(image)
    (landmarks,), (confidence,) = predict_with_confidence(landmarker, [image], [boxes])
    return DetectedFaces(boxes, scores, landmarks, confidence)


def detect_rotated(
    detector: Detector, landmarker: Landmarker, image: np.ndarray, upright: DetectedFaces
) -> DetectedFaces:
    """What is found when the photo is turned as it shows most; `upright`, where no quarter turn shows more."""
    shrink = min(1.0, TRIAL_SIDE / max(image.shape[:2]))
    size = [max(1, round(side * shrink)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
    least = 1.1 * max(upright.evidence, detect_faces(detector, landmarker, small).evidence if shrink < 1 else 0.0)
    trials = {k: detect_faces(detector, landmarker, rotate_quarters(small, k)) for k in (1, 2, 3)}
    best = max(trials, key=lambda k: trials[k].evidence)
    if trials[best].evidence <= least:
        return upright
    found = trials[best] if shrink == 1 else detect_faces(detector, landmarker, rotate_quarters(image, best))
    corners = unrotate_points(found.boxes.reshape(-1, 2, 2) - 0.5, best, image.shape) + 0.5  # boxes span edges
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    return DetectedFaces(boxes, found.scores, unrotate_points(found.landmarks, best, image.shape), found.confidence)


def rotate_quarters(image: np.ndarray, quarters: int) -> np.ndarray:
    """By quarter turns to the left."""
    return np.ascontiguousarray(np.rot90(image, quarters))


def unrotate_points(points: np.ndarray, quarters: int, shape: tuple[int, ...]) -> np.ndarray:
    """(..., 2) points of a turned photo, pixel centres at whole numbers, in the photo of that shape (h, w, ...)."""
    height, width = shape[:2]
    x, y = points[..., 0], points[..., 1]
    back = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[quarters]
    return np.stack(back, -1).astype(np.float32)
