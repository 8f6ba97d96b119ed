"""insightface's recognition models as embedders: third-party networks, trained on millions of photos."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facelib.alignment.align import SIZE
from facelib.io.downloads import find_or_download
from facelib.runtime.batching import forbid_fork
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
_terms_shown_for: set[str] = set()  # files, so that their terms are logged once per process


class InsightfaceEmbedder:
    """An ONNX recognition model with ArcFace's input and output. Made by `load_embedder`.

    Args:
        session: images (n, 3, 112, 112) float32 RGB -> embeddings (n, d).
        mean: subtracted from pixel values (0 to 255) before they are divided by `scale`.
        scale: see `mean`.
        model_id: identifies the embeddings: only those with the same model_id can be compared.
        batch_size: faces that go through the network together.
    """

    alignment = crop_mode = "five_points"

    def __init__(self, session: InferenceSession, mean: float, scale: float, model_id: str, batch_size: int = 32):
        self.session = session
        self.mean = mean
        self.scale = scale
        self.model_id = model_id
        self.batch_size = batch_size
        self.input = session.get_inputs()[0].name
        self.output = session.get_outputs()[0].name
        self.size = int(session.get_outputs()[0].shape[1])

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> embeddings (n, d) float32 of unit length.

        Raises:
            ValueError: faces of another size or type.
            ForkError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        if aligned.ndim != 4 or aligned.shape[1:] != (SIZE, SIZE, 3) or aligned.dtype != np.uint8:
            raise ValueError(
                f"faces of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (n, {SIZE}, {SIZE}, 3)"
            )
        embeddings = [np.zeros((0, self.size), np.float32)]
        for start in range(0, len(aligned), self.batch_size):
            images = (aligned[start : start + self.batch_size].astype(np.float32) - self.mean) / self.scale
            inputs = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            outputs = self.session.run([self.output], {self.input: inputs})[0]
            embeddings.append(outputs / np.maximum(np.linalg.norm(outputs, axis=1, keepdims=True), 1e-12))
        return np.concatenate(embeddings)


def find_file(name: str) -> Path:
    """Path of a recognition model.

    Args:
        name: one of `PACKAGES`, found or downloaded and checked by its SHA-256, see `find_or_download`; or the path of
            an ONNX file, whose content is not checked.

    Raises:
        FileNotFoundError: neither a package nor a file.
        DownloadError: see `find_or_download`.
    """
    if name in PACKAGES:
        file = PACKAGES[name]
        return find_or_download(name, file, HASHES.get(file))
    if not Path(name).is_file():
        raise FileNotFoundError(f"{name}: no such file; packages of insightface are {', '.join(PACKAGES)}")
    return Path(name)


def load_insightface_embedder(name: str, device: str | None = None, batch_size: int = 32) -> InsightfaceEmbedder:
    """Load one of insightface's recognition models, see `load_embedder`. Its terms are logged once, as a warning.

    Raises:
        FileNotFoundError, DownloadError: see `find_file`.
        WeightsError: not an ONNX file, or a network with another input or output.
    """
    import onnx  # slow, and needed for these models only

    path = find_file(name)
    content = path.read_bytes()
    try:
        graph = onnx.load_from_string(content).graph
        session = make_session(content, device)
    except Exception as error:  # whatever protobuf or ONNX Runtime raise
        raise WeightsError(f"{path} is not a valid ONNX file ({str(error)[:100]}): remove it") from None
    input_shape = session.get_inputs()[0].shape[1:]
    output_shape = session.get_outputs()[0].shape
    if list(input_shape) != [3, SIZE, SIZE] or len(output_shape) != 2 or not isinstance(output_shape[1], int):
        raise WeightsError(
            f"{path} takes {input_shape} and returns {output_shape}: expected images (n, 3, {SIZE}, {SIZE}) and "
            "embeddings (n, d)"
        )
    # insightface's own rule: a network that begins with a subtraction and a multiplication normalises its input itself.
    normalises_input = {node.op_type for node in graph.node[:8]} >= {"Sub", "Mul"}
    mean, scale = (0.0, 1.0) if normalises_input else (127.5, 127.5)
    if name not in _terms_shown_for:
        _terms_shown_for.add(name)
        logger.warning("Embedder: insightface's %s. %s.", path.name, TERMS)
    model_id = hashlib.sha256(content).hexdigest()[:8]
    return InsightfaceEmbedder(session, mean, scale, model_id, batch_size)
