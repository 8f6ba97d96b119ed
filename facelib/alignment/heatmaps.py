"""Landmarks to heatmaps and back, in NumPy.

Points are in heatmap cells: the centre of the top-left cell is (0, 0). `image_to_cells` and `cells_to_image` convert
between cells and input pixels. Training uses the same formulas on PyTorch tensors (`training/heatmap_tensors.py`).

The tails of Gaussians are too small for float32. That is no error, also where the program makes NumPy raise one.
"""

import numpy as np

SIGMA = 1.25  # standard deviation in cells of the Gaussians that the networks are trained to predict
STRIDE = 4  # input pixels per heatmap cell
DECODERS = ("argmax", "quarter", "expectation", "soft_argmax", "gaussian", "dark")


def image_to_cells(points: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Convert input pixels to heatmap cells, aligned at pixel centres: (x + 0.5) / stride - 0.5."""
    return (points + 0.5) / stride - 0.5


def cells_to_image(points: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Convert heatmap cells to input pixels; the inverse of `image_to_cells`."""
    return (points + 0.5) * stride - 0.5


@np.errstate(under="ignore")
def points_to_heatmaps(points: np.ndarray, size: int, sigma: float = SIGMA) -> np.ndarray:
    """Draw one Gaussian with peak value 1 per point, at its exact sub-cell position.

    Args:
        points: (..., 2) x, y in cells. Of a point outside the map only the tail inside it is drawn.
        size: height and width of the maps in cells.
        sigma: standard deviation in cells.

    Returns:
        (..., size, size) float32.

    Raises:
        ValueError: points of another shape, or not finite.
    """
    points = np.asarray(points, np.float32)
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"points of shape {points.shape}: expected (..., 2) with x and y last")
    if not np.isfinite(points).all():
        raise ValueError("points hold NaN or infinity: remove unlabelled points before drawing")
    cells = np.arange(size, dtype=np.float32)
    x = np.exp(-((cells - points[..., 0:1]) ** 2) / (2 * sigma**2))
    y = np.exp(-((cells - points[..., 1:2]) ** 2) / (2 * sigma**2))
    return y[..., :, None] * x[..., None, :]


@np.errstate(under="ignore")
def heatmap_confidence(heatmaps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Confidence of each landmark: cosine similarity of its heatmap and the Gaussian drawn at the decoded point.

    A map that is wide, empty or has a second peak differs from the Gaussian that the network was trained to predict.
    The similarity does not depend on the height of the peak, so it means the same for heatmaps and for distributions
    over cells.

    Args:
        heatmaps: (..., h, h), as for `heatmaps_to_points`. points: (..., 2) in cells, as decoded from them.

    Returns:
        (...), from 0 to 1.
    """
    maps = heatmaps.astype(np.float32, copy=False)
    drawn = points_to_heatmaps(points, maps.shape[-1])
    norms = np.sqrt((maps**2).sum((-2, -1))), np.sqrt((drawn**2).sum((-2, -1)))
    product = (maps * drawn).sum((-2, -1))
    return (product / np.maximum(norms[0], 1e-8) / np.maximum(norms[1], 1e-8)).clip(0, 1)


@np.errstate(under="ignore")
def spatial_softmax(maps: np.ndarray) -> np.ndarray:
    """Softmax over the cells of each map: (..., h, w) -> the same shape, positive, each map with sum 1."""
    exponentials = np.exp(maps - maps.max((-2, -1), keepdims=True))
    return exponentials / exponentials.sum((-2, -1), keepdims=True)


@np.errstate(under="ignore")
def expected_points(heatmaps: np.ndarray) -> np.ndarray:
    """Mean position over all cells (soft-argmax), for maps (..., h, w) of sum 1 -> (..., 2) x, y in cells."""
    h, w = heatmaps.shape[-2:]
    x = heatmaps.sum(-2) @ np.arange(w, dtype=heatmaps.dtype)
    y = heatmaps.sum(-1) @ np.arange(h, dtype=heatmaps.dtype)
    return np.stack([x, y], -1)


@np.errstate(under="ignore")
def heatmaps_to_points(heatmaps: np.ndarray, method: str = "gaussian") -> np.ndarray:
    """Position of each heatmap's peak, with sub-cell accuracy.

    Args:
        heatmaps: (..., h, w), at least 3 cells on each side.
        method: "argmax": the highest cell. "quarter": a quarter cell towards the higher
            neighbour (Newell et al. 2016). "expectation": mean position over the 5 x 5 cells around
            the highest, weighted by their values. "soft_argmax": the same over all cells, for maps that
            are nearly zero elsewhere. "gaussian": the peak of the parabola through the logarithm of
            three cells on each axis, which is exact for a Gaussian. "dark": one Newton step on the
            logarithm with the full second derivative (DARK, Zhang et al. 2020, without its
            smoothing); it also fits Gaussians whose axes are rotated.

    Returns:
        (..., 2) x, y in cells, float32.

    Raises:
        ValueError: maps that are too small or hold NaN, or an unknown method.
    """
    if method not in DECODERS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(DECODERS)}")
    if heatmaps.ndim < 2 or min(heatmaps.shape[-2:]) < 3:
        raise ValueError(f"heatmaps of shape {heatmaps.shape}: expected (..., h, w), both at least 3")
    if not np.isfinite(heatmaps).all():
        raise ValueError("heatmaps hold NaN or infinity: the network that made them has diverged")
    *lead, h, w = heatmaps.shape
    maps = heatmaps.reshape(-1, h, w).astype(np.float32, copy=False)
    y, x = np.divmod(maps.reshape(-1, h * w).argmax(1), w)
    if method == "argmax":
        points = np.stack([x, y], -1)
    elif method == "expectation":
        points = _expectation(maps, x, y)
    elif method == "soft_argmax":
        positive = maps.clip(min=0)
        points = expected_points(positive / positive.sum((1, 2), keepdims=True).clip(min=1e-9))
    elif method == "dark":
        points = _newton_step(maps, x.clip(1, w - 2), y.clip(1, h - 2))
    else:
        points = _refine_by_axis(maps, x, y, method)
    return points.astype(np.float32, copy=False).reshape(*lead, 2)


def _refine_by_axis(maps: np.ndarray, x: np.ndarray, y: np.ndarray, method: str) -> np.ndarray:
    """ "gaussian" and "quarter" of `heatmaps_to_points`, for maps (n, h, w) whose highest cells are x, y (n,)."""
    h, w = maps.shape[1:]
    # The middle one of three cells: at the border the highest cell is the first or last of them.
    cx, cy = x.clip(1, w - 2), y.clip(1, h - 2)
    rows = np.arange(len(maps))
    across = np.stack([maps[rows, y, cx + d] for d in (-1, 0, 1)])
    down = np.stack([maps[rows, cy + d, x] for d in (-1, 0, 1)])
    if method == "gaussian":
        return np.stack(
            [cx.astype(np.float32) + _log_parabola(across), cy.astype(np.float32) + _log_parabola(down)], -1
        )
    quarter = np.stack([0.25 * np.sign(three[2] - three[0]) for three in (across, down)], -1)
    # At the border itself there is no cell on the other side to compare with.
    inside = np.stack([cx == x, cy == y], -1)
    return np.stack([x, y], -1).astype(np.float32) + quarter * inside


def _log_parabola(three: np.ndarray) -> np.ndarray:
    """(3, n) neighbouring values -> (n,) offset of the peak from the middle cell, within 1.5."""
    left, middle, right = np.log(three.clip(min=1e-6))
    curvature = left - 2 * middle + right
    offset = 0.5 * (left - right) / np.where(curvature < -1e-6, curvature, np.float32(-np.inf))
    return offset.clip(-1.5, 1.5)


def _newton_step(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Peak of the quadratic through the logarithm of the 3 x 3 cells around (x, y), each (n,) -> (n, 2)."""
    rows = np.arange(len(maps))
    around = [[np.log(maps[rows, y + j, x + i].clip(min=1e-6)) for i in (-1, 0, 1)] for j in (-1, 0, 1)]
    (top_left, top, top_right), (left, middle, right), (low_left, low, low_right) = around
    dx, dy = (right - left) / 2, (low - top) / 2
    xx, yy = left - 2 * middle + right, top - 2 * middle + low
    xy = (low_right - low_left - top_right + top_left) / 4
    determinant = xx * yy - xy**2
    peaked = (xx < -1e-6) & (yy < -1e-6) & (determinant > 1e-9)
    step = np.stack([xy * dy - yy * dx, xy * dx - xx * dy], -1)
    step = step / np.where(peaked, determinant, np.float32(np.inf))[:, None]
    return np.stack([x, y], -1).astype(np.float32) + step.clip(-1.5, 1.5)


def _expectation(maps: np.ndarray, x: np.ndarray, y: np.ndarray, radius: int = 2) -> np.ndarray:
    """Mean position (n, 2) of the cells within `radius` of (x, y), each (n,), weighted by their values."""
    h, w = maps.shape[-2:]
    near_x = np.abs(np.arange(w) - x[:, None]) <= radius
    near_y = np.abs(np.arange(h) - y[:, None]) <= radius
    weights = maps.clip(min=1e-9) * near_y[:, :, None] * near_x[:, None, :]
    return expected_points(weights / weights.sum((1, 2), keepdims=True))
