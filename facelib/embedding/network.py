"""The embedding network: an ImageNet backbone, pooling and a head; a second head for distillation from a teacher."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facelib.alignment.align import SIZE
from facelib.embedding.backbones import LITE0, PACKAGES, GlobalDepthwiseConv, make_backbone
from facelib.embedding.inputs import check_aligned

DISTILL_DIM = 128  # dimensions of the teacher's embeddings


def faces_to_tensor(faces: Tensor, size: int = SIZE) -> Tensor:
    """Aligned faces (n, 3, 112, 112), integers from 0 to 255 -> network input (n, 3, size, size) float32 from -1 to 1.

    For training, on the device of the faces. Inference uses `faces_to_input`, which a test holds to this function.
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
    check_aligned(aligned)
    return torch.from_numpy(np.array(aligned)).permute(0, 3, 1, 2)


class EmbeddingNetwork(nn.Module):
    """Backbone, pooling, then batch norm, dropout, linear, batch norm; with a teacher a second, linear head.

    (n, 3, h, w) from -1 to 1 -> (n, d), not normalised where there is one head.

    Args:
        backbone: see `make_backbone`.
        embedding_size: dimensions of the first head.
        dropout: of the features before the first head.
        output_stride, drop_path: see `make_backbone`.
        pooling: "average" (the backbone's own), or "depthwise": `GlobalDepthwiseConv` (for `PACKAGES` only).
        distill_head_scale: above 0: a second head with `DISTILL_DIM` dimensions learns a teacher's embeddings. The
            output is the concatenation of both heads, each normalised, the second multiplied by the square root of
            `distill_head_scale`: in the cosine of two faces it weighs that many times as much as the first.
        distill_centering: fraction of the teacher's mean embedding, `teacher_mean`, that is subtracted from the second
            head. The mean is common to all faces: it makes all distances small and does not discriminate.
        pretrained: load the ImageNet weights of the backbone.

    Raises:
        ValueError: unknown pooling, or one that the backbone does not support; see also `make_backbone`.
    """

    teacher_mean: Tensor

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
        self.arguments: dict[str, Any] = dict(
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
        # The bias is not trained, as in BNNeck (Luo et al. 2019); a short comparison showed no difference.
        self.head[-1].bias.requires_grad_(False)
        self.distill_head = nn.Linear(width, DISTILL_DIM) if distill_head_scale else None
        if distill_centering:
            self.register_buffer("teacher_mean", torch.zeros(DISTILL_DIM))

    @property
    def size(self) -> int:
        """Dimensions of the output."""
        return self.arguments["embedding_size"] + (DISTILL_DIM if self.distill_head else 0)

    def forward(self, images: Tensor) -> Tensor:
        identity, distilled = self.heads(images)
        if distilled is None:
            return identity
        distilled = nn.functional.normalize(distilled)
        centering = self.arguments["distill_centering"]
        if centering:
            distilled = distilled - centering * self.teacher_mean
        scale = self.arguments["distill_head_scale"] ** 0.5
        return torch.cat([nn.functional.normalize(identity), scale * distilled], 1)

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs of the heads, for training: (n, embedding_size), and (n, `DISTILL_DIM`) or None; not normalised."""
        features = self.backbone(images)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            return self.head(features), self.distill_head(features) if self.distill_head else None
