"""Boxes and names on frames."""

import numpy as np
import pytest

from facelib.video.annotation import COLOURS, annotate_frame
from facelib.video.tracks import Track


def track(number, times, boxes):
    return Track(number, np.array(times, float), np.array(boxes, np.float32), None, times[0], 1)


def coloured(image, colour):
    """(x1, y1, x2, y2) of the pixels of a colour, or None."""
    rows, columns = np.nonzero((image == colour).all(2))
    return [columns.min(), rows.min(), columns.max(), rows.max()] if len(rows) else None


def test_boxes_are_interpolated_and_named():
    image = np.full((200, 300, 3), 90, np.uint8)
    tracks = [
        track(1, [1.0, 2.0], [[50, 60, 90, 100], [90, 60, 130, 100]]),
        track(2, [5.0], [[0, 0, 9, 9]]),
        track(3, [1.0, 2.0], [[200, 100, 240, 140]] * 2),
    ]
    drawn = annotate_frame(image, 1.5, tracks, {1: "Ann", 3: "Ann", 2: "Bob"})
    assert (image == 90).all()
    x1, y1, x2, y2 = coloured(drawn, COLOURS[0])
    assert (x1, x2, y2) == pytest.approx((70, 241, 141), abs=2)
    assert y1 < 58  # the name is above the box
    assert coloured(drawn, COLOURS[1]) is None  # Bob is not there now
    assert (drawn[y1:60, 70:110] < 30).all(2).any()  # black letters
    np.testing.assert_array_equal(annotate_frame(image, 9.0, tracks, {1: "Ann"}), image)
    np.testing.assert_array_equal(annotate_frame(image, 1.5, tracks, {}), image)


@pytest.mark.parametrize("name", ["", "x" * 500, "王小明\n\u202e", "Ann"])
@pytest.mark.parametrize("box", [[-20, -20, 5, 5], [0, 0, 30, 30], [25, 25, 60, 60], [10, 10, 10.2, 10.2]])
def test_names_and_boxes_of_any_kind_fit_the_frame(name, box):
    image = np.zeros((30, 30, 3), np.uint8)
    drawn = annotate_frame(image, 0.0, [track(1, [0.0], [box])], {1: name})
    assert drawn.shape == image.shape
    assert coloured(drawn, COLOURS[0]) is not None


def test_each_name_has_a_colour_of_its_own():
    image = np.zeros((400, 400, 3), np.uint8)
    tracks = [track(i, [0.0], [[10, 50 * i, 40, 50 * i + 20]]) for i in range(1, 8)]
    drawn = annotate_frame(image, 0.0, tracks, {i: f"Person {i}" for i in range(1, 8)})
    assert all(coloured(drawn, colour) for colour in COLOURS)
