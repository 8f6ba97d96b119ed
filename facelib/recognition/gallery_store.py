"""The file of a gallery: an SQLite database of people and their embeddings.

SQLite in WAL mode provides durability and access by several processes at the same time.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.embedding.similarity import mean_embedding
from facelib.io.files import printable
from facelib.types import GalleryError, ModelMismatchError

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
SELECT_EMBEDDINGS = """
SELECT people.id, name, vector, quality FROM people JOIN vectors ON person = people.id ORDER BY people.id, vectors.id
"""


@dataclass(frozen=True)
class EnrolledPeople:
    """The content of a gallery, in memory.

    names: (p) names of the people, in the order of enrolment.
    owners: (n,) index of the person of each embedding, increasing.
    embeddings: (n, d) float32 of unit length.
    photos: (p,) number of embeddings of each person.
    means: (p, d) mean embedding of each person, weighted by quality, of unit length.
    """

    names: list[str]
    owners: np.ndarray
    embeddings: np.ndarray
    photos: np.ndarray
    means: np.ndarray


class GalleryStore:
    """An open gallery file. A missing file is created, with `any_model` it must exist.

    path: the file.
    model_id: the embedder whose embeddings it holds.

    Raises:
        GalleryError: the file is not a gallery, or damaged.
        ModelMismatchError: it holds embeddings of another embedder than `model_id`, unless `any_model`.
        FileNotFoundError: its folder is missing, or the file with `any_model`.
        OSError: it cannot be opened or created.
    """

    def __init__(self, path: Path, model_id: str, any_model: bool = False):
        self.path = path
        self._lock = threading.RLock()
        self._version = -1
        self._people: EnrolledPeople | None = None
        self._connection, self.model_id = _open(path, model_id, any_model)
        if self.model_id != model_id and not any_model:
            self.close()
            raise ModelMismatchError(
                f"{printable(path)} holds embeddings of the embedder {self.model_id}, not of {model_id}: distances "
                "between them mean nothing. Enrol the people again in another file"
            )

    def close(self) -> None:
        """Close the file. It is complete at any time, also without this."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all changes are in the file when the block ends, or none after an error."""
        with self._lock, self._os_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has ended it already
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._people = None

    def erase_deleted(self) -> None:
        """Remove what was deleted from the file's free pages and from the write-ahead log.

        Raises:
            OSError: another program is reading and keeps the log; deleted embeddings are still in it.
        """
        with self._lock, self._os_errors():
            self._connection.execute("VACUUM")
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise OSError(f"{printable(self.path)}: another program is reading it; call remove again when it is done")

    def people(self) -> EnrolledPeople:
        """All people; read from the file again only if somebody has written to it."""
        with self._lock:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]  # changes when others have written
            if self._people is None or version != self._version:
                self._version = version
                self._people = self._read()
            return self._people

    def _read(self) -> EnrolledPeople:
        rows = self._connection.execute(SELECT_EMBEDDINGS).fetchall()
        if not rows:
            nothing = np.zeros((0, 0), np.float32)
            return EnrolledPeople([], np.zeros(0, int), nothing, np.zeros(0, int), nothing)
        ids, names, blobs, qualities = zip(*rows)
        if len({len(blob) for blob in blobs}) != 1:
            raise GalleryError(
                f"{printable(self.path)} is damaged (embeddings of several sizes): restore it from a copy"
            )
        embeddings = np.frombuffer(b"".join(blobs), np.float32).reshape(len(rows), -1)
        _, starts, owners, photos = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
        means = embeddings[starts].copy()
        for person in np.flatnonzero(photos > 1):
            own = slice(starts[person], starts[person] + photos[person])
            means[person] = mean_embedding(embeddings[own], np.array(qualities[own]))
        return EnrolledPeople([names[start] for start in starts], owners, embeddings, photos, means)

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        """SQLite's errors about locks and disks become OSError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{printable(self.path)}: {error}") from None


def _open(path: Path, model_id: str, must_exist: bool) -> tuple[sqlite3.Connection, str]:
    """The connection, and the model_id that the file has."""
    name = printable(path)
    if must_exist and not path.exists():
        raise FileNotFoundError(f"{name}: no such gallery")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{printable(path.parent)}: no such folder")
    connection = None
    try:
        connection = sqlite3.connect(path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
        _create_or_check(connection, name, model_id)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA secure_delete = ON")  # deleted content is overwritten
        connection.execute("PRAGMA foreign_keys = ON")
        check = connection.execute("PRAGMA quick_check").fetchone()[0]
        about = connection.execute("SELECT embedder FROM about").fetchone()
        if check != "ok" or about is None:
            raise GalleryError(f"{name} is damaged ({check[:80]}): restore it from a copy")
        return connection, about[0]
    except BaseException as error:
        if connection is not None:
            connection.close()
        if not isinstance(error, sqlite3.DatabaseError):
            raise
        if any(words in str(error) for words in ("unable to open", "readonly", "locked", "full", "I/O")):
            raise OSError(f"{name}: cannot be opened ({error})") from None
        raise GalleryError(f"{name} is not a gallery, or damaged ({error}): restore it from a copy") from None


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
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_gallery(connection: sqlite3.Connection) -> bool:
    return connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
