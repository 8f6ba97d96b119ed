"""The pictures that the command line writes."""

import numpy as np
import pytest

from facelib.render import LANDMARK_COLOURS, MARKED_SIDES, marked_photo


def test_faces_are_marked_where_they_are(pipeline, photo):
    before = photo.copy()
    faces = pipeline(photo)
    shown = marked_photo(photo, faces)
    assert shown.shape == photo.shape and np.array_equal(photo, before)
    for face in faces:
        for (x, y), colour in zip(face.landmarks.round().astype(int), LANDMARK_COLOURS):
            assert np.abs(shown[y, x].astype(int) - colour).max() < 30
        x1, y1, x2, y2 = face.box.round().astype(int)
        assert min(shown[y2, x1:x2].mean(), shown[y1 + 20 : y2, x2].mean()) > 200
        inside = np.s_[y1 + 20 : y2 - 5, x1 + 15 : x2 - 5]  # but for dots, the face is untouched
        assert (shown[inside] == photo[inside]).all(-1).mean() > 0.95


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((1, 30_000), (1, 2000)), ((110, 160), (440, 640)), ((1, 1), (640, 640)), ((700, 800), (700, 800))],
)
def test_vast_photos_are_drawn_shrunk_and_tiny_ones_enlarged(size, drawn):
    assert marked_photo(np.zeros((*size, 3), np.uint8), []).shape == (*drawn, 3)
    assert max(drawn) in (*MARKED_SIDES, 800)
