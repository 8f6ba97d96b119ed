"""insightface's recognition models, by a stand-in of their shapes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facelib import load_embedder
from facelib.pipeline import FacePipeline


def stand_in(path, size=112, inside=False):
    """Mean grey levels of 4 x 4 cells, mixed into 512 numbers."""
    weights = np.random.default_rng(0).normal(size=(3 * (size // 28) ** 2, 512)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["shown"], ["cells"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["vectors"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights")]
    if inside:  # the file brings grey levels into range itself
        constants += [
            numpy_helper.from_array(np.float32([value]), name) for name, value in (("m", 127.5), ("s", 1 / 127.5))
        ]
        nodes = [
            helper.make_node("Sub", ["images", "m"], ["centred"]),
            helper.make_node("Mul", ["centred", "s"], ["shown"]),
            *nodes,
        ]
    else:
        nodes[0].input[0] = "images"
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 512])],
        constants,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_it_embeds_and_goes_into_the_pipeline(tmp_path, monkeypatch, pipeline, photo, capsys):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    stand_in(tmp_path / "models/buffalo_sc/w600k_mbf.onnx")
    for _ in range(2):
        embedder = load_embedder("buffalo_sc", device="cpu")
    assert capsys.readouterr().err.count("non-commercial research only") == 1
    whole = FacePipeline(pipeline.detector, pipeline.landmarker, embedder)
    faces = whole(photo)
    vectors = np.stack([face.embedding for face in faces])
    assert vectors.shape == (6, 512) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(vectors - embedder.embed(np.stack([face.aligned for face in faces]))).max() < 1e-5
    with pytest.raises(FileNotFoundError, match=f"calibration_{embedder.model_id}.json"):
        whole.compare(faces[0], faces[1])
    assert embedder.embed(np.zeros((0, 112, 112, 3), np.uint8)).shape == (0, 512)
    with pytest.raises(ValueError, match="expected uint8"):
        embedder.embed(np.zeros((1, 96, 96, 3), np.uint8))


def test_where_grey_levels_are_brought_into_range(tmp_path):
    faces = np.random.default_rng(1).integers(0, 255, (3, 112, 112, 3), dtype=np.uint8)
    outside = load_embedder(stand_in(tmp_path / "a.onnx"), device="cpu")
    inside = load_embedder(stand_in(tmp_path / "b.onnx", inside=True), device="cpu")
    assert outside.model_id != inside.model_id
    assert np.abs(outside.embed(faces) - inside.embed(faces)).max() < 1e-4


def test_files_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"c\.onnx takes \[3, 96, 96\]"):
        load_embedder(stand_in(tmp_path / "c.onnx", size=96), device="cpu")
    (tmp_path / "d.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"d\.onnx is no ONNX file"):
        load_embedder(tmp_path / "d.onnx")
    with pytest.raises(FileNotFoundError, match=r"e\.onnx: no such file; packages of insightface are buffalo_sc"):
        load_embedder(tmp_path / "e.onnx")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("facelib.io.downloads.fetch", lambda *_: (_ for _ in ()).throw(TimeoutError("no answer")))
    with pytest.raises(OSError, match=r"buffalo_l cannot be had \(no answer\): put w600k_r50\.onnx into"):
        load_embedder("buffalo_l")
