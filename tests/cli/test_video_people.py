"""Names that a gallery gives to people of clips."""

from types import SimpleNamespace

import pytest
from people import synthetic_embeddings
from video.test_people import CALIBRATION, track

from facelib import Gallery
from facelib.cli.options import DecisionOptions
from facelib.cli.video_people import assign_people


@pytest.fixture
def gallery(tmp_path):
    """Ann is the first person of `synthetic_embeddings`."""
    with Gallery(tmp_path / "people.gallery", "none", CALIBRATION) as opened:
        opened.enrol("Ann", synthetic_embeddings(6, 5, spread=0.3, size=64)[0][4])
        yield opened


def people_of(tracks, gallery):
    _, people = assign_people([SimpleNamespace(tracks=lambda: tracks)], CALIBRATION, DecisionOptions(0.01), gallery)
    return [(person.name, len(person.tracks), person.note) for person in people]


def test_two_who_are_seen_together_do_not_both_get_a_name(gallery):
    vectors = synthetic_embeddings(6, 5, spread=0.3, size=64)[0]
    together = [track(vectors[0], 0, 9), track(vectors[1], 3, 8), track(vectors[7], 10, 12)]
    (first, second, third) = people_of(together, gallery)
    assert sorted(name for name, *_ in (first, second)) == ["Ann", "Person 1"]
    assert {note for _, _, note in (first, second)} == {"", "like Ann, who is seen at the same time"}
    assert third == ("Person 2", 1, "")


def test_tracks_of_one_name_are_one_person(gallery):
    vectors = synthetic_embeddings(6, 5, spread=0.3, size=64)[0]
    assert people_of([track(vectors[0], 0, 2), track(vectors[1], 3, 8)], gallery) == [("Ann", 2, "")]
    assert people_of([track(vectors[7], 0, 2)], None) == [("Person 1", 1, "")]
    assert people_of([], gallery) == []
