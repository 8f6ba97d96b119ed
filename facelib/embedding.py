"""Aligned face to unit vector: an ImageNet backbone and a small head; one network, or several as an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facelib.alignment import METHODS, SIZE
from facelib.backbones import LITE0, PACKAGES, GlobalDepthwiseConv, make_backbone
from facelib.dlib import DlibEmbedder, load_dlib_embedder
from facelib.inference import batches, one_process
from facelib.insightface_embedder import PACKAGES as PACKAGES_OF_INSIGHTFACE
from facelib.insightface_embedder import InsightfaceEmbedder, load_insightface_embedder
from facelib.onnx import OnnxNetwork, onnx_network
from facelib.weights import (
    embedder_flips,
    embedder_networks,
    key_of,
    load_weights,
    named_embedders,
    preprocessing_of,
)

TAUGHT_SIZE = 128  # numbers in the vectors of the teacher
# What a manifest may ask of the pictures: field -> what can be obeyed.
PREPROCESSING = {
    "input_size": range(32, 1025),
    "alignment": METHODS,
    "range": ([-1, 1],),
    "colour": ("RGB",),
}


def faces_to_tensor(faces: Tensor, size: int = SIZE) -> Tensor:
    """Aligned faces (n, 3, 112, 112), whole numbers from 0 to 255 -> (n, 3, size, size) float32 from -1 to 1.

    The only way from picture to network, in training, evaluation and the pipeline.
    """
    faces = faces.float()
    if size != SIZE:
        faces = nn.functional.interpolate(faces, size=(size, size), mode="bilinear", antialias=size < SIZE)
    return (faces / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def as_tensor(aligned: np.ndarray) -> Tensor:
    """Aligned faces (n, 112, 112, 3) uint8 -> (n, 3, 112, 112) uint8.

    Raises:
        ValueError: faces of another size or type.
    """
    if aligned.ndim != 4 or aligned.shape[1:] != (SIZE, SIZE, 3) or aligned.dtype != np.uint8:
        raise ValueError(
            f"faces of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (n, {SIZE}, {SIZE}, 3)"
        )
    return torch.from_numpy(np.array(aligned)).permute(0, 3, 1, 2)


class EmbeddingNetwork(nn.Module):
    """Backbone, pooling, then batch norm, dropout, linear, batch norm; with a teacher a second, linear head.

    (n, 3, h, w) from -1 to 1 -> (n, d), not yet of length 1 where there is one head.

    Args:
        pooling: "average" (the backbone's own), or "depthwise": `GlobalDepthwiseConv` (of `PACKAGES` only).
        taught_weight: above 0, there is a second head of `TAUGHT_SIZE` numbers that learns a teacher's vectors, and
            what the network gives are both heads, each of length 1, side by side, the second times the root of this
            number: in the cosine of two faces it then weighs `taught_weight` times as much as the first.
        taught_centre: share of the teacher's mean vector, `taught_mean`, that is taken from the second head's. A mean
            that all faces share makes all distances small and says nothing; without a part of it they spread.

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
        drop_path: float = 0.0,
        taught_weight: float = 0.0,
        taught_centre: float = 0.0,
        pretrained: bool = False,
    ):
        super().__init__()
        self.arguments = dict(
            backbone=backbone,
            embedding_size=embedding_size,
            dropout=dropout,
            output_stride=output_stride,
            pooling=pooling,
            drop_path=drop_path,
            taught_weight=taught_weight,
            taught_centre=taught_centre,
        )
        self.backbone, width = make_backbone(backbone, pretrained, output_stride, drop_path)
        if pooling not in (("average", "depthwise") if backbone in PACKAGES else ("average",)):
            raise ValueError(
                f"pooling={pooling!r}: expected 'average', or 'depthwise' with one of {', '.join(PACKAGES)}"
            )
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
        self.taught = nn.Linear(width, TAUGHT_SIZE) if taught_weight else None
        if taught_centre:
            self.register_buffer("taught_mean", torch.zeros(TAUGHT_SIZE))

    @property
    def size(self) -> int:
        """Numbers in what it gives."""
        return self.arguments["embedding_size"] + (TAUGHT_SIZE if self.taught else 0)

    def forward(self, images: Tensor) -> Tensor:
        own, taught = self.heads(images)
        if taught is None:
            return own
        taught, centre = nn.functional.normalize(taught), self.arguments["taught_centre"]
        if centre:
            taught = taught - centre * self.taught_mean
        return torch.cat([nn.functional.normalize(own), self.arguments["taught_weight"] ** 0.5 * taught], 1)

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each head gives, as training needs it: (n, embedding_size), and (n, `TAUGHT_SIZE`) or None."""
        features = self.backbone(images)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            return self.head(features), self.taught(features) if self.taught else None


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


class Embedder:
    """One trained network, or an ensemble of several, and what is needed to use it. Made by `load_embedder`.

    The vector of an ensemble is the vectors of its networks one after the other, so that a cosine is the mean of
    theirs. Networks that were trained apart do not err on the same pairs of photos, and the mean errs less.

    Args:
        networks: one or more.
        flip: add the vectors of a face and of its mirror image; more exact, twice as slow.
        alignment: how faces have to be aligned for it, see `align_faces`.
        key: what its vectors are known by: only those of one key have distances that mean something.
    """

    def __init__(
        self,
        networks: TrainedNetwork | Sequence[TrainedNetwork],
        batch_size: int = 32,
        flip: bool = False,
        alignment: str = "five_points",
        key: str = "unknown",
    ):
        self.key = key
        self.networks = [networks] if isinstance(networks, TrainedNetwork) else list(networks)
        for network in self.networks:
            network.model.eval()
        self.batch_size, self.flip, self.alignment = batch_size, flip, alignment
        self.cut = alignment  # how datasets cut faces for it, as `CUTS` names it

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
) -> Embedder | DlibEmbedder | InsightfaceEmbedder:
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
    name = "embedder" if weights is None else weights
    if isinstance(name, str) and name in named_embedders():
        weights, flip = embedder_networks(name=name), embedder_flips(name=name) if flip is None else flip
    elif isinstance(weights, str | Path):
        weights = [weights]
    networks, alignments, keys = [], [], []
    for path in map(Path, weights):
        model, entry = load_weights(path, EmbeddingNetwork, device)
        fields = preprocessing_of(path, entry, PREPROCESSING)
        onnx = onnx_network(model, fields["input_size"], runtime)
        networks.append(TrainedNetwork(model, fields["input_size"], onnx))
        alignments.append(fields["alignment"])
        keys.append(entry["sha256"][:8])
    if len(set(alignments)) != 1:
        raise ValueError(f"{', '.join(map(str, weights))}: aligned as {alignments}, but an ensemble sees one picture")
    return Embedder(networks, batch_size, bool(flip), alignments[0], key_of(keys, bool(flip)))


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
    a, b = unit_vectors(a), unit_vectors(b)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of {a.shape[-1]} and {b.shape[-1]} numbers: they come from different embedders")
    distances = np.maximum(1 - a @ b.T, 0)  # rounding must not make a distance negative
    return distances if distances.ndim else float(distances)


def nearest_others(vectors: np.ndarray, at_once: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Of each of n > 1 vectors (n, d), the row of the one nearest to it, and their cosine distance: (n,) and (n,)."""
    vectors = unit_vectors(vectors)
    rows, apart = np.empty(len(vectors), int), np.empty(len(vectors), np.float32)
    for part in batches(len(vectors), at_once, few_sizes=False):
        distances = cosine_distance(vectors[part], vectors)
        own = np.arange(len(distances))
        distances[own, own + part.start] = np.inf
        rows[part] = distances.argmin(1)
        apart[part] = distances[own, rows[part]]
    return rows, apart


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors (d,) or (n, d) as float32 of length 1.

    Raises:
        ValueError: of another shape, or without a direction.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim not in (1, 2):
        raise ValueError(f"embeddings of shape {vectors.shape}: expected (d,) or (n, d)")
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        number = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        raise ValueError(f"embedding {number} has no direction: it is all zeros, or holds NaN or infinity")
    return vectors if np.abs(lengths - 1).max(initial=0.0) < 1e-5 else vectors / lengths
