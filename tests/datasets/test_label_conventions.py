from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import label_offsets, label_set_offsets, move_labels, move_points


def test_label_offsets_are_measured_and_removed(pipeline, photo, tmp_path):
    """Labels a tenth of the eye distance below the predictions, on rotated faces too."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    faces = pipeline(photo)
    boxes = np.stack([face.box for face in faces])
    points = np.stack([face.landmarks for face in faces])
    below = np.tile(np.array([0.0, 0.1]), (5, 1))
    labels = move_points(points, below)
    listed = FaceList([path] * 6, np.arange(6), np.full(6, "train"), boxes, labels, sets=np.full(6, "afw"))
    measured = label_offsets(pipeline.landmarker, listed)
    np.testing.assert_allclose(measured, below, atol=0.01)
    true = replace(listed, points=points, sets=np.full(6, "celeba"))
    both = FaceList.join([listed, true])
    offsets = label_set_offsets(pipeline.landmarker, both)
    assert list(offsets) == ["afw"]
    np.testing.assert_allclose(offsets["afw"], below, atol=1e-5)
    np.testing.assert_allclose(move_labels(both, offsets).points, np.concatenate([points, points]), atol=0.5)
    with pytest.raises(ValueError, match=r"'celeba'.*afw"):
        label_set_offsets(pipeline.landmarker, listed)
