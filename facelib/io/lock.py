"""One run at a time writes in a folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from facelib.io.inputs import ADDRESS

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def lock_folder(location: str | Path) -> Iterator[None]:
    """Context manager: holds the lock of a folder. It ends with the process, however the process ends. There is none
    for object stores and on Windows.

    Raises:
        OSError: another process holds it.
    """
    if fcntl is None or ADDRESS.match(str(location)):
        yield
        return
    folder = os.open(location, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{location}: another run is writing there, wait until it ends") from None
        yield
    finally:
        os.close(folder)
