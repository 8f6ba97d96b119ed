"""Match rates by distance, by hand and on synthetic people."""

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.evaluation.calibration import (
    Pairs,
    all_pairs,
    calibrate,
    concatenate_pairs,
    fmr_of_mean_embeddings,
    match_rates,
)


def test_pairs_by_hand():
    """Two relatives and an impostor: pairs of relatives are skipped."""
    embeddings = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    pairs = all_pairs(embeddings, np.array(["fiw_0001_01", "fiw_0001_01", "fiw_0001_02", "other"]), first_index=10)
    assert sorted(zip(pairs.distances.tolist(), pairs.genuine.tolist())) == [
        (0, True),
        (1, False),
        (1, False),
        (1, False),
    ]
    assert set(pairs.first.tolist()) <= {10, 11, 12}
    assert len(concatenate_pairs([pairs, pairs]).distances) == 8


def test_rates_by_hand():
    distances = np.array([0.1, 0.3, 0.5, 0.2, 0.6, 0.7, 0.8])
    genuine = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    first = np.array([0, 1, 2, 0, 0, 1, 1])
    pairs = Pairs(distances, genuine, first, np.array([0, 1, 2, 1, 2, 2, 2]))
    false_match, true_match = match_rates(pairs, np.array([0.1, 0.2, 0.55, 0.75]))
    assert false_match.values.tolist() == [0, 0.25, 0.25, 0.75]
    assert true_match.values == pytest.approx([1 / 3, 1 / 3, 1, 1])
    for rates in (false_match, true_match):
        assert (rates.intervals[:, 0] <= rates.values + 1e-9).all()
        assert (rates.values <= rates.intervals[:, 1] + 1e-9).all()


def test_a_calibration_holds_for_other_people():
    embeddings, people = synthetic_embeddings()
    calibration = calibrate(all_pairs(embeddings, people), embeddings, people, "abc", "synthetic")
    assert list(calibration.fmr_of_means) == ["2", "3", "5"]  # nobody has more than ten photos
    pairs = all_pairs(*synthetic_embeddings(seed=1))
    for target in (0.1, 0.01):
        found = (pairs.distances[~pairs.genuine] <= calibration.distance_at(target)).mean()
        assert target / 1.6 < found < target * 1.6
    close = calibration.distance_at(0.01)
    assert calibration.true_match_rate(close) == pytest.approx(
        (pairs.distances[pairs.genuine] <= close).mean(), abs=0.05
    )
    found = fmr_of_mean_embeddings(*synthetic_embeddings(seed=2), np.array([close]), 5)[0]
    assert found == pytest.approx(calibration.false_match_rate(close, 5), rel=0.6)
