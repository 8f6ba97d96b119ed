"""Copies of photos in a folder in which no file is ever replaced."""

import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from facelib.io.files import atomic_write, file_hash


def copy_photos(photos: Iterable[Path], folder: Path) -> tuple[int, list[str]]:
    """Copy photos into a folder, which is made if missing. A photo that is there already is not copied again.

    Returns:
        The number of new copies, and a line for each photo that could not be copied.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copied, lines = 0, []
    for photo in photos:
        try:
            copied += _copy(photo, folder)
        except (FileNotFoundError, PermissionError) as error:
            lines.append(f"not copied: {error}")
    return copied, lines


def _copy(photo: Path, folder: Path) -> bool:
    """Copy a photo under its name or, where another file has that, with a number; whether it was not there yet."""
    for number in itertools.count(1):
        end = "" if number == 1 else f"-{number}"
        path = folder / f"{photo.stem}{end}{photo.suffix}"
        if not os.path.lexists(path):
            with atomic_write(path) as new:
                shutil.copy2(photo, new)
            return True
        if path.is_file() and path.stat().st_size == photo.stat().st_size and file_hash(path) == file_hash(photo):
            return False
    raise AssertionError("unreachable")
