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
from facelib.runtime.manifest import write_manifest
from facelib.types import DownloadError, WeightsError


def stand_in(path, size=112, scaling=(), batch="n", scale=1.0):
    """Mean pixel values of 4 x 4 cells, projected to 512 dimensions.

    Args:
        scaling: operators and constants that the network begins with.
        batch: number of faces that it takes.
        scale: of the embeddings.
    """
    weights = (scale * np.random.default_rng(0).normal(size=(3 * (size // 28) ** 2, 512))).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "weights")]
    nodes, last = [], "images"
    for number, (kind, value) in enumerate(scaling):
        constants.append(numpy_helper.from_array(np.float32([value]), f"constant{number}"))
        nodes.append(helper.make_node(kind, [last, f"constant{number}"], [f"scaled{number}"]))
        last = f"scaled{number}"
    nodes += [
        helper.make_node("Tanh", [last], ["bent"]),  # values far from -1 to 1 saturate it
        helper.make_node("AveragePool", ["bent"], ["cells"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [batch, 512])],
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


@pytest.fixture(scope="module")
def aligned(pipeline, photo):
    return np.stack([face.aligned for face in pipeline(photo)])


@pytest.mark.parametrize(
    "scaling",
    [
        [("Sub", 127.5), ("Mul", 1 / 127.5)],
        [("Div", 255), ("Sub", 0.5), ("Div", 0.5)],
        [("Mul", 1 / 127.5), ("Add", -1)],
    ],
)
def test_a_network_that_scales_its_input_itself_is_recognised(tmp_path, aligned, scaling):
    outside = load_embedder(stand_in(tmp_path / "a.onnx"), device="cpu")
    inside = load_embedder(stand_in(tmp_path / "b.onnx", scaling=scaling), device="cpu")
    assert (inside.mean, inside.scale) == (0, 1)
    assert outside.model_id != inside.model_id
    assert np.abs(outside.embed(aligned) - inside.embed(aligned)).max() < 1e-4


@pytest.mark.parametrize("batch", [1, 4])
def test_networks_of_a_fixed_batch(tmp_path, pipeline, photo, aligned, batch):
    """Face by face for a batch of one; otherwise the last batch is filled up."""
    any_number = load_embedder(stand_in(tmp_path / "a.onnx"), device="cpu")
    fixed = load_embedder(stand_in(tmp_path / "b.onnx", batch=batch), device="cpu")
    for count in (0, 1, 5, 6):
        assert np.abs(fixed.embed(aligned[:count]) - any_number.embed(aligned[:count])).max(initial=0) < 1e-5
    faces = FacePipeline(pipeline.detector, pipeline.landmarker, fixed)(photo)
    assert len(faces) == 6 and faces.error is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scaling": [("Mul", 0)]}, "the embedder .* length 0"),
        ({"scaling": [("Mul", 0), ("Add", 1)]}, "it gives two people the same embedding"),
        ({"scale": np.nan}, "NaN"),
        ({"scaling": [("Add", np.nan)]}, "NaN"),
        ({"batch": 100_000}, "takes 100000 faces at once"),
    ],
)
def test_networks_that_fail_the_self_test(tmp_path, changes, problem):
    with pytest.raises(WeightsError, match=rf"a\.onnx .*{problem}"):
        load_embedder(stand_in(tmp_path / "a.onnx", **changes), device="cpu")


def test_a_file_that_a_manifest_lists_is_checked(tmp_path):
    path = stand_in(tmp_path / "a.onnx")
    write_manifest({"a.onnx": {"sha256": file_hash(path)}}, tmp_path)
    load_embedder(path, device="cpu")
    stand_in(path, scaling=[("Mul", 1)])
    with pytest.raises(WeightsError, match=r"a\.onnx is not the file that .*manifest\.json describes"):
        load_embedder(path, device="cpu")


def test_other_files_are_refused(tmp_path, monkeypatch, capfd):
    with pytest.raises(WeightsError, match=r"c\.onnx takes \[3, 96, 96\]"):
        load_embedder(stand_in(tmp_path / "c.onnx", size=96), device="cpu")
    for content in (b"no model", b"\xe5" * 200):
        (tmp_path / "d.onnx").write_bytes(content)
        with pytest.raises(WeightsError, match=r"d\.onnx is not a valid ONNX file"):
            load_embedder(tmp_path / "d.onnx")
    assert capfd.readouterr().out == ""  # ONNX Runtime prints there, among a command's JSON
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
