"""Stacked Hourglass network (Newell, Yang, Deng: "Stacked Hourglass Networks for Human Pose
Estimation", ECCV 2016), with one heatmap per facial landmark."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facelib.alignment.heatmaps import STRIDE


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with "same" padding, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Pre-activation bottleneck: 1x1, 3x3, 1x1 convolutions beside a skip connection.

    (n, inputs, h, w) -> (n, outputs, h, w). The skip is the identity where the widths agree,
    else a 1x1 convolution (He et al. 2016, "Identity Mappings in Deep Residual Networks").
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        middle = outputs // 2
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, outputs, 1),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class Hourglass(nn.Module):
    """One hourglass: max-pool `depth` times, upsample as often, add the skip branch at each resolution.

    ::

        x (n, c, h, w) ──────────── skip: Residual ──────────────(+)── (n, c, h, w)
              │ max-pool 2                                        │ nearest, x 2
           Residual ── Hourglass(depth - 1), or Residual ── Residual    at (h / 2, w / 2)

    Height and width must be divisible by 2 ** depth.
    """

    def __init__(self, depth: int, channels: int):
        super().__init__()
        self.skip = Residual(channels, channels)
        self.down = Residual(channels, channels)
        inner = Hourglass(depth - 1, channels) if depth > 1 else Residual(channels, channels)
        self.inner = inner
        self.up = Residual(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        small = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        return self.skip(x) + F.interpolate(small, scale_factor=2, mode="nearest")


class StackedHourglass(nn.Module):
    """Hourglasses in sequence; each predicts all heatmaps and passes them to the next.

    ::

        image (n, 3, s, s)
          stem: 7x7 / 2, Residual, max-pool 2, Residual, Residual     -> (n, c, s/4, s/4)
          each stack: Hourglass, Residual, 1x1 -> features            -> (n, c, s/4, s/4)
                      1x1(features) = this stack's heatmaps           -> (n, p, s/4, s/4)
                      next input = input + 1x1(features) + 1x1(heatmaps)

    `forward` returns the heatmaps of all stacks, (stacks, n, points, s/4, s/4): the training loss
    is the sum over the stacks (intermediate supervision); the last stack is the prediction.

    Args:
        points: number of landmarks.
        stacks: number of hourglasses.
        channels: number of feature channels; divisible by 4.
        depth: number of times an hourglass halves its input; s / 4 must be divisible by 2 ** depth.
    """

    def __init__(self, points: int = 5, stacks: int = 2, channels: int = 96, depth: int = 3):
        super().__init__()
        if channels % 4 or min(points, stacks, channels, depth) < 1:
            raise ValueError(
                f"points={points}, stacks={stacks}, channels={channels}, depth={depth}: all must be "
                "at least 1 and channels divisible by 4"
            )
        self.arguments = dict(points=points, stacks=stacks, channels=channels, depth=depth)
        self.multiple = STRIDE * 2**depth
        self.stem = nn.Sequential(
            conv_bn_relu(3, channels // 4, 7, stride=2),
            Residual(channels // 4, channels // 2),
            nn.MaxPool2d(2),
            Residual(channels // 2, channels // 2),
            Residual(channels // 2, channels),
        )
        self.hourglasses = nn.ModuleList(
            nn.Sequential(
                Hourglass(depth, channels),
                Residual(channels, channels),
                conv_bn_relu(channels, channels, 1),
            )
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, points, 1) for _ in range(stacks))
        self.merge_features = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.merge_heatmaps = nn.ModuleList(nn.Conv2d(points, channels, 1) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or any(s % self.multiple for s in images.shape[2:]):
            raise ValueError(
                f"images of shape {tuple(images.shape)}: expected (n, 3, s, s) with s divisible by {self.multiple}"
            )
        x = self.stem(images)
        heatmaps = []
        for i, (hourglass, head) in enumerate(zip(self.hourglasses, self.heads)):
            features = hourglass(x)
            heatmaps.append(head(features))
            if i < len(self.merge_features):
                x = x + self.merge_features[i](features) + self.merge_heatmaps[i](heatmaps[-1])
        return torch.stack(heatmaps)
