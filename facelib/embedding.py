"""Aligned face to unit vector: an ImageNet backbone and a small head; one network, or several as an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from facelib.alignment import METHODS, SIZE
from facelib.backbones import LITE0, GlobalDepthwiseConv, make_backbone
from facelib.images import image_to_tensor
from facelib.inference import batches, one_process
from facelib.onnx import OnnxNetwork, onnx_network
from facelib.weights import embedder_networks, load_weights, preprocessing_of

# What a manifest may ask of the pictures: field -> what can be obeyed.
PREPROCESSING = {
    "input_size": range(32, 1025),
    "alignment": METHODS,
    "range": ([-1, 1],),
    "colour": ("RGB",),
}


def face_to_tensor(aligned: np.ndarray, size: int = SIZE) -> Tensor:
    """One aligned face (112, 112, 3) RGB uint8 -> (3, size, size) float32 from -1 to 1.

    The only way from picture to network, in training, evaluation and the pipeline.
    """
    if aligned.shape != (SIZE, SIZE, 3) or aligned.dtype != np.uint8:
        raise ValueError(f"a face of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (112, 112, 3)")
    if size != SIZE:
        aligned = cv2.resize(aligned, (size, size), interpolation=cv2.INTER_AREA)
    return image_to_tensor(aligned)


class EmbeddingNetwork(nn.Module):
    """Backbone, pooling, then batch norm, dropout, linear, batch norm.

    (n, 3, h, w) from -1 to 1 -> (n, embedding_size), not yet of length 1.

    `pooling`: "average" (the backbone's own), or "depthwise": `GlobalDepthwiseConv` (of Lite0 only).

    Raises:
        ValueError: unknown pooling, or one that the backbone does not have; see also `make_backbone`.
    """

    def __init__(
        self,
        backbone: str = LITE0,
        embedding_size: int = 256,
        dropout: float = 0.2,
        output_stride: int = 32,
        pooling: str = "average",
        pretrained: bool = False,
    ):
        super().__init__()
        self.arguments = dict(
            backbone=backbone,
            embedding_size=embedding_size,
            dropout=dropout,
            output_stride=output_stride,
            pooling=pooling,
        )
        self.backbone, width = make_backbone(backbone, pretrained, output_stride)
        if pooling not in (("average", "depthwise") if backbone == LITE0 else ("average",)):
            raise ValueError(f"pooling={pooling!r}: expected 'average', or 'depthwise' with the backbone {LITE0}")
        if pooling == "depthwise":
            self.backbone.global_pool = GlobalDepthwiseConv(width)
        self.head = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.Dropout(dropout),
            nn.Linear(width, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        # Without a bias that learns, as in BNNeck (Luo et al. 2019); a short comparison showed no difference.
        self.head[-1].bias.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


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
        return self.model.arguments["embedding_size"]


class Embedder:
    """One trained network, or an ensemble of several, and what is needed to use it. Made by `load_embedder`.

    The vector of an ensemble is the vectors of its networks one after the other, so that a cosine is the mean of
    theirs. Networks that were trained apart do not err on the same pairs of photos, and the mean errs less.

    Args:
        networks: one or more.
        flip: add the vectors of a face and of its mirror image; more exact, twice as slow.
        alignment: how faces have to be aligned for it, see `align_faces`.
    """

    def __init__(
        self,
        networks: TrainedNetwork | Sequence[TrainedNetwork],
        batch_size: int = 32,
        flip: bool = True,
        alignment: str = "five_points",
    ):
        self.networks = [networks] if isinstance(networks, TrainedNetwork) else list(networks)
        for network in self.networks:
            network.model.eval()
        self.batch_size, self.flip, self.alignment = batch_size, flip, alignment

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> vectors (n, d) float32 of length 1.

        Raises:
            ValueError: faces of another size or type. RuntimeError: in a forked process, see `one_process`.
        """
        one_process()
        vectors = [self._embed(network, aligned) for network in self.networks]
        return np.concatenate(vectors, axis=1) / np.float32(len(vectors) ** 0.5)

    @torch.inference_mode()
    def _embed(self, network: TrainedNetwork, aligned: np.ndarray) -> np.ndarray:
        device = next(network.model.parameters()).device
        vectors = []
        run = network.onnx or network.model
        for part in batches(len(aligned), self.batch_size, few_sizes=network.onnx is None):
            batch = torch.stack([face_to_tensor(face, network.input_size) for face in aligned[part]])
            batch = batch.to(device, memory_format=torch.channels_last)
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
    flip: bool = True,
    runtime: str = "torch",
) -> Embedder:
    """A trained embedder.

    Args:
        weights: a file listed in the manifest beside it, or several for an ensemble; None: those that the
            manifest of the shipped weights names under "embedder".
        runtime: "torch", "onnx" (ONNX Runtime, on a CPU in less than half of the time, see `OnnxNetwork`), or "auto":
            the quicker one for the device.

    Raises:
        FileNotFoundError, ValueError: see `load_weights`; ValueError also for pictures that the manifest describes
            otherwise than this code makes them, for networks that want differently aligned faces, and an unknown
            runtime.
    """
    if weights is None:
        weights = embedder_networks()
    elif isinstance(weights, str | Path):
        weights = [weights]
    networks, alignments = [], []
    for path in map(Path, weights):
        model, entry = load_weights(path, EmbeddingNetwork, device)
        fields = preprocessing_of(path, entry, PREPROCESSING)
        onnx = onnx_network(model, fields["input_size"], runtime)
        networks.append(TrainedNetwork(model, fields["input_size"], onnx))
        alignments.append(fields["alignment"])
    if len(set(alignments)) != 1:
        raise ValueError(f"{', '.join(map(str, weights))}: aligned as {alignments}, but an ensemble sees one picture")
    return Embedder(networks, batch_size, flip, alignments[0])


def cosine_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray | float:
    """1 - cosine similarity: 0 for the same direction, 2 for opposite ones. Vectors of another length than 1, such as
    the mean of several, are made so first.

    Args:
        a: (n, d) or (d,). b: (m, d) or (d,).

    Returns:
        (n, m), without the axis of an argument that is a single vector; a plain float for two single vectors.

    Raises:
        ValueError: vectors of different embedders, or without a direction (all zeros, NaN, infinity).
    """
    a, b = _unit(a), _unit(b)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of {a.shape[-1]} and {b.shape[-1]} numbers: they come from different embedders")
    distances = np.maximum(1 - a @ b.T, 0)  # rounding must not make a distance negative
    return distances if distances.ndim else float(distances)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim not in (1, 2):
        raise ValueError(f"embeddings of shape {vectors.shape}: expected (d,) or (n, d)")
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        number = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        raise ValueError(f"embedding {number} has no direction: it is all zeros, or holds NaN or infinity")
    return vectors if np.abs(lengths - 1).max(initial=0.0) < 1e-5 else vectors / lengths
