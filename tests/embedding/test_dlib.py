"""dlib's network in PyTorch computes the same embeddings as dlib."""

import importlib.util
import types

import numpy as np
import pytest
import torch

from facelib import FacePipeline
from facelib.embedding.dlib import DlibNetwork, load_dlib_embedder, load_dlib_network, read_dlib_tensors, weights_file
from facelib.embedding.embedder import load_embedder
from facelib.types import WeightsError

# Two faces of insightface's sample photo: five landmarks, and the first eight dimensions of the embedding that dlib
# 20.0.1 (face_recognition_model_v1.compute_face_descriptor) computes for the chip of `align`.
KNOWN = (
    (
        [[492, 320], [539, 332], [509, 367], [484, 369], [531, 381]],
        [0.039164, 0.14225, 0.068298, 0.070844, -0.079129, 0.033996, -0.085793, -0.056821],
    ),
    (
        [[87, 329], [128, 309], [119, 340], [114, 371], [148, 351]],
        [-0.081405, 0.086666, 0.079321, -0.108171, -0.090541, 0.039139, -0.065134, -0.110821],
    ),
)


needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("face_recognition_models") is None, reason="dlib's weights come with the extra teacher"
)


@pytest.fixture(scope="module")
def embedder():
    return load_dlib_embedder("cpu")


@needs_weights
def test_embeddings_equal_those_of_dlib(embedder, photo):
    points = np.array([points for points, _ in KNOWN], np.float32)
    chips = embedder.align(photo, points)
    with torch.inference_mode():
        embeddings = embedder.network(torch.from_numpy(chips).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(embeddings[:, :8], [values for _, values in KNOWN], atol=2e-6)


@needs_weights
def test_in_the_pipeline(pipeline, photo):
    """The embedder uses its own alignment, and `Face.aligned` does not change."""
    with_dlib = FacePipeline(pipeline.detector, pipeline.landmarker, load_embedder("dlib", device="cpu"))
    for ours, theirs in zip(pipeline(photo), with_dlib(photo)):
        assert theirs.embedding.shape == (128,)
        assert np.linalg.norm(theirs.embedding) == pytest.approx(1, abs=1e-5)
        np.testing.assert_array_equal(ours.aligned, theirs.aligned)


@needs_weights
def test_bad_input(embedder):
    assert embedder.embed(np.zeros((0, 150, 150, 3), np.uint8)).shape == (0, 128)
    with pytest.raises(ValueError, match=r"chips of shape \(1, 112, 112, 3\)"):
        embedder.embed(np.zeros((1, 112, 112, 3), np.uint8))


def test_other_files_are_refused(tmp_path, monkeypatch):
    (tmp_path / "other.dat").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(WeightsError, match=r"other\.dat is not dlib's face network: 0 tensors, expected 59"):
        load_dlib_network(tmp_path / "other.dat")
    assert read_dlib_tensors(b"") == []
    assert sum(isinstance(m, torch.nn.Conv2d) for m in DlibNetwork().modules()) == 29
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r"pip install -e .\[teacher\]"):
        weights_file()


def test_the_file_of_the_package_is_checked_by_its_hash(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/dlib_face_recognition_resnet_model_v1.dat").write_bytes(b"damaged")
    package = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: package)
    with pytest.raises(WeightsError, match=r"resnet_model_v1\.dat is damaged or another file: its SHA-256 is"):
        load_dlib_network()
