"""Tracks grouped by person: at the same time, across clips, and those that show little."""

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import cluster_faces
from facelib.types import Face
from facelib.video.people import UNKNOWN, group_tracks, simultaneous
from facelib.video.tracks import Track

CALIBRATION = Calibration("none", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [], {}, 1e-6, "none")


def track(embedding, first=0.0, last=1.0, photos=10, quality=0.9, issue=""):
    none = np.zeros(5, np.float32)
    face = Face(none[:4], 1.0, none, none, np.asarray(embedding, np.float32), none, quality, quality_issue=issue)
    return Track(1, np.array([first, last]), np.zeros((2, 4), np.float32), face, first, photos)


@pytest.fixture(scope="module")
def embeddings():
    """Of six people, five embeddings each, and who is in each."""
    return synthetic_embeddings(6, 5, spread=0.3, size=64)


def test_tracks_of_one_person_are_joined_across_clips(embeddings):
    vectors, people = embeddings
    tracks = [track(vector) for vector in vectors]
    groups = group_tracks(tracks, list(range(len(tracks))), CALIBRATION)
    assert len(set(zip(groups, people))) == len(set(groups)) == 6


def test_two_tracks_at_the_same_time_are_two_people(embeddings):
    first, second, third = embeddings[0][:3]
    tracks = [track(first, 0, 5), track(second, 3, 8), track(third, 9, 10)]
    groups = group_tracks(tracks, [0, 0, 0], CALIBRATION)
    assert groups[0] != groups[1] and groups[2] in groups[:2]
    assert len(set(group_tracks(tracks, [0, 1, 0], CALIBRATION))) == 1, "in two clips"
    assert simultaneous(tracks, [0, 0, 0]).tolist() == [[0, 1]]


def test_tracks_that_show_little_join_somebody_or_nobody(embeddings):
    vectors, _ = embeddings
    tracks = [track(vectors[0]), track(vectors[1], 2, 3, photos=1), track(vectors[7], 2, 3, photos=9, quality=0.3)]
    assert group_tracks(tracks, [0, 0, 0], CALIBRATION).tolist() == [0, 0, UNKNOWN]
    long = [*tracks[:2], track(vectors[7], 2, 3, photos=10, quality=0.3)]
    assert group_tracks(long, [0, 0, 0], CALIBRATION).tolist() == [0, 0, 1], "an unclear face, but seen for long"
    overlapping = [track(vectors[0]), track(vectors[1], 0.5, 3, photos=1)]
    assert group_tracks(overlapping, [0, 0], CALIBRATION).tolist() == [0, UNKNOWN]
    hidden = track(vectors[1], 2, 3, issue="too blurred")
    assert group_tracks([tracks[0], hidden], [0, 0], CALIBRATION).tolist() == [0, UNKNOWN]
    assert group_tracks([hidden, tracks[2]], [0, 0], CALIBRATION).tolist() == [UNKNOWN, UNKNOWN]
    assert group_tracks([hidden, tracks[1]], [0, 0], CALIBRATION).tolist() == [UNKNOWN, 0], (
        "all are short: a slide show"
    )
    assert group_tracks([], [], CALIBRATION).tolist() == []


def test_tracks_that_are_known_to_be_apart_stay_apart_through_others(embeddings):
    vectors = embeddings[0][:5]
    assert len(set(cluster_faces(vectors, 0.3))) == 1
    groups = cluster_faces(vectors, 0.3, apart=[{0}, {0}, set(), set(), set()])
    assert groups[0] != groups[1]
