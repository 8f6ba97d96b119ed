"""Cosine distance, unit length and means of embeddings."""

import numpy as np
import pytest

from facelib.embedding.similarity import cosine_distance, group_sums, mean_embedding, person_means, unit_vectors
from facelib.types import ModelMismatchError


def test_cosine_distance():
    angles = np.deg2rad([0, 60, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    np.testing.assert_allclose(cosine_distance(vectors, vectors[0]), [0, 0.5, 2], atol=1e-6)
    assert cosine_distance(vectors, vectors[:2]).shape == (3, 2)
    rounded = np.full(3, 0.57735033, np.float32)  # slightly longer than 1
    assert rounded @ rounded > 1
    assert cosine_distance(rounded, rounded) == 0
    with pytest.raises(ModelMismatchError, match="different embedders"):
        cosine_distance(vectors, np.ones(3))


def test_unit_vectors():
    unit = np.array([[1, 0], [0.6, 0.8]], np.float32)
    assert unit_vectors(unit) is unit  # to the bit
    np.testing.assert_allclose(unit_vectors(5 * unit), unit, atol=1e-6)
    assert unit_vectors([3, 4]).dtype == np.float32
    for bad in (np.zeros(2), np.array([np.nan, 1]), np.array([[1, 0], [np.inf, 1]])):
        with pytest.raises(ValueError, match="no direction"):
            unit_vectors(bad)
    with pytest.raises(ValueError, match=r"expected \(d,\) or \(n, d\)"):
        unit_vectors(np.ones((1, 2, 3)))


def test_means():
    embeddings = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    people, means, counts = person_means(embeddings, np.array(["b", "a", "b", "a"]))
    assert people.tolist() == ["a", "b"] and counts.tolist() == [2, 2]
    np.testing.assert_allclose(means, np.array([[0, 1, 1], [1, 1, 0]]) / np.sqrt(2), atol=1e-6)
    np.testing.assert_allclose(mean_embedding(embeddings[:2], np.array([3, 4])), [0.6, 0.8, 0], atol=1e-6)
    assert group_sums(embeddings, np.array([1, 1, -1, 3])).tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
