"""`python -m facelib.datasets`: arguments, messages and exit codes."""

import pytest
from published import jpeg, write_files

from facelib.datasets.__main__ import main
from facelib.datasets.face_list import load_faces


@pytest.fixture
def run(monkeypatch, capsys):
    """run(arguments) -> exit code, standard output, standard error."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["facelib.datasets", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return call


def test_a_converter_says_where_the_crops_are(tmp_path, middle_detector, run):
    write_files(tmp_path / "scut", {f"AF{i}.jpg": jpeg() for i in range(3)})
    assert run("scut", tmp_path / "scut")[:2] == (0, f"crops and their table are in {tmp_path}/data/faces_groups\n")
    code, out, err = run("scut", tmp_path / "scut")
    assert (code, out) == (1, "")
    assert "has 3 faces of scut already: --replace replaces them, --name writes another set" in err
    assert run("scut", tmp_path / "scut", "--replace")[0] == 0
    assert run("scut", tmp_path / "scut", "--name", "mine")[0] == 0
    assert len(load_faces("faces_groups")) == len(load_faces("mine")) == 3
    assert "expected a name, not a path" in run("scut", tmp_path / "scut", "--name", "../mine")[2]


@pytest.mark.parametrize("command", ["celeba", "open_set", "celeba_landmarks", "lfw", "afw", "wflw", "mtfl", "utkface"])
def test_errors_are_one_line(tmp_path, middle_detector, run, command):
    write_files(tmp_path / "empty", {"readme.txt": ""})
    code, out, err = run(command, tmp_path / "empty")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {tmp_path}/empty: no ") and err.count("\n") == 1
    assert run(command, tmp_path / "gone")[2] == f"error: {tmp_path}/gone: no such file or folder\n"
