"""ONNX files of trained weights: the same outputs, the same weights, and an entry in the manifest."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from facelib import load_landmarker
from facelib.alignment.hourglass import StackedHourglass
from facelib.runtime.manifest import read_manifest
from facelib.runtime.onnx import OnnxNetwork
from facelib.runtime.torch_runner import TorchNetwork
from facelib.runtime.weights import load_weights, save_weights
from facelib.settings import MODELS
from facelib.training.export import export_onnx, main, write_onnx_beside

PREPROCESSING = {
    "input_size": 32,
    "crop_scale": 1.4,
    "range": [-1, 1],
    "colour": "RGB",
    "activation": "none",
    "decoder": "gaussian",
}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = StackedHourglass(stacks=1, channels=16, depth=1).eval()
    entry = {"architecture": "facelib.alignment.hourglass.StackedHourglass", "arguments": model.arguments}
    save_weights(model, tmp_path / "small.pt", preprocessing=PREPROCESSING, **entry)
    return tmp_path / "small.pt"


def test_a_file_beside_the_weights(weights, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["export", str(weights)])
    assert main() == 0
    assert "small.onnx: written" in capsys.readouterr().out
    manifest = read_manifest(weights.parent)
    assert manifest["small.onnx"]["from"] == "small.pt"
    assert manifest["small.onnx"]["from_sha256"] == manifest["small.pt"]["sha256"]
    crops = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    by_onnx, by_torch = (load_landmarker(weights, "cpu", runtime=runtime) for runtime in ("onnx", "torch"))
    for count in (1, 2, 5):
        np.testing.assert_allclose(by_onnx.heatmaps(crops[:count]), by_torch.heatmaps(crops[:count]), atol=1e-4)


def test_unknown_architecture(weights):
    model, _ = load_weights(weights, StackedHourglass, "cpu")
    save_weights(model, weights, arguments=model.arguments, preprocessing=PREPROCESSING)
    with pytest.raises(ValueError, match=r"small\.pt"):
        write_onnx_beside(weights)


def test_weights_are_exact_and_stored_in_half_precision(tmp_path):
    """Those that float16 cannot represent stay float32."""
    torch.manual_seed(0)
    model = StackedHourglass(stacks=1, channels=16, depth=1).half().float().eval()
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    sizes = []
    for change in (0.0, 1e-4):
        with torch.no_grad():
            model.stem[0][0].weight.add_(change)
        export_onnx(model, 32, tmp_path / "new" / "a.onnx")
        sizes.append((tmp_path / "new" / "a.onnx").stat().st_size)
        outputs = OnnxNetwork(tmp_path / "new" / "a.onnx", "cpu", batch_axis=1)(images)
        np.testing.assert_allclose(outputs, TorchNetwork(model)(images), atol=1e-5)
    assert sizes[1] - sizes[0] > model.stem[0][0].weight.numel()


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_shipped_files_hold_the_weights_and_no_traces(path):
    """Every large tensor is float16, and nothing names a file of the machine that exported it."""
    model = onnx.load(path)
    tensors = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    stored = sum(tensor.nbytes for tensor in tensors)
    assert sum(tensor.nbytes for tensor in tensors if tensor.dtype == np.float16) > 0.95 * stored
    assert b".py" not in path.read_bytes()
