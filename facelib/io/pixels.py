"""A picture that is decoded, or about to be, as RGB uint8: upright, on white, of 8 bits, with little memory."""

import contextlib
import tempfile
from collections.abc import Iterator

import numpy as np
from PIL import Image

STRIP_PIXELS = 2**20  # converted at a time, so that a conversion holds no second copy of a large photo
SPOOLED_PIXELS = 64_000_000  # from which a photo is converted through a file, see `as_array`
ORIENTATION = 0x0112  # EXIF tag


def as_array(image: Image.Image, may_close: bool) -> np.ndarray:
    """A loaded PIL image as RGB uint8 (H, W, 3).

    Pillow takes 4 bytes a pixel and the array 3: of a vast photo they are not held at once, where there is room
    for a file between them.
    """
    width, height = image.size
    if may_close and width * height > SPOOLED_PIXELS:
        with contextlib.suppress(OSError), tempfile.TemporaryFile() as spool:
            for _, strip in _strips(image):
                spool.write(strip.tobytes())
            spool.seek(0)
            image.close()
            return np.fromfile(spool, np.uint8).reshape(height, width, 3)
    pixels = np.empty((height, width, 3), np.uint8)
    for top, strip in _strips(image):
        pixels[top : top + len(strip)] = strip
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """First row and RGB uint8 (h, W, 3) of one strip after the other."""
    deep = image.mode.startswith("I")
    highest = max(int(np.asarray(strip).max()) for _, strip in _parts(image)) if deep else 0
    transparent = image.has_transparency_data
    for top, strip in _parts(image):
        if deep:
            yield top, np.repeat(eight_bits(np.asarray(strip), highest)[..., None], 3, axis=2)
        else:
            yield top, on_white(strip) if transparent else np.asarray(strip.convert("RGB"))


def _parts(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """First row and picture of one strip after the other, in the mode of the image."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        # Not crop(), which compares with the limit that this process has set for Pillow.
        yield top, image.resize((width, box[3] - top), Image.Resampling.NEAREST, box)


def on_white(strip: Image.Image) -> np.ndarray:
    """What is transparent shows white: RGB uint8."""
    white = Image.new("RGBA", strip.size, "white")
    return np.asarray(Image.alpha_composite(white, strip.convert("RGBA")).convert("RGB"))


def eight_bits(values: np.ndarray, highest: int) -> np.ndarray:
    """Integers up to `highest` as uint8, by the number of bits that such values usually come in."""
    bits = next((bits for bits in (8, 12, 16, 24) if highest < 2**bits), int(highest).bit_length())
    return (np.maximum(values, 0) >> (bits - 8)).astype(np.uint8)


def orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts; 1 where the file says nothing or the note is broken, which spoils no pixel."""
    try:
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return turn if turn in range(1, 9) else 1


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Pixels (H, W, 3) as they are seen, by the number that `orientation` gives."""
    if turn >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
