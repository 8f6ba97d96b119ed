import numpy as np
import pytest
import torch

from facelib.alignment.heatmaps import heatmaps_to_points, image_to_cells
from facelib.alignment.hourglass import Hourglass, Residual, StackedHourglass
from facelib.training.heatmap_losses import mse_loss, weighted_mse_loss
from facelib.training.heatmap_tensors import points_to_heatmaps


def test_blocks_keep_the_size():
    x = torch.randn(2, 8, 16, 24)
    assert Residual(8, 12)(x).shape == (2, 12, 16, 24)
    assert Hourglass(3, 8)(x).shape == x.shape


def test_every_stack_predicts_and_every_parameter_learns():
    model = StackedHourglass(points=5, stacks=3, channels=16, depth=2)
    maps = model(torch.randn(2, 3, 64, 64))
    assert maps.shape == (3, 2, 5, 16, 16)
    mse_loss(maps, torch.rand(2, 5, 2) * 15).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_later_stacks_use_earlier_heatmaps():
    torch.manual_seed(0)
    model = StackedHourglass(stacks=2, channels=16, depth=1).eval()
    images = torch.randn(1, 3, 32, 32)
    before = model(images)
    with torch.no_grad():
        model.merge_heatmaps[0].weight.add_(1)
    after = model(images)
    torch.testing.assert_close(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-3


def test_it_learns_to_find_a_bright_spot():
    torch.manual_seed(0)

    def batch(n):
        points = torch.rand(n, 1, 2) * 44 + 10
        spot = points_to_heatmaps(points, 64, 3.0)
        return spot.expand(n, 3, 64, 64), image_to_cells(points, 4)

    model = StackedHourglass(points=1, stacks=1, channels=16, depth=2)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        images, cells = batch(16)
        loss = weighted_mse_loss(model(images), cells).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, cells = batch(32)
    model.eval()
    with torch.inference_mode():
        found = heatmaps_to_points(model(images)[-1].numpy())
    error = np.linalg.norm(found - cells.numpy(), axis=-1)
    assert error.mean() < 0.6  # cells; always predicting the centre would be off by 4


def test_bad_input():
    with pytest.raises(ValueError, match="divisible by 32"):
        StackedHourglass(depth=3, channels=16)(torch.zeros(1, 3, 100, 100))
    with pytest.raises(ValueError, match="channels=6"):
        StackedHourglass(channels=6)
