"""`facelib export` writes networks that other programs can run."""

import hashlib
import json

import numpy as np

from facelib.cli.main import main
from facelib.runtime.manifest import embedder_networks, read_manifest
from facelib.runtime.onnx import make_session
from facelib.settings import MODELS


def test_export_for_other_programs(tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert main(["export", str(out)]) == 0
    weights = [MODELS / "hourglass_keypoints.pt", *embedder_networks()]
    names = [path.stem for path in weights]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}.{end}" for name in names for end in ("json", "onnx")
    )
    about = json.loads((out / "hourglass_keypoints.json").read_text())
    session = make_session(str(out / "hourglass_keypoints.onnx"), "cpu")
    given = np.zeros([3, *about["input"][1:]], np.float32)
    assert session.run(None, {"images": given})[0].shape[1:3] == (3, 5)
    assert capsys.readouterr().out.count("written") == len(names)
    assert about["weights"] == read_manifest()["hourglass_keypoints.pt"]["sha256"]
    assert hashlib.sha256((out / "hourglass_keypoints.onnx").read_bytes()).hexdigest() in str(read_manifest())


def test_export_where_nothing_can_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["export", str(tmp_path / "file"), "--json"]) == 2
    assert list(json.loads(capsys.readouterr().err)) == ["error"]


def test_export_replaces_nothing_else(tmp_path, capsys):
    (tmp_path / "hourglass_keypoints.onnx").write_text("mine")
    assert main(["export", str(tmp_path)]) == 2
    assert "hourglass_keypoints.onnx is another file" in capsys.readouterr().err
    assert (tmp_path / "hourglass_keypoints.onnx").read_text() == "mine"
