"""Files of calibrations: today's, those of older versions, damaged ones, and cohorts."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from facelib.recognition import calibration_files
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import (
    load_calibration,
    own_calibrations,
    remove_own_calibration,
    save_calibration,
    user_calibrations_folder,
)
from facelib.recognition.cohort import Cohort, make_cohort
from facelib.settings import own_cache_name
from facelib.types import CalibrationMissingError

DISTANCES = [0.1, 0.25, 0.5, 1.0, 1.5]
OLD = {
    "model_id": "abc",
    "distances": DISTANCES,
    "false_match_rates": [0.0, 0.001, 0.02, 0.5, 1.0],
    "false_match_bounds": [[0.0, 0.001], [0.0005, 0.002], [0.01, 0.04], [0.4, 0.6], [1.0, 1.0]],
    "true_match_rates": [0.25, 0.5, 0.875, 1.0, 1.0],
    "fmr_of_means": {"3": [0.0, 0.002, 0.04, 0.75, 1.0]},
    "pairs": 4000,
    "data": "synthetic",
}
NAMES_OF_0_2 = {value: name for name, value in calibration_files.NAMES_OF_VERSION_0_2.items()}


@pytest.fixture
def calibration():
    """With a cohort."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 16))
    cohort = make_cohort("abc", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    rates = {"scores": [-2.0, 0.0, 0.3, 0.6], "false_match_rates": [1.0, 0.5, 0.01, 0.0002]}
    bounds = [[1.0, 1.0], [0.4, 0.6], [0.005, 0.02], [0.0, 0.001]]
    groups = {"a": [1.0, 0.5, 0.01, 0.0002], "b": [1.0, 0.3, 0.001, 0.0001]}
    return Calibration(
        "abc", *rates.values(), bounds, [1.0, 1.0, 0.9, 0.5], {"2": [1.0, 0.6, 0.02, 0.001]}, 1e-4, "x", groups, cohort
    )


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """The user's calibrations, in a folder of the test."""
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    return user_calibrations_folder()


def test_what_is_saved_is_loaded(calibration, tmp_path):
    save_calibration(calibration, tmp_path)
    loaded = load_calibration("abc", [tmp_path / "nowhere", tmp_path])
    assert loaded.cohort.id == calibration.cohort.id
    np.testing.assert_array_equal(loaded.cohort.centres, calibration.cohort.centres)
    assert replace(loaded, cohort=None) == replace(calibration, cohort=None)
    save_calibration(replace(calibration, cohort=None), tmp_path)
    assert load_calibration("abc", [tmp_path]).cohort is None
    assert [path.name for path in tmp_path.iterdir()] == ["calibration_abc.json"]  # no cohort of an earlier one


def test_a_calibration_of_ones_own_comes_first(calibration, own_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration_files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(calibration_files, "MODELS", tmp_path)
    save_calibration(replace(calibration, data="shipped"), tmp_path / "results")
    assert (tmp_path / "cohort_abc.npz").exists()  # beside the weights
    assert load_calibration("abc").data == "shipped"
    save_calibration(replace(calibration, data="own"), own_folder)
    assert load_calibration("abc").data == "own"
    names = ["calibration_abc.json", "cohort_abc.npz"]
    assert [path.name for path in remove_own_calibration("abc")] == names
    assert remove_own_calibration("abc") == []
    assert load_calibration("abc").data == "shipped"


def test_calibrations_know_the_folder_they_were_measured_on(calibration, own_folder, tmp_path):
    for folder in ("Mädchen", "Mädchen 2"):
        own = replace(calibration, model_id=folder[-1], data=f"9 photos of {own_cache_name(tmp_path / folder)}")
        save_calibration(own, own_folder)
    found = own_calibrations(tmp_path / "Mädchen")
    assert [path.name for path in found] == ["calibration_n.json", "cohort_n.npz"]
    assert own_calibrations(tmp_path / "Mäd") == []


@pytest.mark.parametrize("version", ["0.2", "0.3 in development"])
def test_files_by_distance_are_converted_exactly(version, tmp_path):
    """The score is 1 - distance, the rates are the same; 1 / pairs is the lowest."""
    old = OLD
    if version == "0.2":
        old = {NAMES_OF_0_2.get(name, name): value for name, value in OLD.items()}
        old["true_positive_bounds"] = OLD["false_match_bounds"]
        assert "false_positive_rates" in old and "embedder" in old
    (tmp_path / "calibration_abc.json").write_text(json.dumps(old))
    loaded = load_calibration("abc", [tmp_path])
    assert loaded.scores == [1 - distance for distance in reversed(DISTANCES)]
    for name in ("false_match_rates", "false_match_bounds", "true_match_rates"):
        assert getattr(loaded, name) == OLD[name][::-1]
    assert loaded.fmr_of_means == {"3": OLD["fmr_of_means"]["3"][::-1]}
    assert (loaded.lowest_rate, loaded.data, loaded.group_fmrs, loaded.cohort) == (1 / 4000, "synthetic", {}, None)
    for distance, fmr, tmr in zip(DISTANCES[1:], OLD["false_match_rates"][1:], OLD["true_match_rates"][1:]):
        assert loaded.false_match_rate(1 - distance) == pytest.approx(fmr)
        assert loaded.true_match_rate(1 - distance) == pytest.approx(tmr)
    assert loaded.false_match_rate(0.6) == pytest.approx(np.exp(np.interp(0.4, [0.25, 0.5], np.log([0.001, 0.02]))))


def test_equal_distances_of_old_files(tmp_path):
    """Rounding has made them; the lower rate is kept."""
    old = OLD | {"distances": [0.1, 0.25, 0.25, 1.0, 1.5]}
    (tmp_path / "calibration_abc.json").write_text(json.dumps(old))
    loaded = load_calibration("abc", [tmp_path])
    assert loaded.scores == [-0.5, 0, 0.75, 0.9]
    assert loaded.false_match_rates == [1, 0.5, 0.001, 0]


def test_errors_say_what_to_do(calibration, own_folder, tmp_path, monkeypatch):
    with pytest.raises(
        CalibrationMissingError, match=r"calibration_other\.json: the error rates .* `facelib calibrate`"
    ):
        load_calibration("other", [tmp_path])
    path = save_calibration(calibration, own_folder)
    cohort = own_folder / "cohort_abc.npz"
    advice = ".*remove it with `facelib calibrate --reset`, or measure it again with `facelib calibrate`"
    path.rename(own_folder / "calibration_other.json")
    with pytest.raises(ValueError, match=f"is of the embedder abc, not of other: {advice}"):
        load_calibration("other")
    (own_folder / "calibration_other.json").rename(path)
    content = cohort.read_bytes()
    cohort.write_bytes(content[:99])
    with pytest.raises(ValueError, match=rf"cohort_abc\.npz is not a valid cohort \(.*\): {advice}"):
        load_calibration("abc")
    cohort.unlink()
    with pytest.raises(ValueError, match=rf"cohort_abc\.npz: the cohort .* is missing: {advice}"):
        load_calibration("abc")
    other = Cohort("abc", np.eye(16, dtype=np.float32))
    save_calibration(replace(calibration, cohort=other), tmp_path / "other")
    os.replace(tmp_path / "other/cohort_abc.npz", cohort)
    with pytest.raises(ValueError, match=f"is the cohort {other.id}, the calibration was measured with .*{advice}"):
        load_calibration("abc")
    path.write_text("{")
    with pytest.raises(ValueError, match=rf"calibration_abc\.json is not a valid calibration \(.*{advice}"):
        load_calibration("abc")
    monkeypatch.setattr(calibration_files, "RESULTS", own_folder)  # as a shipped one
    with pytest.raises(
        ValueError, match="restore it from the repository, or measure it again with `facelib calibrate`"
    ):
        load_calibration("abc")


@pytest.mark.parametrize(
    "content",
    [
        *('{"x": 1}', "[1, 2]", "no JSON", "", "null", "1", "[" * 100_000, '{"distances": {}}'),
        *(json.dumps(OLD | change) for change in ({"pairs": 0}, {"pairs": None}, {"pairs": float("nan")})),
        *(json.dumps(OLD | change) for change in ({"distances": [0.1, "x"]}, {"distances": None}, {"distances": 3})),
        *(json.dumps(OLD | change) for change in ({"false_match_rates": [1]}, {"fmr_of_means": []}, {"cohort": "x"})),
        *(json.dumps(OLD | change) for change in ({"distances": [[0.1] * 3] * 3}, {"fmr_of_means": {"3": []}})),
        *(json.dumps(OLD | {"true_match_rates": [value] * 5}) for value in (float("nan"), float("inf"), "a", None)),
        json.dumps(OLD | {"false_match_bounds": [[0, float("inf")]] * 5}),
        json.dumps({name: value for name, value in OLD.items() if name != "pairs"}),
        b"\xff\xfe\x00",
    ],
)
def test_damaged_files_are_refused(content, tmp_path):
    path = tmp_path / "calibration_abc.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"calibration_abc\.json is not a valid calibration|cohort"):
        load_calibration("abc", [tmp_path])


def test_the_shipped_calibrations_are_read():
    """In the old form as in today's."""
    found = sorted(calibration_files.RESULTS.glob("calibration_*.json"))
    assert found
    for path in found:
        loaded = load_calibration(path.stem.removeprefix("calibration_"), [calibration_files.RESULTS])
        scores = [loaded.score_at(rate) for rate in (0.1, 0.01, 0.001)]
        assert scores == sorted(scores)
        assert loaded.decide(1.0).verdict == "same" and loaded.decide(-1.0).verdict == "different"
