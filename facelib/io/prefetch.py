"""Photos are read ahead in a thread, while the networks process the previous ones."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from facelib.io.images import read_image
from facelib.io.inputs import Photo
from facelib.settings import BATCH_BYTES


def read_ahead(photos: Iterable[Photo], max_ahead: int) -> Iterator[np.ndarray | Exception]:
    """Yield photos as RGB uint8 (H, W, 3), in order; for an unreadable photo, the exception.

    Up to `max_ahead` photos are read ahead, fewer where they are large. Only files are read ahead: arrays and streams,
    which the caller may change meanwhile, are read when they are taken.
    """
    with ThreadPoolExecutor(1, "reader") as reader:
        pending: deque[Future] = deque()
        ahead = 1
        for photo in photos:
            pending.append(reader.submit(_read, photo))
            if not isinstance(photo, str | os.PathLike):
                pending[-1].result()
            while len(pending) > ahead:
                image = pending.popleft().result()
                ahead = min(max_ahead, BATCH_BYTES // max(getattr(image, "size", 0), 1))
                yield image
                del image  # the caller decides how long it stays in memory
        while pending:
            yield pending.popleft().result()


def _read(photo: Photo) -> np.ndarray | Exception:
    try:
        return read_image(photo)
    except Exception as error:  # any failure concerns this photo only
        return strip_traceback(error)


def strip_traceback(error: Exception) -> Exception:
    """The exception without traceback and causes, so that it can be kept: their frames hold whole photos in memory."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
