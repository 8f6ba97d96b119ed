"""The file of a gallery: an SQLite database of people and their embeddings.

SQLite in WAL mode provides durability and access by several processes at the same time.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.embedding.similarity import mean_embedding
from facelib.io.files import printable
from facelib.recognition.gallery_file import (
    LOCK_TIMEOUT,
    check_file,
    create_private,
    open_file,
    sqlite_errors,
    write_transaction,
)
from facelib.recognition.gallery_log import sidecars
from facelib.recognition.names import normalise_name
from facelib.types import GalleryError, ModelMismatchError

logger = logging.getLogger(__name__)

DUPLICATE_DISTANCE = 1e-5  # cosine distance up to which two embeddings of a person are of one photo
SELECT_EMBEDDINGS = """
SELECT people.id, name, vector, quality FROM people JOIN vectors ON person = people.id ORDER BY people.id, vectors.id
"""
SELECT_WITHOUT_EMBEDDINGS = "SELECT count(*) FROM people WHERE id NOT IN (SELECT person FROM vectors)"
MAX_QUALITY = 1e6  # a larger weight would make the sum of a mean embedding overflow


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
        with sqlite_errors(path):
            self._connection = open_file(path, model_id, any_model)
        try:
            self._check(model_id, any_model)
        except BaseException:
            self.close()
            raise

    def _check(self, model_id: str, any_model: bool) -> None:
        """Check the content of the file, and bring the names of older versions into today's form."""
        with sqlite_errors(self.path):
            self.model_id = check_file(self._connection, printable(self.path))
        if self.model_id != model_id and not any_model:
            raise ModelMismatchError(
                f"{printable(self.path)} holds embeddings of the embedder {self.model_id}, not of {model_id}: "
                "distances between them mean nothing. Enrol the people again in another file"
            )
        if renamed := _not_normalised(self.people().names):
            with self.transaction() as connection:
                for name, normalised in renamed.items():
                    logger.warning("%s: the name %r is now %r", printable(self.path), name, normalised)
                    rename_person(connection, name, normalised)

    def close(self) -> None:
        """Close the file. It is complete at any time, also without this."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all changes are in the file when the block ends, or none after an error."""
        with self._lock, sqlite_errors(self.path):
            try:
                with write_transaction(self._connection):
                    (version,) = self._connection.execute("PRAGMA user_version").fetchone()
                    self._connection.execute(f"PRAGMA user_version = {(version + 1) % 2**31}")  # see `check_log`
                    yield self._connection
            finally:
                self._people = None
            self._empty_log()

    def _empty_log(self) -> None:
        """Move what was written from the log into the file, so that a copy of the file alone is complete.

        Other programs that read are not waited for: while they do, the log keeps what they have not seen.
        """
        self._connection.execute("PRAGMA busy_timeout = 0")
        with suppress(sqlite3.OperationalError):  # the write itself has succeeded
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._connection.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT * 1000:.0f}")

    def erase_deleted(self) -> None:
        """Remove what was deleted from the file's free pages and from the write-ahead log.

        Raises:
            OSError: another program is reading and keeps the log; deleted embeddings are still in it.
        """
        with self._lock, sqlite_errors(self.path):
            self._connection.execute("VACUUM")
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise OSError(f"{printable(self.path)}: another program is reading it; call remove again when it is done")

    def backup(self, path: Path) -> None:
        """Write a copy of the gallery, also while other programs write to it.

        Raises:
            FileExistsError: `path` exists, or a log that SQLite would take for its own. OSError: it cannot be written.
        """
        for used in (path, *sidecars(path)):
            if os.path.lexists(used):
                raise FileExistsError(f"{printable(used)} exists, and is not overwritten: give another file")
        create_private(path)
        try:
            with self._lock, sqlite_errors(path), closing(sqlite3.connect(path)) as copy:
                self._connection.backup(copy)
        except BaseException:
            path.unlink()
            raise

    def people(self) -> EnrolledPeople:
        """All people; read from the file again only if somebody has written to it.

        Raises:
            GalleryError: the file holds what no gallery holds, or is closed.
        """
        with self._lock, sqlite_errors(self.path):
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]  # changes when others have written
            if self._people is None or version != self._version:
                self._people = None
                self._people = self._read()
                self._version = version
            return self._people

    def _read(self) -> EnrolledPeople:
        (size,) = self._connection.execute("SELECT size FROM about").fetchone()
        (without,) = self._connection.execute(SELECT_WITHOUT_EMBEDDINGS).fetchone()
        rows = self._connection.execute(SELECT_EMBEDDINGS).fetchall()
        if without:
            raise self._damaged("people without embeddings")
        if not rows:
            nothing = np.zeros((0, 0), np.float32)
            return EnrolledPeople([], np.zeros(0, int), nothing, np.zeros(0, int), nothing)
        ids, names, blobs, qualities = zip(*rows)
        if not all(isinstance(name, str) for name in names):
            raise self._damaged("names that are no text")
        if not all(isinstance(blob, bytes) and len(blob) == 4 * size for blob in blobs):
            raise self._damaged(f"embeddings of other sizes than {size}")
        embeddings = np.frombuffer(b"".join(blobs), np.float32).reshape(len(rows), size)
        if not (np.abs(np.linalg.norm(embeddings, axis=1) - 1) < 1e-2).all():  # also refuses NaN
            raise self._damaged("embeddings without unit length")
        if not are_qualities(qualities):
            raise self._damaged("qualities that are no positive numbers")
        _, starts, owners, photos = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
        means = embeddings[starts].copy()
        for person in np.flatnonzero(photos > 1):
            own = slice(starts[person], starts[person] + photos[person])
            means[person] = mean_embedding(embeddings[own], np.array(qualities[own]))
        return EnrolledPeople([names[start] for start in starts], owners, embeddings, photos, means)

    def _damaged(self, what: str) -> GalleryError:
        return GalleryError(f"{printable(self.path)} is damaged ({what}): restore it from a copy")


def are_qualities(values: Sequence[float]) -> bool:
    """Whether all values are numbers from 0 to `MAX_QUALITY`, not NaN."""
    return all(isinstance(value, int | float | np.number) and 0 <= value <= MAX_QUALITY for value in values)


def add_embeddings(
    connection: sqlite3.Connection, person: int, embeddings: np.ndarray, qualities: Sequence[float]
) -> None:
    """Insert those embeddings (n, d) that the person, by id, does not have yet."""
    stored = connection.execute("SELECT vector FROM vectors WHERE person = ?", (person,))
    known = [np.frombuffer(blob, np.float32) for (blob,) in stored]
    rows = []
    for embedding, quality in zip(embeddings, qualities):
        if all(1 - embedding @ other > DUPLICATE_DISTANCE for other in known):
            known.append(embedding)
            rows.append((person, embedding.tobytes(), float(quality)))
    connection.executemany("INSERT INTO vectors (person, vector, quality) VALUES (?, ?, ?)", rows)


def rename_person(connection: sqlite3.Connection, name: str, to: str) -> bool:
    """Give a person another name; if somebody has it, both become one person, who has each photo once.

    Returns:
        Whether there is a person of the name.
    """
    ids = dict(connection.execute("SELECT name, id FROM people WHERE name IN (?, ?)", (name, to)))
    if name not in ids:
        return False
    if to not in ids:
        connection.execute("UPDATE people SET name = ? WHERE id = ?", (to, ids[name]))
    elif to != name:
        rows = connection.execute("SELECT vector, quality FROM vectors WHERE person = ?", (ids[name],)).fetchall()
        embeddings = np.stack([np.frombuffer(blob, np.float32) for blob, _ in rows])
        add_embeddings(connection, ids[to], embeddings, [quality for _, quality in rows])
        connection.execute("DELETE FROM people WHERE id = ?", (ids[name],))
    return True


def _not_normalised(names: Sequence[str]) -> dict[str, str]:
    """Name -> its normalised form, of names that an older version stored otherwise; not of those refused now."""
    changed = {}
    for name in names:
        with suppress(ValueError):
            if (normalised := normalise_name(name)) != name:
                changed[name] = normalised
    return changed
