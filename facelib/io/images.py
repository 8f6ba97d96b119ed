"""Read any photo as RGB uint8 (H, W, 3), upright and complete; errors name the photo."""

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
from facelib.io.formats import HEAD_BYTES, RAW_SUFFIXES, image_factories, is_video
from facelib.io.inputs import MAX_BYTES, Photo, content_of, path_of
from facelib.io.pixels import STRIP_PIXELS, PhotoHeader, as_array, eight_bits, on_white, orientation, upright
from facelib.types import ImageError

MAX_PIXELS = 200_000_000
# Decoders of these formats take 9 to 19 bytes a pixel; with these limits they need no more memory than the others.
MAX_PIXELS_BY_FORMAT = {"AVIF": 120_000_000, "HEIF": 120_000_000, "JPEG2000": 60_000_000, "animated WEBP": 60_000_000}
MAX_SIDE = 65_535
XMP_TAG = 700  # of TIFF
MAX_UNSTREAMED_BYTES = 250_000_000  # of a file whose format is read completely before it is decoded


def read_image(photo: Photo) -> np.ndarray:
    """Read a photo as RGB uint8 (H, W, 3), upright.

    EXIF orientation is applied, transparency is composited on white, grey becomes RGB. More than 8 bits become 8: the
    range of 8, 12, 16 or more bits that the largest value needs becomes 0 to 255. Of an animated file the first frame
    is read, of a PIL image the current frame.

    Args:
        photo: a path ("~" is the home folder), the content of a file (bytes, or a file open in binary mode, which
            stays open and keeps its position), a PIL image or an array.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: no permission to read the file.
        OSError: the disk or the network drive fails while the file is read.
        ImageError: not an image, damaged, empty, a folder or a pipe, a web address, a side over 65,535 pixels, over
            200 megapixels, or an array that is not uint8 (or uint16) of shape (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4).
        TypeError: not a photo in any of these forms.
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    if isinstance(photo, Image.Image):
        return _from_pil(photo, f"the {photo.mode} image")
    if isinstance(photo, str | os.PathLike):
        path = path_of(photo)
        if path.suffix.lower() in RAW_SUFFIXES:
            raise ImageError(f"{printable(path)} is a raw file of a camera: develop it to JPEG first")
        with _open_file(path, printable(path)) as file:
            return _from_file(file, printable(path))
    with io.BytesIO(content_of(photo)) as file:
        return _from_file(file, f"the photo of {len(file.getbuffer()):,} bytes")


def read_header(photo: Path) -> PhotoHeader:
    """Read size, orientation and XMP of a photo, without its pixels.

    Raises:
        OSError, ImageError: as `read_image`.
    """
    with _open_file(photo, printable(photo)) as file:
        image = _open_image(file, printable(photo))
        turned = orientation(image)
        # Pillow has swapped the sides of a TIFF already.
        width, height = image.size[::-1] if image.format == "TIFF" and turned >= 5 else image.size
        xmp = image.info.get("xmp") or getattr(image, "tag_v2", {}).get(XMP_TAG, b"")
        return PhotoHeader((width, height), turned, xmp.encode() if isinstance(xmp, str) else bytes(xmp))


def _from_file(file: BinaryIO, name: str) -> np.ndarray:
    image = _open_image(file, name)
    _check_size(image, name)
    if image.format == "WEBP" and not getattr(image, "is_animated", False):
        try:
            return _from_webp(file, image)
        except Exception as error:
            raise _decoding_error(name, error) from None
    return _from_pil(image, name, file)


def _open_file(path: Path, name: str) -> BinaryIO:
    """Open a regular file. Anything else is an error: reading a pipe could block for ever."""
    if "\0" in str(path):
        raise ImageError(f"{name}: a file name cannot contain a null character")
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{name} is a folder: give a photo, or list its photos with find_photos")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{name} is not a regular file but a pipe, a socket or a device: give a photo")
        return open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{name[:300]}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{name}: no permission to read it; change its permissions") from None
    except OSError as error:  # the name is too long, links form a circle, a drive is disconnected
        raise OSError(f"{name[:300]}: cannot be opened ({error.strerror})") from None


def _open_image(file: BinaryIO, name: str) -> Image.Image:
    """The PIL image of a file, pixels not decoded yet.

    Like `Image.open`, but with our own limits instead of those that this process has set for Pillow.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > MAX_BYTES:
        raise ImageError(f"{name} is a file of more than {MAX_BYTES / 1e9:g} GB: no photo of 200 megapixels is")
    head = file.read(HEAD_BYTES)
    failure = None
    for factory in image_factories(head):
        file.seek(0)
        if (head[8:12] == b"WEBP" or head[4:8] == b"ftyp") and size > MAX_UNSTREAMED_BYTES:
            raise ImageError(f"{name} is a file of more than {MAX_UNSTREAMED_BYTES / 1e6:g} MB: convert it to JPEG")
        try:
            return factory(file, "")
        except Exception as error:  # each format fails on a broken header with exceptions of its own
            failure = error
    if failure is None and is_video(head, name):
        raise ImageError(f"{name} is a video, not a photo: facelib video reads it")
    if failure is None:
        raise ImageError(f"{name} is not an image in a supported format; check that its content is what its name says")
    raise _decoding_error(name, failure)


def _decoding_error(name: str, error: BaseException) -> Exception:
    """The exception to raise where decoding failed with `error`."""
    if isinstance(error, MemoryError):
        return ImageError(f"{name} needs more memory than is available: shrink it first")
    if isinstance(error, OSError) and error.errno is not None:  # of the system; Pillow's own have no number
        return OSError(f"{name}: reading it failed ({error.strerror})")
    return ImageError(f"{name} is damaged or truncated ({printable(error)[:200]}): get a complete copy")


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height == 0:
        raise ImageError(f"{name} is empty ({width} x {height} pixels)")
    tags = getattr(image, "tag_v2", {})
    tile = [tags.get(tag, 0) for tag in (322, 323)]  # sides of a TIFF's tile, which may be larger than the image
    if all(isinstance(side, int) for side in tile) and tile[0] * tile[1] > MAX_PIXELS:
        raise ImageError(f"{name} has tiles of {tile[0]:,} x {tile[1]:,} pixels: convert it")
    is_animated = image.format == "WEBP" and getattr(image, "is_animated", False)
    format_name = f"animated {image.format}" if is_animated else str(image.format)
    limit = min(MAX_PIXELS, MAX_PIXELS_BY_FORMAT.get(format_name, MAX_PIXELS))
    if width * height > limit or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name} has {width:,} x {height:,} pixels: shrink it to sides of at most {MAX_SIDE:,} and "
            f"{limit / 1e6:g} megapixels" + (", or convert it to JPEG" if limit < MAX_PIXELS else "")
        )


def _from_pil(image: Image.Image, name: str, file: BinaryIO | None = None) -> np.ndarray:
    """`file`: the file that we opened the image from, which may then be closed; None for an image of the caller."""
    _check_size(image, name)
    if image.mode == "F":
        raise ImageError(f"{name} holds floating-point values: convert it to 8 bits")
    try:
        _load(image)
        exif_orientation = orientation(image)
        is_complete = image.format != "PNG" or file is None or _is_png_complete(file, image)
        pixels = upright(as_array(image, may_close=file is not None), exif_orientation)
    except Exception as error:
        raise _decoding_error(name, error) from None
    if not is_complete:
        raise ImageError(f"{name} is damaged or truncated (its last rows are missing): get a complete copy")
    return pixels


_load_lock = threading.Lock()


def _load(image: Image.Image) -> None:
    """Decode all pixels; a truncated file is an error even if the program has told Pillow to accept truncated files."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        image.load()
        return
    with _load_lock:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True


def _from_webp(file: BinaryIO, image: Image.Image) -> np.ndarray:
    """Decode a still WebP with OpenCV: the same pixels as with Pillow, with a third of the memory."""
    exif_orientation = orientation(image)
    file.seek(0)
    content = np.frombuffer(file.read(), np.uint8)
    image.close()
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its data end too early or are not WebP")
    if pixels.shape[2] == 3:
        return upright(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels), exif_orientation)
    result = np.empty((*pixels.shape[:2], 3), np.uint8)
    rows = max(1, STRIP_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        strip = Image.fromarray(cv2.cvtColor(pixels[top : top + rows], cv2.COLOR_BGRA2RGBA))
        result[top : top + rows] = on_white(strip)
    return upright(result, exif_orientation)


def _is_png_complete(file: BinaryIO, image: Image.Image) -> bool:
    """Whether the compressed data of a PNG fill all its rows. Pillow does not complain, but leaves missing rows at 0.

    The data are decompressed again only if the last row is 0, or the rows are interlaced.
    """
    file.seek(0)
    header = file.read(33)
    width, height = np.frombuffer(header[16:24], ">u4").tolist()
    is_interlaced = bool(header[28])
    last_row = image.resize((width, 1), Image.Resampling.NEAREST, (0, height - 1, width, height))
    if not is_interlaced and last_row.getbbox():
        return True
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[25]]  # by the PNG's colour type
    needed = _png_data_size(width, height, header[24] * channels, is_interlaced)
    inflate = zlib.decompressobj()
    size = 0
    while size < needed and len(chunk_head := file.read(8)) == 8:
        length = int.from_bytes(chunk_head[:4])
        data = file.read(length) if chunk_head[4:] == b"IDAT" else b""
        file.seek(4 if data else length + 4, os.SEEK_CUR)  # 4: the checksum of the chunk
        while data and size < needed and not inflate.eof:
            size += len(inflate.decompress(data, 2**20))
            data = inflate.unconsumed_tail
    return size >= needed


def _png_data_size(width: int, height: int, bits_per_pixel: int, is_interlaced: bool) -> int:
    """Bytes of a PNG's decompressed data: in each row a filter byte and the pixels, padded to bytes."""
    sizes = [(width, height)]
    if is_interlaced:
        # Adam7: first column, first row, and distance of columns and rows of each pass.
        passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes if x < width and y < height]
    return sum(rows * (1 + -(-columns * bits_per_pixel // 8)) for columns, rows in sizes)


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.size == 0:
        raise ImageError(f"the array is empty, its shape is {array.shape}")
    if array.ndim == 4 and array.shape[3] in (1, 3, 4):
        raise ImageError(
            f"an array of shape {array.shape} is {len(array)} frames, not one photo: give them one by one, or as "
            "list(frames) to a pipeline"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(f"an array of shape {array.shape} is not a photo: expected RGB of shape (H, W, 3)")
    if array.dtype == np.uint16:
        array = eight_bits(array, array.max())
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype}{_conversion_advice(array)}")
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)
    if array.shape[2] == 4:
        return _from_pil(Image.fromarray(array, "RGBA"), "the RGBA array")
    return np.ascontiguousarray(array)


def _conversion_advice(array: np.ndarray) -> str:
    """How to convert an array of another type to uint8, by its values."""
    expected = ": expected uint8, 0 to 255; "
    if array.dtype == bool:
        return expected + "convert it with 255 * array.astype('uint8')"
    if array.dtype.kind not in "iuf":
        return ": expected uint8, 0 to 255"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return " with NaN or infinity" + expected + "find out where they come from first"
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 255:
        return f" from {low:g} to {high:g}{expected}bring the values into that range first"
    if array.dtype.kind == "f" and high <= 1:
        return expected + "convert values from 0 to 1 with (255 * array).round().astype('uint8')"
    return expected + "convert these values with array.round().astype('uint8')"
