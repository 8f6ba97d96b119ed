"""Error rates of distances, by hand and on made-up people."""

import numpy as np
import pytest
from people import made_up

from facelib.evaluation.calibration import Pairs, calibrate, fmr_of_mean_embeddings, joined, pairs_of, rates_at


def test_pairs_by_hand():
    """Two relatives and a stranger: what relatives look like is left out."""
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    pairs = pairs_of(vectors, np.array(["fiw_0001_01", "fiw_0001_01", "fiw_0001_02", "other"]), number=10)
    assert sorted(zip(pairs.distances.tolist(), pairs.same.tolist())) == [(0, True), (1, False), (1, False), (1, False)]
    assert set(pairs.first.tolist()) <= {10, 11, 12}
    assert len(joined([pairs, pairs]).distances) == 8


def test_rates_by_hand():
    distances, same = np.array([0.1, 0.3, 0.5, 0.2, 0.6, 0.7, 0.8]), np.array([1, 1, 1, 0, 0, 0, 0], bool)
    first = np.array([0, 1, 2, 0, 0, 1, 1])
    found = rates_at(Pairs(distances, same, first, np.array([0, 1, 2, 1, 2, 2, 2])), np.array([0.1, 0.2, 0.55, 0.75]))
    assert found[False][0].tolist() == [0, 0.25, 0.25, 0.75]
    assert found[True][0] == pytest.approx([1 / 3, 1 / 3, 1, 1])
    for rates, bounds in found.values():
        assert (bounds[:, 0] <= rates + 1e-9).all() and (rates <= bounds[:, 1] + 1e-9).all()


def test_a_calibration_says_what_is_true_of_other_people_too():
    vectors, people = made_up()
    calibration = calibrate(pairs_of(vectors, people), vectors, people, "abc", "made up")
    assert list(calibration.fmr_of_means) == ["2", "3", "5"]  # nobody has more than ten photos
    pairs = pairs_of(*made_up(seed=1))
    for target in (0.1, 0.01):
        found = (pairs.distances[~pairs.same] <= calibration.distance_at(target)).mean()
        assert target / 1.6 < found < target * 1.6
    close = calibration.distance_at(0.01)
    assert calibration.true_match_rate(close) == pytest.approx((pairs.distances[pairs.same] <= close).mean(), abs=0.05)
    found = fmr_of_mean_embeddings(*made_up(seed=2), np.array([close]), 5)[0]
    assert found == pytest.approx(calibration.false_match_rate(close, 5), rel=0.6)
