"""Faces that are hidden: where, how well, and for how long in a clip."""

import cv2
import numpy as np
import pytest

from facelib.detection.rotation import rotate_quarters
from facelib.settings import TINY_FACE
from facelib.video.blur import (
    COVER,
    MARGIN,
    STYLES,
    BoxesInTime,
    FollowedFaces,
    Hiding,
    blur_clip,
    boxes_to_hide,
    count_areas,
    find_all_faces,
    follow_faces,
    hide_faces,
    sensitive,
)
from facelib.video.tracks import Track

BOX = np.array([60, 40, 100, 90], np.float32)


def noise(height=160, width=200, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def track(times, boxes, number=1):
    return Track(number, np.array(times, float), np.array(boxes, np.float32), None, times[0], 1)


@pytest.mark.parametrize("style", STYLES)
def test_the_whole_box_is_hidden_and_the_rest_is_kept(style):
    image = noise()
    before = image.copy()
    hidden = hide_faces(image, BOX[None], Hiding(style))
    np.testing.assert_array_equal(image, before)  # the original array is not changed
    changed = (hidden != image).any(2)
    assert changed[40:90, 60:100].mean() > 0.98  # a pixel may keep its colour by chance
    changed[20:110, 45:115] = False
    assert not changed.any()
    if style == "box":
        assert (hidden[40:90, 60:100] == COVER).all()


@pytest.mark.parametrize("side", [24, 80, 900])
@pytest.mark.parametrize("style", ["blur", "pixels"])
def test_no_detail_is_left(side, style):
    """What remains of noise are the means of cells, whatever the size of the face."""
    image = noise(side, side)
    hidden = hide_faces(image, np.array([[0, 0, side, side]]), Hiding(style))
    assert hidden.std() < image.std() / 3
    cells = cv2.resize(hidden, (16, 16), interpolation=cv2.INTER_AREA)
    details = hidden - cv2.resize(cells, (side, side), interpolation=cv2.INTER_LINEAR).astype(float)
    assert details.std() < image.std() / 8


@pytest.mark.parametrize(
    "box", [[-30, -30, 10, 10], [190, 150, 260, 220], [500, 500, 520, 520], [50, 50, 50, 50], [-1e6, -1e6, 1e6, 1e6]]
)
def test_boxes_at_and_beyond_the_edges(box):
    image = noise()
    hidden = hide_faces(image, np.array([box], np.float32))
    x1, y1, x2, y2 = np.clip(box, 0, [200, 160, 200, 160]).astype(int)
    if x2 > x1 and y2 > y1:
        assert (hidden != image).any(2)[y1:y2, x1:x2].mean() > 0.98


def test_a_style_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="style='gauss': expected one of blur, pixels, box"):
        Hiding("gauss")


def test_only_the_faces_that_stay_visible_are_not_hidden():
    faces = np.array([[10, 10, 50, 50], [60, 10, 100, 50], [40, 12, 75, 48]], np.float32)
    near_first, near_second, elsewhere = [12, 11, 51, 52], [61, 9, 99, 50], [120, 120, 150, 150]
    small_before_first = [20, 20, 35, 35]  # somebody smaller in front of a visible face
    candidates = np.array([near_first, near_second, elsewhere, small_before_first], np.float32)
    hidden = boxes_to_hide(candidates, faces, np.array([True, False, False])).tolist()
    assert near_first not in hidden and faces[0].tolist() not in hidden
    assert all(
        box in hidden for box in (near_second, elsewhere, small_before_first, faces[1].tolist(), faces[2].tolist())
    )
    nobody = boxes_to_hide(candidates, np.zeros((0, 4), np.float32), np.zeros(0, bool))
    np.testing.assert_array_equal(nobody, candidates)


def test_more_is_found_than_elsewhere(photo, pipeline):
    """Six faces, also dark and lying on their side; a lower threshold and smaller faces than by default."""
    detector = sensitive(pipeline.detector)
    assert detector.threshold < pipeline.detector.threshold
    assert detector.smallest_face == TINY_FACE
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    expected, _ = pipeline.detector.detect(small)
    assert len(expected) == 6
    turned = rotate_quarters(small // 6, 1)
    boxes, scores = find_all_faces(detector, turned)
    assert len(scores) == len(boxes) >= 6
    hidden = hide_faces(np.zeros_like(turned), boxes, Hiding("box"))[..., 0] > 0
    upright = rotate_quarters(hidden, 3)
    for x1, y1, x2, y2 in expected.round().astype(int):
        assert upright[y1:y2, x1:x2].mean() > 0.9


def test_areas_of_one_face_count_once():
    assert count_areas(np.array([[10, 10, 50, 50], [12, 9, 51, 52], [60, 10, 100, 50]], np.float32)) == 2
    assert count_areas(np.zeros((0, 4), np.float32)) == 0


def test_a_track_is_hidden_before_between_and_after_its_detections():
    boxes = BoxesInTime([track([2.0, 3.0], [[0, 0, 10, 10], [20, 0, 30, 10]]), track([9.0], [[5, 5, 6, 6]], 2)])
    assert boxes.at(2.0 - MARGIN - 0.01).shape == (0, 4)
    assert boxes.at(2.0 - MARGIN).tolist() == [[0, 0, 10, 10]]
    assert boxes.at(2.5).tolist() == [[10, 0, 20, 10]]
    assert boxes.at(3.0 + MARGIN).tolist() == [[20, 0, 30, 10]]
    assert boxes.at(3.0 + MARGIN + 0.01).shape == (0, 4)
    assert boxes.at(9.1).tolist() == [[5, 5, 6, 6]]


def test_where_frames_are_rare_a_track_is_hidden_in_the_frames_before_and_after_it():
    boxes = BoxesInTime([track([4.0], [[0, 0, 10, 10]])], [0.0, 2.0, 4.0, 6.0, 8.0])
    assert [len(boxes.at(time)) for time in (0.0, 2.0, 4.0, 6.0, 8.0)] == [0, 1, 1, 1, 0]


class Everywhere:
    """A detector that finds one face in some of the frames, at a place that the brightness tells."""

    name = "stand-in"

    def detect(self, image):
        number = round((float(image[:8].mean()) - 40) / 4)
        if number in (3, 4, 8):
            return np.array([[50 + number, 40, 80 + number, 80]], np.float32), np.ones(1, np.float32)
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)


def test_a_clip_is_followed_and_hidden_up_to_where_it_was_searched(tmp_path, pipeline):
    pytest.importorskip("av")
    from video.clips import gradients, write_clip

    from facelib.video.analysis import VideoPipeline
    from facelib.video.reader import Clip
    from facelib.video.writer import ClipWriter

    images = gradients(30)
    for image in images:  # where nothing is hidden, stripes stay
        image[40:80, ::8] = 255
    source = write_clip(tmp_path / "a.mp4", images, rate=10, crf=5)
    followed = follow_faces(VideoPipeline(Everywhere(), pipeline.landmarker, pipeline.embedder), source)
    assert followed.until == pytest.approx(2.9) and not followed.problem
    times = sorted(time for each in followed.tracks for time in each.times)
    assert times == pytest.approx([0.3, 0.4, 0.8])
    # As if the clip had grown since it was searched.
    followed = FollowedFaces(followed.tracks, followed.times[:21], "")
    with ClipWriter(tmp_path / "b.mp4", (128, 96), 10) as writer:
        blur_clip(source, followed, followed.tracks, writer, Hiding("box"))
    with Clip(tmp_path / "b.mp4", every=1) as clip:
        frames = list(clip)
    assert len(frames) == 21
    covered = [bool((frame.image[55:65, 60:80].max(2) < 60).mean() > 0.9) for frame in frames]
    assert covered == [True] * 14 + [False] * 7  # from 0.3 s - MARGIN to 0.8 s + MARGIN, also where nothing was found


def test_a_clip_without_faces_is_copied(tmp_path):
    pytest.importorskip("av")
    from video.clips import gradients, number_of, write_clip

    from facelib.video.reader import Clip
    from facelib.video.writer import ClipWriter

    source = write_clip(tmp_path / "a.mp4", gradients(5))
    with ClipWriter(tmp_path / "b.mp4", (128, 96), 25) as writer:
        blur_clip(source, FollowedFaces([], np.array([10.0]), ""), [], writer, Hiding())
    with Clip(tmp_path / "b.mp4", every=1) as clip:
        assert [number_of(frame.image) for frame in clip] == [0, 1, 2, 3, 4]
