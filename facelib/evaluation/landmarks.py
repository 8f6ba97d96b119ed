"""Landmark error of the hourglass on labelled faces: `python -m facelib.evaluation hourglass_keypoints.pt`."""

from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import find_landmarks, find_with_confidence, label_offsets, move_points
from facelib.datasets.sources import load_landmark_list
from facelib.landmark_metrics import TURNS, confidence_metrics, head_turn, landmark_errors, landmark_metrics


def evaluate_landmarks(landmarker: HourglassLandmarker, faces: FaceList, stack: int = -1) -> dict[str, dict]:
    """`landmark_metrics` of the predictions of one stack (default: the last) on labelled faces."""
    return landmark_metrics(find_landmarks(landmarker, faces, stack), faces.points, faces.sets)


def test_set_metrics(landmarker: HourglassLandmarker, flipped: HourglassLandmarker) -> dict[str, dict[str, Any]]:
    """Metrics of the hourglass on each landmark test set.

    Args:
        landmarker: without flip averaging; flipped: the same network with it.

    Returns:
        For each set "nme", "above_10" (failure rate), "per_point", "faces", "by_turn" (by head pose), "confidence"
        (see `confidence_metrics`), "nme_flip" and "above_10_flip". For sets that have validation faces also
        "label_offsets" (5, 2), the difference of the label conventions measured on those, and "nme_offset" and
        "nme_flip_offset", the NME after correcting predictions by it.
    """
    faces = load_landmark_list()
    test = faces.select(faces.splits == "test")
    val = faces.select(faces.splits == "val")
    predicted, confidence = find_with_confidence(landmarker, test)
    plain = landmark_metrics(predicted, test.points, test.sets)
    with_flip = evaluate_landmarks(flipped, test)
    metrics = {}
    for name, result in plain.items():
        labelled = test.select(test.sets == name).points
        metrics[name] = {key: result[key] for key in ("nme", "above_10", "per_point", "faces")}
        metrics[name] |= {f"{key}_flip": with_flip[name][key] for key in ("nme", "above_10")}
        if name in val.sets:
            offsets = label_offsets(flipped, val.select(val.sets == name))
            metrics[name]["label_offsets"] = offsets.round(4).tolist()
            for key, points in (("nme_offset", result["predicted"]), ("nme_flip_offset", with_flip[name]["predicted"])):
                metrics[name][key] = float(landmark_errors(move_points(points, offsets), labelled).mean())
        metrics[name]["by_turn"] = _by_turn(result["errors"], labelled)
        face_confidence = confidence[test.sets == name].mean(1)
        metrics[name]["confidence"] = confidence_metrics(result["errors"], face_confidence)
    return metrics


def _by_turn(errors: np.ndarray, labelled: np.ndarray) -> dict[str, dict[str, float]]:
    """NME and number of faces for each range of head pose in `TURNS` that has faces."""
    turn = np.abs(head_turn(labelled))
    parts = {label: (turn >= low) & (turn < high) for label, (low, high) in TURNS.items()}
    return {
        label: {"nme": float(errors[part].mean()), "faces": int(part.sum())}
        for label, part in parts.items()
        if part.any()
    }
