"""Recognition metrics, checked by hand and against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from facelib.bootstrap_intervals import bootstrap_identification_rate, bootstrap_summary
from facelib.metrics import (
    auc,
    bcubed,
    identification_rate,
    lfw_accuracy,
    measurable_fprs,
    pair_similarities,
    rank_1,
    roc_curve,
    top_k_accuracy,
    tpr_at_fprs,
    triplet_accuracy,
    verification_summary,
)
from facelib.settings import LISTS


def at_angles(*degrees):
    return np.array([[np.cos(np.deg2rad(a)), np.sin(np.deg2rad(a))] for a in degrees])


def people_on_a_sphere(people, photos, noise, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, 16))
    vectors = centres.repeat(photos, 0) + noise * rng.normal(size=(people * photos, 16))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.arange(people).repeat(photos)


@pytest.mark.parametrize("decimals", [1, 2, 8])
@pytest.mark.parametrize("count", [2, 3, 10, 5000])
def test_roc_and_auc_are_those_of_scikit_learn(count, decimals):
    """On random scores, with many ties, some and none."""
    rng = np.random.default_rng(count)
    scores = rng.normal(size=count).round(decimals)
    labels = rng.random(count) < 0.3
    labels[:2] = True, False
    fpr, tpr, thresholds = roc_curve(labels, scores)
    for ours, theirs in zip((fpr, tpr, thresholds), reference.roc_curve(labels, scores)):
        np.testing.assert_allclose(ours, theirs)
    assert auc(fpr, tpr) == pytest.approx(reference.roc_auc_score(labels, scores))


def test_a_roc_curve_needs_both_kinds():
    for labels in ([True, True], [False, False], []):
        with pytest.raises(ValueError, match="at least one positive and one negative"):
            roc_curve(np.array(labels, bool), np.arange(len(labels)))


def test_identification_rate_by_hand():
    """Angles between photos: genuine 10 and 60 degrees; impostor 30, 90, 40, 100 and, to the distractor, 80, 70, 50, 10."""
    query, people = 5 * at_angles(0, 10, 40, 100), np.array(["a", "a", "b", "b"])
    distractors = at_angles(-80, 50, 110, 20)[:1]
    genuine, impostor = pair_similarities(query, people, distractors)
    np.testing.assert_allclose(sorted(genuine), np.cos(np.deg2rad([60, 10])), atol=1e-6)
    angles = [40, 100, 30, 90, 80, 90, 120, 180]
    np.testing.assert_allclose(sorted(impostor), np.sort(np.cos(np.deg2rad(angles))), atol=1e-6)
    # Sorted impostor angles: 30, 40, 80, 90, 90, 100, 120, 180; int(0.25 * 8) = 2 is the one of 80 degrees.
    rows = identification_rate(query, people, distractors, fprs=[0.25, 0.125, 0])
    np.testing.assert_allclose([r["threshold"] for r in rows], np.cos(np.deg2rad([80, 40, 30])), atol=1e-6)
    assert [r["tpr"] for r in rows] == [1.0, 0.5, 0.5]


def test_offsets_are_taken_from_every_pair():
    """Genuine pair at 10 degrees, impostors at 40, 20, 30 and 10 degrees; the last photo is near to many strangers."""
    query, people = at_angles(0, 10, 40, 20)[:3], np.array(["a", "a", "b"])
    offsets = np.array([0.1, 0.0, 0.0, 0.5], np.float32)
    genuine, impostor = pair_similarities(query, people, at_angles(20), offsets)
    np.testing.assert_allclose(genuine, np.cos(np.deg2rad([10])) - 0.1, atol=1e-6)
    expected = np.cos(np.deg2rad([40, 30, 20, 10, 20])) - [0.1, 0, 0.6, 0.5, 0.5]
    np.testing.assert_allclose(impostor, expected, atol=1e-6)
    assert identification_rate(query, people, at_angles(20), [0.2])[0]["tpr"] == 1.0
    assert identification_rate(query, people, at_angles(10), [0.0])[0]["tpr"] == 0.0  # the distractor is as near
    assert identification_rate(query, people, at_angles(10), [0.0], offsets)[0]["tpr"] == 1.0
    with pytest.raises(ValueError, match=r"offsets of shape \(4,\) for 3 embeddings and 0 distractors"):
        pair_similarities(query, people, offsets=offsets)


def test_offsets_change_rates_and_intervals():
    """A person whose photos are near to everybody's; without what they take, strangers match."""
    vectors, people = people_on_a_sphere(30, 4, 0.4)
    near = people < 15
    vectors[near, :] += 0.6
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    offsets = np.where(near, 0.25, 0.0).astype(np.float32)
    plain, scored = tpr_at_fprs(vectors, people)["0.01"], tpr_at_fprs(vectors, people, offsets)["0.01"]
    assert scored > plain
    low, high = bootstrap_identification_rate(vectors, people, [0.01], offsets=offsets)[0]
    assert low <= scored <= high
    assert bootstrap_identification_rate(vectors, people, [0.01])[0][0] < low


def test_identification_rate_worked_example():
    example = json.loads((LISTS / "ir_test_vectors.json").read_text())
    files = [(person, name) for person, names in example["query"].items() for name in names]
    query = np.array([example["query_embeddings"][name] for _, name in files])
    people = np.array([person for person, _ in files])
    distractors = np.array(example["distractor_embeddings"])
    genuine, impostor = pair_similarities(query, people, distractors)
    np.testing.assert_allclose(np.sort(genuine), example["positives_sorted"], atol=1e-5)
    assert len(impostor) == example["counts"]["query_negatives"] + example["counts"]["query_distractor_negatives"]
    rows = identification_rate(query, people, distractors, [case["fpr"] for case in example["expected"]])
    for row, case in zip(rows, example["expected"]):
        assert row["threshold"] == pytest.approx(case["threshold"], abs=1e-4)
        assert row["tpr"] == case["tpr"]


def test_a_pair_at_the_threshold_does_not_count():
    query = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    people = np.array(["a", "a", "b", "b"])  # genuine cosines 0, impostor cosines 1, 0, 0, 1
    assert identification_rate(query, people, fprs=[0.5])[0] == {"fpr": 0.5, "threshold": 0.0, "tpr": 0.0}


def test_bootstrap_interval_contains_the_figure_and_narrows():
    few, many = people_on_a_sphere(20, 5, 1.0), people_on_a_sphere(120, 5, 1.0)
    widths = []
    for vectors, people in (few, many):
        low, high = bootstrap_identification_rate(vectors, people, [0.01], repeats=100)[0]
        figure = identification_rate(vectors, people, fprs=[0.01])[0]["tpr"]
        assert low < figure < high
        widths.append(high - low)
    assert widths[1] < 0.7 * widths[0]


def test_verification_summary():
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(2, 1, 4000), rng.normal(0, 1, 4000)
    summary = verification_summary(genuine, impostor)
    scores, labels = np.r_[genuine, impostor], np.r_[np.ones(4000), np.zeros(4000)]
    assert summary["auc"] == pytest.approx(reference.roc_auc_score(labels, scores))
    assert summary["eer"] == pytest.approx(0.1587, abs=0.01)  # half the gap is one deviation
    assert verification_summary(np.array([0.9]), np.array([0.1]))["eer"] == 0


def test_lfw_folds():
    rng = np.random.default_rng(0)
    same = np.tile([True, False], 300)
    fold = np.arange(600) // 60
    mean, error = lfw_accuracy(np.where(same, 0.8, 0.2) + rng.normal(0, 0.05, 600), same, fold)
    assert (mean, error) == (1.0, 0.0)
    mean, error = lfw_accuracy(rng.normal(size=600), same, fold)
    assert 0.4 < mean < 0.6
    assert 0 < error < 0.05
    # A fold with shifted scores is tested at the threshold of the others, not at its own.
    shifted = np.where(same, 0.8, 0.2) + np.where(fold == 0, 5.0, 0.0)
    assert lfw_accuracy(shifted, same, fold)[0] == pytest.approx(0.95)


def test_top_k_accuracy():
    logits = np.array([[3.0, 2, 1], [1, 2, 3], [1, 3, 2]])
    assert top_k_accuracy(logits, [0, 0, 2]) == pytest.approx(1 / 3)
    assert top_k_accuracy(logits, [0, 0, 2], k=2) == pytest.approx(2 / 3)
    assert top_k_accuracy(logits, [0, 0, 2], k=5) == 1  # of fewer classes all


def test_bad_embeddings():
    with pytest.raises(ValueError, match="NaN"):
        pair_similarities(np.full((4, 2), np.nan), np.array(list("aabb")))
    with pytest.raises(ValueError, match="zeros"):
        pair_similarities(np.zeros((4, 2)), np.array(list("aabb")))
    with pytest.raises(ValueError, match="no genuine"):
        pair_similarities(at_angles(1, 2, 3), np.array(list("abc")))
    with pytest.raises(ValueError, match="3 embeddings but 2 names"):
        pair_similarities(at_angles(1, 2, 3), np.array(list("ab")))
    with pytest.raises(ValueError, match=r"expected \(n, d\)"):
        pair_similarities(np.ones(3), np.array(list("abc")))
    with pytest.raises(ValueError, match="fprs"):
        identification_rate(at_angles(1, 2, 3), np.array(list("aab")), fprs=[1])


def test_rank_1_and_triplets_by_hand():
    """Angles 0 and 30 of one person, 20 and 100 of another, 200 of a third."""
    vectors, people = at_angles(0, 30, 20, 100, 200), np.array(["a", "a", "b", "b", "c"])
    assert rank_1(vectors, people).tolist() == [False, False, False, False, False]
    assert rank_1(at_angles(0, 5, 90, 96), np.array(["a", "a", "b", "b"])).all()
    # Anchor 0: positive at 30 against 20, 100, 160 (200 lies 160 away): 2 of 3. Anchor 30: 30 against 10, 70,
    # 170: 2 of 3. Anchor 20: 80 against 20, 10, 180: 1 of 3. Anchor 100: 80 against 100, 70, 100: 2 of 3.
    assert triplet_accuracy(vectors, people) == pytest.approx(7 / 12)
    with pytest.raises(ValueError, match="no triplet"):
        triplet_accuracy(at_angles(0, 10), np.array(["a", "b"]))


def test_bootstrap_summary_contains_the_figures():
    vectors, people = people_on_a_sphere(40, 4, 0.7)
    summary = verification_summary(*pair_similarities(vectors, people))
    intervals = bootstrap_summary(vectors, people)
    for name, value in (("auc", summary["auc"]), ("eer", summary["eer"]), ("rank_1", rank_1(vectors, people).mean())):
        low, high = intervals[name]
        assert low < value < high
        assert high - low < 0.25
    wider = bootstrap_summary(*people_on_a_sphere(10, 4, 0.7))["auc"]
    assert wider[1] - wider[0] > intervals["auc"][1] - intervals["auc"][0]


def test_a_rate_of_less_than_one_pair_is_refused():
    vectors, people = people_on_a_sphere(4, 3, 0.5)  # 54 impostor pairs
    with pytest.raises(
        ValueError, match=r"FPR 0\.0001 of 54 impostor pairs is less than one pair.*a rate of 1 / 54 at least"
    ):
        identification_rate(vectors, people, fprs=[0.1, 0.0001])
    assert identification_rate(vectors, people, fprs=[1 / 54])[0]["tpr"] <= 1
    assert measurable_fprs(people) == [0.1]
    assert list(tpr_at_fprs(vectors, people)) == ["0.1"]


def test_bcubed_by_hand():
    """Faces a a a b in the clusters 0 0 1 1: precision (1 + 1 + 1/2 + 1/2) / 4, recall (2/3 + 2/3 + 1/3 + 1) / 4."""
    result = bcubed(np.array(list("aaab")), np.array([0, 0, 1, 1]))
    assert result["precision"] == pytest.approx(3 / 4)
    assert result["recall"] == pytest.approx(2 / 3)
    assert result["f"] == pytest.approx(2 * 3 / 4 * 2 / 3 / (3 / 4 + 2 / 3))
