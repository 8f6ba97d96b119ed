"""Generated clips: the same for one seed, with a truth that agrees with the pictures."""

import itertools
import sys

import cv2
import numpy as np
import pytest
from generated_clips import flat_sources

from facelib.detection.nms import box_iou
from facelib.evaluation.benchmarks.clip_people import EFFECTS, ClipRecipe, motion_kernel
from facelib.evaluation.benchmarks.clip_sources import (
    PORTRAIT_POINTS,
    ClipSources,
    head_mask,
    largest_free_part,
    load_clip_sources,
    make_portrait,
)
from facelib.evaluation.benchmarks.clips import clip_frames, parse_recipe, plan_scenes, read_truth, write_clip

SMALL = {"size": (160, 90), "seconds": 4.0, "rate": 10, "face_heights": (24, 30)}


def frames_of(**recipe):
    return list(clip_frames(ClipRecipe(**{**SMALL, **recipe}), flat_sources()))


def test_one_seed_gives_one_clip():
    first, again, other = frames_of(seed=3), frames_of(seed=3), frames_of(seed=4)
    assert len(first) == 40
    for (image, faces), (same_image, same_faces) in zip(first, again):
        assert np.array_equal(image, same_image)
        assert [(face.person, face.box.tolist(), face.visible) for face in faces] == [
            (face.person, face.box.tolist(), face.visible) for face in same_faces
        ]
    assert any(not np.array_equal(image, other_image) for (image, _), (other_image, _) in zip(first, other))


def test_the_box_is_where_the_face_is():
    """Without effects a face of one colour fills the middle of its box, and the corners of the frame are black."""
    sources = flat_sources()
    for image, faces in clip_frames(ClipRecipe(people=1, effects=(), **SMALL), sources):
        (face,) = faces
        x, y = ((face.box[:2] + face.box[2:]) / 2).astype(int)
        assert np.abs(image[y, x].astype(int) - sources.portraits[face.person][0, 0, 0]).max() <= 1
        assert face.visible == 1
        assert 24 <= face.box[3] - face.box[1] <= 30


def test_box_of_a_turned_face_holds_its_ellipse():
    boxes = {turned: frames_of(people=1, effects=("turns",) * turned) for turned in (0, 1)}
    wider = [
        (turned[0].box[2] - turned[0].box[0]) / (upright[0].box[2] - upright[0].box[0])
        for (_, upright), (_, turned) in zip(boxes[0], boxes[1])
    ]
    assert min(wider) >= 0.99 and max(wider) > 1.05


def test_a_detector_finds_the_faces_where_the_truth_has_them(pipeline, photo):
    """Six people of the sample photo as portraits: the boxes have the detector's convention."""
    faces = pipeline(photo)
    portraits = {str(number): make_portrait(photo, face.landmarks)[None] for number, face in enumerate(faces)}
    sources = ClipSources(portraits, [np.full((90, 160, 3), 110, np.uint8)])
    recipe = ClipRecipe(size=(640, 360), seconds=2, rate=2, people=2, face_heights=(90, 120), effects=())
    for image, true_faces in clip_frames(recipe, sources):
        found, _ = pipeline.detector.detect(image)
        overlaps = box_iou(np.stack([face.box for face in true_faces]), found)
        assert (overlaps.max(1) > 0.6).all()


def test_visible_share_falls_behind_a_bar_and_outside_the_frame():
    behind = [face.visible for _, faces in frames_of(people=1, effects=("bar",), seconds=8) for face in faces]
    assert min(behind) < 0.3 and max(behind) == 1
    counts = [len(faces) for _, faces in frames_of(people=1, effects=("leaving",), seconds=8)]
    steps = [key for key, _ in itertools.groupby(counts)]
    assert steps == [1, 0, 1]  # there, away, back


def test_the_front_person_hides_the_other_where_they_cross():
    for seed in range(1, 9):
        frames = frames_of(people=2, effects=("crossings",), seconds=6, seed=seed)
        last = [faces[-1].visible for _, faces in frames if len(faces) == 2]
        first = [faces[0].visible for _, faces in frames if len(faces) == 2]
        assert min(last) > 0.99  # the last one is in front
        if min(first) < 0.5:
            return
    raise AssertionError("in no clip anybody was hidden")


def test_cuts_change_people_and_background():
    recipe = ClipRecipe(seconds=14, people=2, effects=("cuts",), size=(160, 90), rate=10)
    first, second = plan_scenes(recipe, flat_sources())
    assert first.end == second.start and second.end == 14
    people = [{actor.person for actor in scene.actors} for scene in (first, second)]
    assert len(people[0] | people[1]) in (3, 4)
    assert not np.array_equal(first.background, second.background)


@pytest.mark.parametrize("effect", ["scale", "motion_blur", "light"])
def test_each_effect_changes_the_picture(effect):
    plain, changed = frames_of(people=1, effects=()), frames_of(people=1, effects=(effect,))
    assert any(not np.array_equal(a, b) for (a, _), (b, _) in zip(plain, changed))
    if effect != "scale":  # the place stays
        assert all(np.array_equal(a[0].box, b[0].box) for (_, a), (_, b) in zip(plain, changed))


def test_motion_kernel_averages_along_the_motion():
    kernel = motion_kernel(np.array([6.0, 0.0]))
    assert kernel.sum() == pytest.approx(1) and kernel.shape[0] == kernel.shape[1]
    middle = len(kernel) // 2
    assert kernel[middle].sum() == pytest.approx(1) and (kernel[middle] > 0).sum() == 7
    assert motion_kernel(np.zeros(2)).tolist() == [[1.0]]


def test_no_edge_of_the_portrait_shows():
    mask = head_mask()
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() <= 2 and mask[72, 72] == 255
    assert np.abs(np.diff(mask.astype(int), axis=0)).max() < 40  # soft


def test_portrait_has_the_landmarks_at_their_place():
    dots = np.zeros((300, 300, 3), np.uint8)
    landmarks = PORTRAIT_POINTS * 1.5 + 20
    for x, y in landmarks:
        cv2.circle(dots, (round(float(x)), round(float(y))), 3, (255, 255, 255), -1)
    portrait = make_portrait(dots, landmarks)
    assert all(portrait[round(float(y)), round(float(x)), 0] > 150 for x, y in PORTRAIT_POINTS)


def test_backgrounds_touch_no_labelled_face():
    boxes = np.array([[300, 100, 400, 220], [700, 50, 780, 140]], np.float32)
    x, y, width, height = largest_free_part(1280, 960, boxes, 16 / 9)
    part = np.array([[x, y, x + width, y + height]], np.float32)
    assert not box_iou(part, boxes).any()
    assert width / height == pytest.approx(16 / 9, abs=0.01) and width > 900
    assert largest_free_part(400, 300, np.array([[100, 100, 300, 200]], np.float32), 16 / 9) is None


def test_clip_and_truth_are_written(tmp_path):
    av = pytest.importorskip("av")
    recipe = ClipRecipe(people=2, effects=("bar",), **SMALL)
    truth = read_truth(write_clip(tmp_path / "clip.mp4", recipe, flat_sources()))
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        images = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    expected = list(clip_frames(recipe, flat_sources()))
    assert len(images) == len(expected) == 40 and set(truth) <= set(range(40))
    for number, (image, faces) in enumerate(expected):
        assert np.abs(images[number].astype(int) - image).mean() < 6
        stored = truth.get(number, [])
        assert [face.person for face in stored] == [face.person for face in faces]
        assert all(np.allclose(a.box, b.box, atol=0.06) for a, b in zip(stored, faces))
        assert all(abs(a.visible - b.visible) < 0.001 for a, b in zip(stored, faces))


def test_clip_without_pyav_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"\[video\]"):
        write_clip(tmp_path / "clip.mp4", ClipRecipe(**SMALL), flat_sources())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (161, 90)}, "even"),
        ({"seconds": 0}, "one frame"),
        ({"effects": ("snow",)}, "'snow'"),
        ({"people": -1}, "one frame"),
    ],
)
def test_bad_recipes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ClipRecipe(**wrong)


def test_too_few_people_are_refused():
    with pytest.raises(ValueError, match="6 people"):
        list(clip_frames(ClipRecipe(people=7, **SMALL), flat_sources()))


def test_missing_data_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="face crops"):
        load_clip_sources("open_val")


def test_the_command_makes_a_recipe():
    options, recipe = parse_recipe(["a.mp4", "--seed", "4", "--people", "3", "--effects", "cuts", "--crf", "30"])
    assert options.part == "open_test" and str(options.clip) == "a.mp4"
    assert (recipe.seed, recipe.people, recipe.effects, recipe.crf) == (4, 3, ("cuts",), 30)
    assert parse_recipe(["a.mp4"])[1].effects == EFFECTS
