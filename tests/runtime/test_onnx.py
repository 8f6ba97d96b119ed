"""Our networks through ONNX Runtime give what PyTorch gives, from a file that is made once."""

import json

import numpy as np
import pytest
import torch

from facelib import load_embedder, load_landmarker
from facelib.alignment.hourglass import StackedHourglass
from facelib.cli.export import main
from facelib.runtime.manifest import embedder_networks
from facelib.runtime.onnx import OnnxNetwork, make_session, network_hash


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path))
    return tmp_path


def test_landmarks_and_their_confidence_agree(pipeline, photo):
    boxes = [np.stack([face.box for face in pipeline(photo)])]
    landmarker = load_landmarker(device="cpu", runtime="onnx")
    for found, expected in zip(
        landmarker.predict_with_confidence([photo], boxes), pipeline.landmarker.predict_with_confidence([photo], boxes)
    ):
        assert np.abs(found[0] - expected[0]).max() < 0.02  # pixels


def test_the_file_is_made_once_and_belongs_to_the_weights(cache):
    torch.manual_seed(0)
    model = StackedHourglass(5, 2, 16).eval()
    images = torch.randn(5, 3, 64, 64)
    for _ in range(2):
        network = OnnxNetwork(model, 64, batch_axis=1)
        for count in (1, 2, 5):
            with torch.inference_mode():
                assert torch.allclose(network(images[:count]), model(images[:count]), atol=1e-4)
        written = network.path.stat().st_mtime_ns
    assert network.path.stat().st_mtime_ns == written
    assert [path.name for path in cache.iterdir()] == [f"{network_hash(model)[:16]}_64.onnx"]
    network.path.write_bytes(network.path.read_bytes()[:1000])  # cut short: made anew
    with torch.inference_mode():
        assert torch.allclose(OnnxNetwork(model, 64, batch_axis=1)(images), model(images), atol=1e-4)
    with torch.no_grad():
        model.heads[0].bias += 1
    assert OnnxNetwork(model, 64).path != network.path


def test_vectors_agree(pipeline, photo):
    aligned = np.stack([face.aligned for face in pipeline(photo)])
    by_torch = load_embedder(device="cpu", runtime="torch").embed(aligned)
    by_onnx = load_embedder(device="cpu", runtime="onnx").embed(aligned)
    assert (by_torch * by_onnx).sum(1).min() > 1 - 1e-4
    assert load_embedder(device="cpu", runtime="onnx").embed(aligned[:0]).shape == (0, by_torch.shape[1])


def test_auto_does_without_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "file" / "folder"))
    with pytest.warns(UserWarning, match="no ONNX file can be kept there"):
        landmarker = load_landmarker(device="cpu", runtime="auto")
    assert landmarker.network is landmarker.model
    with pytest.raises(OSError):
        load_landmarker(device="cpu", runtime="onnx")


def test_export_for_other_programs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["export", str(tmp_path / "out")])
    assert main() == 0
    names = ["hourglass_keypoints", *(path.stem for path in embedder_networks())]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{name}.{end}" for name in names for end in ("json", "onnx")
    )
    about = json.loads((tmp_path / "out/hourglass_keypoints.json").read_text())
    session = make_session(str(tmp_path / "out/hourglass_keypoints.onnx"), "cpu")
    given = np.zeros([3, *about["input"][1:]], np.float32)
    assert session.run(None, {"images": given})[0].shape[1:3] == (3, 5)
    assert capsys.readouterr().out.count("written") == len(names)


def test_a_runtime_that_is_none():
    for load in (load_landmarker, load_embedder):
        with pytest.raises(ValueError, match="runtime='tensorrt': expected auto or one of torch, onnx"):
            load(runtime="tensorrt")
