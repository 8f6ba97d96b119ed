"""Aligned face to unit vector: an ImageNet backbone and a small head; one network, or several as an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facelib.alignment.align import METHODS, SIZE
from facelib.embedding.dlib import DlibEmbedder, load_dlib_embedder
from facelib.embedding.insightface import PACKAGES as PACKAGES_OF_INSIGHTFACE
from facelib.embedding.insightface import InsightfaceEmbedder, load_insightface_embedder
from facelib.embedding.network import EmbeddingNetwork, as_tensor, faces_to_tensor
from facelib.runtime.batching import batches, forbid_fork
from facelib.runtime.manifest import (
    embedder_networks,
    embedder_uses_flip,
    make_model_id,
    named_embedders,
    read_preprocessing,
)
from facelib.runtime.onnx import OnnxNetwork, onnx_network
from facelib.runtime.weights import load_weights

# What a manifest may ask of the pictures: field -> what can be obeyed.
PREPROCESSING = {
    "input_size": range(32, 1025),
    "alignment": METHODS,
    "range": ([-1, 1],),
    "colour": ("RGB",),
}


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode, and the side in pixels of the pictures that it was trained on; what runs it, where
    that is not PyTorch."""

    model: nn.Module
    input_size: int = SIZE
    onnx: OnnxNetwork | None = None

    @property
    def size(self) -> int:
        """Numbers in its vectors."""
        return self.model.size


class NetworkEmbedder:
    """One trained network, or an ensemble of several, and what is needed to use it. Made by `load_embedder`.

    The vector of an ensemble is the vectors of its networks one after the other, so that a cosine is the mean of
    theirs. Networks that were trained apart do not err on the same pairs of photos, and the mean errs less.

    Args:
        networks: one or more.
        flip: add the vectors of a face and of its mirror image; more exact, twice as slow.
        alignment: how faces have to be aligned for it, see `align_faces`.
        model_id: which embeddings these are: only those of one model_id are compared.
    """

    def __init__(
        self,
        networks: TrainedNetwork | Sequence[TrainedNetwork],
        batch_size: int = 32,
        flip: bool = False,
        alignment: str = "five_points",
        model_id: str = "unknown",
    ):
        self.model_id = model_id
        self.networks = [networks] if isinstance(networks, TrainedNetwork) else list(networks)
        for network in self.networks:
            network.model.eval()
        self.batch_size, self.flip, self.alignment = batch_size, flip, alignment
        self.crop_mode = alignment  # how datasets cut faces for it, as `CROP_MODES` names it

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> vectors (n, d) float32 of length 1.

        Raises:
            ValueError: faces of another size or type. RuntimeError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        vectors = [self._embed(network, aligned) for network in self.networks]
        return np.concatenate(vectors, axis=1) / np.float32(len(vectors) ** 0.5)

    @torch.inference_mode()
    def _embed(self, network: TrainedNetwork, aligned: np.ndarray) -> np.ndarray:
        device = next(network.model.parameters()).device
        vectors = []
        run = network.onnx or network.model
        for part in batches(len(aligned), self.batch_size, few_sizes=network.onnx is None):
            batch = faces_to_tensor(as_tensor(aligned[part]).to(device), network.input_size)
            with torch.autocast(device.type, enabled=False):  # whatever the caller computes in
                vector = run(batch)
                if self.flip:
                    vector = vector + run(batch.flip(3))
            vectors.append(nn.functional.normalize(vector.float()).cpu().numpy())
        return np.concatenate(vectors) if vectors else np.zeros((0, network.size), np.float32)


def load_embedder(
    weights: str | Path | Sequence[str | Path] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    flip: bool | None = None,
    runtime: str = "torch",
) -> NetworkEmbedder | DlibEmbedder | InsightfaceEmbedder:
    """A trained embedder.

    Args:
        weights: None: the shipped one for use; another one by its name in the manifest of the shipped weights; a file
            listed in the manifest beside it, or several for an ensemble; "dlib": dlib's network, see `DlibEmbedder`;
            one of insightface's packages, such as "buffalo_sc", or an ONNX file of one, see `InsightfaceEmbedder`.
        flip: average each face with its mirror image; None: as the manifest says of a name, else not (of dlib's, yes).
        runtime: "torch", "onnx" (ONNX Runtime, on a CPU in less than half of the time, see `OnnxNetwork`), or "auto":
            the quicker one for the device. Of our own networks only.

    Raises:
        FileNotFoundError, ValueError: see `load_weights`; ValueError also for pictures that the manifest describes
            otherwise than this code makes them, for networks that want differently aligned faces, and an unknown
            runtime.
    """
    if weights == "dlib":
        return load_dlib_embedder(device, batch_size, flip is not False)
    if isinstance(weights, str | Path) and (str(weights) in PACKAGES_OF_INSIGHTFACE or str(weights).endswith(".onnx")):
        return load_insightface_embedder(str(weights), device, batch_size)
    name = "default" if weights is None else weights
    if isinstance(name, str) and name in named_embedders():
        weights, flip = embedder_networks(name=name), embedder_uses_flip(name=name) if flip is None else flip
    elif isinstance(weights, str | Path):
        weights = [weights]
    networks, alignments, keys = [], [], []
    for path in map(Path, weights):
        model, entry = load_weights(path, EmbeddingNetwork, device)
        fields = read_preprocessing(path, entry, PREPROCESSING)
        onnx = onnx_network(model, fields["input_size"], runtime)
        networks.append(TrainedNetwork(model, fields["input_size"], onnx))
        alignments.append(fields["alignment"])
        keys.append(entry["sha256"][:8])
    if len(set(alignments)) != 1:
        raise ValueError(f"{', '.join(map(str, weights))}: aligned as {alignments}, but an ensemble sees one picture")
    return NetworkEmbedder(networks, batch_size, bool(flip), alignments[0], make_model_id(keys, bool(flip)))
