"""False match rates by group, by hand."""

import numpy as np
import pytest

from facelib.group_metrics import group_fmrs, impostor_scores, threshold_at


def test_rates_of_groups():
    """Pairs are made within a group and a collection; small groups are skipped."""
    scores = np.arange(36).reshape(6, 6) + np.arange(36).reshape(6, 6).T
    groups, collections = np.array(list("aaaaab")), np.array(["x", "x", "x", "y", "y", "y"])
    pairs = impostor_scores(scores, groups, collections, min_people=5)
    assert {group: sorted(found.tolist()) for group, found in pairs.items()} == {"a": sorted([7, 14, 21, 49])}
    assert group_fmrs(pairs, 21) == {"a": 0.5}
    assert impostor_scores(scores, groups, collections, min_people=1)["b"].tolist() == []
    assert impostor_scores(scores, groups, collections) == {}  # fewer than a hundred people


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.25])
def test_the_threshold_is_the_lowest_with_the_mean_rate(rate):
    pairs = [np.linspace(0, 1, 1000), np.linspace(0.2, 0.7, 400)]
    threshold = threshold_at(pairs, rate)
    for score, holds in ((threshold, True), (threshold - 0.003, False)):
        assert (np.mean([(scores >= score).mean() for scores in pairs]) <= rate + 1e-9) == holds


def test_a_threshold_counts_groups_alike():
    many, few = np.linspace(0, 1, 1000), np.array([0.2, 0.95])
    threshold = threshold_at([many, few], 0.02)
    rates = group_fmrs({"many": many, "few": few}, threshold)
    assert np.mean(list(rates.values())) <= 0.02
    assert rates["few"] == 0 and rates["many"] == pytest.approx(0.04, abs=0.002)
    assert threshold_at([few], 1.0) == 0.2
