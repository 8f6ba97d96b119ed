import numpy as np
import pytest

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
    return np.random.default_rng(0).uniform(low, high, (count, 2)).astype(np.float32)


def errors(found, points):
    assert found.dtype == np.float32
    return np.linalg.norm(found - points, axis=-1)


@pytest.mark.parametrize("sigma", [1.0, 1.25, 2.0])
@pytest.mark.parametrize(("low", "high"), [(3.0, 28.0), (0.0, 31.0)])
def test_decoding_inverts_encoding(sigma, low, high):
    points = random_points(low, high)
    error = errors(heatmaps_to_points(points_to_heatmaps(points, 32, sigma)), points)
    assert error.mean() < 0.01
    assert error.max() < 0.05


def test_decoders_from_coarse_to_fine():
    points = random_points(4, 27)
    noise = 0.01 * np.random.default_rng(1).standard_normal((500, 32, 32), dtype=np.float32)
    maps = points_to_heatmaps(points, 32, 1.25) + noise
    error = {name: errors(heatmaps_to_points(maps, name), points).mean() for name in DECODERS}
    assert error["gaussian"] < 0.05
    assert error["gaussian"] < error["expectation"] < error["quarter"] < error["argmax"]


@pytest.mark.parametrize("method", ["gaussian", "dark"])
def test_exact_at_the_border(method):
    """Points whose Gaussian is truncated by the border of the map, corners included."""
    points = np.concatenate([random_points(-0.4, 3), 31 - random_points(-0.4, 3)])
    assert errors(heatmaps_to_points(points_to_heatmaps(points, 32, 1.25), method), points).mean() < 0.05


def test_dark_fits_a_rotated_gaussian():
    points = random_points(6, 25)
    y, x = np.mgrid[:32, :32].astype(np.float32)
    dx, dy = x - points[:, 0, None, None], y - points[:, 1, None, None]
    maps = np.exp(-(dx**2 + dy**2 - 1.4 * dx * dy) / 3)
    error = {name: errors(heatmaps_to_points(maps, name), points).mean() for name in ("dark", "gaussian")}
    assert error["dark"] < 0.05 < error["gaussian"]


def test_soft_argmax_of_a_distribution():
    points = random_points(5, 26)
    logits = np.log(points_to_heatmaps(points, 32, 1.25).clip(min=1e-9))
    np.testing.assert_allclose(expected_points(spatial_softmax(logits)), points, atol=0.02)
    np.testing.assert_allclose(heatmaps_to_points(spatial_softmax(logits), "soft_argmax"), points, atol=0.02)


def test_peak_is_one_at_the_point_and_rows_are_y():
    maps = points_to_heatmaps(np.array([[5.0, 9.0]]), 16)
    assert maps.shape == (1, 16, 16)
    assert maps.dtype == np.float32
    assert maps[0, 9, 5] == 1
    assert maps.max() == 1


def test_points_outside_leave_only_a_tail():
    assert points_to_heatmaps(np.array([[-30.0, 5.0]]), 16).max() < 1e-6
    assert 0 < points_to_heatmaps(np.array([[-1.0, 5.0]]), 16).max() < 1


def test_cells_and_pixels_are_inverse_and_centred():
    points = random_points(0, 100)
    np.testing.assert_allclose(cells_to_image(image_to_cells(points, 4), 4), points, rtol=1e-5, atol=1e-5)
    # The middle of a 128-pixel image is the middle of its 32 cells.
    np.testing.assert_array_equal(image_to_cells(np.array([63.5, 63.5]), 4), [15.5, 15.5])


def test_bad_input():
    with pytest.raises(ValueError, match="NaN"):
        points_to_heatmaps(np.array([[np.nan, 1.0]]), 16)
    with pytest.raises(ValueError, match="shape"):
        points_to_heatmaps(np.zeros((4, 3)), 16)
    with pytest.raises(ValueError, match="NaN"):
        heatmaps_to_points(np.full((1, 8, 8), np.nan))
    with pytest.raises(ValueError, match="shape"):
        heatmaps_to_points(np.zeros((8, 2)))
    with pytest.raises(ValueError, match="nearest"):
        heatmaps_to_points(np.zeros((1, 8, 8)), "nearest")


@pytest.mark.parametrize("method", DECODERS)
def test_flat_and_empty_maps(method):
    points = heatmaps_to_points(np.zeros((3, 8, 8), np.float32), method)
    assert np.isfinite(points).all()
    assert ((points >= -1) & (points <= 8)).all()
    assert heatmaps_to_points(np.zeros((0, 5, 8, 8), np.float32), method).shape == (0, 5, 2)


def test_confidence_is_low_for_maps_unlike_a_gaussian():
    point = np.array([[12.3, 9.6]])
    sharp = points_to_heatmaps(point, 32)
    second_peak = points_to_heatmaps(np.array([[24.0, 24.0]]), 32)
    maps = {
        "sharp": sharp,
        "half as high": 0.5 * sharp,
        "as a distribution": sharp / sharp.sum(),
        "wide": points_to_heatmaps(point, 32, sigma=2.5),
        "second peak": sharp + 0.6 * second_peak,
        "noise": 0.05 * np.random.default_rng(0).random((1, 32, 32), dtype=np.float32),
        "empty": np.zeros((1, 32, 32), np.float32),
    }
    confidence = {name: heatmap_confidence(m, heatmaps_to_points(m)).item() for name, m in maps.items()}
    assert confidence["sharp"] > 0.999
    assert confidence["half as high"] == pytest.approx(confidence["sharp"], abs=1e-4)
    assert confidence["as a distribution"] == pytest.approx(confidence["sharp"], abs=1e-4)
    assert 0.7 < confidence["wide"] < 0.9
    assert 0.8 < confidence["second peak"] < 0.9
    assert confidence["noise"] < 0.4
    assert confidence["empty"] == 0
