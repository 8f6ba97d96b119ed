"""Metrics of the hourglass."""

from dataclasses import replace

import numpy as np
from PIL import Image

from facelib import load_landmarker
from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import move_points
from facelib.evaluation import landmarks


def test_label_offsets_are_corrected(pipeline, photo, tmp_path, monkeypatch):
    """Labels a twentieth of the inter-ocular distance below the predictions: an NME of 5 %, near 0 after correction by
    the offset of the validation faces; a set without validation faces has no offset."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    faces = pipeline(photo)
    boxes = np.stack([face.box for face in faces])
    predicted = np.stack([face.landmarks for face in faces])
    below = move_points(predicted, np.tile([0.0, 0.05], (5, 1)))
    splits = np.array(["test", "val"] * 3)
    helen = FaceList([path] * 6, np.arange(6), splits, boxes, below, sets=np.full(6, "helen"))
    aflw = replace(helen, splits=np.full(6, "test"), points=predicted, sets=np.full(6, "aflw"))
    monkeypatch.setattr(landmarks, "load_landmark_list", lambda: FaceList.join([helen, aflw]))
    metrics = landmarks.test_set_metrics(pipeline.landmarker, load_landmarker(device="cpu", flip=True))
    assert (metrics["helen"]["faces"], metrics["aflw"]["faces"]) == (3, 6)
    np.testing.assert_allclose(metrics["helen"]["nme"], 0.05, atol=2e-3)
    assert metrics["helen"]["nme_offset"] < 0.015
    assert metrics["aflw"]["nme"] < 1e-3
    assert "nme_offset" not in metrics["aflw"]
    assert sum(part["faces"] for part in metrics["aflw"]["by_turn"].values()) == 6
