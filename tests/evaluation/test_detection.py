"""What counts as a found face and as a made-up one."""

import numpy as np
import pytest

from facelib.evaluation import detection as detectors
from facelib.evaluation.benchmarks import crowds
from facelib.evaluation.detection import count_faces, load_photo_faces, turned


def test_evaluation_of_detectors(photo, detector):
    """Counting: what is found twice, in the wrong place, or marked unsure."""
    boxes, _ = detector.detect(photo)
    sure = np.ones(6, bool)
    assert count_faces(boxes, boxes, sure, np.eye(2, 3)) == (6, 0)
    assert count_faces(np.concatenate([boxes, boxes[:2]]), boxes, sure, np.eye(2, 3)) == (6, 2)
    assert count_faces(boxes[1:], boxes, sure, np.eye(2, 3)) == (5, 0)
    assert count_faces(boxes, boxes[:4], sure[:4], np.eye(2, 3)) == (4, 2)
    assert count_faces(boxes, boxes, np.arange(6) > 0, np.eye(2, 3)) == (5, 0)
    assert count_faces(np.zeros((0, 4), np.float32), boxes, sure, np.eye(2, 3)) == (0, 0)
    image, matrix = turned(photo, 10)
    assert count_faces(detector.detect(image)[0], boxes, sure, matrix) == (6, 0)
    assert {label.dtype.name for _, label in load_photo_faces().values()} == {"bool"}
    assert sum(len(label) for _, label in load_photo_faces().values()) > 200


@pytest.mark.parametrize("module", [crowds, detectors])
def test_a_place_where_nothing_can_be_written_is_said_before_the_work(module, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["command", "--out", str(tmp_path / "file/results.csv")])
    monkeypatch.setattr(module, "load_detector", None)  # never reached
    assert module.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_crowds_are_full_of_the_faces_that_they_say(detector):
    picture, boxes = crowds.crowd(1600, 1200)
    assert picture.shape == (1200, 1600, 3)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert 40 < sides.min() < 80 < sides.max() < 180
    assert crowds.measure(detector, "2 megapixels")["found"] == len(boxes)
