"""Heatmaps as differentiable PyTorch tensors, for the losses; `alignment/heatmaps.py` has the same in NumPy."""

import torch
from torch import Tensor

from facelib.alignment.heatmaps import SIGMA


def points_to_heatmaps(points: Tensor, size: int, sigma: float = SIGMA) -> Tensor:
    """Draw one Gaussian with peak value 1 per point: (..., 2) x, y in cells -> (..., size, size) float32.

    Raises:
        ValueError: points of another shape, or not finite.
    """
    points = points.float()
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"points of shape {tuple(points.shape)}: expected (..., 2) with x and y last")
    if not torch.isfinite(points).all():
        raise ValueError("points hold NaN or infinity: remove unlabelled points before drawing")
    cells = torch.arange(size, dtype=torch.float32, device=points.device)
    x = torch.exp(-((cells - points[..., 0:1]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((cells - points[..., 1:2]) ** 2) / (2 * sigma**2))
    return y[..., :, None] * x[..., None, :]


def spatial_softmax(maps: Tensor) -> Tensor:
    """Softmax over the cells of each map: (..., h, w) -> the same shape, positive, each map with sum 1."""
    return maps.flatten(-2).softmax(-1).unflatten(-1, maps.shape[-2:])


def expected_points(heatmaps: Tensor) -> Tensor:
    """Mean position over all cells (soft-argmax), for maps (..., h, w) of sum 1 -> (..., 2) x, y in cells."""
    h, w = heatmaps.shape[-2:]
    x = heatmaps.sum(-2) @ torch.arange(w, dtype=heatmaps.dtype, device=heatmaps.device)
    y = heatmaps.sum(-1) @ torch.arange(h, dtype=heatmaps.dtype, device=heatmaps.device)
    return torch.stack([x, y], -1)
