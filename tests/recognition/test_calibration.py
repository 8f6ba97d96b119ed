"""From a score to error rates and a decision."""

from dataclasses import replace

import numpy as np
import pytest

from facelib.embedding.similarity import mean_embedding
from facelib.recognition.calibration import MAX_SCORE, Calibration

GRID = np.linspace(-0.2, 1, 121)


@pytest.fixture(scope="module")
def calibration():
    """Impostor pairs uniform from -0.2 to 0.6, genuine pairs from 0.2 to 1; means of three photos score 0.1 higher."""
    fmr = np.clip((0.6 - GRID) / 0.8, 0, 1)
    tmr = np.clip((1 - GRID) / 0.8, 0, 1)
    of_means = {"3": np.clip((0.7 - GRID) / 0.8, 0, 1).tolist(), "5": np.clip((0.8 - GRID) / 0.8, 0, 1).tolist()}
    bounds = np.stack([fmr / 2, np.minimum(2 * fmr, 1)], 1).tolist()
    return Calibration("abc", GRID.tolist(), fmr.tolist(), bounds, tmr.tolist(), of_means, 1e-4, "synthetic")


def of_rates(scores, rates, lowest=1e-3, **values):
    return Calibration("abc", scores, rates, [], [], {}, lowest, "synthetic", **values)


def test_rates_are_the_measured_ones(calibration):
    for score, fmr, tmr in ((0.52, 0.1, 0.6), (0.59, 0.0125, 0.5125), (0.2, 0.5, 1.0)):
        assert calibration.false_match_rate(score) == pytest.approx(fmr, rel=0.01)
        assert calibration.true_match_rate(score) == pytest.approx(tmr, abs=0.01)
        assert calibration.score_at(fmr) == pytest.approx(score, abs=0.002)
        assert calibration.false_match_interval(score) == pytest.approx((fmr / 2, 2 * fmr), abs=1e-6)
    rates = [calibration.false_match_rate(score) for score in np.linspace(-1, 1.5, 300)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-4)  # lower rates are not known
    assert rates[0] == pytest.approx(1)


def test_mean_embeddings_have_their_own_rates(calibration):
    rates = [calibration.false_match_rate(0.5, photos) for photos in (1, 2, 3, 4, 5, 50)]
    # Between two measured numbers of photos, the higher rate of the two.
    assert rates == pytest.approx([0.125, 0.25, 0.25, 0.375, 0.375, 0.375], rel=0.01)
    embeddings = np.eye(3, dtype=np.float32)
    assert mean_embedding(embeddings, np.array([1, 1, 0])) == pytest.approx([0.707, 0.707, 0.0], abs=2e-3)
    assert np.linalg.norm(mean_embedding(embeddings, np.zeros(3))) == pytest.approx(1, abs=1e-5)


def test_verdicts(calibration):
    assert calibration.decide(0.7).verdict == "same"
    assert calibration.decide(0.59).verdict == "different"
    assert calibration.decide(0.7, distance=0.3).distance == 0.3
    assert np.isnan(calibration.decide(0.7).distance)
    for score in (float("nan"), np.float32("nan")):
        assert calibration.decide(score).verdict == "unsure"
        assert calibration.decide(score).reason == "the score is not a number"
    assert (calibration.decide(np.inf).verdict, calibration.decide(-np.inf).verdict) == ("same", "different")
    unsure = calibration.decide(0.61)
    assert unsure.verdict == "unsure"
    assert unsure.reason == "0.75% of impostor pairs are as close, 51% of genuine pairs are farther apart"
    blurred = calibration.decide(0.9, quality_issue="the first face is too blurred")
    assert (blurred.verdict, blurred.reason) == ("unsure", "the first face is too blurred")
    assert calibration.decide(0.61, same=0.01, different=0.01).verdict == "same"
    for same, different in ((0.1, 0.01), (0, 0.1), (0.1, 1)):
        with pytest.raises(ValueError, match="expected rates with 0 < same <= different < 1"):
            calibration.decide(0.3, same, different)


def test_without_genuine_pairs_nothing_is_said_of_them(calibration):
    decision = replace(calibration, true_match_rates=[]).decide(0.61)
    assert np.isnan(decision.true_match_rate)
    assert decision.reason == "0.75% of impostor pairs are as close"


def test_without_bounds_every_rate_is_possible(calibration):
    assert replace(calibration, false_match_bounds=[]).false_match_interval(0.5) == (0, 1)


# The forms of curves that are measured: smooth, flat in the middle, at the lower end and at the upper end, with a single
# step, with zeros, of few pairs, and of an embedder that tells nobody apart.
CURVES = {
    "smooth": ([0.2, 0.3, 0.4, 0.5], [1, 0.1, 0.01, 0.001]),
    "flat middle": ([0.1, 0.2, 0.3, 0.4, 0.5], [1, 0.1, 0.1, 0.1, 0.001]),
    "flat low": ([0.1, 0.2, 0.3, 0.5], [0.5, 0.5, 0.5, 0.001]),
    "flat high": ([0.1, 0.2, 0.3, 0.5], [1, 0.01, 0.001, 0.001]),
    "one step": ([0.1, 0.2], [1, 0.001]),
    "zeros": ([0.1, 0.2, 0.3, 0.4], [1, 0.01, 0, 0]),
    "few pairs": ([-2, 0.1, 0.2, 0.3], [1, 1, 2 / 3, 1 / 3]),
    "flat": ([0.1, 0.9], [1, 1]),
    "one score": ([0.1], [0.02]),
}


@pytest.mark.parametrize("name", CURVES)
def test_extrapolation_is_continuous_and_monotone(name):
    calibration = of_rates(*CURVES[name])
    scores, rates = CURVES[name]
    for score, rate in zip(scores, rates):
        if rate:
            assert calibration.extrapolated_fmr(score) == pytest.approx(rate)
    grid = np.linspace(-3, MAX_SCORE, 6001)
    logs = np.log([calibration.extrapolated_fmr(score) for score in grid])
    assert (np.diff(logs) <= 1e-12).all() and np.isfinite(logs).all()
    end = grid > max(score for score, rate in zip(scores, rates) if rate)
    slopes = np.diff(logs[end])
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6, atol=1e-12)  # log-linear, from the last point on
    assert (slopes[0] < 0) == (name not in ("flat", "one score"))
    for score in grid[::50]:
        low, high = calibration.false_match_interval(score)
        assert low <= calibration.false_match_rate(score) <= high


def test_the_rate_falls_as_in_the_lowest_decade():
    assert of_rates(*CURVES["smooth"]).extrapolated_fmr(0.6) == pytest.approx(1e-4)
    assert of_rates(*CURVES["flat high"]).extrapolated_fmr(0.5 + 0.3) == pytest.approx(1e-4)  # a decade in 0.3
    assert of_rates(*CURVES["one step"]).extrapolated_fmr(0.2 + 0.1) == pytest.approx(1e-6)  # three in 0.1


@pytest.mark.parametrize("name", CURVES)
def test_the_score_at_a_rate_is_the_lowest_with_it(name):
    """At flat pieces too; where no score has the rate, one that no faces have."""
    calibration = of_rates(*CURVES[name], lowest=1e-9)
    possible = [rate for rate in CURVES[name][1] if 0 < rate < 1]
    for rate in [*possible, *np.geomspace(1e-9, 0.999, 40)]:
        score = calibration.score_at(rate)
        if score > MAX_SCORE:
            assert calibration.extrapolated_fmr(MAX_SCORE) > rate
            continue
        assert calibration.extrapolated_fmr(score) <= rate * (1 + 1e-6)
        below = calibration.extrapolated_fmr(score - 1e-6)
        assert below > rate or score == CURVES[name][0][0]  # nothing is known below the first score


def test_a_rate_that_is_not_known(calibration):
    for rate in (1e-6, 0, 1, -1, 2, float("nan")):
        with pytest.raises(ValueError, match=rf"false match rate of {rate:g} is not known: .* rates from 0.0001 to"):
            calibration.score_at(rate)
    assert calibration.extrapolated_fmr(calibration.score_at(1e-6, extrapolate=True)) == pytest.approx(1e-6)
    for rate in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="is not known"):
            calibration.score_at(rate, extrapolate=True)


def test_rates_of_groups():
    scores, rates = CURVES["smooth"]
    groups = {"near": rates, "far": [0.5, 0.01, 0.001, 0.00001]}
    calibration = of_rates(scores, rates, group_fmrs=groups)
    found = calibration.group_rates(0.35)
    assert list(found) == ["near", "far"]
    assert found["near"] == calibration.false_match_rate(0.35) == pytest.approx(0.1**1.5)
    assert found["far"] == pytest.approx(0.01 * 0.1**0.5)
    assert calibration.group_rates(0.5)["far"] == 1e-3  # lower rates are not known
    assert of_rates(scores, rates).group_rates(0.3) == pytest.approx({"all": 0.1})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"false_match_rates": [0.3, 0.1, 0.2]}, "false_match_rates increases with the score"),
        ({"true_match_rates": [0.3, 0.1, 0.2]}, "true_match_rates increases"),
        ({"scores": [0.1, 0.3, 0.2]}, "scores decreases"),
        ({"scores": [0.1, 0.1, 0.2]}, "scores has equal values"),
        ({"scores": [0.1, 0.2, float("inf")]}, "scores has values outside"),
        ({"false_match_rates": [0.3, 0.1, -0.1]}, "false_match_rates has values outside 0 to 1"),
        ({"false_match_rates": [1.1, 0.3, 0.1]}, "false_match_rates has values outside 0 to 1"),
        ({"false_match_rates": [0.3, 0.1, float("nan")]}, "false_match_rates has values outside 0 to 1"),
        ({"fmr_of_means": {"3": [0.1, 0.3, 0.2]}}, "fmr_of_means of 3 photos increases"),
        ({"fmr_of_means": {"3": [0, 0, 0]}}, "fmr_of_means of 3 photos is 0 at all scores"),
        ({"fmr_of_means": {"few": [0.3, 0.2, 0.1]}}, r"fmr_of_means has the keys \['few'\]"),
        ({"group_fmrs": {"a": [0.3, 0.2]}}, "group_fmrs of a has the shape"),
        ({"group_fmrs": {"a": [0, 0, 0]}}, "group_fmrs of a is 0 at all scores"),
        ({"false_match_rates": [0.3, 0.1]}, "false_match_rates has the shape"),
        ({"scores": []}, "scores has the shape"),
        ({"lowest_rate": 0}, "lowest_rate is 0, expected above 0 and up to 1: no impostor pairs?"),
        ({"lowest_rate": float("inf")}, "lowest_rate is inf"),
        ({"lowest_rate": float("nan")}, "lowest_rate is nan"),
        ({"false_match_rates": [0.001, 0, 0]}, "false_match_rates never reach 0.01"),  # of one person
        ({"false_match_bounds": [[0, 1]] * 2}, r"false_match_bounds of shape \(2, 2\)"),
        ({"false_match_bounds": [[0, float("nan")]] * 3}, "expected two rates for each score"),
        ({"false_match_bounds": [[0, 2]] * 3}, "expected two rates for each score"),
    ],
)
def test_impossible_rates_are_refused(values, problem):
    good = Calibration("bad", [0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [], [0.7, 0.6, 0.5], {}, 0.01, "synthetic")
    with pytest.raises(ValueError, match=problem):
        replace(good, **values)
