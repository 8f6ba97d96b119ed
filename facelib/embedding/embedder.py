"""From aligned faces to embeddings: one trained network or an ensemble; other embedders by name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facelib.alignment.align import METHODS, SIZE
from facelib.embedding.inputs import check_aligned, faces_to_input
from facelib.runtime.batching import batches, forbid_fork
from facelib.runtime.manifest import (
    check_architecture,
    embedder_networks,
    embedder_uses_flip,
    make_model_id,
    manifest_value,
    named_embedders,
    read_preprocessing,
    weights_entry,
)
from facelib.runtime.networks import Network, as_network, open_network
from facelib.runtime.onnx import import_onnxruntime
from facelib.runtime.torch_runner import require_torch

if TYPE_CHECKING:
    from facelib.embedding.dlib import DlibEmbedder
    from facelib.embedding.insightface import InsightfaceEmbedder

# Preprocessing that a manifest may prescribe: field -> supported values.
PREPROCESSING: dict[str, range | tuple] = {
    "input_size": range(32, 1025),
    "alignment": METHODS,
    "range": ([-1, 1],),
    "colour": ("RGB",),
}


class TrainedNetwork:
    """A network and the size of its input.

    Args:
        network: a `Network`, or a PyTorch module such as `EmbeddingNetwork`: images (n, 3, s, s) -> (n, d).
        input_size: side s of the images in pixels.
    """

    def __init__(self, network: Any, input_size: int = SIZE):
        self.network: Network = as_network(network)
        self.input_size = input_size

    @property
    def model(self) -> Any:
        """The PyTorch module. Raises RuntimeError where the network runs in ONNX Runtime."""
        return self.network.model  # type: ignore[attr-defined]

    @functools.cached_property
    def size(self) -> int:
        """Number of dimensions of its embeddings."""
        return self.network(np.zeros((1, 3, self.input_size, self.input_size), np.float32)).shape[1]


class NetworkEmbedder:
    """One trained network, or an ensemble of several, with its preprocessing. Made by `load_embedder`.

    The embedding of an ensemble is the concatenation of its networks' embeddings, so that its cosine is the mean of
    their cosines. Networks that were trained independently make different errors, and the mean makes fewer.

    Args:
        networks: one or more.
        batch_size: faces that go through a network together.
        flip: add the embeddings of a face and of its mirror image; more accurate, twice as slow.
        alignment: method of `align_faces` with which the networks were trained.
        model_id: identifies the embeddings: only those with the same model_id can be compared.
    """

    def __init__(
        self,
        networks: TrainedNetwork | Sequence[TrainedNetwork],
        batch_size: int = 32,
        flip: bool = False,
        alignment: str = "five_points",
        model_id: str = "unknown",
    ):
        self.networks = [networks] if isinstance(networks, TrainedNetwork) else list(networks)
        self.batch_size, self.flip = batch_size, flip
        self.alignment = alignment
        self.crop_mode = alignment  # how data sets crop faces for it, a key of `CROP_MODES`
        self.model_id = model_id

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> embeddings (n, d) float32 of unit length.

        Raises:
            ValueError: faces of another size or type.
            ForkError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        check_aligned(aligned)
        embeddings = [self._embed(network, aligned) for network in self.networks]
        return np.concatenate(embeddings, axis=1) / np.float32(len(embeddings) ** 0.5)

    @np.errstate(under="ignore")  # no error, also where the program makes NumPy raise one
    def _embed(self, trained: TrainedNetwork, aligned: np.ndarray) -> np.ndarray:
        """Embeddings (n, d) float32 of unit length by one network."""
        parts = []
        for part in batches(len(aligned), self.batch_size, trained.network.few_sizes):
            images = faces_to_input(aligned[part], trained.input_size)
            embeddings = trained.network(images)
            if self.flip:
                embeddings = embeddings + trained.network(images[..., ::-1])
            lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
            parts.append(embeddings / np.maximum(lengths, np.float32(1e-12)))
        return np.concatenate(parts) if parts else np.zeros((0, trained.size), np.float32)


def load_embedder(
    weights: str | Path | Sequence[str | Path] | None = None,
    device: Any = None,
    batch_size: int = 32,
    flip: bool | None = None,
    runtime: str = "auto",
) -> NetworkEmbedder | DlibEmbedder | InsightfaceEmbedder:
    """Load a trained embedder.

    Args:
        weights: None: the default; "arcface", "triplet" or another name of the shipped manifest; a .pt file that the
            manifest beside it lists, or several for an ensemble; "dlib", see `DlibEmbedder`; a package of insightface,
            such as "buffalo_sc", or an ONNX file of one, see `InsightfaceEmbedder`.
        device: see `resolve_device`; with PyTorch `select_torch_device`.
        batch_size: faces that go through a network together.
        flip: average each face with its mirror image; None: what the manifest says of a named embedder, else False
            ("dlib": True).
        runtime: "auto" and "onnx": ONNX Runtime, with the .onnx file beside the weights; "auto" uses PyTorch for
            weights without one. "torch": PyTorch. "dlib" is always run by PyTorch, insightface by ONNX Runtime.

    Raises:
        FileNotFoundError, WeightsError: see `open_network`; WeightsError also for preprocessing that is not supported.
        RuntimeError: PyTorch is needed and not installed.
        ValueError: networks of an ensemble that want different alignments, an unknown runtime, or a device that is
            not available.
    """
    name = "default" if weights is None else weights
    if isinstance(name, str) and name in named_embedders():
        paths = embedder_networks(name=name)
        flip = embedder_uses_flip(name=name) if flip is None else flip
    elif isinstance(name, str | Path):
        if external := _load_external(str(name), device, batch_size, flip):
            return external
        paths = [Path(name)]
    else:
        paths = [Path(path) for path in name]
    networks, alignments, hashes = [], [], []
    for path in paths:
        trained, alignment, digits = _load_network(path, device, runtime)
        networks.append(trained)
        alignments.append(alignment)
        hashes.append(digits)
    if len(set(alignments)) != 1:
        raise ValueError(
            f"{', '.join(map(str, paths))}: aligned by {', '.join(alignments)}, but the networks of an ensemble see "
            "one aligned face"
        )
    return NetworkEmbedder(networks, batch_size, bool(flip), alignments[0], make_model_id(hashes, bool(flip)))


def _load_external(
    name: str, device: Any, batch_size: int, flip: bool | None
) -> DlibEmbedder | InsightfaceEmbedder | None:
    """dlib's or insightface's embedder; None for the name of a weights file."""
    if name == "dlib":
        require_torch('load_embedder("dlib")')
        from facelib.embedding.dlib import load_dlib_embedder

        return load_dlib_embedder(device, batch_size, flip is not False)
    if name.endswith(".pt"):
        return None
    from facelib.embedding.insightface import PACKAGES, load_insightface_embedder

    if name in PACKAGES or name.endswith(".onnx"):
        import_onnxruntime()  # before the package insightface does, so that its telemetry is disabled
        return load_insightface_embedder(name, device, batch_size)
    return None


def _load_network(path: Path, device: Any, runtime: str) -> tuple[TrainedNetwork, str, str]:
    """A network, its alignment method, and the first eight digits of the hash of its weights."""
    entry = weights_entry(path)
    check_architecture(path, entry, "EmbeddingNetwork")
    network = open_network(path, functools.partial(_load_module, path, device), device, runtime)
    fields = read_preprocessing(path, entry, PREPROCESSING)
    digits = manifest_value(path, entry, "sha256", among=str)[:8]
    return TrainedNetwork(network, fields["input_size"]), fields["alignment"], digits


def _load_module(path: Path, device: Any) -> Any:
    """The embedding network as a PyTorch module."""
    from facelib.embedding.network import EmbeddingNetwork
    from facelib.runtime.weights import load_weights

    return load_weights(path, EmbeddingNetwork, device)[0]
