"""What a distance means."""

import json

import numpy as np
import pytest

from facelib.embedding.similarity import mean_embedding
from facelib.recognition.calibration import Calibration, load_calibration, save_calibration

GRID = np.linspace(0, 1.2, 121)


@pytest.fixture(scope="module")
def calibration():
    """Strangers evenly from 0.4 to 1.2, pairs of one person from 0 to 0.8; with three photos 0.1 nearer."""
    wrong, right = np.clip((GRID - 0.4) / 0.8, 0, 1), np.clip(GRID / 0.8, 0, 1)
    several = {"3": np.clip((GRID - 0.3) / 0.8, 0, 1).tolist(), "5": np.clip((GRID - 0.2) / 0.8, 0, 1).tolist()}
    bounds = np.stack([wrong, wrong], 1).tolist()
    return Calibration("abc", GRID.tolist(), wrong.tolist(), bounds, right.tolist(), several, 10_000, "made up")


def test_rates_are_those_that_were_measured(calibration):
    for distance, wrong, right in ((0.48, 0.1, 0.6), (0.41, 0.0125, 0.5125), (0.8, 0.5, 1.0)):
        assert calibration.false_match_rate(distance) == pytest.approx(wrong, rel=0.01)
        assert calibration.true_match_rate(distance) == pytest.approx(right, abs=0.01)
        assert calibration.distance_at(wrong) == pytest.approx(distance, abs=0.002)
    rates = [calibration.false_match_rate(d) for d in np.linspace(0, 2, 300)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-4)  # less is not known
    assert rates[-1] == pytest.approx(1)


def test_the_mean_of_several_photos_has_rates_of_its_own(calibration):
    rates = [calibration.false_match_rate(0.5, photos) for photos in (1, 2, 3, 4, 5, 50)]
    # Of what was not measured, the higher rate of its neighbours.
    assert rates == pytest.approx([0.125, 0.25, 0.25, 0.375, 0.375, 0.375], rel=0.01)
    vectors = np.eye(3, dtype=np.float32)
    assert mean_embedding(vectors, np.array([1, 1, 0])) == pytest.approx([0.707, 0.707, 0.0], abs=2e-3)
    assert np.linalg.norm(mean_embedding(vectors, np.zeros(3))) == pytest.approx(1, abs=1e-5)


def test_verdicts(calibration):
    assert calibration.decide(0.3).verdict == "same"
    assert calibration.decide(0.41).verdict == "different"
    doubtful = calibration.decide(0.407)
    assert doubtful.verdict == "unsure"
    assert "of pairs of strangers are as close" in doubtful.reason
    blurred = calibration.decide(0.1, quality_issue="the first face is too blurred")
    assert (blurred.verdict, blurred.reason) == ("unsure", "the first face is too blurred")
    assert calibration.decide(0.407, same=0.01, different=0.01).verdict == "same"
    for same, different in ((0.1, 0.01), (0, 0.1), (0.1, 1)):
        with pytest.raises(ValueError, match="expected rates with 0 < same <= different < 1"):
            calibration.decide(0.3, same, different)
    with pytest.raises(ValueError, match=r"a false positive rate of 1e-06 is not known: 10,000 pairs"):
        calibration.distance_at(1e-6)


def test_files(calibration, tmp_path):
    path = save_calibration(calibration, tmp_path)
    again = load_calibration("abc", [tmp_path / "nowhere", tmp_path])
    assert isinstance(again, Calibration)
    assert again.false_match_rate(0.5) == pytest.approx(calibration.false_match_rate(0.5), rel=1e-2)
    with pytest.raises(FileNotFoundError, match=r"calibration_other\.json: what a distance of this embedder means"):
        load_calibration("other", [tmp_path])
    path.rename(tmp_path / "calibration_other.json")
    with pytest.raises(ValueError, match="is of the embedder abc, not of other"):
        load_calibration("other", [tmp_path])
    (tmp_path / "calibration_bad.json").write_text(json.dumps({"x": 1}))
    with pytest.raises(ValueError, match=r"calibration_bad\.json is no calibration"):
        load_calibration("bad", [tmp_path])
