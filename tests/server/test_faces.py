"""Suggestions "same person?": which people, with what rate, in which order."""

from pathlib import Path

import numpy as np
import pytest
from albums import CALIBRATION, DIMENSIONS, embedding_of

from facelib.embedding.similarity import unit_vectors
from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import Cohort
from facelib.server.faces import Scores, ServedFace


def faces_of(people, noise=0.1, photo="photo{}"):
    rng = np.random.default_rng(0)
    return [
        ServedFace(str(i), photo.format(i), 0, embedding_of(person, rng, noise), 0.0, "", Path(), Path())
        for i, person in enumerate(people)
    ]


def suggested(faces, people, refused=None, apart=frozenset(), calibration=CALIBRATION):
    people = {name: tuple(members) for name, members in people.items()}
    return Scores(faces, calibration, 0.0).suggestions(people, refused or {}, apart)


def test_those_come_first_that_decide_most_faces():
    faces = faces_of([0, 0, 0, 1, 1, 1, 1, 0, 1, 1])
    people = {"Ann": [0, 1, 2], "Person 2": [3, 4, 5, 6], "Person 3": [7], "Person 4": [8, 9]}
    found = suggested(faces, people)
    assert [(each.first, each.second, each.faces) for each in found] == [
        ("Person 2", "Person 4", 2),
        ("Ann", "Person 3", 1),
    ]
    for each in found:
        assert each.score > 0.9
        assert each.false_match_rate == pytest.approx(CALIBRATION.false_match_rate(each.score))


def test_a_person_with_a_name_is_the_first_however_few_faces_there_are():
    faces = faces_of([0, 0, 0])
    [found] = suggested(faces, {"Ann": [0], "Person 2": [1, 2]})
    assert (found.first, found.second, found.faces) == ("Ann", "Person 2", 2)


def test_who_is_not_suggested():
    faces = faces_of([0, 0, 1, 0])
    people = {"Person 1": [0], "Person 2": [1], "Person 3": [2], "?": [3]}
    assert len(suggested(faces, people)) == 1  # neither somebody else, nor faces that are nobody's
    assert not suggested(faces, people, {"Person 1": {"Person 2"}})
    assert not suggested(faces, people, {"Person 2": {"Person 1"}})
    assert not suggested(faces, people, apart={frozenset(("Person 2", "Person 1"))})
    assert not suggested(faces, {"Ann": [0], "Bea": [1]})
    assert not suggested(faces, people, calibration=None)
    assert not suggested(faces_of([0, 0, 1, 0], photo="one"), people)
    assert not suggested([], {})


def test_the_rate_is_that_of_means_of_so_many_photos():
    several = [1, 0.9, 1e-2, 1e-5]
    calibration = Calibration("abc", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [], {"3": several}, 1e-6, "none")
    [found] = suggested(faces_of([0, 0, 0, 0]), {"Ann": [0, 1, 2], "Person 2": [3]}, calibration=calibration)
    assert found.false_match_rate == pytest.approx(calibration.false_match_rate(found.score, 3))
    assert found.false_match_rate > calibration.false_match_rate(found.score)


def test_faces_are_ordered_by_their_score_with_the_person():
    faces = faces_of([0, 1, 0, 0])
    scores = Scores(faces, CALIBRATION, 0.0)
    assert scores.order({"Ann": (0, 1, 2, 3)})["Ann"][-1] == 1
    assert scores.order({"Ann": (0, 1, 2), "Bob": (3,)})["Bob"] == (3,)


def test_scores_take_off_what_the_cohort_and_the_album_say():
    centres = unit_vectors(np.random.default_rng(1).normal(size=(9, DIMENSIONS)))
    cohort = Cohort("abc", centres, 2, 0.5)
    calibration = Calibration("abc", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [], {}, 1e-6, "none", cohort=cohort)
    faces = faces_of([0, 0])
    plain = Scores(faces, CALIBRATION, 0.0).suggestions({"Person 1": (0,), "Person 2": (1,)}, {}, set())
    [found] = Scores(faces, calibration, 0.1).suggestions({"Person 1": (0,), "Person 2": (1,)}, {}, set())
    off = 0.25 * float(cohort.similarity(faces[1].embedding[None])[0]) + 0.05
    assert found.score == pytest.approx(plain[0].score - off, abs=1e-5)
