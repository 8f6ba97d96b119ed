"""From a distance to error rates and a decision."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from facelib.embedding.similarity import mean_embedding
from facelib.recognition.calibration import Calibration, load_calibration, save_calibration
from facelib.types import CalibrationMissingError

GRID = np.linspace(0, 1.2, 121)


@pytest.fixture(scope="module")
def calibration():
    """Impostor pairs uniform from 0.4 to 1.2, genuine pairs from 0 to 0.8; means of three photos are 0.1 closer."""
    fmr = np.clip((GRID - 0.4) / 0.8, 0, 1)
    tmr = np.clip(GRID / 0.8, 0, 1)
    of_means = {"3": np.clip((GRID - 0.3) / 0.8, 0, 1).tolist(), "5": np.clip((GRID - 0.2) / 0.8, 0, 1).tolist()}
    bounds = np.stack([fmr, fmr], 1).tolist()
    return Calibration("abc", GRID.tolist(), fmr.tolist(), bounds, tmr.tolist(), of_means, 10_000, "synthetic")


def test_rates_are_the_measured_ones(calibration):
    for distance, fmr, tmr in ((0.48, 0.1, 0.6), (0.41, 0.0125, 0.5125), (0.8, 0.5, 1.0)):
        assert calibration.false_match_rate(distance) == pytest.approx(fmr, rel=0.01)
        assert calibration.true_match_rate(distance) == pytest.approx(tmr, abs=0.01)
        assert calibration.distance_at(fmr) == pytest.approx(distance, abs=0.002)
        assert calibration.false_match_interval(distance) == pytest.approx((fmr, fmr), abs=1e-6)
    rates = [calibration.false_match_rate(d) for d in np.linspace(0, 2, 300)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-4)  # lower rates are not known
    assert rates[-1] == pytest.approx(1)


def test_mean_embeddings_have_their_own_rates(calibration):
    rates = [calibration.false_match_rate(0.5, photos) for photos in (1, 2, 3, 4, 5, 50)]
    # Between two measured numbers of photos, the higher rate of the two.
    assert rates == pytest.approx([0.125, 0.25, 0.25, 0.375, 0.375, 0.375], rel=0.01)
    embeddings = np.eye(3, dtype=np.float32)
    assert mean_embedding(embeddings, np.array([1, 1, 0])) == pytest.approx([0.707, 0.707, 0.0], abs=2e-3)
    assert np.linalg.norm(mean_embedding(embeddings, np.zeros(3))) == pytest.approx(1, abs=1e-5)


def test_verdicts(calibration):
    assert calibration.decide(0.3).verdict == "same"
    assert calibration.decide(0.41).verdict == "different"
    assert calibration.decide(float("nan")).verdict == "unsure"
    assert calibration.decide(float("nan")).reason == "the distance is not a number"
    unsure = calibration.decide(0.407)
    assert unsure.verdict == "unsure"
    assert unsure.reason == "0.29% of impostor pairs are as close, 49% of genuine pairs are farther apart"
    blurred = calibration.decide(0.1, quality_issue="the first face is too blurred")
    assert (blurred.verdict, blurred.reason) == ("unsure", "the first face is too blurred")
    assert calibration.decide(0.407, same=0.01, different=0.01).verdict == "same"
    for same, different in ((0.1, 0.01), (0, 0.1), (0.1, 1)):
        with pytest.raises(ValueError, match="expected rates with 0 < same <= different < 1"):
            calibration.decide(0.3, same, different)
    with pytest.raises(
        ValueError, match=r"a false match rate of 1e-06 is not known: it was measured on 10,000 impostor"
    ):
        calibration.distance_at(1e-6)


def test_files(calibration, tmp_path):
    path = save_calibration(calibration, tmp_path)
    loaded = load_calibration("abc", [tmp_path / "nowhere", tmp_path])
    assert isinstance(loaded, Calibration)
    assert loaded.false_match_rate(0.5) == pytest.approx(calibration.false_match_rate(0.5), rel=1e-2)
    with pytest.raises(
        CalibrationMissingError, match=r"calibration_other\.json: the error rates of this embedder have"
    ):
        load_calibration("other", [tmp_path])
    path.rename(tmp_path / "calibration_other.json")
    with pytest.raises(ValueError, match="is of the embedder abc, not of other"):
        load_calibration("other", [tmp_path])


@pytest.mark.parametrize("content", ['{"x": 1}', "[1, 2]", "no JSON", "", "null"])
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "calibration_bad.json").write_text(content)
    with pytest.raises(ValueError, match=r"calibration_bad\.json is not a valid calibration .*restore it from"):
        load_calibration("bad", [tmp_path])


def test_files_of_version_0_2_can_be_loaded(calibration, tmp_path):
    fields = asdict(calibration)
    old = {
        "embedder": fields["model_id"],
        "distances": fields["distances"],
        "false_positive_rates": fields["false_match_rates"],
        "false_positive_bounds": fields["false_match_bounds"],
        "true_positive_rates": fields["true_match_rates"],
        "true_positive_bounds": fields["false_match_bounds"],
        "of_several": fields["fmr_of_means"],
        "pairs": fields["pairs"],
        "data": fields["data"],
    }
    (tmp_path / "calibration_abc.json").write_text(json.dumps(old))
    assert load_calibration("abc", [tmp_path]) == calibration


@pytest.mark.parametrize(
    ("field", "values", "problem"),
    [
        ("false_match_rates", [0.1, 0.3, 0.2], "false_match_rates decreases"),
        ("true_match_rates", [0.1, 0.3, 0.2], "true_match_rates decreases"),
        ("distances", [0.1, 0.3, 0.2], "distances decreases"),
        ("false_match_rates", [-0.1, 0.3, 0.4], "false_match_rates has values outside 0 to 1"),
        ("false_match_rates", [0.1, 0.3, 1.1], "false_match_rates has values outside 0 to 1"),
        ("false_match_rates", [0.1, 0.3, float("nan")], "false_match_rates has values outside 0 to 1"),
        ("fmr_of_means", {"3": [0.1, 0.3, 0.2]}, "fmr_of_means of 3 photos decreases"),
        ("false_match_rates", [0.1, 0.3], "false_match_rates has the shape"),
        ("distances", [], "distances has the shape"),
        ("pairs", 0, "pairs is 0, expected at least 1: impostor pairs need two people"),
        ("pairs", float("inf"), "pairs is inf"),
        ("pairs", float("nan"), "pairs is nan"),
        ("false_match_rates", [0, 0, 0.001], "false_match_rates never reach 0.01"),  # of one person
        ("fmr_of_means", {"few": [0.1, 0.2, 0.3]}, r"fmr_of_means has the keys \['few'\]"),
    ],
)
def test_impossible_rates_are_refused(field, values, problem, tmp_path):
    good = Calibration("bad", [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [], [0.5, 0.6, 0.7], {}, 100, "synthetic")
    with pytest.raises(ValueError, match=problem):
        replace(good, **{field: values})
    (tmp_path / "calibration_bad.json").write_text(json.dumps(asdict(good) | {field: values}))
    with pytest.raises(
        ValueError, match=rf"calibration_bad\.json is not a valid calibration \({problem}.*measure it again"
    ):
        load_calibration("bad", [tmp_path])
