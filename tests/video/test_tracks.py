"""Tracks: what is kept of them, their embedding, and where they are divided."""

import numpy as np
import pytest
from video.faces import ANN, BOB, face, unit

from facelib.types import Face
from facelib.video.tracks import (
    EMBEDDED_FRAMES,
    MAX_SAMPLES,
    OpenTrack,
    Sample,
    find_split,
    is_reliable,
    join_pieces,
    make_track,
    split_samples,
    track_face,
)


def open_track(faces: list[Face], step: float = 0.1) -> OpenTrack:
    track = OpenTrack(1, [], [])
    for number, one in enumerate(faces):
        track.add(number * step, one)
    return track


def whole(faces: list[Face], step: float = 0.1):
    track = open_track(faces, step)
    return make_track(track, track.samples, is_last=True)


def test_samples_of_a_long_track_are_few_and_spread_over_it():
    track = open_track([face(ANN, quality=0.5 + 0.4 * (number % 7 == 0)) for number in range(2_000)])
    times = np.array([sample.time for sample in track.samples])
    assert MAX_SAMPLES / 2 <= len(times) <= MAX_SAMPLES and len(track.times) == 2_000
    counts = np.histogram(times, bins=4, range=(0, 200))[0]
    assert counts.min() >= MAX_SAMPLES // 8, counts
    assert np.mean([sample.face.quality for sample in track.samples]) > 0.6


def test_the_embedding_is_the_mean_of_the_best_faces_of_all_parts_of_the_track():
    rng = np.random.default_rng(0)
    faces = [face(unit(1, rng.normal(), rng.normal()), quality=quality) for quality in rng.uniform(0.2, 0.9, 30)]
    samples = [Sample(number * 0.1, one) for number, one in enumerate(faces)]
    found, best_time, photos = track_face(samples)
    best = max(faces, key=lambda one: one.quality)
    assert photos == EMBEDDED_FRAMES and best_time == samples[faces.index(best)].time
    assert found.quality == best.quality and found.aligned is best.aligned
    parts = [faces[start : start + 3] for start in range(0, 30, 3)]
    chosen = [max(part, key=lambda one: one.quality) for part in parts]
    expected = sum(one.quality * one.embedding for one in chosen)
    np.testing.assert_allclose(found.embedding, expected / np.linalg.norm(expected), atol=1e-6)


def test_faces_with_a_quality_issue_count_only_where_there_are_no_others():
    blurred = [face(BOB, quality=0.9, issue="too blurred") for _ in range(5)]
    found, _, photos = track_face([Sample(0.1 * i, one) for i, one in enumerate([*blurred, face(ANN, quality=0.3)])])
    assert photos == 1 and not found.quality_issue
    np.testing.assert_allclose(found.embedding, ANN, atol=1e-6)
    assert track_face([Sample(0.1 * i, one) for i, one in enumerate(blurred)])[0].quality_issue == "too blurred"


def test_a_track_is_divided_where_the_person_changes_and_nowhere_else():
    samples = [Sample(0.1 * i, face(ANN if i < 6 else BOB)) for i in range(12)]
    assert find_split(samples, 0.3, None) == pytest.approx(0.55)
    assert find_split([Sample(0.1 * i, face(ANN)) for i in range(12)], 0.3, None) is None
    back = [*samples, *[Sample(1.2 + 0.1 * i, face(ANN)) for i in range(6)]]
    assert [len(part) for part in split_samples(back, 0.3, None)] == [6, 6, 6]
    assert find_split(samples[4:8], 0.3, None) is None, "too few to tell"


def test_the_parts_of_a_divided_track_have_all_its_boxes():
    track = open_track([face(ANN if i < 6 else BOB, x=i) for i in range(12)])
    parts = split_samples(track.samples, 0.3, None)
    made = [make_track(track, part, is_last=part is parts[-1]) for part in parts]
    assert [len(one.times) for one in made] == [6, 6]
    assert np.concatenate([one.boxes[:, 0] for one in made]).tolist() == list(range(12))


def test_boxes_are_interpolated_between_detections_and_end_with_the_track():
    track = whole([face(ANN, x=0), face(ANN, x=10)], step=1.0)
    assert track.box_at(0.25)[0] == pytest.approx(2.5) and track.box_at(0.25)[2] == pytest.approx(12.5)
    assert track.box_at(-0.01) is None and track.box_at(1.01) is None
    assert (track.first, track.last) == (0.0, 1.0)


def test_pieces_are_joined_by_the_faces_in_them():
    first, second = whole([face(ANN, quality=0.5)] * 3), whole([face(BOB, quality=0.9)])
    joined = join_pieces([first, second])
    assert len(joined.times) == len(joined.boxes) == 4 and joined.photos == 4
    assert joined.face.quality == 0.9 and joined.best_time == second.best_time
    expected = 1.5 * ANN + 0.9 * BOB
    np.testing.assert_allclose(joined.face.embedding, expected / np.linalg.norm(expected), atol=1e-6)
    assert join_pieces([first]).face is first.face


def test_one_detection_of_something_unrecognisable_is_no_reliable_track():
    assert is_reliable(whole([face(ANN)])) and is_reliable(whole([face(ANN, issue="too small")] * 2))
    assert not is_reliable(whole([face(ANN, issue="too small")]))
