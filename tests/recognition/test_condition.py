"""What faces of one camera or studio share is taken from their scores."""

import numpy as np
import pytest

from facelib.embedding.similarity import unit_vectors
from facelib.recognition.cohort import Cohort
from facelib.recognition.condition import MIN_OTHERS, condition_offset

SIZE = 128


def strangers(count, shared=0.0, seed=0):
    """Embeddings of different people with a component in common, of a length relative to the rest."""
    noise = unit_vectors(np.random.default_rng(seed).normal(size=(count, SIZE)))
    return unit_vectors(noise + shared * np.eye(SIZE)[0])


@pytest.fixture(scope="module")
def cohort():
    return Cohort("abc", strangers(500, seed=1), 5, 0.8)


def test_faces_without_a_condition_keep_their_scores(cohort):
    assert condition_offset(strangers(200, seed=2), np.arange(200), cohort) == pytest.approx(0, abs=0.005)


def test_the_offset_is_what_strangers_are_nearer_by(cohort):
    """In the mean, 0.8 times: the weight of the cohort."""
    faces = strangers(200, shared=0.5, seed=3)
    nearer = np.median((faces @ faces.T)[np.triu_indices(200, 1)]) - np.median(faces @ cohort.centres.T)
    assert nearer > 0.1
    assert condition_offset(faces, np.arange(200), cohort) == pytest.approx(0.8 * nearer, abs=0.01)


def test_people_with_two_numbers_do_not_matter(cohort):
    """Half of the people are in the collection twice, under two numbers."""
    faces = strangers(60, shared=0.5, seed=4)
    twice = np.concatenate([faces, faces[:30]])
    once = condition_offset(faces, np.arange(60), cohort)
    assert condition_offset(twice, np.arange(90), cohort) == pytest.approx(once, abs=0.01)
    assert condition_offset(twice, np.r_[np.arange(60), np.arange(30)], cohort) == pytest.approx(once, abs=0.01)


def test_nothing_is_taken_where_nothing_is_known(cohort):
    faces = strangers(MIN_OTHERS, shared=2.0)
    assert condition_offset(faces, np.arange(len(faces)), cohort) == 0
    assert condition_offset(faces, np.arange(len(faces)), None) == 0
    assert condition_offset(faces[:0], np.zeros(0, int), cohort) == 0
    apart = strangers(100, shared=-0.5, seed=5)  # farther from the cohort than from each other is a condition too
    assert condition_offset(apart, np.arange(100), cohort) > 0.1
