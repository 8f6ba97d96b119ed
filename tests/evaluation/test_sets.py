"""What is there is measured, and a record keeps its other figures."""

import json

import pytest

from facelib.evaluation import sets
from facelib.evaluation.sets import with_earlier

MEASURED = {"date": "2030-01-02", "command": "new", "weights": {"a.pt": "12"}, "data": {"lfw": "2 photos"}}
BEFORE = MEASURED | {"date": "2030-01-01", "command": "old", "data": {"faces_unseen": "1 photo", "lfw": "1 photo"}}
RECORD = {
    "open_test": {"eer": 0.1},
    "robustness": {"grey": 0.2},
    "lfw": {"accuracy": 0.8},
    "calibration": {"0.01": {"score": 0.3, "open_test": 1, "lfw": 2}},
}
NEW = {"lfw": {"accuracy": 0.9}, "calibration": {"0.01": {"score": 0.3, "lfw": 3}}}


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "default.json"
    path.write_text(json.dumps({"measured": BEFORE, **RECORD}))
    return path


def test_figures_that_are_not_measured_stay_with_their_provenance(record):
    figures, measured = with_earlier(record, NEW, MEASURED)
    assert figures == RECORD | {
        "lfw": {"accuracy": 0.9},
        "calibration": {"0.01": {"score": 0.3, "open_test": 1, "lfw": 3}},
    }
    old = "2030-01-01, old"
    assert measured == MEASURED | {
        "data": {"faces_unseen": "1 photo", "lfw": "2 photos"},
        "earlier": {"open_test": old, "robustness": old, "calibration > 0.01 > open_test": old},
    }
    # Once more, another part: each figure keeps its own date.
    record.write_text(json.dumps({"measured": measured, **figures}))
    later = MEASURED | {"date": "2030-01-03"}
    _, measured = with_earlier(record, {"robustness": {"grey": 0.1}}, later)
    assert measured["earlier"]["open_test"] == old and "robustness" not in measured["earlier"]
    assert measured["earlier"]["lfw"] == "2030-01-02, new"


def test_figures_of_other_weights_or_another_calibration_go(record, tmp_path):
    other = MEASURED | {"weights": {"a.pt": "34"}}
    assert with_earlier(record, NEW, other) == (NEW, other)
    figures, measured = with_earlier(record, NEW, MEASURED, recalibrated=True)
    assert figures == NEW | {"open_test": RECORD["open_test"]}
    assert measured["earlier"].keys() == {"open_test"}
    assert with_earlier(tmp_path / "none.json", NEW, MEASURED) == (NEW, MEASURED)


def test_missing_sets_are_named_with_their_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    (tmp_path / "lfw").mkdir()
    assert sets.available_sets() == {"lfw"}
    sets.report_missing(["lfw", "faces_unseen", "faces_unseen"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{tmp_path / 'faces_unseen'} is missing: python -m facelib.datasets open_set"]
