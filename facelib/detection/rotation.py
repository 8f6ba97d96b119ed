"""Photos that lie on their side or are upside down, without an EXIF orientation, as scans and old cameras make them."""

from dataclasses import dataclass

import cv2
import numpy as np

from facelib.types import Detector, Landmarker

UPRIGHT_CONFIDENCE = 0.98  # mean landmark confidence of a face, from which on its landmarks are taken as correct
MAX_ROLL = 30.0  # degrees of in-plane rotation; above it the other orientations are tried, which only costs time
TRIAL_SIDE = 1_600  # pixels: larger photos are shrunk to try other orientations


@dataclass(frozen=True)
class DetectedFaces:
    """Faces of a photo before alignment, in coordinates of the photo.

    Attributes:
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels.
        scores: (n,) float32, of the detector, 0 to 1.
        landmarks: (n, 5, 2) float32, x and y in pixels.
        confidence: (n, 5) float32, of each landmark, 0 to 1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    confidence: np.ndarray

    @property
    def upright_evidence(self) -> float:
        """Evidence of upright faces: sum over faces of detector score times mean landmark confidence."""
        return float((self.scores * self.confidence.mean(1)).sum())

    @property
    def may_be_rotated(self) -> bool:
        """Whether the photo may not be upright: no face, no face with confident landmarks, or most of them rotated."""
        if len(self.boxes) == 0 or self.confidence.mean(1).max() < UPRIGHT_CONFIDENCE:
            return True
        confident = self.landmarks[self.confidence.mean(1) >= UPRIGHT_CONFIDENCE]
        eyes = confident[:, 1] - confident[:, 0]
        rolls = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
        return bool(np.median(np.abs(rolls)) > MAX_ROLL)


def predict_with_confidence(
    landmarker: Landmarker, images: list[np.ndarray], boxes: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Landmarks (n, 5, 2) of each image, and their confidence (n, 5): 1 where the landmarker returns none."""
    if predict := getattr(landmarker, "predict_with_confidence", None):
        return predict(images, boxes)
    landmarks = landmarker.predict(images, boxes)
    return landmarks, [np.ones(points.shape[:2], np.float32) for points in landmarks]


def find_boxes(detector: Detector, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a detector finds, checked: boxes (n, 4) and scores (n,), both float32.

    Raises:
        ValueError: other shapes, NaN, or boxes without area.
    """
    boxes, scores = (np.asarray(found, np.float32) for found in detector.detect(image))
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    name = getattr(detector, "name", type(detector).__name__)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes),):
        raise ValueError(
            f"the detector {name} returned boxes of shape {boxes.shape} and scores of shape {scores.shape}: expected "
            "(n, 4) and (n,)"
        )
    if not np.isfinite(boxes).all() or not (boxes[:, 2:] > boxes[:, :2]).all():
        raise ValueError(f"the detector {name} returned a box with NaN or without area: expected x1 < x2 and y1 < y2")
    return boxes, scores


def detect_faces(detector: Detector, landmarker: Landmarker, image: np.ndarray) -> DetectedFaces:
    """Boxes and landmarks of a photo, RGB uint8 (H, W, 3), in the orientation that it has."""
    boxes, scores = find_boxes(detector, image)
    (landmarks,), (confidence,) = predict_with_confidence(landmarker, [image], [boxes])
    return DetectedFaces(boxes, scores, landmarks, confidence)


def detect_rotated(
    detector: Detector, landmarker: Landmarker, image: np.ndarray, upright: DetectedFaces
) -> DetectedFaces:
    """Faces of a photo in the best of its four orientations.

    Args:
        upright: faces of the photo as it is; returned unless another orientation has 10 % more evidence.
    """
    shrink = min(1.0, TRIAL_SIDE / max(image.shape[:2]))
    size = [max(1, round(side * shrink)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
    small_evidence = detect_faces(detector, landmarker, small).upright_evidence if shrink < 1 else 0.0
    required = 1.1 * max(upright.upright_evidence, small_evidence)
    trials = {quarters: detect_faces(detector, landmarker, rotate_quarters(small, quarters)) for quarters in (1, 2, 3)}
    best = max(trials, key=lambda quarters: trials[quarters].upright_evidence)
    if trials[best].upright_evidence <= required:
        return upright
    found = trials[best] if shrink == 1 else detect_faces(detector, landmarker, rotate_quarters(image, best))
    # Boxes span pixel edges, landmarks and `unrotate_points` use pixel centres.
    corners = unrotate_points(found.boxes.reshape(-1, 2, 2) - 0.5, best, image.shape) + 0.5
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    return DetectedFaces(boxes, found.scores, unrotate_points(found.landmarks, best, image.shape), found.confidence)


def rotate_quarters(image: np.ndarray, quarters: int) -> np.ndarray:
    """The image rotated counter-clockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(image, quarters))


def unrotate_points(points: np.ndarray, quarters: int, shape: tuple[int, ...]) -> np.ndarray:
    """Map points of an image rotated by `rotate_quarters` back to the original image.

    Args:
        points: (..., 2), x and y in pixels; the centre of the top-left pixel is (0, 0).
        quarters: 1, 2 or 3.
        shape: (height, width, ...) of the original image.

    Returns:
        (..., 2) float32.
    """
    height, width = shape[:2]
    x, y = points[..., 0], points[..., 1]
    original = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[quarters]
    return np.stack(original, -1).astype(np.float32)
