"""True and false positives of detectors."""

import numpy as np
import pytest

from facelib.evaluation import detection as detectors
from facelib.evaluation.benchmarks import crowds
from facelib.evaluation.detection import count_faces, load_photo_faces, rotated


def test_evaluation_of_detectors(photo, detector):
    """Faces detected twice, in the wrong place, or labelled unsure."""
    boxes, _ = detector.detect(photo)
    is_face = np.ones(6, bool)
    assert count_faces(boxes, boxes, is_face, np.eye(2, 3)) == (6, 0)
    assert count_faces(np.concatenate([boxes, boxes[:2]]), boxes, is_face, np.eye(2, 3)) == (6, 2)
    assert count_faces(boxes[1:], boxes, is_face, np.eye(2, 3)) == (5, 0)
    assert count_faces(boxes, boxes[:4], is_face[:4], np.eye(2, 3)) == (4, 2)
    assert count_faces(boxes, boxes, np.arange(6) > 0, np.eye(2, 3)) == (5, 0)
    assert count_faces(np.zeros((0, 4), np.float32), boxes, is_face, np.eye(2, 3)) == (0, 0)
    image, matrix = rotated(photo, 10)
    assert count_faces(detector.detect(image)[0], boxes, is_face, matrix) == (6, 0)
    assert {label.dtype.name for _, label in load_photo_faces().values()} == {"bool"}
    assert sum(len(label) for _, label in load_photo_faces().values()) > 200


@pytest.mark.parametrize("module", [crowds, detectors])
def test_an_unwritable_output_is_reported_before_the_work(module, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["command", "--out", str(tmp_path / "file/results.csv")])
    monkeypatch.setattr(module, "load_detector", None)  # never reached
    assert module.main() == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_crowds_hold_the_faces_of_their_boxes(detector):
    image, boxes = crowds.crowd(1600, 1200)
    assert image.shape == (1200, 1600, 3)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert 40 < sides.min() < 80 < sides.max() < 180
    assert crowds.measure(detector, "2 megapixels")["true_positives"] == len(boxes)
