"""Landmark metrics, checked by hand."""

import numpy as np
import pytest

from facelib.landmark_metrics import confidence_metrics, head_turn, landmark_errors, landmark_metrics

LABELLED = np.array([[[0.0, 0], [40, 0], [20, 20], [5, 40], [35, 40]]])


def test_landmark_errors():
    predicted = LABELLED + np.array([0, 4])
    np.testing.assert_allclose(landmark_errors(predicted, LABELLED), 0.1)
    with pytest.raises(ValueError, match="shape"):
        landmark_errors(predicted[:, :4], LABELLED[:, :4])


def test_landmark_metrics_for_each_set():
    predicted = LABELLED.repeat(3, 0) + np.array([0, 2, 8])[:, None, None] * np.array([0, 1])
    metrics = landmark_metrics(predicted, LABELLED.repeat(3, 0), np.array(["a", "a", "b"]))
    assert list(metrics) == ["a", "b"]
    assert (metrics["a"]["faces"], metrics["b"]["faces"]) == (2, 1)
    assert metrics["a"]["nme"] == pytest.approx(0.025)
    assert (metrics["a"]["above_10"], metrics["b"]["above_10"]) == (0, 1)
    assert metrics["b"]["per_point"] == pytest.approx([0.2] * 5)
    np.testing.assert_allclose(metrics["a"]["errors"], [0, 0.05])
    np.testing.assert_array_equal(metrics["b"]["predicted"], predicted[2:])


def test_head_turn():
    frontal = np.array([[10, 10], [30, 10], [20, 20], [13, 30], [27, 30]], float)
    left, tilted = frontal.copy(), frontal @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    left[2, 0] = 10
    np.testing.assert_allclose(head_turn(np.stack([frontal, left, tilted])), [0, -0.5, 0], atol=1e-9)


def test_confidence_that_predicts_errors_and_its_opposite():
    errors = np.concatenate([np.full(90, 0.03) + np.arange(90) / 1e4, np.full(10, 0.2) + np.arange(10) / 1e4])
    good = confidence_metrics(errors, -errors)
    assert good["rank_correlation"] == pytest.approx(1)
    assert good["failure_auc"] == 1
    assert good["kept"]["1"] == {"nme": pytest.approx(errors.mean()), "above_10": 0.1}
    assert good["kept"]["0.9"] == {"nme": pytest.approx(errors[:90].mean()), "above_10": 0}
    assert good["kept"]["0.5"]["nme"] == pytest.approx(errors[:50].mean())
    opposite = confidence_metrics(errors, errors)
    assert opposite["failure_auc"] == 0
    assert opposite["kept"]["0.5"]["above_10"] == 0.2
    assert confidence_metrics(errors[:90], -errors[:90])["failure_auc"] is None
