"""PIL images as RGB uint8 arrays: upright, on a white background, with 8 bits, using little memory."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

STRIP_PIXELS = 2**20  # converted at a time, so that a conversion never holds a second copy of a large photo
SPOOLED_PIXELS = 64_000_000  # larger photos are converted through a temporary file, see `as_array`
ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class PhotoHeader:
    """What a photo's file says before its pixels.

    size: width and height of the photo as it is stored, in pixels.
    orientation: EXIF orientation, 1 to 8, which makes it upright.
    xmp: its XMP packet; b"" where there is none.
    """

    size: tuple[int, int]
    orientation: int
    xmp: bytes


def as_array(image: Image.Image, may_close: bool) -> np.ndarray:
    """A loaded PIL image as RGB uint8 (H, W, 3).

    Pillow takes 4 bytes a pixel and the array 3. Of a very large photo, the two are not in memory at the same time:
    the pixels go through a temporary file, if `may_close` allows to close the image and the disk has room.
    """
    width, height = image.size
    if may_close and width * height > SPOOLED_PIXELS:
        with contextlib.suppress(OSError), tempfile.TemporaryFile() as spool:
            for _, strip in _rgb_strips(image):
                spool.write(strip.tobytes())
            spool.seek(0)
            image.close()
            return np.fromfile(spool, np.uint8).reshape(height, width, 3)
    pixels = np.empty((height, width, 3), np.uint8)
    for top, strip in _rgb_strips(image):
        pixels[top : top + len(strip)] = strip
    return pixels


def _rgb_strips(image: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """Horizontal strips of an image: the first row, and RGB uint8 (h, W, 3)."""
    is_deep = image.mode.startswith("I")
    highest = max(int(np.asarray(strip).max()) for _, strip in _strips(image)) if is_deep else 0
    is_transparent = image.has_transparency_data
    for top, strip in _strips(image):
        if is_deep:
            yield top, np.repeat(eight_bits(np.asarray(strip), highest)[..., None], 3, axis=2)
        elif is_transparent:
            yield top, on_white(strip)
        else:
            yield top, np.asarray(strip.convert("RGB"))


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Horizontal strips of an image: the first row, and the strip in the mode of the image."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        # Not crop(), which enforces the pixel limit that this process has set for Pillow.
        yield top, image.resize((width, box[3] - top), Image.Resampling.NEAREST, box)


def on_white(strip: Image.Image) -> np.ndarray:
    """RGB uint8 (H, W, 3) of an image with transparency, composited on white."""
    white = Image.new("RGBA", strip.size, "white")
    return np.asarray(Image.alpha_composite(white, strip.convert("RGBA")).convert("RGB"))


def eight_bits(values: np.ndarray, highest: int) -> np.ndarray:
    """Integers as uint8: the range of 8, 12, 16, 24 or more bits that the value `highest` needs becomes 0 to 255."""
    bits = next((bits for bits in (8, 12, 16, 24) if highest < 2**bits), int(highest).bit_length())
    return (np.maximum(values, 0) >> (bits - 8)).astype(np.uint8)


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where it is missing or the metadata are broken, which does not affect the pixels."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def upright(pixels: np.ndarray, exif_orientation: int) -> np.ndarray:
    """Pixels (H, W, 3) rotated and mirrored as the EXIF orientation asks, see `orientation`."""
    if exif_orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if exif_orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if exif_orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
