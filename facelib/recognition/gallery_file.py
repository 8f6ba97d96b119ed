"""The SQLite database of a gallery file: opened, created, and checked before anything is read from it."""

import functools
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from facelib.io.files import printable
from facelib.recognition.gallery_log import check_log
from facelib.types import GalleryError

APPLICATION_ID = 0x66616365  # "face", in the header of the file
LOCK_TIMEOUT = 30.0  # seconds to wait while another process writes
# Names of the first version, which existing files have. "embedder" is the model_id, "size" the number of dimensions
# (0: not known yet), "vector" an embedding as float32.
SCHEMA = """
CREATE TABLE about (embedder TEXT NOT NULL, size INTEGER NOT NULL);
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY,
    person INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    quality REAL NOT NULL
);
CREATE INDEX of_person ON vectors (person);
"""
OS_ERROR_CODES = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """SQLite's errors become OSError where a lock, the disk or a permission is the reason, else GalleryError."""
    name = printable(path)
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter for damaged text in SQLite's own messages
        code = getattr(error, "sqlite_errorcode", 0)
        reason = printable(error)[:200]
        if "closed database" in str(error):
            raise GalleryError(f"{name} is closed: open it again") from None
        if code & 0xFF in OS_ERROR_CODES and code != sqlite3.SQLITE_IOERR_SHORT_READ:
            raise OSError(f"{name}: {reason}") from None
        raise GalleryError(f"{name} is not a gallery, or damaged ({reason}): restore it from a copy") from None


@contextmanager
def write_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All changes of the block are in the file when it ends, or none after an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def create_private(path: Path) -> None:
    """Create a file that its owner alone can read; SQLite gives the files beside it the same permissions."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def open_file(path: Path, model_id: str, must_exist: bool) -> sqlite3.Connection:
    """Open the file, and create it or its tables where they are missing."""
    name = printable(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{printable(path.parent)}: no such folder")
    if path.exists():
        if not path.is_file() or (must_exist and not path.stat().st_size):
            raise GalleryError(f"{name} is {'empty' if path.is_file() else 'no file'}, not a gallery")
        check_log(path)
    elif must_exist:
        raise FileNotFoundError(f"{name}: no such gallery")
    else:
        create_private(path)
    connection = sqlite3.connect(path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        _create_or_check(connection, name, model_id)
        connection.execute("PRAGMA secure_delete = ON")  # deleted content is overwritten
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def check_file(connection: sqlite3.Connection, name: str) -> str:
    """Check the structure of an open gallery file, and return its model_id.

    Raises:
        GalleryError: it is damaged, or has other tables, triggers or views than a gallery.
    """
    problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem == "ok" and connection.execute("PRAGMA foreign_key_check").fetchone():
        problem = "embeddings of nobody"
    if problem == "ok" and _schema(connection) != _expected_schema():
        problem = "other tables than those of a gallery"
    if problem == "ok":
        about = connection.execute("SELECT embedder, size FROM about").fetchall()
        if len(about) == 1 and isinstance(about[0][0], str) and isinstance(about[0][1], int) and about[0][1] >= 0:
            connection.execute("PRAGMA journal_mode = WAL")
            return about[0][0]
        problem = "its embedder is not known"
    raise GalleryError(f"{name} is damaged ({printable(' '.join(problem.split()))[:100]}): restore it from a copy")


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Type, name and definition of each table, index, view and trigger, without what SQLite makes itself."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {
        (kind, name, " ".join(str(sql).split()))
        for kind, name, sql in rows
        if kind not in ("table", "index") or not str(name).startswith("sqlite_")
    }


@functools.cache
def _expected_schema() -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _schema(connection)


def _create_or_check(connection: sqlite3.Connection, name: str, model_id: str) -> None:
    """Create the tables of an empty file; raise GalleryError for a database of something else."""
    if _is_gallery(connection):
        return
    has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    # Checked twice: another program may have created the gallery meanwhile.
    if has_tables and not _is_gallery(connection):
        raise GalleryError(f"{name} is a database but not a gallery: give another file")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO about VALUES (?, 0)", (model_id,))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {secrets.randbelow(2**30)}")  # of no two galleries the same
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_gallery(connection: sqlite3.Connection) -> bool:
    return connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
