"""Networks in ONNX Runtime return what PyTorch returns, from files that the manifest describes."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from facelib import load_embedder, load_landmarker
from facelib.alignment.landmarker import SHIPPED
from facelib.runtime.manifest import find_onnx, named_embedders, read_manifest, write_manifest
from facelib.runtime.onnx import OnnxNetwork, cpu_threads, import_onnxruntime, make_session, resolve_device
from facelib.settings import MODELS


@pytest.fixture
def shipped(tmp_path):
    """A copy of the shipped hourglass: its weights, its ONNX file and the manifest."""
    for name in (SHIPPED, "hourglass_keypoints.onnx", "manifest.json"):
        shutil.copy(MODELS / name, tmp_path)
    return tmp_path / SHIPPED


@pytest.mark.parametrize("flip", [False, True])
def test_landmarks_and_confidence_are_equal(pipeline, photo, flip):
    boxes = [np.stack([face.box for face in pipeline(photo)])]
    by_onnx, by_torch = (
        load_landmarker(device="cpu", flip=flip, runtime=runtime).predict_with_confidence([photo], boxes)
        for runtime in ("onnx", "torch")
    )
    for found, expected in zip(by_onnx, by_torch):
        assert np.abs(found[0] - expected[0]).max() < 0.02  # pixels


@pytest.mark.parametrize("name", named_embedders())
def test_embeddings_are_equal(pipeline, photo, name):
    aligned = np.stack([face.aligned for face in pipeline(photo)])
    by_onnx, by_torch = (load_embedder(name, device="cpu", runtime=runtime) for runtime in ("onnx", "torch"))
    assert by_onnx.model_id == by_torch.model_id
    cosines = (by_torch.embed(aligned) * by_onnx.embed(aligned)).sum(1)
    assert cosines.min() > 1 - 1e-5  # the files hold the same weights; 1e-4 is required
    assert by_onnx.embed(aligned[:0]).shape == (0, by_torch.networks[0].size)


def test_auto_is_onnx_and_needs_no_weights_file(shipped):
    shipped.unlink()
    landmarker = load_landmarker(shipped, device="cpu")
    assert isinstance(landmarker.network, OnnxNetwork)
    assert landmarker.fingerprint() == load_landmarker(device="cpu", runtime="torch").fingerprint()
    with pytest.raises(RuntimeError, match="runs in ONNX Runtime"):
        _ = landmarker.model
    with pytest.raises(FileNotFoundError, match="restore"):
        load_landmarker(shipped, runtime="torch")


def test_without_an_onnx_file(shipped):
    find_onnx(shipped).unlink()
    assert load_landmarker(shipped, device="cpu").model.training is False
    with pytest.raises(ValueError, match=r"has no ONNX file; write one with: python -m facelib\.training\.export"):
        load_landmarker(shipped, runtime="onnx")


def test_damaged_and_outdated_onnx_files_are_refused(shipped):
    file = find_onnx(shipped)
    manifest = read_manifest(shipped.parent)
    manifest[shipped.name]["sha256"] = "0" * 64
    write_manifest(manifest, shipped.parent)
    with pytest.raises(ValueError, match="exported from other weights"):
        load_landmarker(shipped)
    shutil.copy(MODELS / "manifest.json", shipped.parent)
    shipped.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"hourglass_keypoints\.pt is not the file .*SHA-256.*train again"):
        load_landmarker(shipped)
    shutil.copy(MODELS / SHIPPED, shipped)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"hourglass_keypoints\.onnx is not the file .*SHA-256"):
        load_landmarker(shipped)


def test_weights_of_another_architecture():
    with pytest.raises(ValueError, match="another architecture than EmbeddingNetwork"):
        load_embedder(MODELS / SHIPPED)
    with pytest.raises(ValueError, match="another architecture than StackedHourglass"):
        load_landmarker(MODELS / "model_arcface.pt")


def test_any_batch_size_and_thread_count(monkeypatch, pipeline, photo):
    """A batch is computed in as many parts as there are threads, also by a copy from another process."""
    images = np.random.default_rng(0).uniform(-1, 1, (5, 3, 128, 128)).astype(np.float32)
    file = find_onnx(MODELS / SHIPPED)
    session = make_session(str(file), "cpu", threads=1)
    expected = session.run(None, {"images": images})[0]
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        network = pickle.loads(pickle.dumps(OnnxNetwork(file, "cpu", batch_axis=1)))
        assert network.threads == int(threads)
        for count in (1, 2, 5):
            np.testing.assert_allclose(network(images[:count]), expected[:, :count], atol=1e-4)
    with pytest.raises(
        ValueError, match=r"images of shape \(1, 3, 64, 64\): the ONNX network expects \(n, 3, 128, 128\)"
    ):
        network(images[:1, :, :64, :64])


def test_threads(monkeypatch):
    for value, expected in (("3", 3), (" 2,1", 2)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert cpu_threads() == expected
    for value in ("0", "many", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert 1 <= cpu_threads() <= (os.cpu_count() or 1)


def test_devices(monkeypatch):
    runtime = import_onnxruntime()
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert resolve_device() == resolve_device("cpu") == "cpu"
    with pytest.raises(ValueError, match=r"'cuda:1' is not available here; ONNX Runtime has: cpu; .*onnxruntime-gpu"):
        resolve_device("cuda:1")
    with pytest.raises(ValueError, match=r"'mps' is not available here; ONNX Runtime has: cpu$"):
        resolve_device("mps")
    providers = ["CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: providers)
    assert [resolve_device(device) for device in (None, "cuda", "cuda:1", 1, "mps", "cpu")] == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cuda:1",
        "mps",
        "cpu",
    ]


def test_a_gpu_build_without_a_gpu(monkeypatch):
    """A named GPU that fails is an error; without a name, the CPU is used."""
    runtime = import_onnxruntime()
    start, file = runtime.InferenceSession, find_onnx(MODELS / SHIPPED)
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(runtime, "InferenceSession", lambda *args, providers: start(*args, ["CPUExecutionProvider"]))
    with pytest.raises(ValueError, match="'cuda:0' is not available here; ONNX Runtime has: cpu"):
        OnnxNetwork(file, "cuda")
    assert OnnxNetwork(file).device == "cpu"


def test_a_runtime_that_does_not_exist():
    for load in (load_landmarker, load_embedder):
        with pytest.raises(ValueError, match="runtime='tensorrt': expected auto or one of torch, onnx"):
            load(runtime="tensorrt")


TELEMETRY = """
import logging, os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            seen.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
seen = []
sys.meta_path.insert(0, Spy())
from facelib import load_detector
from facelib.runtime.onnx import import_onnxruntime
assert not seen
LOAD
assert seen == ["1"], seen
assert os.environ.get("ORT_DISABLE_TELEMETRY") == BEFORE
"""
# Every way by which a process comes to ONNX Runtime.
LOADS = {
    "the runtime": "import_onnxruntime()",
    "RetinaFace": "load_detector('retinaface', 'cpu')",
    "SCRFD": """
from facelib.detection import backends
backends.find_or_download = lambda *_: os.devnull
try:
    backends.scrfd('cpu')
except ValueError as error:
    assert os.devnull in str(error), error
""",
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("before", [None, "0"])
def test_telemetry_is_disabled_while_onnxruntime_is_imported(load, before, tmp_path):
    """And the variable is as before afterwards, although insightface sets it for good."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"ORT_DISABLE_TELEMETRY": before} if before else {}
    environment |= {"FACELIB_DATA": str(tmp_path), "HOME": str(tmp_path), "FACELIB_TIMEOUT": "1"}
    code = TELEMETRY.replace("BEFORE", repr(before)).replace("LOAD", LOADS[load])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("variable", "warnings"), [("0", 1), ("1", 0)])
def test_an_onnxruntime_that_was_imported_before_is_warned_of_once(variable, warnings):
    code = "import onnxruntime, facelib.runtime.onnx as onnx; onnx.import_onnxruntime(); onnx.import_onnxruntime()"
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": variable}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stderr.count("onnxruntime was imported before facelib") == warnings
