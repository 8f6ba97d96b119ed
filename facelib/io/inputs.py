"""The forms in which a photo can be given: a path, an image, or the content of a file."""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeGuard, cast
from urllib.request import url2pathname

import numpy as np
from PIL import Image

from facelib.io.files import printable
from facelib.types import ImageError

# A path, an image, or the content of a file: bytes, or a file that is open for reading in binary mode.
Photo = str | os.PathLike | Image.Image | np.ndarray | bytes | bytearray | memoryview | BinaryIO
ADDRESS = re.compile(r"(https?|ftp|s3|gs):/+", re.IGNORECASE)  # of the web or of an object store
BASE64_STARTS = ("/9j/4", "iVBORw0KGgo", "UklGR", "R0lGOD")  # of JPEG, PNG, WebP and GIF
MAX_PATH_LENGTH = 1_000  # characters
MAX_BYTES = 2_000_000_000  # of a file


def path_of(photo: str | os.PathLike) -> Path:
    """A path as the file system takes it: file URLs and "~" are expanded.

    Raises:
        ImageError: a web address, an empty text, or an image encoded as text.
    """
    text = os.fsdecode(photo)
    if ADDRESS.match(text):
        raise ImageError(
            f"{printable(text)[:100]} is a web address, and photos are not downloaded: download it and give the file"
        )
    if not text.strip():
        raise ImageError("an empty text is not a path")
    if text[:5].lower() == "data:" or text.startswith(BASE64_STARTS) or len(text) > MAX_PATH_LENGTH:
        raise ImageError(
            f"{printable(text)[:40]}... ({len(text):,} characters) is not a path: for an image encoded as text, give "
            "the bytes, base64.b64decode(text.partition(',')[2] or text)"
        )
    path = Path(expand_file_url(text))
    if text.startswith("~") and not os.path.lexists(path):
        with contextlib.suppress(RuntimeError):  # unknown user or no home folder: reported as a missing file later
            return path.expanduser()
    return path


def expand_file_url(text: str) -> str:
    """The path of a file URL (file:///...); any other text unchanged."""
    if re.match(r"file:/", text, re.IGNORECASE):
        return url2pathname("/" + text[5:].lstrip("/"))
    return text


def content_of(photo: object) -> bytes:
    """Bytes of a photo that is neither a path nor an image.

    Raises:
        ImageError: no bytes.
        TypeError: not a photo.
    """
    if isinstance(photo, bytes | bytearray | memoryview):
        if not len(photo):
            raise ImageError("the photo of 0 bytes is empty")
        return bytes(photo)
    if callable(getattr(photo, "read", None)):
        return _content_of_file(cast(BinaryIO, photo))
    if any(kind.__module__.split(".")[0] == "torch" for kind in type(photo).__mro__):
        raise TypeError(
            "a torch Tensor is not a photo: give an RGB uint8 array (H, W, 3), e.g. its .permute(1, 2, 0).numpy()"
        )
    raise TypeError(
        f"a {type(photo).__name__} is not a photo: give a path, the bytes of a file, a PIL image or an RGB array"
    )


def _content_of_file(file: BinaryIO) -> bytes:
    """All bytes of an open file from its position on, or from its start if it stands at its end, as after writing.

    The position of a seekable file does not change.
    """
    seekable = getattr(file, "seekable", lambda: False)()
    position = file.tell() if seekable else None
    try:
        content = _read_all(file)
        if not content and seekable:
            file.seek(0)
            content = _read_all(file)
    except UnicodeDecodeError:
        raise TypeError('a file open in text mode is not a photo: open it with open(path, "rb")') from None
    finally:
        if position is not None:
            file.seek(position)
    if not content:
        raise ImageError("the photo of 0 bytes is empty")
    return content


def _read_all(file: BinaryIO) -> bytes:
    """Bytes up to the end of a file; reading stops above `MAX_BYTES`."""
    chunks = []
    size = 0
    while size <= MAX_BYTES and (chunk := file.read(2**24)):  # a pipe returns what it has, not all that is asked for
        if not isinstance(chunk, bytes):
            raise TypeError(f'a file that returns {type(chunk).__name__} is not a photo: open it with open(path, "rb")')
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def is_batch(photo: "Photo | Iterable[Photo]") -> "TypeGuard[Iterable[Photo]]":
    """Whether the argument is a collection of photos; False for one photo in any form.

    Raises:
        TypeError: a mapping.
    """
    if isinstance(photo, Mapping):
        raise TypeError(f"a {type(photo).__name__} is not a photo or a list of photos: give list(it.values())")
    if isinstance(photo, np.ndarray):
        is_paths = photo.ndim == 1 and photo.dtype.kind in "OSU"
        is_frames = photo.ndim == 4 and photo.shape[3] in (1, 3, 4)
        return is_paths or is_frames
    if isinstance(photo, str | os.PathLike | Image.Image | bytes | bytearray | memoryview) or hasattr(photo, "read"):
        return False
    if getattr(photo, "ndim", 0) > 1:  # a tensor of any library
        return False
    return isinstance(photo, Iterable)
