"""Landmarks to heatmaps and back. Points are in heatmap cells: the centre of the top-left cell
is (0, 0). `image_to_cells` and `cells_to_image` go between cells and input pixels."""

import numpy as np
import torch
from torch import Tensor

SIGMA = 1.25  # of the Gaussians that networks are trained to draw, in cells
DECODERS = ("argmax", "quarter", "expectation", "soft_argmax", "gaussian", "dark")


def image_to_cells(points: Tensor, stride: int) -> Tensor:
    """Input pixels to heatmap cells, keeping pixel centres right: (x + 0.5) / stride - 0.5."""
    return (points + 0.5) / stride - 0.5


def cells_to_image(points: Tensor, stride: int) -> Tensor:
    """Heatmap cells to input pixels; the inverse of `image_to_cells`."""
    return (points + 0.5) * stride - 0.5


def points_to_heatmaps(points: Tensor, size: int, sigma: float = SIGMA) -> Tensor:
    """Draw one Gaussian with peak value 1 per point, at its exact sub-cell place.

    Args:
        points: (..., 2) x, y in cells. A point outside the map leaves only the tail that reaches in.
        size: height and width of the maps in cells.
        sigma: standard deviation in cells.

    Returns:
        (..., size, size) float32.

    Raises:
        ValueError: points of another shape, or not finite.
    """
    points = points.float() if isinstance(points, Tensor) else torch.from_numpy(np.asarray(points, np.float32))
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"points of shape {tuple(points.shape)}: expected (..., 2) with x and y last")
    if not torch.isfinite(points).all():
        raise ValueError("points hold NaN or infinity: leave unlabelled points out before drawing")
    cells = torch.arange(size, dtype=torch.float32, device=points.device)
    x = torch.exp(-((cells - points[..., 0:1]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((cells - points[..., 1:2]) ** 2) / (2 * sigma**2))
    return y[..., :, None] * x[..., None, :]


def heatmap_confidence(heatmaps: Tensor, points: Tensor) -> Tensor:
    """How sure a heatmap is of its landmark: its cosine similarity to the Gaussian drawn at the point found in it.

    A map that is wide, has a second hill or nothing in it is not alike what the network was trained to draw. The
    height does not matter, so it means the same for heatmaps and for distributions over cells.

    Args:
        heatmaps: (..., h, h), as `heatmaps_to_points` takes them. points: (..., 2), what it gave, in cells.

    Returns:
        (...), from 0 to 1.
    """
    maps, drawn = heatmaps.float().flatten(-2), points_to_heatmaps(points, heatmaps.shape[-1]).flatten(-2)
    return torch.cosine_similarity(maps, drawn, dim=-1).clamp(0, 1)


def spatial_softmax(maps: Tensor) -> Tensor:
    """(..., h, w) of any values -> the same, positive, each map with sum 1."""
    return maps.flatten(-2).softmax(-1).unflatten(-1, maps.shape[-2:])


def expected_points(heatmaps: Tensor) -> Tensor:
    """Mean place over all cells (soft-argmax), for maps (..., h, w) of sum 1 -> (..., 2) x, y in cells."""
    h, w = heatmaps.shape[-2:]
    x = heatmaps.sum(-2) @ torch.arange(w, dtype=heatmaps.dtype, device=heatmaps.device)
    y = heatmaps.sum(-1) @ torch.arange(h, dtype=heatmaps.dtype, device=heatmaps.device)
    return torch.stack([x, y], -1)


def heatmaps_to_points(heatmaps: Tensor, method: str = "gaussian") -> Tensor:
    """Where each heatmap peaks, with sub-cell accuracy.

    Args:
        heatmaps: (..., h, w), at least 3 cells on each side.
        method: "argmax": the highest cell. "quarter": a quarter cell towards the higher
            neighbour (Newell et al. 2016). "expectation": mean place over the 5 x 5 cells around
            the highest, weighted by their values. "soft_argmax": the same over all cells, for maps that
            are nearly zero elsewhere. "gaussian": the peak of the parabola through the logarithm of
            three cells on each axis, which is exact for a Gaussian. "dark": one Newton step on the
            logarithm with the full second derivative (DARK, Zhang et al. 2020, without its
            smoothing); it also follows Gaussians that lie aslant.

    Returns:
        (..., 2) x, y in cells, float32.

    Raises:
        ValueError: maps that are too small or hold NaN, or an unknown method.
    """
    if method not in DECODERS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(DECODERS)}")
    if heatmaps.ndim < 2 or min(heatmaps.shape[-2:]) < 3:
        raise ValueError(f"heatmaps of shape {tuple(heatmaps.shape)}: expected (..., h, w), both at least 3")
    if not torch.isfinite(heatmaps).all():
        raise ValueError("heatmaps hold NaN or infinity: the network that made them has diverged")
    *lead, h, w = heatmaps.shape
    maps = heatmaps.reshape(-1, h, w).float()
    best = maps.flatten(1).argmax(1)
    x, y = best % w, best // w
    if method == "argmax":
        points = torch.stack([x, y], -1).float()
    elif method == "expectation":
        points = _expectation(maps, x, y)
    elif method == "soft_argmax":
        positive = maps.clamp(min=0)
        points = expected_points(positive / positive.sum((1, 2), keepdim=True).clamp(min=1e-9))
    elif method == "dark":
        points = _newton_step(maps, x.clamp(1, w - 2), y.clamp(1, h - 2))
    else:
        # The middle one of three cells: at the border the highest cell is the first or last of them.
        cx, cy = x.clamp(1, w - 2), y.clamp(1, h - 2)
        rows = torch.arange(len(maps), device=maps.device)
        across = torch.stack([maps[rows, y, cx + d] for d in (-1, 0, 1)])
        down = torch.stack([maps[rows, cy + d, x] for d in (-1, 0, 1)])
        if method == "gaussian":
            points = torch.stack([cx + _log_parabola(across), cy + _log_parabola(down)], -1)
        else:
            quarter = [0.25 * torch.sign(three[2] - three[0]) for three in (across, down)]
            # At the border itself there is no cell on the other side to compare with.
            inside = torch.stack([cx == x, cy == y], -1)
            points = torch.stack([x, y], -1) + torch.stack(quarter, -1) * inside
    return points.reshape(*lead, 2)


def _log_parabola(three: Tensor) -> Tensor:
    """(3, n) neighbouring values -> (n,) offset of the peak from the middle cell, within 1.5."""
    left, middle, right = three.clamp(min=1e-6).log()
    curvature = left - 2 * middle + right
    offset = 0.5 * (left - right) / torch.where(curvature < -1e-6, curvature, -torch.inf)
    return offset.clamp(-1.5, 1.5)


def _newton_step(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Peak of the quadratic through the logarithm of the 3 x 3 cells around (x, y), each (n,) -> (n, 2)."""
    rows = torch.arange(len(maps), device=maps.device)
    around = [[maps[rows, y + j, x + i].clamp(min=1e-6).log() for i in (-1, 0, 1)] for j in (-1, 0, 1)]
    (top_left, top, top_right), (left, middle, right), (low_left, low, low_right) = around
    slope = torch.stack([(right - left) / 2, (low - top) / 2], -1)
    xx, yy = left - 2 * middle + right, top - 2 * middle + low
    xy = (low_right - low_left - top_right + top_left) / 4
    determinant = xx * yy - xy**2
    peaked = (xx < -1e-6) & (yy < -1e-6) & (determinant > 1e-9)
    step = torch.stack([xy * slope[:, 1] - yy * slope[:, 0], xy * slope[:, 0] - xx * slope[:, 1]], -1)
    step = step / torch.where(peaked, determinant, torch.inf)[:, None]
    return torch.stack([x, y], -1) + step.clamp(-1.5, 1.5)


def _expectation(maps: Tensor, x: Tensor, y: Tensor, radius: int = 2) -> Tensor:
    h, w = maps.shape[-2:]
    near_x = (torch.arange(w, device=maps.device) - x[:, None]).abs() <= radius
    near_y = (torch.arange(h, device=maps.device) - y[:, None]).abs() <= radius
    weights = maps.clamp(min=1e-9) * near_y[:, :, None] * near_x[:, None, :]
    weights = weights / weights.sum((1, 2), keepdim=True)
    columns = torch.arange(w, dtype=torch.float32, device=maps.device)
    rows = torch.arange(h, dtype=torch.float32, device=maps.device)
    return torch.stack([(weights.sum(1) * columns).sum(1), (weights.sum(2) * rows).sum(1)], -1)
