"""People made up for large archives lie as the real ones do that they were made from."""

import numpy as np
import pytest
from people import made_up

pytest.importorskip("lancedb")
from facelib.evaluation.benchmarks.archive import exact_nearest, synthetic_faces


def quantiles(vectors, people):
    i, j = np.triu_indices(len(vectors), 1)
    apart, same = 1 - (vectors @ vectors.T)[i, j], people[i] == people[j]
    return np.r_[np.quantile(apart[same], [0.1, 0.5, 0.9]), np.quantile(apart[~same], [0.001, 0.01, 0.5])]


def test_distances_are_those_of_real_people():
    real, names = made_up(300, 8, spread=0.5)
    drawn, owner = synthetic_faces(real, np.unique(names, return_inverse=True)[1], 4000)
    np.testing.assert_allclose(quantiles(drawn, owner), quantiles(real, names), atol=0.06)
    sizes = np.bincount(owner)
    assert len(owner) == 4000 and sizes.max() > 100 and np.median(sizes) < 4


def test_the_exact_answer_is_that_of_comparing_with_all():
    stored, _ = made_up(40, 8)
    queries = stored[::50] + 0.01
    whole = np.argsort(-(queries @ stored.astype(np.float16).astype(np.float32).T), axis=1)[:, :10]
    np.testing.assert_array_equal(exact_nearest(stored.astype(np.float16), queries), whole)
