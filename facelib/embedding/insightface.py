"""insightface's recognition models in place of our own: networks of others, trained on millions of photos."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import InferenceSession

from facelib.alignment.align import SIZE
from facelib.io import downloads
from facelib.runtime.batching import forbid_fork
from facelib.runtime.onnx import make_session
from facelib.settings import data_folder

TERMS = "insightface's pretrained models are licensed for non-commercial research only"
# Packages of its model zoo, and the file in each that embeds.
PACKAGES = {
    "buffalo_sc": "w600k_mbf.onnx",
    "buffalo_s": "w600k_mbf.onnx",
    "buffalo_m": "w600k_r50.onnx",
    "buffalo_l": "w600k_r50.onnx",
    "antelopev2": "glintr100.onnx",
}
SAID: set[str] = set()  # whose terms have been told


class InsightfaceEmbedder:
    """An ONNX file of ArcFace's shapes in place of an `Embedder`; made by `load_embedder`.

    Args:
        session: images (n, 3, 112, 112) RGB -> (n, d). mean, scale: what it expects of grey levels, (x - mean) / scale.
        model_id: see `Embedder`.
    """

    alignment = crop_mode = "five_points"

    def __init__(self, session: InferenceSession, mean: float, scale: float, model_id: str, batch_size: int = 32):
        self.session, self.mean, self.scale, self.model_id, self.batch_size = session, mean, scale, model_id, batch_size
        self.input, self.output = session.get_inputs()[0].name, session.get_outputs()[0].name
        self.size = int(session.get_outputs()[0].shape[1])

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> vectors (n, d) float32 of length 1.

        Raises:
            ValueError: faces of another size or type. RuntimeError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        if aligned.ndim != 4 or aligned.shape[1:] != (SIZE, SIZE, 3) or aligned.dtype != np.uint8:
            raise ValueError(
                f"faces of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (n, {SIZE}, {SIZE}, 3)"
            )
        vectors = [np.zeros((0, self.size), np.float32)]
        for start in range(0, len(aligned), self.batch_size):
            images = (aligned[start : start + self.batch_size].astype(np.float32) - self.mean) / self.scale
            found = self.session.run([self.output], {self.input: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]
            vectors.append(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))
        return np.concatenate(vectors)


def find_file(name: str) -> Path:
    """A file as it is named, or that of a package: where it lies already, else downloaded by the package's name from
    insightface's release page into ~/.insightface/models.

    Raises:
        OSError: it cannot be downloaded. ValueError: what came is no such package.
    """
    if name not in PACKAGES:
        if not Path(name).is_file():
            raise FileNotFoundError(f"{name}: no such file; packages of insightface are {', '.join(PACKAGES)}")
        return Path(name)
    roots = [data_folder(), Path("~/.insightface").expanduser()]
    folders = [root / "models" / name for root in roots]
    path = next((folder / PACKAGES[name] for folder in folders if (folder / PACKAGES[name]).is_file()), None)
    if path is None:
        from insightface.utils.storage import MODEL_ZOO_RELEASE_DOWNLOAD_URL

        path, url = folders[-1] / PACKAGES[name], f"{MODEL_ZOO_RELEASE_DOWNLOAD_URL}{name}.zip"
        patience = downloads.timeout()
        print(f"asking {url} for {name}, once; waits {patience:g} s for an answer", file=sys.stderr, flush=True)
        try:
            downloads.unpack(downloads.fetch(url, patience), path.parent, {})
        except (OSError, ValueError) as error:
            raise OSError(
                f"{name} cannot be had ({error}): put {PACKAGES[name]} into {folders[0]} or {folders[1]}"
            ) from None
        if not path.is_file():
            raise ValueError(f"{url} holds no {PACKAGES[name]}")
    return path


def load_insightface_embedder(name: str, device: str | None = None, batch_size: int = 32) -> InsightfaceEmbedder:
    """See `load_embedder`; its terms are said once.

    Raises:
        OSError, ValueError: see `find_file`; ValueError also for a file of other shapes.
    """
    path = find_file(name)
    content = path.read_bytes()
    try:
        graph = onnx.load_from_string(content).graph
        session = make_session(content, device)
    except Exception as error:  # whatever protobuf or onnxruntime raise
        raise ValueError(f"{path} is no ONNX file that can be used ({str(error)[:100]}): remove it") from None
    sides, size = session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape
    if list(sides) != [3, SIZE, SIZE] or len(size) != 2 or not isinstance(size[1], int):
        raise ValueError(f"{path} takes {sides} and gives {size}: expected images (n, 3, {SIZE}, {SIZE}) and vectors")
    # As insightface itself tells them apart: some files bring the grey levels into range themselves.
    inside = {node.op_type for node in graph.node[:8]} >= {"Sub", "Mul"}
    if name not in SAID:
        SAID.add(name)
        print(f"Embedder: insightface's {path.name}. {TERMS}.", file=sys.stderr, flush=True)
    model_id = hashlib.sha256(content).hexdigest()[:8]
    return InsightfaceEmbedder(session, *((0.0, 1.0) if inside else (127.5, 127.5)), model_id, batch_size)
