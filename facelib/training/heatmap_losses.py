"""Losses on heatmaps, one for each way to say how wrong a map is. All take the maps of every stack
and give one loss per stack; training minimises their sum (intermediate supervision)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from facelib.alignment.heatmaps import SIGMA
from facelib.training.heatmap_tensors import expected_points, points_to_heatmaps, spatial_softmax


def mse_loss(maps: Tensor, points: Tensor) -> Tensor:
    """Plain mean squared error to Gaussians of peak value 1 (Newell et al. 2016).

    Args (of all losses here):
        maps: (stacks, n, p, s, s), what the network gives. points: (n, p, 2) labels in cells.

    Returns (of all losses here):
        (stacks,), float32.
    """
    targets = points_to_heatmaps(points, maps.shape[-1])
    return ((maps.float() - targets) ** 2).mean(dim=(1, 2, 3, 4))


def weighted_mse_loss(maps: Tensor, points: Tensor, foreground: float = 10.0) -> Tensor:
    """Squared error in which a cell with target 1 counts `foreground` + 1 times as much as an empty one.

    In the plain one the few cells near a landmark drown among the many empty ones.
    """
    targets = points_to_heatmaps(points, maps.shape[-1])
    return ((maps.float() - targets) ** 2 * (1 + foreground * targets)).mean(dim=(1, 2, 3, 4))


def adaptive_wing_loss(
    maps: Tensor, points: Tensor, alpha: float = 2.1, omega: float = 14.0, epsilon: float = 1.0, theta: float = 0.5
) -> Tensor:
    """Adaptive Wing (Wang et al. 2019): steep for small errors where the target is high, flat where it is low.

    With its map of weights: cells whose target (widened by one cell) is above 0.2 count eleven times.
    """
    targets = points_to_heatmaps(points, maps.shape[-1])
    error = (maps.float() - targets).abs()
    power = alpha - targets
    slope = omega / (1 + (theta / epsilon) ** power) * power * (theta / epsilon) ** (power - 1) / epsilon
    offset = theta * slope - omega * torch.log1p((theta / epsilon) ** power)
    near = omega * torch.log1p((error.clamp(max=theta) / epsilon) ** power)
    loss = torch.where(error < theta, near, slope * error - offset)
    important = F.max_pool2d(targets, 3, stride=1, padding=1) > 0.2
    return (loss * (1 + 10 * important)).mean(dim=(1, 2, 3, 4))


def distribution_loss(maps: Tensor, points: Tensor, distance: float = 4.0) -> Tensor:
    """Each map as a distribution over cells: Kullback-Leibler divergence from the Gaussian, plus the error itself.

    The softmax of a map is compared with the Gaussian of sum 1 (so a map cannot win by being empty),
    and the expected place under the softmax with the label: their distance, divided by that of the
    eyes, is the NME, which this loss minimises directly (cf. Nibali et al. 2018, "DSNT").
    A point outside the map counts by the share of its Gaussian that lies inside.
    """
    targets = points_to_heatmaps(points, maps.shape[-1])
    mass = targets.sum((-2, -1), keepdim=True)
    inside = (mass / (2 * torch.pi * SIGMA**2)).clamp(max=1)[..., 0, 0]
    targets = targets / mass.clamp(min=1e-6)
    logs = maps.float().flatten(-2).log_softmax(-1).unflatten(-1, maps.shape[-2:])
    divergence = (torch.special.entr(targets).neg() - targets * logs).sum((-2, -1))
    eyes = (points[:, 0] - points[:, 1]).norm(dim=-1).clamp(min=maps.shape[-1] / 16)
    off = ((expected_points(spatial_softmax(maps.float())) - points).square().sum(-1) + 1e-6).sqrt()
    return ((divergence + distance * off / eyes[:, None]) * inside).mean(dim=(1, 2))


HEATMAP_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse_loss,
    "weighted_mse": weighted_mse_loss,
    "adaptive_wing": adaptive_wing_loss,
    "distribution": distribution_loss,
}
