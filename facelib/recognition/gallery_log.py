"""Whether the log beside a gallery belongs to it.

SQLite applies a log FILE-wal to whatever database lies beside it. Where a copy was restored over the file after a
crash, the result would be a mixture of both. So each write of a gallery increases a number on the first page of the
file (its user version), and the log has to continue from the number that the file has. The log of SQLite's other mode,
FILE-journal, is none of a gallery.

Format of both files: https://www.sqlite.org/fileformat2.html
"""

import struct
from pathlib import Path

from facelib.io.files import printable
from facelib.types import GalleryError

WAL_HEADER, FRAME_HEADER = 32, 24  # bytes
USER_VERSION = slice(60, 64)  # bytes of the first page


def sidecars(path: Path) -> list[Path]:
    """The files that SQLite may put beside a database."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def check_log(path: Path) -> None:
    """Check that the log beside a gallery file, if there is one, continues the file.

    Raises:
        GalleryError: it is of another file.
    """
    log, _, journal = sidecars(path.resolve())
    with open(path, "rb") as file:
        in_wal_mode = file.read(100)[18:20] == b"\2\2"
    if in_wal_mode and journal.exists() and journal.stat().st_size:
        raise _of_another_file(journal, path)
    for _ in range(5):  # another program may write meanwhile
        before = _versions_in_log(log)
        version = _version_of_file(path)
        if not before or before[0] - 1 <= version <= before[-1]:
            return
        if before == _versions_in_log(log):
            break
    raise _of_another_file(log, path)


def _of_another_file(log: Path, path: Path) -> GalleryError:
    return GalleryError(
        f"{printable(log)} is of another file than {printable(path)}, which was replaced, as by restoring a copy: to "
        f"use the file as it is, move away {printable(log.name)}, and the -shm where there is one"
    )


def _version_of_file(path: Path) -> int:
    with open(path, "rb") as file:
        return _user_version(file.read(100))


def _user_version(page: bytes) -> int:
    return int.from_bytes(page[USER_VERSION], "big")


def _versions_in_log(log: Path) -> list[int]:
    """The user version in each copy of the first page that a log holds, without what is left of older logs."""
    versions: list[int] = []
    try:
        size = log.stat().st_size
        with open(log, "rb") as file:
            header = file.read(WAL_HEADER)
            if len(header) < WAL_HEADER:
                return []
            page_size, salts = struct.unpack(">8xI4x8s8x", header)
            for start in range(WAL_HEADER, size - FRAME_HEADER - page_size + 1, FRAME_HEADER + page_size):
                file.seek(start)
                page, frame_salts, first_bytes = struct.unpack(">I4x8s8x100s", file.read(FRAME_HEADER + 100))
                if frame_salts != salts:
                    break
                if page == 1:
                    versions.append(_user_version(first_bytes))
    except FileNotFoundError:
        return []
    return versions
