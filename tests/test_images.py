import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from facelib.images import find_photos, read_image, warp_image


@pytest.fixture
def gradient():
    """A picture without symmetry: red grows to the right, green to the bottom."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([columns * 4, rows * 6, np.full_like(rows, 90)], -1).astype(np.uint8)


def save(image, path, **options):
    image.save(path, **options)
    return path


def test_path_pil_and_array_agree(gradient, tmp_path):
    path = save(Image.fromarray(gradient), tmp_path / "a.png")
    for photo in (path, str(path), Image.fromarray(gradient), gradient):
        image = read_image(photo)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, gradient)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(gradient, tmp_path, orientation):
    stored = {
        1: gradient,
        2: gradient[:, ::-1],
        3: gradient[::-1, ::-1],
        4: gradient[::-1],
        5: gradient.transpose(1, 0, 2),
        6: np.rot90(gradient),
        7: np.rot90(gradient, 2).transpose(1, 0, 2),
        8: np.rot90(gradient, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    path = save(image, tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), gradient)


def test_grey_palette_cmyk(gradient, tmp_path):
    image = Image.fromarray(gradient)
    grey = read_image(save(image.convert("L"), tmp_path / "grey.jpg", quality=100))
    assert grey.shape == gradient.shape
    assert (grey[..., 0] == grey[..., 2]).all()
    palette = read_image(save(image.convert("P", palette=Image.Palette.ADAPTIVE), tmp_path / "palette.png"))
    assert np.abs(palette.astype(int) - gradient).mean() < 10
    cmyk = read_image(save(image.convert("CMYK"), tmp_path / "cmyk.jpg", quality=100))
    assert np.abs(cmyk.astype(int) - gradient).mean() < 4


def test_sixteen_bits_become_eight(tmp_path):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    for photo in (tmp_path / "deep.png", values):
        image = read_image(photo)
        np.testing.assert_array_equal(image[..., 0], values >> 8)


@pytest.mark.parametrize("name", ["clear.png", "clear.webp"])
def test_transparency_is_put_on_white(gradient, tmp_path, name):
    alpha = np.full((*gradient.shape[:2], 1), 255, np.uint8)
    alpha[:, :30] = 0
    image = read_image(save(Image.fromarray(np.concatenate([gradient, alpha], 2)), tmp_path / name, lossless=True))
    assert (image[:, :30] == 255).all()
    np.testing.assert_array_equal(image[:, 30:], gradient[:, 30:])


def test_transparent_array(gradient):
    alpha = np.zeros((*gradient.shape[:2], 1), np.uint8)
    assert (read_image(np.concatenate([gradient, alpha], 2)) == 255).all()


def test_animation_gives_first_frame(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "green")]
    path = save(frames[0], tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (read_image(path) == [255, 0, 0]).all()


def test_one_pixel_and_hundred_megapixels(tmp_path):
    assert read_image(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
    path = save(Image.new("L", (12_500, 8_000)), tmp_path / "huge.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (8_000, 12_500, 3)


def test_over_the_limit_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("facelib.images.MAX_PIXELS", 100)
    path = save(Image.new("L", (20, 20)), tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large\.png.*20 x 20"):
        read_image(path)


def test_bad_files_are_named(gradient, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        read_image(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg is not an image"):
        read_image(tmp_path / "text.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.jpg"):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(ValueError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp"])
def test_truncated_files_are_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"cut{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\{suffix}"):
        read_image(path)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((0, 10, 3), np.uint8), "empty"),
        (np.zeros((10, 10, 3), np.float32), "float32"),
        (np.full((10, 10, 3), np.nan), "NaN"),
        (np.zeros((10, 10, 2), np.uint8), "shape"),
        (np.zeros((2, 10, 10, 3), np.uint8), "shape"),
        (np.zeros((10, 10, 3), bool), "bool"),
        (np.zeros((10, 10, 3), np.int64), "int64"),
    ],
)
def test_bad_arrays(array, says):
    with pytest.raises(ValueError, match=says):
        read_image(array)


def test_other_types():
    with pytest.raises(TypeError, match="NoneType"):
        read_image(None)


def test_find_photos(tmp_path):
    for name in ("b/2.PNG", "a/1.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_photos([tmp_path, tmp_path / "gone.jpg"])
    assert [p.name for p in found] == ["1.jpg", "2.PNG", "gone.jpg"]


@pytest.mark.parametrize("scale", [1.7, 0.9, 0.5, 0.3, 0.11, 0.03])
@pytest.mark.parametrize("angle", [0, 33, 200])
def test_warp_keeps_pixel_centres(scale, angle):
    """A soft spot, wherever the warp sends it, lies where the matrix says."""
    spot = np.array([433.3, 377.7])
    rows, columns = np.mgrid[0:900, 0:1000]
    radius = 1.5 / scale
    image = 255 * np.exp(-((columns - spot[0]) ** 2 + (rows - spot[1]) ** 2) / (2 * radius**2))
    image = image.round().astype(np.uint8)[..., None].repeat(3, 2)
    turn = np.deg2rad(angle)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    target = np.array([30.4, 21.8])
    matrix = np.hstack([linear, (target - linear @ spot)[:, None]])
    out = warp_image(image, matrix, 64)[..., 0].astype(float)
    rows, columns = np.mgrid[0:64, 0:64]
    centre = np.array([(out * columns).sum(), (out * rows).sum()]) / out.sum()
    np.testing.assert_allclose(centre, target, atol=0.06)


def test_warp_averages_before_it_shrinks():
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    out = warp_image(stripes, np.array([[0.1, 0, 0], [0, 0.1, 0]]), 80)
    assert np.abs(out.astype(int) - 127).max() <= 2


def test_warp_of_a_photo_wider_than_opencv_allows():
    wide = np.zeros((20, 40_000, 3), np.uint8)
    wide[:, 39_990:] = 200
    out = warp_image(wide, np.array([[1.0, 0, -39_980], [0, 1, 0]]), 20)
    assert (out[:, :10] == 0).all()
    assert (out[:, 10:] == 200).all()
