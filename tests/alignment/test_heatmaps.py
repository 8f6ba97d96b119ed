import pytest
import torch

from facelib.alignment.heatmaps import (
    DECODERS,
    cells_to_image,
    expected_points,
    heatmap_confidence,
    heatmaps_to_points,
    image_to_cells,
    points_to_heatmaps,
    spatial_softmax,
)


def random_points(low, high, count=500):
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * (high - low) + low


@pytest.mark.parametrize("sigma", [1.0, 1.25, 2.0])
@pytest.mark.parametrize(("low", "high"), [(3.0, 28.0), (0.0, 31.0)])
def test_encode_then_decode_gives_the_points_back(sigma, low, high):
    points = random_points(low, high)
    found = heatmaps_to_points(points_to_heatmaps(points, 32, sigma))
    assert (found - points).norm(dim=-1).mean() < 0.01
    assert (found - points).norm(dim=-1).max() < 0.05


def test_decoders_from_coarse_to_fine():
    points = random_points(4, 27)
    noise = 0.01 * torch.randn(500, 32, 32, generator=torch.Generator().manual_seed(1))
    maps = points_to_heatmaps(points, 32, 1.25) + noise
    error = {name: (heatmaps_to_points(maps, name) - points).norm(dim=-1).mean().item() for name in DECODERS}
    assert error["gaussian"] < 0.05
    assert error["gaussian"] < error["expectation"] < error["quarter"] < error["argmax"]


@pytest.mark.parametrize("method", ["gaussian", "dark"])
def test_exact_at_the_border_too(method):
    """Points whose Gaussian is cut by the border of the map, corners included."""
    points = torch.cat([random_points(-0.4, 3), 31 - random_points(-0.4, 3)])
    found = heatmaps_to_points(points_to_heatmaps(points, 32, 1.25), method)
    assert (found - points).norm(dim=-1).mean() < 0.05


def test_dark_follows_a_gaussian_that_lies_aslant():
    points = random_points(6, 25)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    dx, dy = x - points[:, 0, None, None], y - points[:, 1, None, None]
    maps = torch.exp(-(dx**2 + dy**2 - 1.4 * dx * dy) / 3)
    error = {name: (heatmaps_to_points(maps, name) - points).norm(dim=-1).mean() for name in ("dark", "gaussian")}
    assert error["dark"] < 0.05 < error["gaussian"]


def test_soft_argmax_of_a_distribution():
    points = random_points(5, 26)
    logits = points_to_heatmaps(points, 32, 1.25).clamp(min=1e-9).log()
    torch.testing.assert_close(expected_points(spatial_softmax(logits)), points, atol=0.02, rtol=0)
    found = heatmaps_to_points(spatial_softmax(logits), "soft_argmax")
    torch.testing.assert_close(found, points, atol=0.02, rtol=0)


def test_peak_is_one_at_the_point_and_rows_are_y():
    maps = points_to_heatmaps(torch.tensor([[5.0, 9.0]]), 16)
    assert maps.shape == (1, 16, 16)
    assert maps[0, 9, 5] == 1
    assert maps.max() == 1


def test_points_outside_leave_little():
    assert points_to_heatmaps(torch.tensor([[-30.0, 5.0]]), 16).max() < 1e-6
    assert 0 < points_to_heatmaps(torch.tensor([[-1.0, 5.0]]), 16).max() < 1


def test_cells_and_pixels_are_inverse_and_centred():
    points = random_points(0, 100)
    torch.testing.assert_close(cells_to_image(image_to_cells(points, 4), 4), points)
    # The middle of a 128 px image is the middle of its 32 cells.
    torch.testing.assert_close(image_to_cells(torch.tensor([63.5, 63.5]), 4), torch.tensor([15.5, 15.5]))


def test_bad_input():
    with pytest.raises(ValueError, match="NaN"):
        points_to_heatmaps(torch.tensor([[torch.nan, 1.0]]), 16)
    with pytest.raises(ValueError, match="shape"):
        points_to_heatmaps(torch.zeros(4, 3), 16)
    with pytest.raises(ValueError, match="NaN"):
        heatmaps_to_points(torch.full((1, 8, 8), torch.nan))
    with pytest.raises(ValueError, match="shape"):
        heatmaps_to_points(torch.zeros(8, 2))
    with pytest.raises(ValueError, match="nearest"):
        heatmaps_to_points(torch.zeros(1, 8, 8), "nearest")


@pytest.mark.parametrize("method", DECODERS)
def test_flat_and_empty_maps_do_not_crash(method):
    points = heatmaps_to_points(torch.zeros(3, 8, 8), method)
    assert torch.isfinite(points).all()
    assert ((points >= -1) & (points <= 8)).all()
    assert heatmaps_to_points(torch.zeros(0, 5, 8, 8), method).shape == (0, 5, 2)


def test_confidence_falls_with_all_that_makes_a_map_doubtful():
    point = torch.tensor([[12.3, 9.6]])
    sharp = points_to_heatmaps(point, 32)
    rest = points_to_heatmaps(torch.tensor([[24.0, 24.0]]), 32)
    maps = {
        "sharp": sharp,
        "half as high": 0.5 * sharp,
        "as a distribution": sharp / sharp.sum(),
        "wide": points_to_heatmaps(point, 32, sigma=2.5),
        "a second hill": sharp + 0.6 * rest,
        "noise": 0.05 * torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0)),
        "empty": torch.zeros(1, 32, 32),
    }
    sure = {name: heatmap_confidence(m, heatmaps_to_points(m)).item() for name, m in maps.items()}
    assert sure["sharp"] > 0.999
    assert sure["half as high"] == pytest.approx(sure["sharp"], abs=1e-4)
    assert sure["as a distribution"] == pytest.approx(sure["sharp"], abs=1e-4)
    assert 0.7 < sure["wide"] < 0.9
    assert 0.8 < sure["a second hill"] < 0.9
    assert sure["noise"] < 0.4
    assert sure["empty"] == 0
