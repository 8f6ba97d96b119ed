"""What counts as a found face and as a made-up one."""

import numpy as np

from facelib.evaluation.detectors import count_faces, load_photo_faces, turned


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
