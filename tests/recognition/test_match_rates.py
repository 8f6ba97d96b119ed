"""Match rates by score: by hand, on synthetic people, and with few pairs."""

import time

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.recognition import match_rates as module
from facelib.recognition.cohort import make_cohort, score_offsets
from facelib.recognition.match_rates import (
    MeasuredFaces,
    Pairs,
    calibrate,
    false_match_curve,
    match_rate_intervals,
    match_rates,
    mean_embedding_scores,
    split_pairs,
    without_duplicates,
)

NOBODY = np.zeros(0, int)


def faces(*arguments, name="x", **labels):
    return MeasuredFaces(name, *synthetic_embeddings(*arguments), **labels)


def measure(*collections, cohort=None):
    return calibrate("abc", collections, cohort, "synthetic")


def test_pairs_by_hand():
    """Ann twice, her sister, and two others: relatives are no impostors of each other, nor are two groups."""
    embeddings = np.eye(5, dtype=np.float32)[[0, 0, 1, 2, 3]]
    people = np.array(["ann", "ann", "beth", "cy", "dora"])
    families = np.array(["a", "a", "a", "cy", "dora"])
    genuine, impostors = split_pairs(MeasuredFaces("x", embeddings, people, families=families), None, first_index=10)
    assert genuine.scores.tolist() == [1] and set(genuine.first.tolist()) == {10}
    pairs = impostors["x"]
    assert pairs.scores.tolist() == [0] * 7  # cy with both of ann, with beth; dora with those and cy
    assert {(10, 11), (11, 10)}.isdisjoint(zip(pairs.first.tolist(), pairs.second.tolist()))
    groups = np.array(["old", "old", "young", "young", "young"])
    genuine, impostors = split_pairs(MeasuredFaces("x", embeddings, people, groups, families), None)
    assert len(genuine.scores) == 1
    assert {group: len(pairs.scores) for group, pairs in impostors.items()} == {"old": 0, "young": 3}


def test_scores_of_pairs_are_normalised():
    photos = faces(10, 2)
    cohort = make_cohort("abc", synthetic_embeddings(60, 1, seed=1)[0])
    plain, normalised = (split_pairs(photos, used)[0] for used in (None, cohort))
    offsets = score_offsets(photos.embeddings, cohort).reshape(10, 2).sum(1)
    np.testing.assert_allclose(normalised.scores, plain.scores - offsets, atol=1e-6)


def test_rates_by_hand():
    first, second = np.array([0, 0, 1, 1]), np.array([1, 2, 2, 2])
    pairs = Pairs(np.array([0.8, 0.4, 0.3, 0.2]), first, second)
    scores = np.array([0.1, 0.25, 0.4, 0.8, 0.9])
    rates = match_rates(pairs, scores)
    assert rates.tolist() == [1, 0.75, 0.5, 0.25, 0]
    bounds = match_rate_intervals(pairs, scores)
    assert (bounds[:, 0] <= rates + 1e-9).all() and (rates <= bounds[:, 1] + 1e-9).all()
    assert match_rates(Pairs(np.zeros(0), NOBODY, NOBODY), scores).tolist() == [1] * 5


@pytest.mark.parametrize("number", [1, 2, 3, 12, 99, 100, 1000, 5000])
def test_curves_fall_from_one_without_a_jump_or_a_zero(number):
    """Measured where ten pairs or more remain, log-linear beyond, whatever the number of pairs."""
    pairs = Pairs(np.random.default_rng(number).normal(0, 0.1, number), *np.zeros((2, number), int))
    scores = np.linspace(-2, 1.5, 3501)
    rates = false_match_curve(pairs, scores)
    assert rates[0] == 1 and (np.diff(rates) <= 0).all() and (rates > 0).all()
    remain = np.round(match_rates(pairs, scores) * number)
    measured = remain >= max(1, min(10, number // 100))
    np.testing.assert_allclose(rates[measured], match_rates(pairs, scores)[measured])
    end = np.flatnonzero(measured)[-1]
    steps = np.diff(np.log(rates[end + 1 :]))
    np.testing.assert_allclose(steps, steps[0], atol=1e-9)
    assert abs(np.log(rates[end + 1]) - np.log(rates[end])) <= abs(steps[0]) + np.log(2)


def test_people_who_are_there_twice_are_dropped():
    pairs = Pairs(np.array([0.9, 0.1, 0.2, 0.8]), np.array([0, 0, 1, 2]), np.array([1, 2, 2, 3]))
    kept = without_duplicates(pairs, 0.5)  # 1 is 0, 3 is 2
    assert (kept.first.tolist(), kept.second.tolist(), kept.scores.tolist()) == ([0], [2], [0.1])


def test_copies_among_single_photos_do_not_raise_the_rates():
    """But those of people who are known by several photos count: they are false matches."""
    cohort = make_cohort("abc", synthetic_embeddings(100, 1, seed=9)[0])
    known = faces(60, 4)
    single = synthetic_embeddings(120, 1, seed=1)[0]
    copied = np.concatenate([single, single[:20]])
    several = MeasuredFaces("known", known.embeddings, known.people)
    rates = {}
    for name, embeddings in (("without", single), ("with", copied)):
        others = MeasuredFaces("single", embeddings, np.arange(len(embeddings)))
        calibration = measure(several, others, cohort=cohort)
        rates[name] = [calibration.false_match_rate(score) for score in np.linspace(-0.5, 0.5, 50)]
    np.testing.assert_allclose(rates["with"], rates["without"], rtol=0.01)
    people = np.r_[known.people, np.repeat("copy", 4)]
    embeddings = np.concatenate([known.embeddings, known.embeddings[:4]])
    again = measure(MeasuredFaces("x", embeddings, people), cohort=cohort)
    assert again.extrapolated_fmr(0.4) > 2 * measure(several, cohort=cohort).extrapolated_fmr(0.4)


@pytest.mark.parametrize("has_cohort", [False, True])
def test_a_calibration_holds_for_other_people(has_cohort):
    cohort = make_cohort("abc", synthetic_embeddings(200, 1, seed=5)[0]) if has_cohort else None
    calibration = measure(faces(), cohort=cohort)
    assert list(calibration.fmr_of_means) == ["2", "3", "5"]  # nobody has more than ten photos
    assert calibration.lowest_rate == pytest.approx(10 / (40 * 39 / 2 * 64))
    genuine, impostors = split_pairs(faces(40, 8, 0.6, 32, 1), cohort)
    for target in (0.1, 0.01):
        score = np.array([calibration.score_at(target)])
        assert target / 1.6 < match_rates(impostors["x"], score)[0] < target * 1.6
        assert calibration.true_match_rate(score[0]) == pytest.approx(match_rates(genuine, score)[0], abs=0.05)
        low, high = calibration.false_match_interval(score[0])
        assert low < target < high
    of_means = mean_embedding_scores(faces(40, 8, 0.6, 32, 2), 5, cohort)
    assert (of_means >= score).mean() == pytest.approx(calibration.false_match_rate(score[0], 5), rel=0.7)


def test_small_groups_do_not_count_beside_large_ones(monkeypatch):
    monkeypatch.setattr(module, "MIN_PEOPLE", 30)
    groups = np.repeat(["large", "small"], [8 * 30, 8 * 10])
    calibration = measure(faces(groups=groups))
    alone = measure(MeasuredFaces("x", faces().embeddings[:240], faces().people[:240]))
    np.testing.assert_allclose(calibration.false_match_rates[-50:], alone.false_match_rates[-50:], rtol=0.2)
    assert calibration.group_fmrs == {}
    monkeypatch.setattr(module, "MIN_PEOPLE", 100)  # none is large: all count
    assert set(measure(faces(groups=groups)).group_fmrs) == {"large", "small"}


@pytest.mark.parametrize("photos", [1, 2, 5])
@pytest.mark.parametrize("people", [2, 3, 5])
def test_few_people_give_wide_but_possible_rates(people, photos):
    """Down to a single pair: everything that is asked of the calibration has an answer."""
    calibration = measure(faces(people, photos))
    assert bool(calibration.true_match_rates) == (photos > 1)
    assert calibration.lowest_rate >= min(10 / (people * people * photos * photos / 2), 0.5)
    for score in (-2, -0.5, 0.0, 0.3, 0.9, 1.5):
        low, high = calibration.false_match_interval(score)
        assert 0 <= low <= calibration.false_match_rate(score) <= high <= 1
        assert calibration.decide(score).verdict in ("same", "different", "unsure")
    assert calibration.decide(0.99).verdict != "same"


def test_no_impostor_pairs():
    for collection in (faces(1, 5), faces(5, 2, families=np.repeat("all", 10))):
        with pytest.raises(ValueError, match="a calibration needs photos of at least two people"):
            measure(collection)
    twice = MeasuredFaces("single", np.eye(4, dtype=np.float32)[[0, 0]], np.arange(2))  # its only pair is dropped
    cohort = make_cohort("abc", synthetic_embeddings(100, 1, size=4)[0])
    measure(faces(30, 2, 0.6, 4), twice, cohort=cohort)
    broken = faces(5, 2)
    broken.embeddings[3] = np.nan
    with pytest.raises(ValueError, match="embedding 3 has no direction"):
        measure(broken)


def test_embeddings_of_any_length():
    """Caches hold half precision, whose lengths differ from 1."""
    exact, people = synthetic_embeddings()
    exact = exact.astype(np.float16).astype(np.float32)
    assert measure(MeasuredFaces("x", 4 * exact, people)) == measure(MeasuredFaces("x", exact, people))


def test_two_thousand_photos_take_seconds():
    photos = faces(400, 5, 0.6, 128)
    cohort = make_cohort("abc", synthetic_embeddings(400, 1, size=128, seed=1)[0])
    start = time.process_time()
    measure(photos, cohort=cohort)
    assert time.process_time() - start < 60
