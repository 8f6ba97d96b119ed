"""Photos read ahead in a thread, while the networks work on those before."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from facelib.io.images import read_image
from facelib.io.inputs import Photo
from facelib.settings import BATCH_BYTES


def read_ahead(photos: Iterable[Photo], max_ahead: int) -> Iterator[np.ndarray | Exception]:
    """Photos (RGB uint8) one after the other; for a photo that cannot be read, the exception.

    While the caller works on one, up to `max_ahead` more are read where they are files, fewer where they are large.
    Arrays and streams, which may change meanwhile, are read when they are taken.
    """
    with ThreadPoolExecutor(1, "reader") as reader:
        waiting: deque[Future] = deque()
        ahead = 1
        for photo in photos:
            waiting.append(reader.submit(_read, photo))
            if not isinstance(photo, str | os.PathLike):
                waiting[-1].result()
            while len(waiting) > ahead:
                image = waiting.popleft().result()
                ahead = min(max_ahead, BATCH_BYTES // max(getattr(image, "size", 0), 1))
                yield image
                del image
        while waiting:
            yield waiting.popleft().result()


def _read(photo: Photo) -> np.ndarray | Exception:
    try:
        return read_image(photo)
    except Exception as error:  # whatever it is, it concerns this photo alone
        return strip_traceback(error)


def strip_traceback(error: Exception) -> Exception:
    """An error that may be kept: its frames would keep whole photos in memory."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
