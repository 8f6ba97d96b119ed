"""insightface's recognition models as embedders: third-party networks, trained on millions of photos."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facelib.alignment.align import SIZE, align_faces
from facelib.embedding.inputs import check_aligned
from facelib.embedding.similarity import check_embeddings
from facelib.io.downloads import find_or_download
from facelib.io.files import file_hash, printable
from facelib.io.images import read_image
from facelib.io.sample import sample_photo
from facelib.runtime.batching import forbid_fork
from facelib.runtime.manifest import check_hash, read_manifest
from facelib.runtime.onnx import make_session
from facelib.types import WeightsError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

TERMS = "insightface's pretrained models are licensed for non-commercial research only"
# Packages of insightface's model zoo -> the recognition model of each.
PACKAGES = {
    "buffalo_sc": "w600k_mbf.onnx",
    "buffalo_s": "w600k_mbf.onnx",
    "buffalo_m": "w600k_r50.onnx",
    "buffalo_l": "w600k_r50.onnx",
    "antelopev2": "glintr100.onnx",
}
# SHA-256 of the recognition models. The first two as published in github.com/yakhyo/uniface, uniface/constants.py; the
# third as the Git LFS hash of huggingface.co/DIAMONIK7777/antelopev2, glintr100.onnx.
HASHES = {
    "w600k_mbf.onnx": "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
    "w600k_r50.onnx": "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
    "glintr100.onnx": "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf",
}
# Pixel values (0 to 255) become (values - mean) / scale. ArcFace's networks want -1 to 1; some scale them inside.
INPUT_SCALINGS = ((127.5, 127.5), (0.0, 1.0))
# Landmarks of two people of the sample photo, for the self-test.
SAMPLE_LANDMARKS = np.array(
    [
        [[87.3, 329.1], [128.4, 309.2], [119.0, 339.2], [113.8, 371.6], [147.5, 351.2]],
        [[490.5, 319.1], [539.5, 331.9], [508.8, 366.0], [483.8, 369.7], [531.5, 379.7]],
    ],
    np.float32,
)
MIN_SEPARATION = 0.01  # of cosine distances, in the self-test; the right scaling gives 0.3 to 1, a wrong one 0.003
MAX_FIXED_BATCH = 256
_terms_shown_for: set[str] = set()  # files, so that their terms are logged once per process


class InsightfaceEmbedder:
    """An ONNX recognition model with ArcFace's input and output. Made by `load_embedder`.

    Args:
        session: images (n, 3, 112, 112) float32 RGB -> embeddings (n, d); n may be fixed, then the last batch is filled
            up.
        mean: subtracted from pixel values (0 to 255) before they are divided by `scale`.
        scale: see `mean`.
        model_id: identifies the embeddings: only those with the same model_id can be compared.
        batch_size: faces that go through the network together, where the network does not fix it.
    """

    alignment = crop_mode = "five_points"

    def __init__(self, session: InferenceSession, mean: float, scale: float, model_id: str, batch_size: int = 32):
        self.session = session
        self.mean = mean
        self.scale = scale
        self.model_id = model_id
        self.input = session.get_inputs()[0].name
        self.output = session.get_outputs()[0].name
        self.size = int(session.get_outputs()[0].shape[1])
        batch = session.get_inputs()[0].shape[0]
        self.fixed_batch = isinstance(batch, int)
        self.batch_size = batch if self.fixed_batch else batch_size

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> embeddings (n, d) float32 of unit length.

        Raises:
            ValueError: faces of another size or type.
            ForkError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        check_aligned(aligned)
        embeddings = [np.zeros((0, self.size), np.float32)]
        for start in range(0, len(aligned), self.batch_size):
            images = (aligned[start : start + self.batch_size].astype(np.float32) - self.mean) / self.scale
            count = len(images)
            if self.fixed_batch:
                images = np.resize(images, (self.batch_size, *images.shape[1:]))  # repeats the faces
            inputs = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
            outputs = self.session.run([self.output], {self.input: inputs})[0][:count]
            embeddings.append(outputs / np.maximum(np.linalg.norm(outputs, axis=1, keepdims=True), 1e-12))
        return np.concatenate(embeddings)


def find_file(name: str) -> Path:
    """Path of a recognition model.

    Args:
        name: one of `PACKAGES`, found or downloaded and checked by its SHA-256, see `find_or_download`; or the path of
            an ONNX file, which is checked where a manifest beside it lists it.

    Raises:
        FileNotFoundError: neither a package nor a file.
        WeightsError: not the file that the manifest describes.
        DownloadError: see `find_or_download`.
    """
    if name in PACKAGES:
        file = PACKAGES[name]
        return find_or_download(name, file, HASHES.get(file))
    if not Path(name).is_file():
        raise FileNotFoundError(f"{name}: no such file; packages of insightface are {', '.join(PACKAGES)}")
    path = Path(name)
    if entry := read_manifest(path.parent).get(path.name):
        check_hash(path, entry, "write it again")
    return path


def load_insightface_embedder(name: str, device: str | None = None, batch_size: int = 32) -> InsightfaceEmbedder:
    """Load one of insightface's recognition models, see `load_embedder`. Its terms are logged once, as a warning.

    How the network wants its input scaled is found by a self-test, see `_self_test`.

    Raises:
        FileNotFoundError, DownloadError: see `find_file`.
        WeightsError: not an ONNX file, a network with another input or output, or one that fails the self-test.
    """
    path = find_file(name)
    session = make_session(str(path), device)
    _check_shapes(path, session)
    embedder = _self_test(path, session, file_hash(path)[:8], batch_size)
    if name not in _terms_shown_for:
        _terms_shown_for.add(name)
        logger.warning("Embedder: insightface's %s. %s.", path.name, TERMS)
    return embedder


def _check_shapes(path: Path, session: InferenceSession) -> None:
    """Raise WeightsError unless a network takes aligned faces and returns embeddings."""
    batch, *input_shape = session.get_inputs()[0].shape or [0]
    output_shape = session.get_outputs()[0].shape
    if input_shape != [3, SIZE, SIZE] or len(output_shape) != 2 or not isinstance(output_shape[1], int):
        raise WeightsError(
            f"{path} takes {input_shape} and returns {output_shape}: expected images (n, 3, {SIZE}, {SIZE}) and "
            "embeddings (n, d)"
        )
    if isinstance(batch, int) and not 1 <= batch <= MAX_FIXED_BATCH:
        raise WeightsError(f"{path} takes {batch} faces at once: expected any number, or 1 to {MAX_FIXED_BATCH}")


def _self_test(path: Path, session: InferenceSession, model_id: str, batch_size: int) -> InsightfaceEmbedder:
    """The embedder with the scaling and the batch size with which the network tells two people apart.

    Scaled twice, all faces are nearly the same input and have nearly the same embedding; not scaled, they saturate the
    network. So that scaling is right which separates two people most, compared with a shift by one pixel.

    Raises:
        WeightsError: it fails, or separates them with no scaling.
    """
    people = align_faces(read_image(sample_photo()), SAMPLE_LANDMARKS)
    faces = np.concatenate([people, np.roll(people, 1, axis=2)])
    best, separation, reason = None, MIN_SEPARATION, "it gives two people the same embedding"
    for size in (batch_size, 1):  # some networks declare any number of faces, and take one
        for mean, scale in INPUT_SCALINGS:
            embedder = InsightfaceEmbedder(session, mean, scale, model_id, size)
            try:
                first, second, shifted, _ = check_embeddings(embedder.embed(faces), len(faces), model_id)
            except Exception as error:  # whatever ONNX Runtime raises
                reason = printable(error)[:150]
                continue
            if first @ shifted - first @ second > separation:
                best, separation = embedder, float(first @ shifted - first @ second)
        if best:
            return best
    raise WeightsError(f"{path} fails on two faces of the sample photo ({reason}): it is no network for faces")
