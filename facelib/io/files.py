"""Atomic writes, private files, hashes of files, and file names that can be printed and do not collide."""

import errno
import functools
import hashlib
import os
import re
import tempfile
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAME_BYTES = 200  # of a result's name: suffixes still fit into the 255 bytes that file systems allow
FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Context manager: yields a temporary path, whose file replaces `path` when the block ends without an error.

    After an interruption, a kill or a full disk `path` still holds its previous content. A symbolic link at `path` is
    replaced, never written through.

    Raises:
        OSError: it cannot be written; that of a full disk names `path`.
    """
    path = Path(path)
    name_hash = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    # One name per process and thread, so that concurrent writers do not replace each other's unfinished file.
    temporary = path.with_name(f".{name_hash}.{os.getpid()}-{threading.get_ident() % 10**6}.new{path.suffix[:16]}")
    _remove_leftovers(path.parent)
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL_DISK and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache  # once per folder: listing it for every written file would take longer with every file
def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that no longer run."""
    for leftover in folder.glob(".*.new*"):
        match = re.fullmatch(r"\.[0-9a-f]{16}\.(\d+)-\d+\.new.*", leftover.name)
        if match and not _is_alive(int(match[1])):
            leftover.unlink(missing_ok=True)


def _is_alive(process_id: int) -> bool:
    if os.name == "nt":  # os.kill would end the process
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        return True
    return True


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(text: object) -> str:
    """Text for a terminal or a picture: control characters and undecodable bytes of file names become escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(text)
    )


def digest(text: str) -> str:
    """SHA-256 of a text, its first 32 hexadecimal digits: identifies the text without revealing it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def unique_names(files: Iterable[Path]) -> list[str]:
    """One name per file for its results: the stem, truncated to `NAME_BYTES`, and numbered where stems are equal.

    Stems that differ only in case or in Unicode normalisation count as equal, because some file systems treat them so.
    """
    used: set[str] = set()
    last_numbers: dict[str, int] = {}
    names = []
    for file in files:
        stem = _truncate(file.stem)
        name = stem
        number = last_numbers.get(_key(stem), 1)
        while _key(name) in used:
            number += 1
            name = f"{stem}-{number}"
        used.add(_key(name))
        last_numbers[_key(stem)] = number
        names.append(name)
    return names


def _truncate(stem: str) -> str:
    """A file name's stem of at most `NAME_BYTES` bytes; a longer one ends in digits of its hash."""
    content = os.fsencode(stem)
    if len(content) <= NAME_BYTES:
        return stem
    start = content[: NAME_BYTES - 9].decode("utf-8", "ignore").encode()
    return os.fsdecode(start + b"-" + hashlib.sha256(content).hexdigest()[:8].encode())


def _key(name: str) -> str:
    """What case-insensitive, normalising file systems compare."""
    return unicodedata.normalize("NFC", name).casefold()


def as_text(path: str) -> str:
    """A path as valid UTF-8, for tables and pages: undecodable bytes become escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def file_state(file: Path) -> tuple[str, int, int]:
    """Absolute path, size in bytes and modification time in nanoseconds; -1 and -1 for a missing file."""
    try:
        status = os.stat(file)
    except OSError:
        return os.path.abspath(file), -1, -1
    return os.path.abspath(file), status.st_size, status.st_mtime_ns


def files_key(files: Sequence[Path], *settings: object) -> str:
    """A hash that changes with the path, size or modification time of any of the files, and with the settings."""
    key = hashlib.sha256(repr(settings).encode())
    for file in files:
        key.update(repr(file_state(file)).encode("utf-8", "surrogatepass"))
    return key.hexdigest()


@contextmanager
def private_files(private: bool = True) -> Iterator[None]:
    """Context manager: files that are made in the block belong to the user alone (0600), folders too (0700).

    Args:
        private: False: the rights are those that the process gives to any file (its umask).
    """
    before = os.umask(0o077)
    try:
        if not private:
            os.umask(before)
        yield
    finally:
        os.umask(before)


def prepare_folder(folder: Path) -> None:
    """Make a folder, and check that files can be written there, before anything is computed.

    Raises:
        OSError: they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
