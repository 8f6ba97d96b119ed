"""Faces by person."""

import numpy as np
import pytest
from people import made_up

from facelib.metrics import bcubed
from facelib.recognition import clustering
from facelib.recognition.clustering import cluster_faces, clustering_fmr


@pytest.mark.parametrize("at_once", [6000, 100])
def test_everybody_apart(monkeypatch, at_once):
    monkeypatch.setattr(clustering, "MOST_AT_ONCE", at_once)
    monkeypatch.setattr(clustering, "CELL", at_once // 2)
    vectors, people = made_up(60, 7, spread=0.45, size=64)
    order = np.random.default_rng(0).permutation(len(people))
    vectors, people = vectors[order], people[order]
    assert bcubed(people, cluster_faces(vectors, 0.5))["f"] > 0.999


def test_the_one_with_most_faces_comes_first():
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 1, 2, 1, 2]]
    assert cluster_faces(vectors, 0.5).tolist() == [2, 0, 0, 1, 0, 1]
    assert cluster_faces(vectors[:1], 0.5).tolist() == [0]
    assert cluster_faces(vectors[:0], 0.5).tolist() == []


def test_two_faces_of_one_photo_are_two_people():
    """Two who look alike: apart, when a photo shows both; together, when nothing speaks against it."""
    near = np.array([[1, 0], [0.99, 0.141]], np.float32)
    assert cluster_faces(near, 0.1).tolist() == [0, 0]
    assert cluster_faces(near, 0.1, np.array(["a", "a"])).tolist() == [0, 1]
    # Somebody who is in a photo twice, in a mirror say, and in many others once, stays one.
    many = np.tile(near[:1], (12, 1))
    photos = np.array(["mirror", "mirror", *map(str, range(10))])
    assert set(cluster_faces(many, 0.1, photos)) == {0}


def test_the_more_faces_the_rarer_a_chance_likeness():
    rates = [clustering_fmr(faces) for faces in (0, 6, 1_000, 2_000, 10_000, 10_000_000)]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.001, 0.0001])
