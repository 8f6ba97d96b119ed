"""The embedding network: an ImageNet backbone, pooling and a small head; a second head where a teacher is distilled."""

import numpy as np
import torch
from torch import Tensor, nn

from facelib.alignment.align import SIZE
from facelib.embedding.backbones import LITE0, PACKAGES, GlobalDepthwiseConv, make_backbone

DISTILL_DIM = 128  # numbers in the vectors of the teacher


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
        distill_head_scale: above 0, there is a second head of `DISTILL_DIM` numbers that learns a teacher's vectors, and
            what the network gives are both heads, each of length 1, side by side, the second times the root of this
            number: in the cosine of two faces it then weighs `distill_head_scale` times as much as the first.
        distill_centering: share of the teacher's mean vector, `teacher_mean`, that is taken from the second head's. A mean
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
        distill_head_scale: float = 0.0,
        distill_centering: float = 0.0,
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
            distill_head_scale=distill_head_scale,
            distill_centering=distill_centering,
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
        self.distill_head = nn.Linear(width, DISTILL_DIM) if distill_head_scale else None
        if distill_centering:
            self.register_buffer("teacher_mean", torch.zeros(DISTILL_DIM))

    @property
    def size(self) -> int:
        """Numbers in what it gives."""
        return self.arguments["embedding_size"] + (DISTILL_DIM if self.distill_head else 0)

    def forward(self, images: Tensor) -> Tensor:
        own, distilled = self.heads(images)
        if distilled is None:
            return own
        distilled, centering = nn.functional.normalize(distilled), self.arguments["distill_centering"]
        if centering:
            distilled = distilled - centering * self.teacher_mean
        return torch.cat([nn.functional.normalize(own), self.arguments["distill_head_scale"] ** 0.5 * distilled], 1)

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each head gives, as training needs it: (n, embedding_size), and (n, `DISTILL_DIM`) or None."""
        features = self.backbone(images)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            return self.head(features), self.distill_head(features) if self.distill_head else None
