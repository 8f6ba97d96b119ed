"""Landmark metrics: normalised mean error (NME), failure rate, quality of a confidence, head pose."""

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from facelib.metrics import auc, roc_curve

FAILURE_ERROR = 0.1  # of the inter-ocular distance; a larger error counts as a failure
REJECTION_SHARES = (1.0, 0.99, 0.95, 0.9, 0.8, 0.5)  # shares of the faces that are kept
TURNS = {"frontal": (0, 0.15), "turned": (0.15, 0.35), "far turned": (0.35, np.inf)}  # ranges of |head_turn|


def landmark_errors(predicted: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Distance of each landmark from its label, divided by the labelled inter-ocular distance.

    Args:
        predicted: (n, 5, 2).
        labelled: (n, 5, 2), in the same coordinates.

    Returns:
        (n, 5) float64. The mean over all is the NME, the mean over axis 0 the error of each landmark.

    Raises:
        ValueError: other shapes.
    """
    predicted = np.asarray(predicted, np.float64)
    labelled = np.asarray(labelled, np.float64)
    if predicted.shape != labelled.shape or predicted.shape[1:] != (5, 2):
        raise ValueError(f"landmarks of shape {predicted.shape} and {labelled.shape}: expected both (n, 5, 2)")
    inter_ocular = np.linalg.norm(labelled[:, 0] - labelled[:, 1], axis=1)
    return np.linalg.norm(predicted - labelled, axis=2) / inter_ocular[:, None]


def landmark_metrics(predicted: np.ndarray, labelled: np.ndarray, sets: np.ndarray) -> dict[str, dict[str, Any]]:
    """NME and failure rate for each data set.

    Args:
        predicted: (n, 5, 2).
        labelled: (n, 5, 2).
        sets: (n,) name of the data set of each face.

    Returns:
        For each set "nme", "above_10" (failure rate: share of faces with an error above 10 %), "per_point" (error of
        each landmark), "faces" (their number), and as arrays "errors" (n,) and "predicted" (n, 5, 2).
    """
    results = {}
    for name in sorted(set(sets.tolist())):
        part = sets == name
        errors = landmark_errors(predicted[part], labelled[part])
        results[name] = {
            "nme": float(errors.mean()),
            "above_10": float((errors.mean(1) > FAILURE_ERROR).mean()),
            "per_point": errors.mean(0).tolist(),
            "faces": int(part.sum()),
            "errors": errors.mean(1),
            "predicted": predicted[part],
        }
    return results


def confidence_metrics(errors: np.ndarray, confidence: np.ndarray, limit: float = FAILURE_ERROR) -> dict[str, Any]:
    """How well a confidence predicts errors.

    Args:
        errors: (n,) of faces or of landmarks.
        confidence: (n,).
        limit: an error above it counts as a failure.

    Returns:
        "rank_correlation": Spearman's, of confidence and negative error. "failure_auc": AUC of failure detection by
        low confidence, None without failures or with nothing else. "kept": the error-against-rejection curve, share
        of the most confident that is kept -> "nme" and "above_10" of those.
    """
    errors = np.asarray(errors, np.float64)
    confidence = np.asarray(confidence, np.float64)
    failures = errors > limit
    order = np.argsort(-confidence, kind="stable")
    kept = {}
    for share in REJECTION_SHARES:
        best = errors[order[: max(1, round(share * len(errors)))]]
        kept[f"{share:g}"] = {"nme": float(best.mean()), "above_10": float((best > limit).mean())}
    failure_auc = None
    if failures.any() and not failures.all():
        fpr, tpr, _ = roc_curve(failures, -confidence)
        failure_auc = auc(fpr, tpr)
    return {
        "rank_correlation": float(spearmanr(confidence, -errors).statistic),
        "failure_auc": failure_auc,
        "kept": kept,
    }


def head_turn(points: np.ndarray) -> np.ndarray:
    """Head pose (yaw) from landmarks: offset of the nose tip from the midpoint of the eyes, along the eye line, in
    inter-ocular distances.

    Args:
        points: (n, 5, 2), labelled.

    Returns:
        (n,), 0 for a frontal face, about 0.5 where the nose tip is below an eye; the sign is the side.
    """
    points = np.asarray(points, np.float64)
    eye_line = points[:, 1] - points[:, 0]
    nose = points[:, 2] - (points[:, 0] + points[:, 1]) / 2
    return (nose * eye_line).sum(1) / (eye_line**2).sum(1)
