"""Heatmaps on PyTorch tensors equal those in NumPy, and have gradients."""

import numpy as np
import pytest
import torch

from facelib.alignment import heatmaps
from facelib.training import heatmap_tensors


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(-2, 34, (50, 5, 2)).astype(np.float32)


def test_both_forms_are_equal(points):
    drawn = heatmap_tensors.points_to_heatmaps(torch.from_numpy(points), 32)
    np.testing.assert_allclose(drawn, heatmaps.points_to_heatmaps(points, 32), atol=1e-6)
    maps = 5 * torch.randn(50, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    softmax = heatmap_tensors.spatial_softmax(maps)
    np.testing.assert_allclose(softmax, heatmaps.spatial_softmax(maps.numpy()), atol=1e-6)
    expected = heatmap_tensors.expected_points(softmax)
    np.testing.assert_allclose(expected, heatmaps.expected_points(softmax.numpy()), atol=1e-4)


def test_gradients_reach_the_points(points):
    tensor = torch.from_numpy(points).clamp(4, 28).requires_grad_()
    maps = heatmap_tensors.points_to_heatmaps(tensor, 32)
    heatmap_tensors.expected_points(heatmap_tensors.spatial_softmax(maps)).sum().backward()
    assert (tensor.grad.abs() > 0).all()


def test_bad_input():
    with pytest.raises(ValueError, match="shape"):
        heatmap_tensors.points_to_heatmaps(torch.zeros(4, 3), 16)
    with pytest.raises(ValueError, match="NaN"):
        heatmap_tensors.points_to_heatmaps(torch.tensor([[torch.nan, 1.0]]), 16)
