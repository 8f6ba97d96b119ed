"""`facelib album` as from a terminal: names through renaming, edits during a run, and who may read what is written."""

import os
import stat
from dataclasses import replace
from types import SimpleNamespace

import pytest
from albums import CALIBRATION
from PIL import Image

from facelib import FacePipeline
from facelib.cli import runs
from facelib.cli.album_command import clustering_scores
from facelib.cli.album_table import read_people
from facelib.cli.main import main
from facelib.cli.options import DecisionOptions
from facelib.recognition.clustering import MergeScores, merge_scores

NETWORKS = ("--detector", "retinaface", "--device", "cpu")


@pytest.fixture
def portraits(tmp_path, photo, pipeline):
    """Two people of the sample photo."""
    folder = tmp_path / "in" / "Rock 'n' Roll, 2019"
    folder.mkdir(parents=True)
    for number, face in enumerate(pipeline(photo)[:2]):
        x1, y1, x2, y2 = (face.box + [-60, -60, 60, 60]).round().astype(int).tolist()
        Image.fromarray(photo[max(y1, 0) : y2, max(x1, 0) : x2]).save(folder / f"{number}.png")
    return folder


def run(capsys, *arguments):
    code = main([*map(str, arguments), *NETWORKS])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out + printed.err


def rename(out, old, new):
    path = out / "people.csv"
    path.write_bytes(path.read_bytes().replace(f",{old},".encode(), f",{new},".encode()))


def people(out):
    return {row.photo.rsplit("/", 1)[1]: row.person for row in read_people(out).rows if row.cells["matched"] == "yes"}


def test_names_survive_renaming_resizing_and_deleting(capsys, tmp_path, portraits):
    out = tmp_path / "album"
    assert run(capsys, "album", portraits.parent, "--out", out)[0] == 0
    rename(out, "Person 1", "Ann")
    rename(out, "Person 2", "Bob")
    names = people(tmp_path / "album")
    assert sorted(names.values()) == ["Ann", "Bob"]
    portraits = portraits.rename(portraits.parent / "2019 summer")
    for number in range(2):
        image = Image.open(portraits / f"{number}.png")
        small = image.resize((image.width * 3 // 4, image.height * 3 // 4))
        small.crop((9, 9, small.width, small.height)).save(portraits / f"{number}.png")
    code, said = run(capsys, "album", portraits.parent, "--out", out)
    assert code == 0 and people(out) == names and "not found again" not in said
    (portraits / "0.png").unlink()
    code, said = run(capsys, "album", portraits.parent, "--out", out)
    assert code == 0 and f"{names['0.png']}: not found again on {portraits / '0.png'}" in said
    assert {row.person for row in read_people(out).rows} == {"Ann", "Bob"}


def test_edits_during_a_run_count(capsys, tmp_path, portraits, monkeypatch):
    out = tmp_path / "album"
    run(capsys, "album", portraits, "--out", out)
    process = runs.process

    def edited_meanwhile(*arguments):
        rename(out, "Person 1", "Ann")
        return process(*arguments)

    monkeypatch.setattr(runs, "process", edited_meanwhile)
    assert run(capsys, "album", portraits, "--out", out)[0] == 0
    assert sorted(people(out).values()) == ["Ann", "Person 2"]
    assert "Ann" in (out / "album.html").read_text()


def modes(folder):
    found = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    return stat.S_IMODE(folder.stat().st_mode), found


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
@pytest.mark.parametrize("command", ["detect", "album"])
def test_what_is_written_is_private_unless_it_is_shared(capsys, tmp_path, portraits, command):
    before = os.umask(0o022)
    try:
        run(capsys, command, portraits, "--out", tmp_path / "new/private")
        assert modes(tmp_path / "new/private") == (0o700, {0o600})
        run(capsys, command, portraits, "--out", tmp_path / "shared", "--shared")
        assert modes(tmp_path / "shared") == (0o755, {0o644})
        assert os.umask(0o022) == 0o022  # of the process, afterwards
    finally:
        os.umask(before)


def test_folders_and_their_names(capsys, tmp_path, portraits):
    out = tmp_path / "album"
    run(capsys, "album", portraits, "--out", out, "--folders", "copies")
    (out / "people/Person 1/for the calendar.txt").write_text("print these")
    rename(out, "Person 1", "aux")
    assert run(capsys, "album", portraits, "--out", out, "--folders", "copies")[0] == 0
    assert sorted(path.name for path in (out / "people").iterdir() if path.is_dir()) == ["Person 1", "Person 2", "_aux"]
    assert os.listdir(out / "people/Person 1") == ["for the calendar.txt"]
    assert len(os.listdir(out / "people/_aux")) == 1


def test_rates_below_those_that_were_measured_are_extrapolated():
    """As the rate of many faces is; a search among many needs low rates."""
    pipeline = SimpleNamespace(calibration=CALIBRATION)
    scores = [clustering_scores(pipeline, DecisionOptions(fmr=rate), 10).single for rate in (1e-3, 1e-6, 1e-8)]
    assert scores == sorted(scores) and scores[2] > 1
    assert clustering_scores(pipeline, DecisionOptions(None), 10) == merge_scores(CALIBRATION, 10)
    assert clustering_scores(pipeline, DecisionOptions(threshold=-0.5), 10) == MergeScores(-0.5, -0.5)


def test_an_album_where_the_pairs_bear_no_low_rate(capsys, tmp_path, portraits, monkeypatch, pipeline):
    made = FacePipeline(pipeline.detector, pipeline.landmarker, pipeline.embedder)
    made.calibration = replace(CALIBRATION, lowest_rate=0.5)
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: made)
    assert run(capsys, "album", portraits, "--out", tmp_path / "album")[0] == 0
