"""Open-set identification and clustering of synthetic people."""

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.evaluation.calibration import all_pairs, calibrate
from facelib.evaluation.identification import clustering_metrics, identification
from facelib.metrics import bcubed, rejection_curve


def test_bcubed_by_hand():
    people, groups = np.array(list("aaabb")), np.array([0, 0, 1, 1, 1])
    # Precision: 1, 1, 1/3, 2/3, 2/3; recall: 2/3, 2/3, 1/3, 1, 1.
    assert bcubed(people, groups) == pytest.approx({"precision": 11 / 15, "recall": 11 / 15, "f": 11 / 15})
    assert bcubed(people, people)["f"] == 1


def test_rejection_by_hand():
    """Two people with two photos each; the genuine pair of the second is missed, and its faces are of low quality."""
    embeddings = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], float)
    people, quality = np.array(["a", "a", "b", "b"]), np.array([0.9, 0.8, 0.2, 0.1])
    assert rejection_curve(embeddings, people, quality, 0.5, (1, 0.5)) == {"1": 0.5, "0.5": 0.0}


def test_people_far_apart_are_identified_and_clustered():
    embeddings, people = synthetic_embeddings(spread=0.1)
    calibration = calibrate(all_pairs(embeddings, people), embeddings, people, "abc", "synthetic")
    found = identification(embeddings, people, 3, calibration)
    assert found["rank_1"] == found["dir_0.01"] == found["nearest_photo_dir_0.01"] == 1
    assert found["enrolled"] == 20
    assert clustering_metrics(embeddings, people, calibration, [0.0005])["0.0005"] == {
        "precision": 1, "recall": 1, "f": 1, "groups": 40, "people": 40
    }  # fmt: skip


def test_a_gallery_keeps_its_target_fpir():
    embeddings, people = synthetic_embeddings(people=60, spread=0.7)
    calibration = calibrate(all_pairs(embeddings, people), embeddings, people, "abc", "synthetic")
    for photos in (1, 3):
        found = identification(*synthetic_embeddings(people=60, spread=0.7, seed=3), photos, calibration)
        assert 0.03 < found["fpir_0.1"] < 0.25
        assert found["rank_1"] > 0.3
