import math

import pytest
import torch

from facelib.alignment.heatmaps import SIGMA, heatmaps_to_points
from facelib.training.heatmap_losses import (
    HEATMAP_LOSSES,
    adaptive_wing_loss,
    distribution_loss,
    mse_loss,
    weighted_mse_loss,
)
from facelib.training.heatmap_tensors import points_to_heatmaps, spatial_softmax


@pytest.fixture
def points():
    return torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(0)) * 10 + 3


def perfect(name, points):
    """The maps that a loss wants: Gaussians, or for the distribution their logarithms."""
    maps = points_to_heatmaps(points, 16, SIGMA)
    return maps.clamp(min=1e-12).log() if name == "distribution" else maps


@pytest.mark.parametrize("name", HEATMAP_LOSSES)
def test_one_loss_per_stack_smallest_for_perfect_maps(name, points):
    right = perfect(name, points)
    near, far = perfect(name, points + 0.5), perfect(name, points + 3)
    loss = HEATMAP_LOSSES[name](torch.stack([right, near, far]), points)
    assert loss.shape == (3,)
    assert 0 <= loss[0] < 0.02
    assert loss[0] < loss[1] < loss[2]


@pytest.mark.parametrize("name", HEATMAP_LOSSES)
def test_gradient_descent_leads_to_the_points(name, points):
    maps = torch.zeros(1, 4, 5, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([maps], 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        HEATMAP_LOSSES[name](maps, points).sum().backward()
        optimizer.step()
    decoded = spatial_softmax(maps.detach()) if name == "distribution" else maps.detach()
    found = torch.from_numpy(heatmaps_to_points(decoded.numpy(), "gaussian"))
    assert (found[0] - points).norm(dim=-1).mean() < 0.1


def test_mse_and_its_weights():
    point = torch.tensor([[[2.0, 2.0]]])
    target = points_to_heatmaps(point, 5, SIGMA)
    zero = torch.zeros(1, 1, 1, 5, 5)
    torch.testing.assert_close(mse_loss(zero, point), (target**2).mean()[None])
    expected = (target**2 * (1 + 7 * target)).mean()[None]
    torch.testing.assert_close(weighted_mse_loss(zero, point, foreground=7), expected)


def test_adaptive_wing_is_the_formula():
    """Wang et al. 2019, equation 3, at one cell with target 1 and one far away, and continuous at theta."""
    point = torch.tensor([[[4.0, 4.0]]])
    maps = points_to_heatmaps(point, 9, SIGMA)[None]

    def change(cell, error):
        moved = maps.clone()
        moved[0, 0, 0, cell, cell] -= error
        return 81 * adaptive_wing_loss(moved, point).item()

    peak = 11 * 14 * math.log(1 + 0.3 ** (2.1 - 1))
    assert change(4, 0.3) == pytest.approx(peak, rel=1e-3)
    assert change(4, 0.5001) == pytest.approx(change(4, 0.4999), rel=1e-2)
    assert change(0, 0.3) < peak / 20  # an empty cell matters far less


def test_distribution_loss_measures_the_nme():
    """Its second part is the distance over that of the eyes."""
    points = torch.tensor([[[4.0, 5.0], [12.0, 5.0], [8.0, 8.0], [5.0, 11.0], [11.0, 11.0]]])
    moved = perfect("distribution", points + torch.tensor([0.4, 0.0]))[None]
    with_distance, without = (
        distribution_loss(moved, points, distance=1.0),
        distribution_loss(moved, points, distance=0),
    )
    assert (with_distance - without).item() == pytest.approx(0.4 / 8, rel=0.02)
    assert without.item() == pytest.approx(0.4**2 / (2 * SIGMA**2), rel=0.05)


@pytest.mark.parametrize("name", HEATMAP_LOSSES)
def test_points_outside_the_map_do_no_harm(name, points):
    outside = points.clone()
    outside[:, 2] = torch.tensor([-40.0, 8.0])
    maps = perfect(name, points)[None].requires_grad_()
    loss = HEATMAP_LOSSES[name](maps, outside)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(maps.grad).all()
    if name == "distribution":
        assert maps.grad[:, :, 2].abs().max() < 1e-6
