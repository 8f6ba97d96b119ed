"""Files that are whole or not there at all, names that can be printed, keys that tell one content from another."""

import functools
import hashlib
import os
import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAME_BYTES = 200  # of a result's name, so that endings still fit into the 255 bytes that file systems allow


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` when the block ends without an error.

    Whoever is interrupted, killed or out of disk space leaves the file that was there before. A link at
    `path` is replaced, never written through.
    """
    path = Path(path)
    digits = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    # Of its own for each thread, so that two that write at once do not take each other's half-written file.
    new = path.with_name(f".{digits}.{os.getpid()}-{threading.get_ident() % 10**6}.new{path.suffix[:16]}")
    _remove_leftovers(path.parent)
    new.unlink(missing_ok=True)
    try:
        yield new
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


@functools.cache  # looking through the folder for every file that is written would take ever longer
def _remove_leftovers(folder: Path) -> None:
    """Once for a folder: the half-written files of runs that were killed leave."""
    for old in folder.glob(".*.new*"):
        writer = re.fullmatch(r"\.[0-9a-f]{16}\.(\d+)-\d+\.new.*", old.name)
        if writer and not _is_alive(int(writer[1])):
            old.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def printable(text: object) -> str:
    """Text for a terminal or a picture: control characters and undecodable bytes of file names as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in str(text)
    )


def digest(text: str) -> str:
    """32 hexadecimal digits that tell one text from another without telling the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def unique_names(files: Iterable[Path]) -> list[str]:
    """A name per file for its results: its stem, cut to `NAME_BYTES`, numbered where several would share it.

    Names that differ in case, or in how an accent is written, count as shared: some file systems do not tell them
    apart.
    """
    names: dict[str, str] = {}  # as file systems compare them -> as they are
    numbers: dict[str, int] = {}
    for file in files:
        stem = os.fsencode(file.stem)
        if len(stem) > NAME_BYTES:
            digest = hashlib.sha256(stem).hexdigest()[:8]
            stem = stem[: NAME_BYTES - 9].decode("utf-8", "ignore").encode() + f"-{digest}".encode()
        stem = os.fsdecode(stem)
        name, number = stem, numbers.get(_key(stem), 1)
        while _key(name) in names:
            number += 1
            name = f"{stem}-{number}"
        names[_key(name)], numbers[_key(stem)] = name, number
    return list(names.values())


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def as_text(path: str) -> str:
    """A path as tables and pages can hold it: bytes that are no UTF-8 as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def file_state(file: Path) -> tuple[str, int, int]:
    """Absolute path, size in bytes and time of change in nanoseconds (-1, -1 where there is no file)."""
    try:
        status = os.stat(file)
    except OSError:
        return os.path.abspath(file), -1, -1
    return os.path.abspath(file), status.st_size, status.st_mtime_ns


def files_key(files: Sequence[Path], *settings: object) -> str:
    """A hash that changes with the place, size or time of any of the files, and with the settings."""
    key = hashlib.sha256(repr(settings).encode())
    for file in files:
        key.update(repr(file_state(file)).encode("utf-8", "surrogatepass"))
    return key.hexdigest()
