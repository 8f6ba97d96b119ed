"""The application as a whole: help, exit codes, empty arguments, JSON, aliases, embedders without a calibration."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import facelib
from facelib import FacePipeline
from facelib.cli import runs
from facelib.cli.main import application, main
from facelib.recognition.calibration_files import load_calibration

COMMANDS = (
    "detect",
    "compare",
    "enrol",
    "identify",
    "remove",
    "people",
    "backup",
    "album",
    "find",
    "video",
    "blur",
    "calibrate",
    "forget",
    "export",
    "info",
)
CODES = {
    "detect": (0, 1, 2, 130),
    "compare": (0, 1, 2, 3, 130),
    "enrol": (0, 1, 2, 130),
    "identify": (0, 1, 2, 130),
    "remove": (0, 2, 130),
    "people": (0, 2, 130),
    "backup": (0, 2, 130),
    "album": (0, 1, 2, 130),
    "find": (0, 1, 2, 130),
    "video": (0, 1, 2, 130),
    "blur": (0, 1, 2, 130),
    "calibrate": (0, 1, 2, 130),
    "forget": (0, 1, 2, 130),
    "export": (0, 2, 130),
    "info": (0, 2, 130),
}


class PixelEmbedder:
    """An embedder that nobody has calibrated."""

    model_id = "pixels"

    def embed(self, aligned):
        values = aligned[:, 8::16, 8::16].reshape(len(aligned), -1).astype(np.float32) - 100.5
        return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture
def loaded(monkeypatch, pipeline):
    """Commands use the pipeline of the tests."""
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: pipeline)


@pytest.fixture
def uncalibrated(monkeypatch, pipeline):
    """Commands use an embedder without a calibration."""
    other = FacePipeline(pipeline.detector, pipeline.landmarker, PixelEmbedder())
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: other)


@pytest.fixture
def nothing_loads(monkeypatch):
    """Loading networks fails the test."""

    def fail(networks):
        raise AssertionError("networks were loaded")

    monkeypatch.setattr(runs, "make_pipeline", fail)


def run(capsys, *arguments):
    code = main([*map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_every_command_is_tested_here():
    assert tuple(application.commands) == COMMANDS == tuple(CODES)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_exit_codes(command, capsys):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    lines = out[out.index("Exit codes:") :].splitlines()[1:]
    assert tuple(int(line.split()[0]) for line in lines if line) == CODES[command]
    assert "--json" in out and "--quiet" in out
    assert "--fpr" not in out


def test_help_of_the_application(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    assert all(
        words in out for words in ("Exit codes", "unsure", "130", "Shell completion", "_FACELIB_COMPLETE", "--json")
    )
    assert run(capsys, "--version")[:2] == (0, f"facelib, version {facelib.__version__}\n")
    code, out, err = run(capsys)
    assert (code, out) == (2, "") and "Usage:" in err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("empty", [[""], ["  "], ["a.jpg", ""], ["--embedder", ""], ["--out="], ["--gallery", ""]])
def test_empty_arguments_are_refused_by_every_command(command, empty, capsys, nothing_loads):
    code, out, err = run(capsys, command, *empty)
    assert (code, out) == (2, "")
    assert "is empty: is a shell variable unset?" in err


def test_an_empty_photo_does_not_enrol_the_current_folder(capsys, portraits, monkeypatch, tmp_path, nothing_loads):
    monkeypatch.chdir(portraits)
    code, _, err = run(capsys, "enrol", "Ann", "", "--gallery", tmp_path / "people.gallery")
    assert code == 2 and "is empty" in err
    assert not list(tmp_path.iterdir())


def test_arguments_are_checked_before_networks_load(capsys, tmp_path, portraits, nothing_loads):
    gone, photo, gallery = tmp_path / "gone.jpg", portraits / "0.png", tmp_path / "people.gallery"
    damaged = tmp_path / "damaged.gallery"
    damaged.write_text("no gallery" * 200)
    for arguments, message in (
        (("compare", photo, gone), "gone.jpg: no such file"),
        (("compare", photo, portraits), "is a folder"),
        (("detect", gone, "--out", tmp_path / "out"), "gone.jpg: no such file"),
        (("enrol", "Ann", gone, "--gallery", gallery), "gone.jpg: no such file"),
        (("enrol", "Ann", photo, "--gallery", tmp_path / "none" / "people.gallery"), "no such folder"),
        (("identify", photo, "--gallery", gallery), "no such gallery; the first enrol makes it"),
        (("identify", photo, "--gallery", damaged), "damaged"),
        (("album", gone, "--out", tmp_path / "out"), "gone.jpg: no such file"),
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.gallery"]


def test_exit_codes_of_compare(capsys, portraits, loaded):
    first, second = portraits / "0.png", portraits / "1.png"
    assert run(capsys, "compare", first, first)[0] == 0
    code, out, _ = run(capsys, "compare", first, second, "--threshold", 0.99)
    assert code == 1 and out.startswith("different: ")
    code, out, _ = run(capsys, "compare", first, second, "--fmr", 5e-4, "--different", 0.999)
    assert code == 3 and out.startswith("unsure: ")
    assert run(capsys, "compare", first, portraits / "blank.png")[0] == 2


def test_compare_says_how_many_faces_there_are(capsys, photo, portraits, loaded, tmp_path):
    Image.fromarray(photo).save(tmp_path / "six.png")
    _, out, _ = run(capsys, "compare", tmp_path / "six.png", portraits / "0.png")
    assert "six.png: 6 faces, the largest is compared" in out
    assert "0.png: 1 face\n" in out
    _, out, _ = run(capsys, "compare", tmp_path / "six.png", portraits / "0.png", "--json")
    assert [(one["faces"], one["compared"]) for one in json.loads(out)["photos"]] == [(6, 0), (1, 0)]


def test_identify_says_when_a_photo_has_no_face(capsys, portraits, loaded, tmp_path):
    gallery = ("--gallery", tmp_path / "people.gallery")
    assert run(capsys, "enrol", "Ann", portraits / "0.png", *gallery)[0] == 0
    photos = (portraits / "blank.png", portraits / "0.png")
    code, out, _ = run(capsys, "identify", *photos, *gallery)
    assert code == 0
    assert out.splitlines()[0] == "blank.png: no face found" and out.splitlines()[1].startswith("0.png face 0: Ann")
    _, out, _ = run(capsys, "identify", *photos, *gallery, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (rows[0]["face"], rows[0]["name"], rows[0]["reason"]) == (None, None, "no face found")
    assert (rows[1]["face"], rows[1]["name"]) == (0, "Ann")


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "gone.jpg", "b.jpg"),
        ("compare", "a.jpg"),
        ("compare", "a.jpg", ""),
        ("people", "--gallery", "no.gallery"),
        ("remove", "Ann", "--gallery", "no.gallery"),
        ("detect", "gone.jpg", "--out", "out"),
        ("album", "gone.jpg", "--out", "out", "--batch-size", "0"),
    ],
)
def test_errors_as_json(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, out) == (2, "")
    assert list(json.loads(err)) == ["error"]


def test_standard_error_is_json_throughout(capsys, portraits, loaded, tmp_path):
    """Errors of single photos and notices too, and no progress bar among them."""
    (tmp_path / "broken.jpg").write_text("no photo")
    photos = (portraits / "0.png", portraits / "blank.png", tmp_path / "broken.jpg", tmp_path / "gone.jpg")
    out_folder = tmp_path / "out"
    code, out, err = run(capsys, "detect", *photos, "--out", out_folder, "--json")
    assert code == 1
    assert len(json.loads(out)) == 4
    errors = [json.loads(line).get("error", "") for line in err.splitlines()]
    assert [sum(name in error for error in errors) for name in ("broken.jpg", "gone.jpg")] == [1, 1]
    code, out, err = run(capsys, "detect", *photos, "--out", out_folder, "--json")
    assert {key for line in err.splitlines() for key in json.loads(line)} == {"error", "notice"}


def test_quiet(capsys, portraits, loaded, tmp_path):
    photos = (portraits / "0.png", portraits / "1.png")
    for quiet in ((), ("--quiet",)):
        code, out, err = run(capsys, "detect", *photos, "--out", tmp_path / "out", *quiet)
        assert code == 0 and "2 faces in 2 of 2 photos" in out
        assert ("photo" in err) == (not quiet)
    assert "done already" not in out and err == ""


@pytest.mark.parametrize("shared", [(), ("--json",), ("--quiet",)])
def test_detect_need_not_be_named(capsys, portraits, loaded, tmp_path, shared):
    for number, name in enumerate(((), ("detect",))):
        arguments = (*shared, *name, portraits / "0.png", "--out", tmp_path / f"out{number}")
        assert run(capsys, *arguments)[0] == 0
    first, second = ((tmp_path / f"out{number}" / "faces.json").read_text() for number in (0, 1))
    assert first == second


def test_module_and_console_script_are_one_application():
    expected = subprocess.run([sys.executable, "-m", "facelib", "--help"], capture_output=True, text=True).stdout
    code = "import sys\nfrom facelib.cli.main import run\nsys.argv = ['facelib', '--help']\nsys.exit(run())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == expected
    assert expected.startswith("Usage: facelib [OPTIONS] COMMAND")


def test_shell_completion():
    environment = os.environ | {"_FACELIB_COMPLETE": "bash_complete", "COMP_WORDS": "facelib id", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "facelib"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stdout == "plain,identify\n"


def test_fpr_is_an_alias_of_fmr(capsys, portraits, loaded):
    photos = (portraits / "0.png", portraits / "1.png")
    code, out, _ = run(capsys, "compare", *photos, "--fpr", 5e-4, "--different", 0.999)
    assert code == 3 and out.startswith("unsure: ")
    assert run(capsys, "compare", *photos, "--fpr", 2)[0] == 2


def test_compare_without_calibration(capsys, portraits, uncalibrated):
    photos = (portraits / "0.png", portraits / "1.png")
    code, _, err = run(capsys, "compare", *photos)
    assert code == 2 and "--threshold SCORE" in err
    code, out, _ = run(capsys, "compare", *photos, "--threshold", -2, "--json")
    answer = json.loads(out)
    assert (code, answer["verdict"], answer["false_match_rate"]) == (0, "same", None)
    assert answer["score"] == pytest.approx(1 - answer["distance"], abs=1e-5)
    code, out, _ = run(capsys, "compare", *photos, "--threshold", 1, "--explain")
    assert code == 1 and out.startswith("different: score ")
    assert out.endswith("no false match rates: this embedder has no calibration\n")


def test_identify_in_an_empty_gallery(capsys, portraits, loaded, tmp_path):
    gallery = ("--gallery", tmp_path / "people.gallery")
    run(capsys, "enrol", "Ann", portraits / "0.png", *gallery)
    run(capsys, "remove", "Ann", *gallery)
    code, out, _ = run(capsys, "identify", portraits / "0.png", *gallery)
    assert (code, out) == (1, "0.png face 0: unknown (nearest: nobody)\n")
    _, out, _ = run(capsys, "identify", portraits / "0.png", *gallery, "--json")
    assert json.loads(out, parse_constant=pytest.fail)["score"] is None  # JSON has no infinity


def test_identify_without_calibration(capsys, portraits, uncalibrated, tmp_path):
    gallery = ("--gallery", tmp_path / "people.gallery")
    assert run(capsys, "enrol", "Ann", portraits / "0.png", *gallery)[0] == 0
    code, _, err = run(capsys, "identify", portraits / "0.png", *gallery)
    assert code == 2 and "--threshold SCORE" in err
    code, out, _ = run(capsys, "identify", portraits / "0.png", *gallery, "--threshold", 0.99, "--json")
    answer = json.loads(out)
    assert (code, answer["name"], answer["false_match_rate"]) == (0, "Ann", None)
    code, out, _ = run(capsys, "identify", portraits / "1.png", *gallery, "--threshold", 1)
    assert code == 1 and "unknown, score " in out and " (nearest: Ann" in out


def test_album_without_calibration(capsys, portraits, uncalibrated, tmp_path):
    photos = (portraits / "0.png", portraits / "1.png")
    code, _, err = run(capsys, "album", *photos, "--out", tmp_path / "album")
    assert code == 2 and "--threshold SCORE" in err
    for threshold, people in ((2, 2), (-2, 1)):
        out_folder = tmp_path / f"album{threshold}"
        code, out, _ = run(capsys, "album", *photos, "--out", out_folder, "--threshold", threshold, "--json")
        assert (code, json.loads(out)["people"]) == (0, people)


def test_detect_without_calibration(capsys, portraits, uncalibrated, tmp_path):
    photos = (portraits / "0.png", portraits / "1.png")
    code, out, err = run(capsys, "detect", *photos, "--out", tmp_path / "out")
    assert code == 0 and "same?" not in out
    assert "no pair is marked" in err and "--threshold SCORE" in err
    code, out, _ = run(capsys, "detect", *photos, "--out", tmp_path / "out", "--threshold", -2)
    assert code == 0 and out.count("same?") == 2


def test_info(capsys):
    code, out, _ = run(capsys, "info", "--json")
    value = json.loads(out)
    assert code == 0
    assert value["facelib"] == facelib.__version__
    assert "CPUExecutionProvider" in value["providers"]
    assert value["embedders"]["default"]["model_id"] == facelib.load_embedder(device="cpu").model_id
    assert value["embedders"]["default"]["calibrated"]
    cohort = load_calibration(value["embedders"]["default"]["model_id"]).cohort
    assert value["embedders"]["default"]["cohort"] == (cohort.id if cohort else None)
    assert value["weights"]["hourglass_keypoints.pt"]["present"]
    assert set(value["folders"]) == {"models", "data", "cache"}
    code, text, _ = run(capsys, "info")
    assert code == 0
    assert value["embedders"]["default"]["model_id"] in text and "CPUExecutionProvider" in text
    assert (f"cohort {cohort.id}" if cohort else "no cohort: scores are cosines") in text
    assert f"PyTorch: {'installed' if value['pytorch'] else 'not installed'}" in text


def test_info_does_not_import_pytorch():
    code = "import sys\nfrom facelib.cli.info import _embedders, _weights\nimport importlib.util\n"
    code += "assert importlib.util.find_spec('torch')\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_library_warnings_are_notices(capsys, portraits, monkeypatch, pipeline, tmp_path):
    import logging

    def load(networks):
        logging.getLogger("facelib.detection").warning("another detector is used")
        return pipeline

    monkeypatch.setattr(runs, "make_pipeline", load)
    handlers = list(logging.getLogger("facelib").handlers)
    _, _, err = run(capsys, "compare", portraits / "0.png", portraits / "0.png", "--json")
    assert json.loads(err.splitlines()[0]) == {"notice": "another detector is used"}
    assert logging.getLogger("facelib").handlers == handlers
