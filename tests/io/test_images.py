import base64
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from facelib.alignment.crop import warp_image
from facelib.io.images import read_image
from facelib.types import ImageError


@pytest.fixture
def gradient():
    """An image without symmetry: red increases to the right, green to the bottom."""
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
def test_transparency_is_composited_on_white(gradient, tmp_path, name):
    alpha = np.full((*gradient.shape[:2], 1), 255, np.uint8)
    alpha[:, :30] = 0
    image = read_image(save(Image.fromarray(np.concatenate([gradient, alpha], 2)), tmp_path / name, lossless=True))
    assert (image[:, :30] == 255).all()
    np.testing.assert_array_equal(image[:, 30:], gradient[:, 30:])


@pytest.mark.parametrize("highest", [1, 200, 255, 4095, 65535])
@pytest.mark.parametrize("kind", ["array", "I;16 png", "I tiff"])
def test_deep_images_with_small_values_are_not_black(tmp_path, highest, kind):
    """Values up to 255 count as 8 bits, up to 4095 as the 12 bits of a camera."""
    values = np.linspace(0, highest, 256).round().astype(np.uint16).reshape(16, 16)
    photo = values
    if kind == "I;16 png":
        photo = save(Image.fromarray(values), tmp_path / "deep.png")
    if kind == "I tiff":
        photo = save(Image.fromarray(values.astype(np.int32)), tmp_path / "deep.tif")
    expected = values >> {1: 0, 200: 0, 255: 0, 4095: 4, 65535: 8}[highest]
    np.testing.assert_array_equal(read_image(photo), np.repeat(expected[..., None], 3, 2))


def test_big_endian_sixteen_bits(tmp_path):
    values = np.linspace(0, 60_000, 256).astype(np.uint16).reshape(16, 16)
    image = Image.fromarray(values.astype(">u2"))
    assert image.mode == "I;16B"
    np.testing.assert_array_equal(read_image(save(image, tmp_path / "deep.tif"))[..., 0], values >> 8)


def test_a_small_photo_in_a_huge_file(tmp_path, monkeypatch):
    path = save(Image.new("RGB", (20, 20)), tmp_path / "a.webp")
    with open(path, "ab") as file:
        file.truncate(300_000_000)
    with pytest.raises(ImageError, match=r"a\.webp is a file of more than 250 MB"):
        read_image(path)


def test_thirty_two_bits(tmp_path):
    values = np.array([[-5, 0, 2**30, 2**31 - 1]], np.int32).repeat(4, 0)
    image = read_image(save(Image.fromarray(values), tmp_path / "deep.tif"))
    assert image[0, :, 0].tolist() == [0, 0, 128, 255]


def test_transparent_array(gradient):
    alpha = np.zeros((*gradient.shape[:2], 1), np.uint8)
    assert (read_image(np.concatenate([gradient, alpha], 2)) == 255).all()


def test_animation_gives_first_frame(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "green")]
    path = save(frames[0], tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (read_image(path) == [255, 0, 0]).all()


def test_the_current_frame_of_a_pil_image_is_read(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "green")]
    with Image.open(save(frames[0], tmp_path / "moving.gif", save_all=True, append_images=frames[1:])) as image:
        image.seek(1)
        assert (read_image(image) == [0, 0, 255]).all()
        assert image.tell() == 1


def test_strips_join_seamlessly(gradient, tmp_path, monkeypatch):
    large = np.tile(gradient, (3, 2, 1))
    path = save(Image.fromarray(large), tmp_path / "a.png")
    for name in ("STRIP_PIXELS", "SPOOLED_PIXELS"):
        monkeypatch.setattr(f"facelib.io.pixels.{name}", 500)
        np.testing.assert_array_equal(read_image(path), large)


def test_pillow_limits_of_the_process_do_not_matter(gradient, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(save(Image.fromarray(gradient), tmp_path / "a.png"))
    np.testing.assert_array_equal(image, gradient)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_one_pixel_and_hundred_megapixels(tmp_path):
    assert read_image(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
    path = save(Image.new("L", (12_500, 8_000)), tmp_path / "huge.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (8_000, 12_500, 3)


def test_over_the_limit_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("facelib.io.images.MAX_PIXELS", 100)
    path = save(Image.new("L", (20, 20)), tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"large\.png.*20 x 20"):
        read_image(path)


def test_errors_name_the_file(gradient, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        read_image(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ImageError, match=r"text\.jpg is not an image"):
        read_image(tmp_path / "text.jpg")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    with pytest.raises(ImageError, match=r"clip\.mp4 is a video, not a photo: facelib video reads it"):
        read_image(tmp_path / "clip.mp4")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.jpg"):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_missing_permission_is_an_error_of_its_own(tmp_path, monkeypatch):
    path = save(Image.new("RGB", (9, 9)), tmp_path / "a.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError, match=r"a\.png: no permission to read it"):
        read_image(path)


def test_a_failing_disk_is_not_a_damaged_photo(tmp_path, monkeypatch):
    path = save(Image.new("RGB", (9, 9), "red"), tmp_path / "a.png")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(OSError, match=r"a\.png: reading it failed \(Input/output error\)"):
        read_image(path)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(ImageError, match=f"{name} is not a regular file"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("rows", [0, 10, 39, 40])
def test_truncated_png_is_an_error(tmp_path, rows, interlaced):
    """Its compressed data end properly, but before the last row: Pillow would leave the rest at 0."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 40, 40, 8, 0, 0, 0, interlaced)
    sizes = [(5, 5), (5, 5), (10, 5), (10, 10), (20, 10), (20, 20), (40, 20)] if interlaced else [(40, 40)]
    lines = [b"\0" + bytes([200]) * width for width, height in sizes for _ in range(height)]
    data = zlib.compress(b"".join(lines[: len(lines) * rows // 40]))
    path = tmp_path / "half.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    if rows == 40:
        assert (read_image(path) == 200).all()
    else:
        with pytest.raises(ImageError, match=r"half\.png is damaged"):
            read_image(path)


def test_black_images_are_complete(tmp_path):
    for mode in ("RGB", "L", "P", "RGBA", "1"):
        assert read_image(save(Image.new(mode, (30, 20)), tmp_path / f"{mode}.png")).shape == (20, 30, 3)


def test_broken_exif_is_ignored(gradient, tmp_path):
    path = save(Image.fromarray(gradient), tmp_path / "a.png", exif=b"Exif\0\0II*\0")
    np.testing.assert_array_equal(read_image(path), gradient)


def test_webp_is_the_same_through_either_library(gradient, tmp_path):
    alpha = np.linspace(0, 255, gradient[..., :1].size).astype(np.uint8).reshape(*gradient.shape[:2], 1)
    for name, pixels in (("rgb", gradient), ("rgba", np.concatenate([gradient, alpha], 2))):
        path = save(Image.fromarray(pixels), tmp_path / f"{name}.webp", quality=70)
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_image(path), read_image(image))


MEMORY = """
import sys
from facelib.io.images import read_image
status = lambda name: int(open("/proc/self/status").read().split(name)[1].split()[0]) / 1000
before = status("VmRSS:")
assert read_image(sys.argv[1]).shape == (5000, 10000, 3)
print(status("VmHWM:") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["a.jpg", "turned.jpg", "transparent.png", "a.webp", "a.tif"])
def test_memory_of_fifty_megapixels(tmp_path, kind):
    image = Image.new("RGBA" if kind == "transparent.png" else "RGB", (10_000, 5_000), (200, 90, 50))
    exif = image.getexif()
    if kind == "turned.jpg":
        image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
    image.save(tmp_path / kind, exif=exif, compress_level=1, method=0)
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 600


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp", ".avif", ".jp2"])
def test_truncated_files_are_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"truncated{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"truncated\{suffix}"):
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
    with pytest.raises(ImageError, match=says):
        read_image(array)


def test_other_types():
    with pytest.raises(TypeError, match="NoneType"):
        read_image(None)


@pytest.mark.parametrize("scale", [1.7, 0.9, 0.5, 0.3, 0.11, 0.03])
@pytest.mark.parametrize("angle", [0, 33, 200])
def test_warp_keeps_pixel_centres(scale, angle):
    """A blurred spot lies where the matrix maps it."""
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


def test_warp_of_an_image_wider_than_opencv_allows():
    wide = np.zeros((20, 40_000, 3), np.uint8)
    wide[:, 39_990:] = 200
    out = warp_image(wide, np.array([[1.0, 0, -39_980], [0, 1, 0]]), 20)
    assert (out[:, :10] == 0).all()
    assert (out[:, 10:] == 200).all()


# 96 x 64 pixels, red above blue.
HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAACkAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAADFt"
    "ZGF0AAAAJSgBrxmAxoG8XLfqv//Lh9/zDNL2ztVh//xx/X3YNf8tieDF7XA="
)


def test_heic_as_phones_write_it(tmp_path):
    from PIL import Image as pillow

    (tmp_path / "IMG_1.HEIC").write_bytes(base64.b64decode(HEIC))
    known = set(pillow.OPEN)
    image = read_image(tmp_path / "IMG_1.HEIC")
    assert image.shape == (64, 96, 3)
    assert image[10, 50, 0] > 150 > 100 > image[10, 50, 2]
    assert image[50, 50, 2] > 150 > 100 > image[50, 50, 0]
    assert "HEIF" not in set(pillow.OPEN) - known  # the registry belongs to the whole process
    (tmp_path / "IMG_2.HEIC").write_bytes(base64.b64decode(HEIC)[:300])
    with pytest.raises(ImageError, match=r"IMG_2\.HEIC is damaged or truncated"):
        read_image(tmp_path / "IMG_2.HEIC")


def test_content_instead_of_a_path(tmp_path, monkeypatch):
    """Bytes, open files and "~" give the same photo; open files keep their position."""
    picture = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for form in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        np.testing.assert_array_equal(read_image(form), picture)
    with open(tmp_path / "a.png", "rb") as file:
        np.testing.assert_array_equal(read_image(file), picture)
        np.testing.assert_array_equal(read_image(file), picture)
        assert file.tell() == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(read_image("~/a.png"), picture)
    np.testing.assert_array_equal(read_image((tmp_path / "a.png").as_uri()), picture)
    with open(tmp_path / "a.png", encoding="latin-1") as text, pytest.raises(TypeError, match=r'open\(path, "rb"\)'):
        read_image(text)
    written = io.BytesIO()
    Image.fromarray(picture).save(written, "PNG")  # its position is at the end
    np.testing.assert_array_equal(read_image(written), picture)
    for empty in (b"", io.BytesIO()):
        with pytest.raises(ImageError, match="the photo of 0 bytes is empty"):
            read_image(empty)
    with pytest.raises(ImageError, match="the photo of 4 bytes is not an image"):
        read_image(b"text")
    (tmp_path / "a.NEF").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.NEF is a raw file of a camera"):
        read_image(tmp_path / "a.NEF")


def test_truncated_photos_are_refused_even_if_pillow_accepts_them(monkeypatch):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for kind in ("JPEG", "TIFF", "PNG", "GIF"):
        out = io.BytesIO()
        picture.save(out, kind)
        with pytest.raises(ImageError, match="damaged or truncated"):
            read_image(out.getvalue()[: len(out.getvalue()) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_tensors_are_not_lists_of_photos(pipeline):
    import torch
    from torchvision.tv_tensors import Image as Tensor

    for tensor in (torch.zeros(3, 9, 9), Tensor(torch.zeros(3, 9, 9, dtype=torch.uint8))):
        with pytest.raises(TypeError, match="a torch Tensor is not a photo"):
            pipeline(tensor)


@pytest.mark.parametrize(
    ("photo", "says"),
    [
        ("https://example.invalid/a/photo.jpg", "https://example.invalid/a/photo.jpg is a web address"),
        ("data:image/jpeg;base64," + "QUJD" * 3000, r"\(12,023 characters\) is not a path.*base64\.b64decode"),
        ("QUJD" * 3000, "is not a path"),
        (np.zeros((2, 9, 9, 3), np.uint8), r"is 2 frames, not one photo.*list\(frames\)"),
        (np.full((9, 9, 3), 200, np.float32), r"convert these values with array\.round\(\)\.astype"),
        (np.full((9, 9, 3), 0.5), r"convert values from 0 to 1 with \(255 \* array\)"),
        (np.full((9, 9, 3), 999), "from 999 to 999: expected uint8"),
        (np.full((9, 9, 3), np.nan), "with NaN or infinity"),
        (np.ones((9, 9, 3), bool), r"255 \* array\.astype"),
    ],
)
def test_errors_are_short_and_say_what_to_do(photo, says):
    with pytest.raises(ImageError, match=says) as raised:
        read_image(photo)
    assert len(str(raised.value)) <= 400
