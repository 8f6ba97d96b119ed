"""compare: what is said of two faces, with and without a cohort, groups and genuine pairs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from people import calibration_with_cohort

from facelib import FacePipeline
from facelib.cli import runs
from facelib.cli.main import main
from facelib.embedding.similarity import unit_vectors


@pytest.fixture(scope="module")
def photos(portraits):
    """Two people."""
    return portraits / "0.png", portraits / "1.png"


@pytest.fixture
def loaded(monkeypatch, pipeline, photo):
    """A pipeline whose calibration has a cohort near all faces, groups, and no genuine pairs."""
    made = FacePipeline(pipeline.detector, pipeline.landmarker, pipeline.embedder)
    centres = unit_vectors(np.stack([face.embedding for face in pipeline(photo)]))
    made.calibration = calibration_with_cohort(made.model_id, centres)
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: made)
    return made


def run(capsys, *arguments):
    code = main(["compare", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_score_decides_and_the_distance_stays_the_cosine(capsys, photos, loaded):
    a, b = (loaded(path)[0] for path in photos)
    _, out, _ = run(capsys, *photos, "--json")
    answer = json.loads(out)
    cosine = float(a.embedding @ b.embedding)
    assert answer["distance"] == pytest.approx(1 - cosine, abs=1e-5)
    assert answer["score"] == pytest.approx(cosine - 0.4 * (a.cohort_similarity + b.cohort_similarity), abs=1e-5)
    between = (answer["score"] + cosine) / 2
    assert answer["score"] < between - 0.1
    assert run(capsys, *photos, "--threshold", between)[0] == 1
    assert run(capsys, *photos, "--threshold", answer["score"] - 0.01)[0] == 0


def test_the_sentence_says_whose_rate_it_is(capsys, photos, loaded):
    answer = json.loads(run(capsys, *photos, "--json")[1])
    _, out, err = run(capsys, *photos)
    rates = f"false match rate {answer['false_match_rate']:.2g} (95 % interval "
    assert f"score {answer['score']:.3f}, distance {answer['distance']:.3f}; {rates}" in out
    assert ") in the group of people where it is highest" in out
    assert "genuine" not in out and "nan" not in out
    assert answer["true_match_rate"] is None and "group_rates" not in answer
    assert "cosine" not in err
    low, high = answer["false_match_interval"]
    assert low <= answer["false_match_rate"] <= high


def test_explain_prints_every_group(capsys, photos, loaded):
    groups = json.loads(run(capsys, *photos, "--json", "--explain")[1])["group_rates"]
    assert list(groups) == ["children", "adults"] and groups["children"] > groups["adults"]
    _, out, _ = run(capsys, *photos, "--explain")
    assert out.splitlines()[-2:] == [f"{group}: {rate:.2g}" for group, rate in groups.items()]


def test_rates_below_the_lowest_known_one(capsys, photos, loaded):
    loaded.calibration = replace(loaded.calibration, cohort=None)
    _, out, _ = run(capsys, photos[0], photos[0], "--explain")
    assert out.startswith("same: score 1.000, distance 0.000; false match rate at most 1e-05 in every group")
    assert set(out.splitlines()[-2:]) == {"children: at most 1e-05", "adults: at most 1e-05"}
    low, high = json.loads(run(capsys, photos[0], photos[0], "--json")[1])["false_match_interval"]
    assert low <= 1e-5 <= high


def test_genuine_pairs_that_were_measured(capsys, photos, loaded):
    loaded.calibration = replace(loaded.calibration, true_match_rates=[1, 1, 0.8, 0], group_fmrs={})
    _, out, _ = run(capsys, *photos)
    assert "% of genuine pairs are as close" in out and "group" not in out
    loaded.calibration = replace(loaded.calibration, scores=[-1, -0.9, -0.8, -0.7])
    _, out, _ = run(capsys, photos[0], photos[0])
    assert out.startswith("same: ") and "genuine" not in out  # above all scores that were measured
    assert json.loads(run(capsys, photos[0], photos[0], "--json")[1])["true_match_rate"] is None


@pytest.mark.parametrize("command", ["compare", "identify", "detect", "album"])
def test_an_embedder_without_a_cohort_is_told_once(capsys, photos, loaded, command, tmp_path):
    gallery = ("--gallery", tmp_path / "people.gallery")
    more = {"compare": (), "identify": gallery}.get(command, ("--out", tmp_path / "out"))
    main(["enrol", "Ann", str(photos[0]), *map(str, gallery)])
    for cohort, times in ((loaded.cohort, 0), (None, 1)):
        loaded.calibration = replace(loaded.calibration, cohort=cohort)
        capsys.readouterr()
        assert main([command, *map(str, (*photos, *more))]) in (0, 1, 3)
        assert capsys.readouterr().err.count("this embedder has no cohort") == times
