"""Who is who: people with their vectors in one SQLite file.

SQLite in WAL mode carries durability and several processes; what is ours is the search: one matrix product with the
mean vectors of all people, which are held in memory and made again when somebody else has written.
"""

import functools
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facelib.embedding.similarity import mean_embedding, unit_vectors
from facelib.io.files import printable
from facelib.recognition.calibration import Calibration, Decision, load_calibration
from facelib.runtime.manifest import default_model_id
from facelib.settings import SAME
from facelib.types import Face

APPLICATION = 0x66616365  # "face", in the header of the file
PATIENCE = 30.0  # seconds that one process waits for another to have written
SAME_PHOTO = 1e-5  # cosine distance up to which two vectors of a person are of one photo
TABLES = """
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


@dataclass(frozen=True)
class Identification:
    """Whose face it is.

    name: None where nobody of the gallery is close enough, or the face shows too little. distance: to the mean of the
    nearest person's photos. false_match_rate: how often somebody who is not in the gallery is as close to anybody
    in it. nearest: the nearest names with distances. reason: why a face is given no name though somebody is near.
    """

    name: str | None
    distance: float
    false_match_rate: float
    nearest: list[tuple[str, float]]
    reason: str = ""


@dataclass(frozen=True)
class People:
    """What is in the file: names; for each vector the place of its name (sorted), and the vectors (n, d) of length 1;
    for each person how many photos there are, and their mean by quality, of length 1 (p, d)."""

    names: list[str]
    owners: np.ndarray
    vectors: np.ndarray
    photos: np.ndarray
    means: np.ndarray


class Gallery:
    """People and their vectors in a file; made where there is none.

    Args:
        path: the file. model_id: whose vectors these are, see `Embedder.model_id`; None: the shipped one's. calibration:
            what its distances mean; None: what was measured of it. any_embedder: a file that is there is opened
            whosever vectors it holds.

    Raises:
        ValueError: the file is no gallery, damaged, or of another embedder. OSError: it cannot be opened or made.
    """

    def __init__(
        self,
        path: str | Path,
        model_id: str | None = None,
        calibration: Calibration | None = None,
        any_embedder: bool = False,
    ):
        self.path = Path(path).expanduser()
        self._lock, self._version, self._loaded = threading.RLock(), -1, None
        self._connection = self._open(model_id or default_model_id(), any_embedder)
        if calibration:
            self.calibration = calibration

    @functools.cached_property
    def calibration(self) -> Calibration:
        """What distances of its vectors mean, see `load_calibration`."""
        return load_calibration(self.model_id)

    def _open(self, model_id: str, any_embedder: bool) -> sqlite3.Connection:
        name, new = printable(self.path), not self.path.exists()
        if new and any_embedder:
            raise FileNotFoundError(f"{name}: no such gallery")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{printable(self.path.parent)}: no such folder")
        try:
            connection = sqlite3.connect(self.path, PATIENCE, isolation_level=None, check_same_thread=False)
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                there = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                # Asked again: another program may have made it meanwhile.
                if there and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                    raise ValueError(f"{name} is a database but no gallery: give another file")
                self._make(connection, model_id)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA secure_delete = ON")  # what is removed leaves nothing behind
            connection.execute("PRAGMA foreign_keys = ON")
            if (found := connection.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise ValueError(f"{name} is damaged ({found[:80]}): restore it from a copy")
            self.model_id, self.size = connection.execute("SELECT embedder, size FROM about").fetchone()
        except sqlite3.DatabaseError as error:
            if any(words in str(error) for words in ("unable to open", "readonly", "locked", "full", "I/O")):
                raise OSError(f"{name}: cannot be opened ({error})") from None
            raise ValueError(f"{name} is no gallery, or damaged ({error}): restore it from a copy") from None
        if model_id != self.model_id and not any_embedder:
            raise ValueError(
                f"{name} holds vectors of the embedder {self.model_id}, not of {model_id}: distances between them mean "
                "nothing. Enrol the people anew in another file"
            )
        return connection

    def _make(self, connection: sqlite3.Connection, model_id: str) -> None:
        connection.execute("BEGIN EXCLUSIVE")
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:  # nobody was faster
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO about VALUES (?, 0)", (model_id,))
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """The file is whole at any time; this lets go of it."""
        self._connection.close()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is in the file when the block ends, or nothing."""
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has ended it already
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._loaded = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What SQLite says of locks and disks, as the errors of a file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{printable(self.path)}: {error}") from None

    def enrol(
        self,
        name: str,
        faces: Face | np.ndarray | Sequence[Face | np.ndarray],
        qualities: Sequence[float] | None = None,
    ) -> int:
        """Add photos of a person, known already or new; gives how many photos of the person there are now.

        A photo that is there already is not added again.

        Args:
            faces: a Face, a vector (d,), or several of either. qualities: how much each shows, by which the person's
                mean is weighted; None: as the faces say, 1 for a bare vector.

        Raises:
            ValueError: no name, or vectors that are none, or of another length.
        """
        if not name.strip():
            raise ValueError("a person needs a name")
        vectors, own = self._vectors_of(faces)
        qualities = own if qualities is None else qualities
        with self._writing() as connection:
            (size,) = connection.execute("SELECT size FROM about").fetchone()
            if size not in (0, vectors.shape[1]):
                raise ValueError(f"vectors of {vectors.shape[1]} numbers, the gallery has {size}: another embedder's")
            connection.execute("UPDATE about SET size = ?", (vectors.shape[1],))
            connection.execute("INSERT OR IGNORE INTO people (name) VALUES (?)", (name,))
            (person,) = connection.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
            kept = [
                np.frombuffer(blob, np.float32)
                for (blob,) in connection.execute("SELECT vector FROM vectors WHERE person = ?", (person,))
            ]
            rows = []
            for vector, quality in zip(vectors, qualities):
                if all(1 - vector @ other > SAME_PHOTO for other in kept):
                    kept.append(vector)
                    rows.append((person, vector.tobytes(), quality))
            connection.executemany("INSERT INTO vectors (person, vector, quality) VALUES (?, ?, ?)", rows)
            return connection.execute("SELECT count(*) FROM vectors WHERE person = ?", (person,)).fetchone()[0]

    def remove(self, name: str) -> None:
        """Forget a person: no vector stays in the file, nor in the log beside it.

        Raises:
            KeyError: nobody of that name. OSError: the vectors are out of the gallery, but another program is reading
                and keeps them in the log; the next call takes them out of that.
        """
        with self._writing() as connection:
            gone = connection.execute("DELETE FROM people WHERE name = ?", (name,)).rowcount
        with self._lock, self._errors():  # also where nobody was called so: an earlier call may have been cut off here
            self._connection.execute("VACUUM")
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise OSError(f"{printable(self.path)}: another program is reading it; call remove again when it is done")
        if not gone:
            raise KeyError(f"nobody is called {name!r} in {printable(self.path)}")

    def rename(self, name: str, to: str) -> None:
        """Give a person another name; where there is one of that name already, both become one.

        Raises:
            KeyError: nobody of that name. ValueError: no name.
        """
        if not to.strip():
            raise ValueError("a person needs a name")
        with self._writing() as connection:
            ids = dict(connection.execute("SELECT name, id FROM people WHERE name IN (?, ?)", (name, to)))
            if name not in ids:
                raise KeyError(f"nobody is called {name!r} in {printable(self.path)}")
            if to in ids and to != name:
                connection.execute("UPDATE vectors SET person = ? WHERE person = ?", (ids[to], ids[name]))
                connection.execute("DELETE FROM people WHERE id = ?", (ids[name],))
            else:
                connection.execute("UPDATE people SET name = ? WHERE id = ?", (to, ids[name]))

    def people(self) -> dict[str, int]:
        """Name -> number of photos, in alphabetical order."""
        there = self._people()
        return dict(sorted(zip(there.names, there.photos.tolist())))

    def export(self) -> dict[str, Any]:
        """Everything there is: embedder, and for each name its vectors (n, d)."""
        there = self._people()
        people = {name: there.vectors[there.owners == number] for number, name in enumerate(there.names)}
        return {"model_id": self.model_id, "people": people}

    def _people(self) -> People:
        """Read again if somebody has written."""
        with self._lock:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]  # rises when others have written
            if self._loaded is None or version != self._version:
                self._version, self._loaded = version, self._read()
            return self._loaded

    def _read(self) -> People:
        rows = self._connection.execute(
            "SELECT people.id, name, vector, quality FROM people JOIN vectors ON person = people.id "
            "ORDER BY people.id, vectors.id"
        ).fetchall()
        if not rows:
            return People([], np.zeros(0, int), np.zeros((0, 0), np.float32), np.zeros(0, int), np.zeros((0, 0)))
        ids, names, blobs, qualities = zip(*rows)
        vectors = np.frombuffer(b"".join(blobs), np.float32).reshape(len(rows), -1)
        _, starts, owners, photos = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
        means = vectors[starts].copy()
        for person in np.flatnonzero(photos > 1):
            own = slice(starts[person], starts[person] + photos[person])
            means[person] = mean_embedding(vectors[own], np.array(qualities[own]))
        return People([names[start] for start in starts], owners, vectors, photos, means)

    def identify(
        self, faces: Face | np.ndarray | Sequence[Face | np.ndarray], rate: float = SAME, most: int = 3
    ) -> list[Identification]:
        """Whose faces these are.

        Args:
            faces: see `enrol`. rate: of strangers who may be given a name, in this gallery as large as it is.
            most: nearest names that are told.

        Raises:
            ValueError: vectors of another embedder's length; a rate that is none.
        """
        if not 0 < rate < 1 or most < 1:
            raise ValueError(f"rate={rate}, most={most}: expected a share between 0 and 1, and at least one name")
        if not isinstance(faces, Face) and len(faces) == 0:
            return []
        vectors, _ = self._vectors_of(faces)
        doubts = _quality_issues_of(faces)
        there = self._people()
        if not there.names:
            return [Identification(None, 2.0, 1.0, []) for _ in vectors]
        if vectors.shape[1] != there.means.shape[1]:
            raise ValueError(
                f"vectors of {vectors.shape[1]} numbers, the gallery has {there.means.shape[1]}: another embedder's"
            )
        results = []
        for distances, doubt in zip(np.maximum(1 - vectors @ there.means.T, 0), doubts):
            nearest = np.argpartition(distances, min(most, len(distances)) - 1)[:most]
            nearest = nearest[np.argsort(distances[nearest], kind="stable")]
            distance = float(distances[nearest[0]])
            wrong = self._false_match_rate(distance, there.photos)
            name = there.names[nearest[0]] if wrong <= rate else None
            named = [(there.names[i], float(distances[i])) for i in nearest]
            reason = f"the face is {doubt}" if name and doubt else ""
            results.append(Identification(None if reason else name, distance, wrong, named, reason))
        return results

    def _false_match_rate(self, distance: float, photos: np.ndarray) -> float:
        """How often a stranger is as close to anybody of so many photos each, see `Calibration.extrapolated_fmr`."""
        numbers, counts = np.unique(photos, return_counts=True)
        right = [1 - self.calibration.extrapolated_fmr(distance, number) for number in numbers.tolist()]
        return float(1 - np.prod(np.power(right, counts)))

    def verify(self, name: str, face: Face | np.ndarray) -> Decision:
        """Whether this is the person, by the mean of the person's photos.

        Raises:
            KeyError: nobody of that name. ValueError: see `identify`.
        """
        there = self._people()
        if name not in there.names:
            raise KeyError(f"nobody is called {name!r} in {printable(self.path)}")
        number, (vectors, _), doubt = there.names.index(name), self._vectors_of(face), _quality_issues_of(face)[0]
        if vectors.shape[1] != there.means.shape[1]:
            raise ValueError(
                f"vectors of {vectors.shape[1]} numbers, the gallery has {there.means.shape[1]}: another embedder's"
            )
        distance = max(0.0, 1 - float(there.means[number] @ vectors[0]))
        doubt = f"the face is {doubt}" if doubt else ""
        return self.calibration.decide(distance, quality_issue=doubt, photos=int(there.photos[number]))

    def _vectors_of(self, faces: Face | np.ndarray | Sequence[Face | np.ndarray]) -> tuple[np.ndarray, list[float]]:
        """As the function; refuses faces of another embedder."""
        for face in [faces] if isinstance(faces, Face) else faces:
            if isinstance(face, Face) and face.model_id not in ("", self.model_id):
                raise ValueError(f"a face of the model {face.model_id}, the gallery holds {self.model_id}'s")
        return _vectors_of(faces)


def _quality_issues_of(faces: Face | np.ndarray | Sequence[Face | np.ndarray]) -> list[str]:
    """Why each face shows too little, "" for those that show enough and for bare vectors."""
    if isinstance(faces, Face) or (isinstance(faces, np.ndarray) and faces.ndim == 1):
        faces = [faces]
    return [face.quality_issue if isinstance(face, Face) else "" for face in faces]


def _vectors_of(faces: Face | np.ndarray | Sequence[Face | np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Vectors (n, d) float32 of length 1, and how much each face shows (1 for a bare vector)."""
    if isinstance(faces, Face) or (isinstance(faces, np.ndarray) and faces.ndim == 1):
        faces = [faces]
    faces = list(faces)
    if not faces:
        raise ValueError("no face: give a Face, a vector, or several")
    vectors = [face.embedding if isinstance(face, Face) else np.asarray(face) for face in faces]
    if len({vector.shape for vector in vectors}) != 1 or vectors[0].ndim != 1:
        raise ValueError(f"vectors of shapes {sorted({v.shape for v in vectors})}: expected (d,), all of one length")
    qualities = [face.quality if isinstance(face, Face) else 1.0 for face in faces]
    return unit_vectors(np.stack(vectors)), qualities
