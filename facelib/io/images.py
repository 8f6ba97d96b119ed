"""Any photo, from any source, as RGB uint8 (H, W, 3): upright, whole, or an error that names it."""

import io
import os
import stat
import threading
import zlib
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from facelib.io.files import printable
from facelib.io.formats import HEAD_BYTES, RAW, openers_of
from facelib.io.inputs import MAX_BYTES, Photo, content_of, path_of
from facelib.io.pixels import STRIP_PIXELS, as_array, eight_bits, on_white, orientation, upright

MAX_PIXELS = 200_000_000
# Formats whose decoders take 9 to 19 bytes a pixel: pixels that they may have, so that they need no more than others.
COSTLY = {"AVIF": 120_000_000, "HEIF": 120_000_000, "JPEG2000": 60_000_000, "animated WEBP": 60_000_000}
MAX_SIDE = 65_535
MAX_WHOLE_BYTES = 250_000_000  # of a file in a format that is read as a whole before it is decoded


def read_image(photo: Photo) -> np.ndarray:
    """Any photo as RGB uint8 (H, W, 3), upright.

    Takes a path ("~" is the home folder), the content of a file (bytes, or a file open for reading them, which stays
    open and where it was), a PIL image or an array. EXIF orientation is applied, transparency is put on white,
    grey becomes RGB. More than 8 bits become 8: values are divided so that the range of 8, 12, 16 or
    more bits that the largest value needs becomes 0 to 255. Of an animated file the first frame counts, of
    a PIL image the frame it stands at.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: the file may not be read.
        ValueError: not an image, damaged, empty, a folder or a pipe, an address, a side over 65,535 pixels or over 200
            megapixels, or an array that is not uint8 (or uint16) of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        OSError: the disk or the network drive fails while the file is read.
        TypeError: none of these.
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    if isinstance(photo, Image.Image):
        return _from_pil(photo, f"the {photo.mode} image")
    if isinstance(photo, str | os.PathLike):
        path = path_of(photo)
        if path.suffix.lower() in RAW:
            raise ValueError(f"{printable(path)} is a raw file of a camera: develop it to JPEG first")
        with _open_file(path, printable(path)) as file:
            return _from_file(file, printable(path))
    with io.BytesIO(content_of(photo)) as file:
        return _from_file(file, f"the photo of {len(file.getbuffer()):,} bytes")


def _from_file(file: BinaryIO, name: str) -> np.ndarray:
    image = _open_image(file, name)
    _check_size(image, name)
    if image.format == "WEBP" and not getattr(image, "is_animated", False):
        try:
            return _from_webp(file, image)
        except Exception as error:
            raise _broken(name, error) from None
    return _from_pil(image, name, file)


def _open_file(path: Path, name: str) -> BinaryIO:
    """A regular file, opened; anything else (a pipe would wait for ever) and any failure becomes an error."""
    if "\0" in str(path):
        raise ValueError(f"{name}: no file name holds a zero byte")
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{name} is a folder: give a photo, or list its photos with find_photos")
        if not stat.S_ISREG(mode):
            raise ValueError(f"{name} is no regular file but a pipe, a socket or a device: give a photo")
        return open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{name[:300]}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{name}: reading it is forbidden; change its permissions") from None
    except OSError as error:  # a name that is too long, links in a circle, a drive that is gone
        raise OSError(f"{name[:300]}: cannot be opened ({error.strerror})") from None


def _open_image(file: BinaryIO, name: str) -> Image.Image:
    """The image in a file, its pixels not read yet.

    As `Image.open` does it, but by our limits instead of those that this process has set for Pillow.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > MAX_BYTES:
        raise ValueError(f"{name} is a file of more than {MAX_BYTES / 1e9:g} GB: no photo of 200 megapixels is")
    start, failure = file.read(HEAD_BYTES), None
    for factory in openers_of(start):
        file.seek(0)
        if (start[8:12] == b"WEBP" or start[4:8] == b"ftyp") and size > MAX_WHOLE_BYTES:
            raise ValueError(f"{name} is a file of more than {MAX_WHOLE_BYTES / 1e6:g} MB: convert it to JPEG")
        try:
            return factory(file, "")
        except Exception as error:  # every format has its own ways to fail on a broken header
            failure = error
    if failure is None:
        raise ValueError(f"{name} is not an image that can be read; is its content what the name says?")
    raise _broken(name, failure)


def _broken(name: str, error: BaseException) -> Exception:
    """What to raise when the pixels do not come."""
    if isinstance(error, MemoryError):
        return ValueError(f"{name} needs more memory than there is: shrink it first")
    if isinstance(error, OSError) and error.errno is not None:  # of the system; Pillow's own have no number
        return OSError(f"{name}: reading it failed ({error.strerror})")
    return ValueError(f"{name} is damaged or cut short ({printable(error)[:200]}): fetch it again")


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    animated = "animated " if image.format == "WEBP" and getattr(image, "is_animated", False) else ""
    most = min(MAX_PIXELS, COSTLY.get(f"{animated}{image.format}", MAX_PIXELS))
    if width * height == 0:
        raise ValueError(f"{name} is empty ({width} x {height} pixels)")
    tags = getattr(image, "tag_v2", {})
    tile = [tags.get(tag, 0) for tag in (322, 323)]  # of a TIFF, which may be larger than the picture
    if all(isinstance(side, int) for side in tile) and tile[0] * tile[1] > MAX_PIXELS:
        raise ValueError(f"{name} has tiles of {tile[0]:,} x {tile[1]:,} pixels: convert it")
    if width * height > most or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"{name} has {width:,} x {height:,} pixels: shrink it to sides of at most {MAX_SIDE:,} and "
            f"{most / 1e6:g} megapixels" + (", or convert it to JPEG" if most < MAX_PIXELS else "")
        )


def _from_pil(image: Image.Image, name: str, file: BinaryIO | None = None) -> np.ndarray:
    """`file`: what the image was opened from, if it is ours; then it may be closed."""
    _check_size(image, name)
    if image.mode == "F":
        raise ValueError(f"{name} holds floating-point values: convert it to 8 bits")
    try:
        _load(image)
        turn = orientation(image)
        whole = image.format != "PNG" or file is None or _png_is_whole(file, image)
        pixels = upright(as_array(image, may_close=file is not None), turn)
    except Exception as error:
        raise _broken(name, error) from None
    if not whole:
        raise ValueError(f"{name} is damaged or cut short (its last rows are missing): fetch it again")
    return pixels


_loading = threading.Lock()


def _load(image: Image.Image) -> None:
    """The pixels, all of them, also where the program has told Pillow to take what is there of a cut file."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        image.load()
        return
    with _loading:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


def _from_webp(file: BinaryIO, image: Image.Image) -> np.ndarray:
    """A WebP of one picture through OpenCV: the same pixels from the same library for a third of the memory."""
    turn = orientation(image)
    file.seek(0)
    content = np.frombuffer(file.read(), np.uint8)
    image.close()
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its data end too early or are none")
    if pixels.shape[2] == 3:
        return upright(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels), turn)
    result = np.empty((*pixels.shape[:2], 3), np.uint8)
    for top in range(0, len(pixels), rows := max(1, STRIP_PIXELS // pixels.shape[1])):
        strip = Image.fromarray(cv2.cvtColor(pixels[top : top + rows], cv2.COLOR_BGRA2RGBA))
        result[top : top + rows] = on_white(strip)
    return upright(result, turn)


def _png_is_whole(file: BinaryIO, image: Image.Image) -> bool:
    """Whether the compressed data of a PNG fill all its rows; Pillow leaves those at zero that are missing.

    Counted only where the last row is zero, or the rows are interlaced.
    """
    file.seek(0)
    header = file.read(33)
    width, height = np.frombuffer(header[16:24], ">u4").tolist()
    depth, kind, interlaced = header[24], header[25], header[28]
    last = image.resize((width, 1), Image.Resampling.NEAREST, (0, height - 1, width, height))
    if not interlaced and last.getbbox():
        return True
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes if x < width and y < height]
    needed = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in (parts if interlaced else [(width, height)]))
    inflate, got = zlib.decompressobj(), 0
    while got < needed and len(start := file.read(8)) == 8:
        length = int.from_bytes(start[:4])
        data = file.read(length) if start[4:] == b"IDAT" else b""
        file.seek(4 if data else length + 4, os.SEEK_CUR)
        while data and got < needed and not inflate.eof:
            got += len(inflate.decompress(data, 2**20))
            data = inflate.unconsumed_tail
    return got >= needed


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.size == 0:
        raise ValueError(f"the array is empty, its shape is {array.shape}")
    if array.ndim == 4 and array.shape[3] in (1, 3, 4):
        raise ValueError(
            f"an array of shape {array.shape} is {len(array)} frames, not one photo: give them one by one, or as "
            "list(frames) to a pipeline"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"an array of shape {array.shape} is no photo: expected RGB of shape (H, W, 3)")
    if array.dtype == np.uint16:
        array = eight_bits(array, array.max())
    if array.dtype != np.uint8:
        raise ValueError(f"an array of {array.dtype}{_advice(array)}")
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)
    if array.shape[2] == 4:
        return _from_pil(Image.fromarray(array, "RGBA"), "the RGBA array")
    return np.ascontiguousarray(array)


def _advice(array: np.ndarray) -> str:
    """How an array of another type becomes uint8, by the values that it holds."""
    expected = ": expected uint8, 0 to 255; "
    if array.dtype == bool:
        return expected + "True and False become that with 255 * array.astype('uint8')"
    if array.dtype.kind not in "iuf":
        return ": expected uint8, 0 to 255"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return " with NaN or infinity" + expected + "find out where they come from first"
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 255:
        return f" from {low:g} to {high:g}{expected}bring the values into that range first"
    if array.dtype.kind == "f" and high <= 1:
        return expected + "values from 0 to 1 become that with (255 * array).round().astype('uint8')"
    return expected + "these values become that with array.round().astype('uint8')"
