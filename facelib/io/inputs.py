"""Whatever a program may give for a photo: a path in many forms, or the content of a file."""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeGuard
from urllib.request import url2pathname

import numpy as np
from PIL import Image

from facelib.io.files import printable

# A path, a picture, or the content of a file: bytes, or a file that is open for reading them.
Photo = str | os.PathLike | Image.Image | np.ndarray | bytes | bytearray | memoryview | BinaryIO
ADDRESS = re.compile(r"(https?|ftp|s3|gs):/+", re.IGNORECASE)
BASE64 = ("/9j/4", "iVBORw0KGgo", "UklGR", "R0lGOD")  # how JPEG, PNG, WebP and GIF begin in base64
MAX_NAME = 1_000  # characters that a path may have
MAX_BYTES = 2_000_000_000  # of a file


def path_of(photo: str | os.PathLike) -> Path:
    """A path as a file system takes it.

    Raises:
        ValueError: a web address, or what else is given as text in place of a path.
    """
    text = os.fsdecode(photo)
    if ADDRESS.match(text):
        raise ValueError(
            f"{printable(text)[:100]} is an address, and nothing is fetched: download it, and give the file"
        )
    if not text.strip():
        raise ValueError("an empty text is no path")
    if text[:5].lower() == "data:" or text.startswith(BASE64) or len(text) > MAX_NAME:
        raise ValueError(
            f"{printable(text)[:40]}... ({len(text):,} characters) is no path: of a picture as text, give the bytes, "
            "base64.b64decode(text.partition(',')[2] or text)"
        )
    if re.match(r"file:/", text, re.IGNORECASE):
        text = url2pathname("/" + text[5:].lstrip("/"))
    path = Path(text)
    if text.startswith("~") and not os.path.lexists(path):
        with contextlib.suppress(RuntimeError):  # no such user, or no home: the name as it is will be missed
            return path.expanduser()
    return path


def content_of(photo: object) -> bytes:
    """The bytes of a photo that is neither path nor picture."""
    if isinstance(photo, bytes | bytearray | memoryview):
        if not len(photo):
            raise ValueError("the photo of 0 bytes is empty")
        return bytes(photo)
    if callable(getattr(photo, "read", None)):
        return _content_of_file(photo)
    if any(kind.__module__.split(".")[0] == "torch" for kind in type(photo).__mro__):
        raise TypeError(
            "a torch Tensor is no photo: give an RGB uint8 array (H, W, 3), e.g. its .permute(1, 2, 0).numpy()"
        )
    raise TypeError(
        f"a {type(photo).__name__} is no photo: give a path, the bytes of a file, a PIL image or an RGB array"
    )


def _content_of_file(file: BinaryIO) -> bytes:
    """All bytes of an open file, from where it stands; from the beginning where it stands at its end, as after writing.
    A file that can be wound back stays where it was."""
    seekable = getattr(file, "seekable", lambda: False)()
    place, parts, size = file.tell() if seekable else None, [], 0
    try:
        for _ in range(1 + seekable):
            while size <= MAX_BYTES and (part := file.read(2**24)):  # a pipe gives what is there
                if not isinstance(part, bytes):
                    raise TypeError(
                        f'a file that gives {type(part).__name__} is no photo: open it with open(path, "rb")'
                    )
                parts.append(part)
                size += len(part)
            if parts or not seekable:
                break
            file.seek(0)
    except UnicodeDecodeError:
        raise TypeError('a file that is open for text is no photo: open it with open(path, "rb")') from None
    finally:
        if seekable:
            file.seek(place)
    if not parts:
        raise ValueError("the photo of 0 bytes is empty")
    return b"".join(parts)


def is_batch(photo: "Photo | Iterable[Photo]") -> "TypeGuard[Iterable[Photo]]":
    """Whether this is a collection of photos rather than one photo (text, path, image or the content of a file).

    Raises:
        TypeError: a mapping.
    """
    if isinstance(photo, Mapping):
        raise TypeError(f"a {type(photo).__name__} is no photo and no list of photos: give list(it.values())")
    if isinstance(photo, np.ndarray):
        paths = photo.ndim == 1 and photo.dtype.kind in "OSU"
        return paths or (photo.ndim == 4 and photo.shape[3] in (1, 3, 4))
    if isinstance(photo, str | os.PathLike | Image.Image | bytes | bytearray | memoryview) or hasattr(photo, "read"):
        return False
    if hasattr(photo, "ndim") and getattr(photo, "ndim", 0) > 1:  # a tensor of whatever library
        return False
    return isinstance(photo, Iterable)
