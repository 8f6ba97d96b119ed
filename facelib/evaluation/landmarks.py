"""The hourglass on labelled faces: `python -m facelib.evaluation hourglass_keypoints.pt`."""

from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import find_landmarks, find_with_confidence, label_offsets, move_points
from facelib.datasets.sources import load_landmark_list
from facelib.metrics import TURNS, confidence_metrics, head_turn, landmark_errors, landmark_metrics


def evaluate_landmarks(landmarker: HourglassLandmarker, faces: FaceList, stack: int = -1) -> dict[str, dict]:
    """`landmark_metrics` of what the landmarker finds on labelled faces."""
    return landmark_metrics(find_landmarks(landmarker, faces, stack), faces.points, faces.sets)


def test_set_metrics(landmarker: HourglassLandmarker, flipped: HourglassLandmarker) -> dict[str, dict[str, Any]]:
    """For each landmark test set: "nme", "above_10", "per_point", "faces", "by_turn", "confidence" (see
    `confidence_metrics`, of a face's mean), and "nme_flip" and "above_10_flip" of `flipped`, the same network with
    flip averaging.

    Of sets with validation faces also "label_offsets" (5, 2), measured on those, and "nme_offset" and
    "nme_flip_offset": when the points found are moved by them, so without what the label sets disagree about.
    """
    faces = load_landmark_list()
    test, val = faces.select(faces.splits == "test"), faces.select(faces.splits == "val")
    found, confidence = find_with_confidence(landmarker, test)
    results, with_flip = landmark_metrics(found, test.points, test.sets), evaluate_landmarks(flipped, test)
    metrics = {}
    for name, result in results.items():
        metrics[name] = {key: result[key] for key in ("nme", "above_10", "per_point", "faces")}
        metrics[name] |= {f"{key}_flip": with_flip[name][key] for key in ("nme", "above_10")}
        if name in val.sets:
            offsets = label_offsets(flipped, val.select(val.sets == name))
            labels = test.select(test.sets == name).points
            metrics[name]["label_offsets"] = offsets.round(4).tolist()
            for key, found in (("nme_offset", result["found"]), ("nme_flip_offset", with_flip[name]["found"])):
                metrics[name][key] = float(landmark_errors(move_points(found, offsets), labels).mean())
        turn = np.abs(head_turn(test.select(test.sets == name).points))
        metrics[name]["by_turn"] = {
            label: {"nme": float(result["errors"][part].mean()), "faces": int(part.sum())}
            for label, (low, high) in TURNS.items()
            if (part := (turn >= low) & (turn < high)).any()
        }
        sure = confidence[test.sets == name].mean(1)
        metrics[name]["confidence"] = confidence_metrics(result["errors"], sure)
    return metrics
