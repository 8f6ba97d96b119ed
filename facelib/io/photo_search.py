"""Find the photos, or other files, in folders, with one rule for commands and training.

A file is a photo by its content (see `formats`), or because its suffix says so. Each file is found once, links are
followed, and skipped files are reported with the reason.
"""

import glob
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facelib.io.files import printable
from facelib.io.formats import HEAD_BYTES, RAW_SUFFIXES, is_photo, is_video
from facelib.io.inputs import expand_file_url

# Folders with thumbnails and deleted files of macOS archives, Synology, QNAP and Windows.
SYSTEM_FOLDERS = {"__macosx", "@eadir", "@__thumb", "#recycle", "$recycle.bin", "system volume information"}
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
# A file with such a suffix counts as a photo even if its content is none: reading it then reports the damage.
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif"}
HIDDEN = "hidden, or made by the system"
NOT_A_PHOTO = "not a photo"
SIDECAR = "metadata of photos"
A_VIDEO = "a video: facelib video reads it"
RAW_FILE = "raw file of a camera, develop it first"
DUPLICATE = "found already"
MAX_EXAMPLES = 3  # names in a line of a summary


@dataclass
class FoundPhotos:
    """Result of a search.

    Attributes:
        photos: files to read, in order; other files where these were searched for.
        skipped: reason -> files, or folders with everything below them.
    """

    photos: list[Path] = field(default_factory=list)
    skipped: dict[str, list[Path]] = field(default_factory=dict)

    def skip(self, reason: str, path: Path) -> None:
        self.skipped.setdefault(reason, []).append(path)

    def summary(self) -> list[str]:
        """One line per reason, with the number of files and the first names."""
        lines = []
        for reason, paths in self.skipped.items():
            names = ", ".join(printable(path.name or path) for path in paths[:MAX_EXAMPLES])
            more = ", ..." if len(paths) > MAX_EXAMPLES else ""
            lines.append(f"skipped: {len(paths):,} ({reason}): {names}{more}")
        return lines


def find_photos(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """Photos of `search_photos`; a warning reports skipped files, except hidden ones."""
    found = search_photos(paths)
    lines = [line for line, reason in zip(found.summary(), found.skipped) if reason != HIDDEN]
    if lines:
        warnings.warn("; ".join(lines), stacklevel=2)
    return found.photos


def why_no_photo(head: bytes, path: Path) -> str | None:
    """Why a file of a folder, which begins with `head`, is no photo; None for a photo."""
    if path.suffix.lower() in RAW_SUFFIXES:
        return RAW_FILE
    if is_photo(head) or path.suffix.lower() in PHOTO_SUFFIXES:
        return None
    if path.suffix.lower() == ".xmp":
        return SIDECAR
    return A_VIDEO if is_video(head, path.name) else NOT_A_PHOTO


def search_photos(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    skip_folder: Callable[[Path], bool] = lambda folder: False,
    reason_to_skip: Callable[[bytes, Path], str | None] = why_no_photo,
) -> FoundPhotos:
    """Photos among the given files and in the given folders, at any depth, in alphabetical order, each once.

    A given file is kept whatever it holds, even if it does not exist, so that reading it raises the error. A path with
    * or ? that no file has is expanded as a pattern, because shells on Windows do not expand it.

    Args:
        skip_folder: called for each folder below a given one; True skips the folder.
        reason_to_skip: called with the first `HEAD_BYTES` bytes and the path of each file in a folder; returns why it
            is skipped, or None. By default whatever is no photo is skipped.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        paths = [paths]
    found = FoundPhotos()
    seen: set[str] = set()
    searched: set[str] = set()
    for path in (path for given in paths for path in _expand(given)):
        if not os.path.isdir(path):  # unlike path.is_dir() it never raises
            _add_once(found, seen, path, is_given=True)
            continue
        for file in sorted(_files_below(path, skip_folder, reason_to_skip, found, searched)):
            _add_once(found, seen, file)
    return found


def _expand(given: str | os.PathLike) -> Iterator[Path]:
    """Paths of a file URL, a path that begins with "~", or a pattern; else the path itself."""
    text = expand_file_url(os.fsdecode(given))
    path = Path(text)
    if text.startswith("~") and not os.path.lexists(path):
        path = Path(os.path.expanduser(text))
    if any(wildcard in text for wildcard in "*?") and "\0" not in text and not os.path.lexists(path):
        matches = sorted(glob.glob(str(path)))
        if matches:
            yield from map(Path, matches)
            return
    yield path


def _add_once(found: FoundPhotos, seen: set[str], file: Path, is_given: bool = False) -> None:
    real_path = str(file) if "\0" in str(file) else os.path.realpath(file)
    if real_path not in seen:
        seen.add(real_path)
        found.photos.append(file)
    elif not is_given:
        found.skip(DUPLICATE, file)


def _files_below(
    folder: Path,
    skip_folder: Callable[[Path], bool],
    reason_to_skip: Callable[[bytes, Path], str | None],
    found: FoundPhotos,
    searched: set[str],
) -> Iterator[Path]:
    """Files below a folder, without those to skip. However many links lead to a folder, it is searched once."""
    real_path = os.path.realpath(folder)
    if real_path in searched:
        return
    searched.add(real_path)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        found.skip(f"cannot be listed, {error.strerror}", folder)
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS | SYSTEM_FILES:
            found.skip(HIDDEN, path)
        elif os.path.isdir(path):
            if not skip_folder(path):
                yield from _files_below(path, skip_folder, reason_to_skip, found, searched)
        elif (reason := _reason(path, reason_to_skip)) is None:
            yield path
        else:
            found.skip(reason, path)


def _reason(path: Path, reason_to_skip: Callable[[bytes, Path], str | None]) -> str | None:
    """Why a file of a folder is skipped. None for one to read, and for a file that reading will report as an error."""
    if not os.path.lexists(path) or not os.path.exists(path):
        return "broken link"
    if not os.path.isfile(path):
        return "not a regular file"
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    return reason_to_skip(head, path)
