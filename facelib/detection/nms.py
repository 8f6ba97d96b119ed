"""Non-maximum suppression: overlapping boxes of one face become one."""

import numpy as np

INSIDE = 0.6  # share of the smaller of two boxes that lies in the other, from which both are one face
SAME_FACE = 0.3  # IoU from which two boxes are one face


def merge_detections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Faces (n, 5) and (m, 5) in one list; of two boxes that are one face, the one with the higher score."""
    faces = np.concatenate([a, b])
    faces = faces[np.argsort(-faces[:, 4], kind="stable")]
    low = np.maximum(faces[:, None, :2], faces[None, :, :2])
    high = np.minimum(faces[:, None, 2:4], faces[None, :, 2:4])
    both = np.clip(high - low, 0, None).prod(2)
    areas = (faces[:, 2:4] - faces[:, :2]).prod(1)
    same = (both > INSIDE * np.minimum(areas[:, None], areas)) | (box_iou(faces, faces) > SAME_FACE)
    kept: list[int] = []
    for i in range(len(faces)):
        if not same[i, kept].any():
            kept.append(i)
    return faces[kept]


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 4 or more) and (m, 4 or more)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    both = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:4] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-9)
