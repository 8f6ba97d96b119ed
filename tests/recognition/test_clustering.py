"""Faces grouped by person."""

import numpy as np
import pytest
from people import synthetic_embeddings
from sklearn.cluster import AgglomerativeClustering

from facelib.metrics import bcubed
from facelib.recognition import clustering
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import MergeScores, cluster_faces, clustering_fmr, merge_scores


@pytest.mark.parametrize("rows", [1024, 100])
def test_people_are_separated(monkeypatch, rows):
    monkeypatch.setattr(clustering, "SCORED_ROWS", rows)
    monkeypatch.setattr(clustering, "SCORED_PAIRS", rows)
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


def test_offsets_part_people_of_a_dense_region():
    """Half of the people lie in a cone. One score is right for both halves only with offsets."""
    embeddings, people = synthetic_embeddings(60, 7, spread=0.45, size=64)
    embeddings[people >= "p030", 0] += 1
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    offsets = np.where(people >= "p030", 0.2, 0)
    assert bcubed(people, cluster_faces(embeddings, 0.4, offsets=offsets))["f"] > 0.999
    assert bcubed(people, cluster_faces(embeddings, 0.4))["precision"] < 0.6


def test_large_groups_merge_at_a_lower_score_than_single_faces():
    """Two groups of one person, whose scores are between the two thresholds."""
    scores = MergeScores(single=0.8, large=0.3)
    assert scores.of_sizes(np.array([1]), np.array([1])).tolist() == [0.8]
    assert scores.of_sizes(np.array([1e9]), np.array([1e9]))[0] == pytest.approx(0.3)
    first, second = np.eye(2, dtype=np.float32)
    second = 0.6 * first + 0.8 * second
    assert cluster_faces(np.stack([first, second]), scores).tolist() == [0, 1]
    many = np.stack([first] * 9 + [second] * 8)
    assert set(cluster_faces(many, scores)) == {0}
    assert cluster_faces(many, 0.8).tolist() == [0] * 9 + [1] * 8
    assert set(cluster_faces(np.stack([first, second]), scores, weights=[9, 8])) == {0}


def test_only_pairs_that_are_given_are_merged():
    embeddings = np.ones((4, 1), np.float32)
    assert cluster_faces(embeddings, 0.5, pairs=np.array([[0, 2], [2, 0]])).tolist() == [0, 1, 0, 2]
    assert cluster_faces(embeddings, 0.5, pairs=np.zeros((0, 2), int)).tolist() == [0, 1, 2, 3]


def test_large_groups_take_small_ones_at_once(monkeypatch):
    """As one merge at a time gives, in few rounds."""
    embeddings, people = synthetic_embeddings(3, 400, spread=0.9, size=64)
    offsets = np.random.default_rng(0).uniform(0, 0.05, len(people))
    groups = cluster_faces(embeddings, 0.1, offsets=offsets)
    apart = [{"known"} if row in (5, 8) else set() for row in range(len(people))]
    parted = cluster_faces(embeddings, 0.1, offsets=offsets, apart=apart)
    assert parted[5] != parted[8]
    monkeypatch.setattr(clustering, "ABSORBING_SIZE", 10_000)
    one_by_one = cluster_faces(embeddings, 0.1, offsets=offsets)
    assert np.bincount(one_by_one).max() > 300
    assert bcubed(one_by_one, groups)["f"] > 0.99


def test_exact_copies_come_into_one_group():
    """Each of them is a nearest one of all others."""
    assert set(cluster_faces(np.ones((101, 3), np.float32) / np.sqrt(3), 0.9)) == {0}


def test_scores_from_which_groups_merge_come_from_rates():
    calibration = Calibration("none", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [], {}, 1e-6, "none")
    few, many = merge_scores(calibration, 100), merge_scores(calibration, 20_000)
    assert few.single == calibration.score_at(1e-3) and few.large == calibration.score_at(1e-2)
    assert many.single > few.single and many.large > few.large
    lax = merge_scores(calibration, 100, 0.02)
    assert (lax.single, lax.large) == (calibration.score_at(0.02), calibration.score_at(0.05))
    same = merge_scores(calibration, 100, 0.1)
    assert same.single == same.large == calibration.score_at(0.1)


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


def test_people_who_are_known_to_be_apart_stay_apart_through_others():
    embeddings, _ = synthetic_embeddings(1, 30, spread=0.2, size=64)
    apart = [{"known"} if row < 3 else set() for row in range(30)]
    groups = cluster_faces(embeddings, 0.5, apart=apart)
    assert len(set(groups)) == len(set(groups[:3])) == 3


def test_the_target_fmr_falls_with_the_number_of_faces():
    rates = [clustering_fmr(faces) for faces in (0, 6, 2_000, 4_000, 10_000, 10_000_000)]
    assert rates == pytest.approx([0.001, 0.001, 0.001, 0.0005, 0.0002, 0.00002])
