"""insightface's recognition models, tested with a stand-in of the same input and output."""

import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facelib import load_embedder
from facelib.embedding.insightface import HASHES, PACKAGES
from facelib.io.files import file_hash
from facelib.pipeline import FacePipeline
from facelib.types import DownloadError, WeightsError


def stand_in(path, size=112, normalises_input=False):
    """Mean pixel values of 4 x 4 cells, projected to 512 dimensions."""
    weights = np.random.default_rng(0).normal(size=(3 * (size // 28) ** 2, 512)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["normalised"], ["cells"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["embeddings"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights")]
    if normalises_input:
        constants += [
            numpy_helper.from_array(np.float32([value]), name) for name, value in (("m", 127.5), ("s", 1 / 127.5))
        ]
        nodes = [
            helper.make_node("Sub", ["images", "m"], ["centred"]),
            helper.make_node("Mul", ["centred", "s"], ["normalised"]),
            *nodes,
        ]
    else:
        nodes[0].input[0] = "images"
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 512])],
        constants,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_package_embeds_in_the_pipeline(tmp_path, monkeypatch, pipeline, photo, caplog):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = stand_in(tmp_path / "models/buffalo_sc/w600k_mbf.onnx")
    monkeypatch.setitem(HASHES, path.name, file_hash(path))
    for _ in range(2):
        embedder = load_embedder("buffalo_sc", device="cpu")
    assert caplog.text.count("non-commercial research only") == 1
    with_insightface = FacePipeline(pipeline.detector, pipeline.landmarker, embedder)
    faces = with_insightface(photo)
    embeddings = np.stack([face.embedding for face in faces])
    assert embeddings.shape == (6, 512) and embeddings.dtype == np.float32
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(embeddings - embedder.embed(np.stack([face.aligned for face in faces]))).max() < 1e-5
    with pytest.raises(FileNotFoundError, match=f"calibration_{embedder.model_id}.json"):
        with_insightface.compare(faces[0], faces[1])
    assert embedder.embed(np.zeros((0, 112, 112, 3), np.uint8)).shape == (0, 512)
    with pytest.raises(ValueError, match="expected uint8"):
        embedder.embed(np.zeros((1, 96, 96, 3), np.uint8))


def test_input_normalisation_is_detected(tmp_path):
    faces = np.random.default_rng(1).integers(0, 255, (3, 112, 112, 3), dtype=np.uint8)
    outside = load_embedder(stand_in(tmp_path / "a.onnx"), device="cpu")
    inside = load_embedder(stand_in(tmp_path / "b.onnx", normalises_input=True), device="cpu")
    assert outside.model_id != inside.model_id
    assert np.abs(outside.embed(faces) - inside.embed(faces)).max() < 1e-4


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"c\.onnx takes \[3, 96, 96\]"):
        load_embedder(stand_in(tmp_path / "c.onnx", size=96), device="cpu")
    (tmp_path / "d.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"d\.onnx is not a valid ONNX file"):
        load_embedder(tmp_path / "d.onnx")
    with pytest.raises(FileNotFoundError, match=r"e\.onnx: no such file; packages of insightface are buffalo_sc"):
        load_embedder(tmp_path / "e.onnx")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("facelib.io.downloads.fetch", lambda *_: (_ for _ in ()).throw(TimeoutError("no answer")))
    with pytest.raises(
        DownloadError, match=r"buffalo_l\.zip cannot be downloaded \(no answer\): put w600k_r50\.onnx into"
    ):
        load_embedder("buffalo_l")


def test_packages_are_checked_by_their_hash(tmp_path, monkeypatch):
    """Whether the file is there or downloaded; a hash is known for every package."""
    assert set(PACKAGES.values()) == set(HASHES)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "buffalo_s.zip", "w") as archive:
        archive.write(stand_in(tmp_path / "a.onnx"), "buffalo_s/w600k_mbf.onnx")
    monkeypatch.setattr("facelib.io.downloads.fetch", lambda *_: (tmp_path / "buffalo_s.zip").read_bytes())
    with pytest.raises(DownloadError, match=r"another w600k_mbf\.onnx than expected"):
        load_embedder("buffalo_s", device="cpu")
    stand_in(tmp_path / "models/buffalo_s/w600k_mbf.onnx")
    with pytest.raises(DownloadError, match=r"w600k_mbf\.onnx is damaged or another file"):
        load_embedder("buffalo_s", device="cpu")
