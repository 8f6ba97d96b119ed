"""What is done in an album while people work with it, kept at once: an SQLite file with a log of steps.

The table people.csv of the album follows a moment later. `written` says what the table has, so that what it lacks when
the program is killed in between is known to the next run. Without a write-ahead log the one file is complete at any
time, on network drives too.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from facelib.io.files import printable
from facelib.recognition.gallery_file import OS_ERROR_CODES, create_private, write_transaction

STORE_FILE = "people.sqlite"
APPLICATION_ID = 0x666C7374  # "flst", in the header of the file
SCHEMA = """
CREATE TABLE about (highest INTEGER NOT NULL);
CREATE TABLE faces (key TEXT PRIMARY KEY, person TEXT NOT NULL, refused TEXT NOT NULL, written TEXT NOT NULL);
CREATE TABLE steps (
    number INTEGER PRIMARY KEY AUTOINCREMENT, label TEXT NOT NULL, undoes INTEGER, done INTEGER NOT NULL
);
CREATE TABLE changes (
    step INTEGER NOT NULL REFERENCES steps (number),
    face TEXT NOT NULL,
    person_before TEXT NOT NULL,
    refused_before TEXT NOT NULL,
    person_after TEXT NOT NULL,
    refused_after TEXT NOT NULL
);
CREATE TABLE apart (step INTEGER NOT NULL REFERENCES steps (number), first TEXT NOT NULL, second TEXT NOT NULL);
CREATE INDEX changes_of_step ON changes (step);
INSERT INTO about VALUES (0);
"""
TABLES = {"about", "faces", "steps", "changes", "apart"}
LOCK_TIMEOUT = 5.0  # seconds to wait for another program, such as a backup
UNDOABLE = "SELECT number, label FROM steps WHERE undoes IS NULL AND done ORDER BY number DESC LIMIT 1"
REDOABLE = "SELECT number, label, undoes FROM steps WHERE undoes IS NOT NULL AND done ORDER BY number DESC LIMIT 1"


class FaceState(NamedTuple):
    """Who a face is.

    person: name, "Person 7", or `LOW_QUALITY`.
    refused: names that somebody has taken from the face, which it gets no more.
    """

    person: str
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """A step of the log, to be added: what it does, in words, and the faces that it changes.

    label: such as "Person 3 is Ann".
    after: key of a face -> what it is after the step.
    apart: pairs of faces whose people are not the same.
    """

    label: str
    after: Mapping[str, FaceState]
    apart: Sequence[tuple[str, str]] = ()


class AlbumStore:
    """An open file, which is made if it is missing, readable by its owner alone.

    Raises:
        ValueError: the file is damaged, or something else.
        OSError: it cannot be opened or made.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.RLock()
        with self._errors():
            if not path.exists():
                create_private(path)
            self._connection = sqlite3.connect(path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        run = self._connection.execute
        run("PRAGMA trusted_schema = OFF")
        run("PRAGMA secure_delete = ON")  # of names and photos that are forgotten nothing remains
        run("PRAGMA synchronous = FULL")
        tables = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            run("BEGIN EXCLUSIVE")
            for statement in SCHEMA.split(";"):
                run(statement)
            run(f"PRAGMA application_id = {APPLICATION_ID}")
            run("COMMIT")
        elif run("PRAGMA application_id").fetchone()[0] != APPLICATION_ID or not tables >= TABLES:
            raise sqlite3.DatabaseError("it is another program's")
        if (problem := run("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(problem)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors become OSError where a lock, the disk or a permission is the reason, else ValueError."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            code = getattr(error, "sqlite_errorcode", 0)
            name, reason = printable(self.path), printable(" ".join(str(error).split()))[:100]
            if code & 0xFF in OS_ERROR_CODES and code != sqlite3.SQLITE_IOERR_SHORT_READ:
                raise OSError(f"{name}: {reason}") from None
            raise ValueError(
                f"{name} is damaged, or no log of an album ({reason}): move it away to go on with the names in the "
                "table; then steps before can no longer be undone"
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors(), write_transaction(self._connection):
            yield self._connection

    def _rows(self, select: str, *values: object) -> list[tuple]:
        with self._lock, self._errors():
            return self._connection.execute(select, values).fetchall()

    def close(self) -> None:
        """Close the file. It is complete at any time, also without this."""
        self._connection.close()

    @property
    def version(self) -> int:
        """Number of the last step, which grows with every change."""
        return self._rows("SELECT coalesce(max(number), 0) FROM steps")[0][0]

    @property
    def highest(self) -> int:
        """Of all "Person 7" that were ever given here."""
        return self._rows("SELECT highest FROM about")[0][0]

    def faces(self) -> dict[str, FaceState]:
        """Key -> face, of all that were ever in the album."""
        return {key: _state(*row) for key, *row in self._rows("SELECT key, person, refused FROM faces")}

    def apart(self) -> list[tuple[str, str]]:
        """Pairs of faces whose people are not the same."""
        return self._rows("SELECT first, second FROM apart JOIN steps ON step = number WHERE undoes IS NULL AND done")

    def labels(self) -> tuple[str, str]:
        """What `undo` and `redo` would take back, in words; "" for nothing."""
        undo, redo = self._rows(UNDOABLE), self._rows(REDOABLE)
        return undo[0][1] if undo else "", redo[0][1] if redo else ""

    def add_faces(self, faces: Mapping[str, FaceState], highest: int) -> None:
        """Add faces that are new, as the table has them.

        Args:
            highest: see `highest`; a lower one changes nothing.
        """
        rows = [(key, face.person, _text(face.refused), face.person) for key, face in faces.items()]
        with self._transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO faces VALUES (?, ?, ?, ?)", rows)
            connection.execute("UPDATE about SET highest = max(highest, ?)", (highest,))

    def add(self, step: Step, highest: int = 0) -> None:
        """Do a step; what was undone before can then no longer be done again. See `add_faces`."""
        with self._transaction() as connection:
            connection.execute("UPDATE steps SET done = 0 WHERE undoes IS NOT NULL")
            connection.execute("UPDATE about SET highest = max(highest, ?)", (highest,))
            _append(connection, step)

    def undo(self) -> dict[str, FaceState]:
        """Take back the last step that was not taken back yet; key -> face, of those that changed.

        Raises:
            LookupError: there is none.
        """
        with self._transaction() as connection:
            number, label = connection.execute(UNDOABLE).fetchone() or _nothing("undo")
            select = "SELECT face, person_before, refused_before FROM changes WHERE step = ?"
            after = {key: _state(*row) for key, *row in connection.execute(select, (number,))}
            _append(connection, Step(label, after), number)
            connection.execute("UPDATE steps SET done = 0 WHERE number = ?", (number,))
        return after

    def redo(self) -> dict[str, FaceState]:
        """Do the step again that was taken back last, see `undo`."""
        with self._transaction() as connection:
            number, label, undone = connection.execute(REDOABLE).fetchone() or _nothing("do again")
            select = "SELECT face, person_after, refused_after FROM changes WHERE step = ?"
            after = {key: _state(*row) for key, *row in connection.execute(select, (undone,))}
            pairs = connection.execute("SELECT first, second FROM apart WHERE step = ?", (undone,)).fetchall()
            _append(connection, Step(label, after, pairs))
            connection.execute("UPDATE steps SET done = 0 WHERE number = ?", (number,))
        return after

    def pending(self) -> dict[str, tuple[str, str]]:
        """Key -> (person in the table, person now) of faces whose change the table lacks."""
        rows = self._rows("SELECT key, written, person FROM faces WHERE written != person")
        return {key: (written, person) for key, written, person in rows}

    def mark_written(self, people: Mapping[str, str]) -> None:
        """Note what the table has: key -> person."""
        rows = [(person, key, person) for key, person in people.items()]
        with self._transaction() as connection:
            connection.executemany("UPDATE faces SET written = ? WHERE key = ? AND written != ?", rows)

    def people_before(self) -> Iterator[dict[str, str]]:
        """For each step, the last one first: key -> person before it, of the faces that it has changed."""
        rows = self._rows("SELECT step, face, person_before FROM changes ORDER BY step DESC")
        last = -1
        people: dict[str, str] = {}
        for step, face, person in rows:
            if step != last and people:
                yield people
                people = {}
            people[face], last = person, step
        if people:
            yield people

    def forget(self, hashes: Iterable[str]) -> None:
        """Erase the faces of photos, by the hash with which their keys begin."""
        with self._transaction() as connection:
            for sha256 in hashes:
                below = (sha256 + " ", sha256 + "!")  # "!" follows the blank
                connection.execute("DELETE FROM faces WHERE key > ? AND key < ?", below)
                connection.execute("DELETE FROM changes WHERE face > ? AND face < ?", below)
                for column in ("first", "second"):
                    connection.execute(f"DELETE FROM apart WHERE {column} > ? AND {column} < ?", below)
            names = (
                "SELECT number FROM steps WHERE number NOT IN (SELECT step FROM changes UNION SELECT step FROM apart)"
            )
            connection.execute(f"UPDATE steps SET label = '', done = 0 WHERE number IN ({names})")
        self._rows("VACUUM")


def pending_people(folder: Path) -> dict[str, tuple[str, str]]:
    """See `AlbumStore.pending`; of the album in a folder, {} where nobody has worked with it.

    Raises:
        ValueError, OSError: see `AlbumStore`.
    """
    if not (folder / STORE_FILE).exists():
        return {}
    with closing(AlbumStore(folder / STORE_FILE)) as store:
        return store.pending()


def faces_apart(folder: Path) -> set[str]:
    """Keys of the faces whose people somebody has said to be different, of the album in a folder.

    Raises:
        ValueError, OSError: see `AlbumStore`.
    """
    if not (folder / STORE_FILE).exists():
        return set()
    with closing(AlbumStore(folder / STORE_FILE)) as store:
        return {key for pair in store.apart() for key in pair}


def mark_all_written(folder: Path) -> None:
    """Note that the table of a folder has what it lacked."""
    if (folder / STORE_FILE).exists():
        with closing(AlbumStore(folder / STORE_FILE)) as store:
            store.mark_written({key: person for key, (_, person) in store.pending().items()})


def _append(connection: sqlite3.Connection, step: Step, undoes: int | None = None) -> None:
    """Add a step to the log, and change its faces."""
    insert = "INSERT INTO steps (label, undoes, done) VALUES (?, ?, 1)"
    number = connection.execute(insert, (step.label, undoes)).lastrowid
    connection.executemany(
        "INSERT INTO changes SELECT ?, key, person, refused, ?, ? FROM faces WHERE key = ?",
        [(number, face.person, _text(face.refused), key) for key, face in step.after.items()],
    )
    connection.executemany(
        "UPDATE faces SET person = ?, refused = ? WHERE key = ?",
        [(face.person, _text(face.refused), key) for key, face in step.after.items()],
    )
    connection.executemany("INSERT INTO apart VALUES (?, ?, ?)", [(number, *pair) for pair in step.apart])


def _nothing(what: str) -> tuple:
    raise LookupError(f"there is nothing to {what}")


def _state(person: str, refused: str) -> FaceState:
    return FaceState(person, frozenset(filter(None, refused.split("\n"))))


def _text(refused: frozenset[str]) -> str:
    return "\n".join(sorted(refused))
