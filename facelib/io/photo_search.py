"""The photos of folders. One rule for the command line and for training: a file counts by its content (see `formats`),
or because it is called a photo; each once; links are followed; what is left out is kept with the reason."""

import glob
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import url2pathname

from facelib.io.files import printable
from facelib.io.formats import HEAD_BYTES, RAW, is_photo

# Folders in which other systems keep thumbnails and thrown-away files: macOS archives, Synology, QNAP, Windows.
SYSTEM_FOLDERS = {"__macosx", "@eadir", "@__thumb", "#recycle", "$recycle.bin", "system volume information"}
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
# A file that is called a photo and holds none is damaged, and reading it says so.
CALLED_PHOTOS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif"}
HIDDEN, NO_PHOTO, RAW_FILE, AGAIN = (
    "hidden, or made by the system",
    "no photo",
    "raw file of a camera, develop it first",
    "the same file once more",
)
SHOWN = 3  # names that are given as examples of what is left out


@dataclass
class Found:
    """photos: what is to be read. left_out: reason -> files, or folders with all that is in them."""

    photos: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path) -> None:
        self.left_out.setdefault(reason, []).append(path)

    def summary(self) -> list[str]:
        """A line for each reason, with the number of files and the first names."""
        lines = []
        for reason, paths in self.left_out.items():
            names = ", ".join(printable(path.name or path) for path in paths[:SHOWN])
            more = ", ..." if len(paths) > SHOWN else ""
            lines.append(f"left out: {len(paths):,} ({reason}): {names}{more}")
        return lines


def find_photos(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """As `search_photos`; what is left out, but hidden files, is said in a warning."""
    found = search_photos(paths)
    lines = [line for line, reason in zip(found.summary(), found.left_out) if reason != HIDDEN]
    if lines:
        warnings.warn("; ".join(lines), stacklevel=2)
    return found.photos


def search_photos(
    paths: str | os.PathLike | Sequence[str | os.PathLike], skip: Callable[[Path], bool] = lambda folder: False
) -> Found:
    """Photos that are named, or lie in folders that are (searched to the bottom, in alphabetical order), each once.

    A named file is kept whatever it holds, so that reading it gives the error, and so is a name that does not
    exist. A name with * or ? that no file has is taken as a pattern, which shells on Windows do not expand.

    Args:
        skip: asked for each folder below a named one; True keeps it out.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        paths = [paths]
    found, seen, searched = Found(), set(), set()
    for path in (path for given in paths for path in _named(given)):
        if not os.path.isdir(path):  # unlike path.is_dir() never an error
            _once(found, seen, path, named=True)
            continue
        for file in sorted(_files(path, skip, found, searched)):
            _once(found, seen, file)
    return found


def _named(given: str | os.PathLike) -> Iterator[Path]:
    text = os.fsdecode(given)
    if re.match(r"file:/", text, re.IGNORECASE):
        text = url2pathname("/" + text[5:].lstrip("/"))
    path = Path(text)
    if text.startswith("~") and not os.path.lexists(path):
        path = Path(os.path.expanduser(text))
    if any(sign in text for sign in "*?") and "\0" not in text and not os.path.lexists(path):
        matches = sorted(glob.glob(str(path)))
        if matches:
            yield from map(Path, matches)
            return
    yield path


def _once(found: Found, seen: set[str], file: Path, named: bool = False) -> None:
    place = str(file) if "\0" in str(file) else os.path.realpath(file)
    if place not in seen:
        seen.add(place)
        found.photos.append(file)
    elif not named:
        found.leave_out(AGAIN, file)


def _files(folder: Path, skip: Callable[[Path], bool], found: Found, searched: set[str]) -> Iterator[Path]:
    """The photos below a folder; each folder is searched once, however many links lead to it, or back."""
    place = os.path.realpath(folder)
    if place in searched:
        return
    searched.add(place)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        found.leave_out(f"cannot be listed, {error.strerror}", folder)
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS | SYSTEM_FILES:
            found.leave_out(HIDDEN, path)
        elif os.path.isdir(path):
            if not skip(path):
                yield from _files(path, skip, found, searched)
        elif path.suffix.lower() in RAW:
            found.leave_out(RAW_FILE, path)
        elif (reason := _why_not(path)) is None:
            yield path
        else:
            found.leave_out(reason, path)


def _why_not(path: Path) -> str | None:
    """Why a file of a folder is left out; None for a photo, and for what reading will explain."""
    if not os.path.lexists(path) or not os.path.exists(path):
        return "a link to nowhere"
    if not os.path.isfile(path):
        return "no regular file"
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    return None if is_photo(head) or path.suffix.lower() in CALLED_PHOTOS else NO_PHOTO
