"""Open-set identification and clustering of synthetic people."""

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.evaluation import identification as identification_module
from facelib.evaluation.identification import clustering_metrics, identification, rejection_curve
from facelib.metrics import bcubed
from facelib.recognition.cohort import make_cohort
from facelib.recognition.match_rates import MeasuredFaces, calibrate


def calibrated(embeddings, people, cohort=None):
    return calibrate("abc", [MeasuredFaces("synthetic", embeddings, people)], cohort, "synthetic")


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
    offsets = np.array([0.3, 0.3, 0, 0])
    assert rejection_curve(embeddings, people, quality, 0.5, (1, 0.5), offsets) == {"1": 1.0, "0.5": 1.0}


def test_people_far_apart_are_identified_and_clustered():
    embeddings, people = synthetic_embeddings(spread=0.1)
    calibration = calibrated(embeddings, people)
    found = identification(embeddings, people, 3, calibration)
    assert found["rank_1"] == found["dir_0.01"] == found["nearest_photo_dir_0.01"] == 1
    assert found["enrolled"] == 20
    perfect = {"precision": 1, "recall": 1, "f": 1, "groups": 40, "people": 40}
    found = clustering_metrics(embeddings, people, calibration, [1e-5])
    assert found["1e-05"] == perfect | {"default": False}
    assert list(found) == ["1e-05", "0.001"] and found["0.001"]["default"] and found["0.001"]["groups"] < 40


def test_a_gallery_keeps_its_target_fpir():
    embeddings, people = synthetic_embeddings(people=60, spread=0.7)
    calibration = calibrated(embeddings, people)
    for photos in (1, 3):
        found = identification(*synthetic_embeddings(people=60, spread=0.7, seed=3), photos, calibration)
        assert 0.03 < found["fpir_0.1"] < 0.25
        assert found["rank_1"] > 0.3


def test_a_dense_group_is_identified_and_clustered_better_by_scores(monkeypatch):
    """Half of the people share a direction. By cosine the threshold must be high for their sake alone."""
    monkeypatch.setattr(identification_module, "measure_condition", lambda *_: None)  # tests/recognition has it

    def dense(vectors):
        moved = vectors.copy()
        moved[: len(moved) // 2, 0] += 1.1
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    embeddings, people = synthetic_embeddings(people=60, spread=0.8)
    embeddings = dense(embeddings)
    cohort = make_cohort("abc", dense(synthetic_embeddings(people=2000, photos=1, seed=9)[0]), 128)
    found = {}
    for name, used in (("cosine", None), ("score", cohort)):
        calibration = calibrated(embeddings, people, used)
        clusters = clustering_metrics(embeddings, people, calibration)["0.001"]
        found[name] = identification(embeddings, people, 3, calibration)["dir_0.01"], clusters["f"]
    assert found["score"][0] > found["cosine"][0] + 0.05
    assert found["score"][1] > found["cosine"][1] + 0.02
