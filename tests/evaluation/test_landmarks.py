"""What is measured of the hourglass."""

from dataclasses import replace

import numpy as np
from PIL import Image

from facelib import load_landmarker
from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import move_points
from facelib.evaluation import landmarks


def test_offsets_of_labels_are_taken_off(pipeline, photo, tmp_path, monkeypatch):
    """Labels a twentieth of the eye distance below the network's own points: an error of 5 %, of nothing once that is
    known from validation faces; and none at all where there are no validation faces to know it from."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    faces = pipeline(photo)
    boxes, found = np.stack([face.box for face in faces]), np.stack([face.landmarks for face in faces])
    below = move_points(found, np.tile([0.0, 0.05], (5, 1)))
    splits = np.array(["test", "val"] * 3)
    helen = FaceList([path] * 6, np.arange(6), splits, boxes, below, sets=np.full(6, "helen"))
    aflw = replace(helen, splits=np.full(6, "test"), points=found, sets=np.full(6, "aflw"))
    monkeypatch.setattr(landmarks, "load_landmark_list", lambda: FaceList.join([helen, aflw]))
    metrics = landmarks.test_set_metrics(pipeline.landmarker, load_landmarker(device="cpu", flip=True))
    assert (metrics["helen"]["faces"], metrics["aflw"]["faces"]) == (3, 6)
    np.testing.assert_allclose(metrics["helen"]["nme"], 0.05, atol=2e-3)
    assert metrics["helen"]["nme_offset"] < 0.015
    assert metrics["aflw"]["nme"] < 1e-3
    assert "nme_offset" not in metrics["aflw"]
    assert sum(part["faces"] for part in metrics["aflw"]["by_turn"].values()) == 6
