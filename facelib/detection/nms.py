"""Non-maximum suppression (NMS): of overlapping boxes of one face, the one with the highest score remains."""

import numpy as np

SAME_FACE = 0.3  # two boxes with a higher IoU are one face
CONTAINED = 0.6  # two boxes are one face if a larger share of the smaller box lies in the other


def merge_detections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Greedy non-maximum suppression over two lists of faces.

    Two boxes are one face if their IoU exceeds `SAME_FACE`, or the smaller one lies inside the other (`CONTAINED`).

    Args:
        a: (n, 5): x1 y1 x2 y2 in pixels, and score. b: (m, 5).

    Returns:
        (k, 5), the highest score first.
    """
    faces = np.concatenate([a, b])
    faces = faces[np.argsort(-faces[:, 4], kind="stable")]
    areas = _areas(faces)
    is_contained = _intersections(faces, faces) > CONTAINED * np.minimum(areas[:, None], areas)
    is_same = is_contained | (box_iou(faces, faces) > SAME_FACE)
    kept: list[int] = []
    for i in range(len(faces)):
        if not is_same[i, kept].any():
            kept.append(i)
    return faces[kept]


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (IoU), (n, m), of boxes (n, 4 or more) and (m, 4 or more), x1 y1 x2 y2."""
    intersections = _intersections(a, b)
    unions = _areas(a)[:, None] + _areas(b) - intersections
    return intersections / np.maximum(unions, 1e-9)


def _intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas (n, m) of the intersections of boxes (n, 4 or more) and (m, 4 or more)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    return np.clip(high - low, 0, None).prod(2)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:4] - boxes[:, :2]).prod(1)
