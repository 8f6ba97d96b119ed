"""Rates of tracks beside those of photos, and the frames that tracks are made of."""

from dataclasses import replace

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.evaluation.track_calibration import (
    CANVAS,
    FRAMES,
    TARGET_FMRS,
    TRACK_SIZES,
    PhotosAndTracks,
    add_track_rates,
    compare_rates,
    degraded_frames,
    pair_scores,
    track_embeddings,
)
from facelib.recognition.calibration import Calibration

CALIBRATION = Calibration("any", [-1, 0, 1], [1, 0.5, 1e-3], [], [], {}, 1e-5, "none")


def measured(people=60, photos=4, spread=0.6):
    """Photos of people, and two tracks of each, which are the means of two photos."""
    embeddings, names = synthetic_embeddings(people, photos, spread)
    pairs = embeddings.reshape(2 * people, 2, -1).mean(1)
    tracks = {3: pairs / np.linalg.norm(pairs, axis=1, keepdims=True)}
    return PhotosAndTracks(embeddings, names, tracks, names[::2])


def test_tracks_are_found_more_often_than_photos():
    photos, mixed, tracks = compare_rates(CALIBRATION, measured())
    assert [row["sides"] for row in (photos, mixed, tracks)] == ["photo, photo", "photo, track", "track, track"]
    assert photos["impostor_pairs"] == 60 * 59 / 2 * 16 and tracks["impostor_pairs"] == 60 * 59 / 2 * 4
    for target in TARGET_FMRS:
        assert photos[f"fmr_at_{target:g}"] == pytest.approx(target, rel=0.05)
        assert photos[f"tmr_at_{target:g}"] < tracks[f"tmr_at_{target:g}"] <= 1


def test_rates_of_tracks_are_raised_to_the_worst_group():
    rates = measured()
    single = add_track_rates(CALIBRATION, rates)
    impostors, _ = pair_scores(CALIBRATION, rates.tracks[3], rates.track_people)
    middle = CALIBRATION.scores.index(0)
    raised = max(0.5 / (pair_scores(CALIBRATION, rates.photos, rates.people)[0] >= 0).mean(), 1)
    assert single.fmr_of_tracks["3"][middle] == pytest.approx(min(1, (impostors >= 0).mean() * raised))
    worse = replace(CALIBRATION, false_match_rates=[1, 0.9, 1e-2])
    assert add_track_rates(worse, rates).fmr_of_tracks["3"][2] > single.fmr_of_tracks["3"][2]


def test_without_tracks_a_calibration_stays_as_it_is():
    rates = measured()
    assert add_track_rates(CALIBRATION, replace(rates, track_people=rates.track_people[:0], tracks={})) is CALIBRATION
    assert add_track_rates(CALIBRATION, replace(rates, people=rates.people[:0])) is CALIBRATION


def test_frames_show_the_face_in_its_box():
    face = np.zeros((112, 112, 3), np.uint8)
    face[30:100, 30:82] = 255  # the middle of the face is bright, all around is black
    frames, again = (degraded_frames([face], np.random.default_rng(1)) for _ in range(2))
    assert len(frames) == FRAMES and all(np.array_equal(a[0], b[0]) for a, b in zip(frames, again))
    for image, box in frames:
        assert image.shape == (CANVAS, CANVAS, 3)
        x, y = ((box[:2] + box[2:]) / 2).astype(int)
        assert image[y, x].min() > 60 and image[0, 0].max() < 40


def test_several_photos_follow_each_other():
    black, white = (np.full((112, 112, 3), level, np.uint8) for level in (0, 255))
    levels = [image.mean() for image, _ in degraded_frames([black, white], np.random.default_rng(0))]
    assert max(levels[: FRAMES // 2]) < 20 and min(levels[FRAMES // 2 :]) > 80


def test_embedding_of_a_track_is_the_mean_of_its_best_frames(pipeline, photo):
    aligned = pipeline(photo)[0].aligned
    frames = degraded_frames([aligned], np.random.default_rng(2))
    by_size = track_embeddings(frames, pipeline.embedder, pipeline.landmarker)
    clean = pipeline.embedder.embed(aligned[None])[0]
    assert set(by_size) == set(TRACK_SIZES)
    assert all(np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) for vector in by_size.values())
    assert all(vector @ clean > 0.6 for vector in by_size.values())
