"""Faces grouped by person."""

import numpy as np
import pytest
from people import synthetic_embeddings
from sklearn.cluster import AgglomerativeClustering

from facelib.metrics import bcubed
from facelib.recognition import clustering
from facelib.recognition.clustering import cluster_faces, clustering_fmr


@pytest.mark.parametrize("max_faces", [6000, 100])
def test_people_are_separated(monkeypatch, max_faces):
    monkeypatch.setattr(clustering, "MAX_LINKAGE_FACES", max_faces)
    monkeypatch.setattr(clustering, "CELL_FACES", max_faces // 2)
    embeddings, people = synthetic_embeddings(60, 7, spread=0.45, size=64)
    order = np.random.default_rng(0).permutation(len(people))
    embeddings, people = embeddings[order], people[order]
    assert bcubed(people, cluster_faces(embeddings, 0.5))["f"] > 0.999


@pytest.mark.parametrize("score", [0.7, 0.5, 0.3])
@pytest.mark.parametrize("people", [1, 5, 60])
@pytest.mark.parametrize("has_offsets", [False, True])
def test_groups_are_those_of_scikit_learn(people, score, has_offsets):
    embeddings, _ = synthetic_embeddings(people, 7, spread=0.8, size=64, seed=people)
    offsets = np.random.default_rng(0).uniform(-0.1, 0.2, len(embeddings)) if has_offsets else np.zeros(len(embeddings))
    distances = np.maximum(1 - embeddings @ embeddings.T + offsets[:, None] + offsets, 0)
    reference = AgglomerativeClustering(
        None, metric="precomputed", linkage="average", distance_threshold=1 - score
    ).fit_predict(distances)
    groups = cluster_faces(embeddings, score, offsets=offsets)
    assert len(set(zip(groups, reference))) == len(set(groups)) == len(set(reference))


def test_a_score_equal_to_the_threshold_does_not_merge():
    embeddings = np.array([[1, 0], [0, 1]], np.float32)
    assert cluster_faces(embeddings, 0.0).tolist() == [0, 1]
    assert cluster_faces(embeddings, -0.001).tolist() == [0, 0]
    assert cluster_faces(embeddings[[0, 0]], 1.0).tolist() == [0, 1]
    assert cluster_faces(embeddings[[0, 0]], 4.0).tolist() == [0, 1]  # as `score_at` says where nothing is known


def test_faces_that_are_near_to_many_strangers_merge_later():
    """The same cosine, once between faces of a dense region."""
    embeddings = np.array([[1, 0, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0.8, 0.6]], np.float32)
    assert cluster_faces(embeddings, 0.7).tolist() == [0, 0, 1, 1]
    offsets = np.array([0.1, 0.1, 0.01, 0.01])
    assert cluster_faces(embeddings, 0.7, offsets=offsets).tolist() == [1, 2, 0, 0]
    # A mean embedding counts with the mean of its faces' offsets.
    means = np.array([[0.9, 0.3, 0, 0], [0.8, 0.6, 0, 0]], np.float32)
    assert cluster_faces(means, 0.8, weights=[2, 1], offsets=[0.04, 0.04]).tolist() == [0, 0]
    assert cluster_faces(means, 0.8, weights=[2, 1], offsets=[0.06, 0.06]).tolist() == [0, 1]


@pytest.mark.parametrize("max_faces", [6000, 100])
def test_offsets_part_people_of_a_dense_region(monkeypatch, max_faces):
    """In cells, too: half of the people lie in a cone. One score is right for both halves only with offsets."""
    monkeypatch.setattr(clustering, "MAX_LINKAGE_FACES", max_faces)
    monkeypatch.setattr(clustering, "CELL_FACES", max_faces // 2)
    embeddings, people = synthetic_embeddings(60, 7, spread=0.45, size=64)
    embeddings[people >= "p030", 0] += 1
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    offsets = np.where(people >= "p030", 0.2, 0)
    assert bcubed(people, cluster_faces(embeddings, 0.4, offsets=offsets))["f"] > 0.999
    assert bcubed(people, cluster_faces(embeddings, 0.4))["precision"] < 0.6


def test_many_faces_fall_into_cells_of_similar_ones(monkeypatch):
    monkeypatch.setattr(clustering, "ASSIGNMENT_BLOCK", 1000)
    embeddings, people = synthetic_embeddings(300, 10, spread=0.3, size=64)
    cells = clustering._kmeans_cells(embeddings, 6, seed=0)
    assert np.array_equal(cells, clustering._kmeans_cells(embeddings, 6, seed=0))
    assert not np.array_equal(cells, clustering._kmeans_cells(embeddings, 6, seed=1))
    sizes = np.bincount(cells)
    assert len(sizes) == 6 and sizes.min() > 100
    assert bcubed(people, cells)["recall"] > 0.9


def test_the_person_with_most_faces_comes_first():
    embeddings = np.eye(3, dtype=np.float32)[[0, 1, 1, 2, 1, 2]]
    assert cluster_faces(embeddings, 0.5).tolist() == [2, 0, 0, 1, 0, 1]
    assert cluster_faces(embeddings[:1], 0.5).tolist() == [0]
    assert cluster_faces(embeddings[:0], 0.5).tolist() == []


def test_two_faces_of_one_photo_are_two_people():
    """Two similar faces are separated if one photo shows both, and merged otherwise."""
    similar = np.array([[1, 0], [0.99, 0.141]], np.float32)
    assert cluster_faces(similar, 0.9).tolist() == [0, 0]
    assert cluster_faces(similar, 0.9, np.array(["a", "a"])).tolist() == [0, 1]
    assert cluster_faces(similar, -0.1, np.array(["a", "a"])).tolist() == [0, 1]  # at low scores too
    # A person who is in one photo twice, in a mirror for example, and in many others once, stays one person.
    many = np.tile(similar[:1], (12, 1))
    photos = np.array(["mirror", "mirror", *map(str, range(10))])
    assert set(cluster_faces(many, 0.9, photos)) == {0}


def test_the_target_fmr_falls_with_the_number_of_faces():
    rates = [clustering_fmr(faces) for faces in (0, 6, 2_000, 4_000, 10_000, 10_000_000)]
    assert rates == pytest.approx([0.005, 0.005, 0.005, 0.0025, 0.001, 0.0001])
