"""Gallery: enrolled people, and open-set identification and verification against them.

A search is one matrix product with the mean embeddings of all people, which are kept in memory. The file is
`gallery_store`'s.
"""

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facelib.embedding.similarity import cosine_distance, unit_vectors
from facelib.io.files import printable
from facelib.recognition.calibration import Calibration, Decision
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.cohort import score_offsets
from facelib.recognition.enrolment import find_enrolment_issue
from facelib.recognition.gallery_store import (
    MAX_QUALITY,
    EnrolledPeople,
    GalleryStore,
    add_embeddings,
    are_qualities,
    rename_person,
)
from facelib.recognition.names import normalise_name, stored_name
from facelib.runtime.manifest import default_model_id
from facelib.settings import SAME
from facelib.types import CalibrationMissingError, Face, ModelMismatchError

OneOrMoreFaces = Face | np.ndarray | Sequence[Face | np.ndarray]


@dataclass(frozen=True)
class Identification:
    """Result of the search for one face (the probe) in a gallery.

    name: the person, or None where nobody is close enough or the face has a quality issue.
    distance: cosine distance to the mean embedding of the nearest person.
    false_match_rate: how often an impostor is as close to anybody in this gallery, which is the false positive
        identification rate (FPIR) at this score.
    nearest: the nearest people, those with the highest scores, as (name, distance).
    score: with the nearest person, see `Calibration`.
    reason: why the name is None although somebody is close enough, else "".
    """

    name: str | None
    distance: float
    false_match_rate: float
    nearest: list[tuple[str, float]]
    reason: str = ""
    score: float = -math.inf


class Gallery:
    """People and their embeddings in a file, which is created if it does not exist, readable by its owner alone.

    Args:
        path: the file.
        model_id: embedder of the embeddings, see `facelib.types.Embedder`; None: the default embedder.
        calibration: error rates of that embedder; None: see `load_calibration`.
        any_embedder: open an existing file whatever embedder it is of.

    Raises:
        GalleryError: the file is not a gallery, or damaged.
        ModelMismatchError: it holds embeddings of another embedder.
        OSError: it cannot be opened or created.
    """

    def __init__(
        self,
        path: str | Path,
        model_id: str | None = None,
        calibration: Calibration | None = None,
        any_embedder: bool = False,
    ):
        self.path = Path(path).expanduser()
        self._store = GalleryStore(self.path, model_id or default_model_id(), any_embedder)
        self.model_id = self._store.model_id
        self._offsets: tuple[EnrolledPeople, np.ndarray] | None = None
        if calibration:
            self.calibration = calibration

    @functools.cached_property
    def calibration(self) -> Calibration:
        """Error rates by score of the gallery's embedder, see `load_calibration`."""
        return load_calibration(self.model_id)

    def close(self) -> None:
        """Close the file. It is complete at any time, also without this."""
        self._store.close()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enrol(self, name: str, faces: OneOrMoreFaces, qualities: Sequence[float] | None = None) -> int:
        """Add photos of a person, new or enrolled already. A photo that is enrolled already is not added again.

        Args:
            name: of the person, see `normalise_name`.
            faces: a Face, an embedding (d,), or several of either.
            qualities: weight of each face in the person's mean embedding, not negative; None: `Face.quality`, 1 for
                an embedding.

        Returns:
            The number of photos that the person has now.

        Raises:
            ValueError: see `normalise_name`; no face, bad embeddings, or qualities that are not a number for each face.
            GalleryError: the file is damaged, or closed. OSError: it cannot be written, or is locked for long.
            ModelMismatchError: embeddings of another embedder.
        """
        name = normalise_name(name)
        embeddings = self._embeddings_of(faces)
        if qualities is None:
            qualities = [face.quality if isinstance(face, Face) else 1.0 for face in _as_list(faces)]
        if len(qualities) != len(embeddings):
            raise ValueError(f"{len(qualities)} qualities for {len(embeddings)} faces: expected one each")
        if not are_qualities(qualities):
            raise ValueError(f"qualities {str(list(qualities))[:60]}: expected numbers from 0 to {MAX_QUALITY:,.0f}")
        with self._store.transaction() as connection:
            (dimensions,) = connection.execute("SELECT size FROM about").fetchone()
            _check_dimensions(embeddings, dimensions or embeddings.shape[1])
            connection.execute("UPDATE about SET size = ?", (embeddings.shape[1],))
            connection.execute("INSERT OR IGNORE INTO people (name) VALUES (?)", (name,))
            (person,) = connection.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
            add_embeddings(connection, person, embeddings, qualities)
            return connection.execute("SELECT count(*) FROM vectors WHERE person = ?", (person,)).fetchone()[0]

    def enrolment_issue(self, name: str, face: Face | np.ndarray) -> str:
        """Why an enrolled photo may show somebody else than the person, or "", see `find_enrolment_issue`.

        Raises:
            KeyError: nobody of that name. ValueError, ModelMismatchError: see `enrol`.
        """
        name, embedding = normalise_name(name), self._embeddings_of(face)[0]
        enrolled = self._store.people()
        if name not in enrolled.names:
            raise self._unknown(name)
        with contextlib.suppress(CalibrationMissingError):
            return find_enrolment_issue(enrolled, name, embedding, self.calibration)
        return find_enrolment_issue(enrolled, name, embedding, None)

    def remove(self, name: str) -> None:
        """Delete a person: no embedding remains in the file, nor in the write-ahead log beside it.

        Raises:
            KeyError: nobody of that name.
            OSError: the person is deleted, but another program is reading and keeps the embeddings in the log; the
                next call erases them.
        """
        name = stored_name(name)
        with self._store.transaction() as connection:
            deleted = connection.execute("DELETE FROM people WHERE name = ?", (name,)).rowcount
        self._store.erase_deleted()  # also for an unknown name: an earlier call may have been interrupted before this
        if not deleted:
            raise self._unknown(name)

    def rename(self, name: str, to: str) -> None:
        """Give a person another name. If somebody of that name is enrolled already, both become one person.

        Raises:
            KeyError: nobody of that name.
            ValueError: the new name is refused, see `normalise_name`.
        """
        name, to = stored_name(name), normalise_name(to)
        with self._store.transaction() as connection:
            if not rename_person(connection, name, to):
                raise self._unknown(name)

    def backup(self, path: str | Path) -> None:
        """Write a copy of the file, whole also while other programs write to it, readable by its owner alone.

        Raises:
            FileExistsError: `path` exists. OSError: it cannot be written.
        """
        self._store.backup(Path(path).expanduser())

    def people(self) -> dict[str, int]:
        """Name -> number of photos, in alphabetical order."""
        enrolled = self._store.people()
        return dict(sorted(zip(enrolled.names, enrolled.photos.tolist())))

    def export(self) -> dict[str, Any]:
        """Everything in the gallery: "model_id", and "people": name -> embeddings (n, d) float32."""
        enrolled = self._store.people()
        people = {name: enrolled.embeddings[enrolled.owners == i] for i, name in enumerate(enrolled.names)}
        return {"model_id": self.model_id, "people": people}

    def identify(self, faces: OneOrMoreFaces, fmr: float = SAME, top_k: int = 3) -> list[Identification]:
        """Identify faces: find the nearest person of each, and decide whether it is close enough.

        Args:
            faces: a Face, an embedding (d,), or several of either.
            fmr: target false match rate of a name, over the whole gallery: share of impostors who get one.
            top_k: number of nearest people in each result.

        Raises:
            ValueError: `fmr` or `top_k` out of range, or bad embeddings, see `enrol`.
            ModelMismatchError: embeddings of another embedder.
        """
        if not 0 < fmr < 1 or top_k < 1:
            raise ValueError(f"fmr={fmr}, top_k={top_k}: expected a rate between 0 and 1, and at least 1")
        probes = _as_list(faces)
        if not probes:
            return []
        embeddings = self._embeddings_of(faces)
        enrolled = self._store.people()
        if not enrolled.names:
            return [Identification(None, 2.0, 1.0, []) for _ in probes]
        _check_dimensions(embeddings, enrolled.means.shape[1])
        cosines = embeddings @ enrolled.means.T
        scores = cosines - score_offsets(embeddings, self.calibration.cohort)[:, None] - self._offsets_of(enrolled)
        distances, issues = np.maximum(1 - cosines, 0), map(_quality_issue, probes)
        return [self._decide(enrolled, *each, fmr, top_k) for each in zip(scores, distances, issues)]

    def _offsets_of(self, enrolled: EnrolledPeople) -> np.ndarray:
        """(p,) what each person's mean embedding takes from scores, computed once for each content of the gallery."""
        if self._offsets is None or self._offsets[0] is not enrolled:
            self._offsets = enrolled, score_offsets(enrolled.means, self.calibration.cohort)
        return self._offsets[1]

    def _decide(
        self, enrolled: EnrolledPeople, scores: np.ndarray, distances: np.ndarray, issue: str, fmr: float, top_k: int
    ) -> Identification:
        """The result for one probe, from its scores (p,) with all people and its distances to them."""
        nearest = np.argpartition(-scores, min(top_k, len(scores)) - 1)[:top_k]
        nearest = nearest[np.argsort(-scores[nearest], kind="stable")]
        score, distance = float(scores[nearest[0]]), float(distances[nearest[0]])
        gallery_fmr = self._gallery_fmr(score, enrolled.photos)
        name = enrolled.names[nearest[0]] if gallery_fmr <= fmr else None
        reason = issue if name else ""
        candidates = [(enrolled.names[i], float(distances[i])) for i in nearest]
        return Identification(None if reason else name, distance, gallery_fmr, candidates, reason, score)

    def _gallery_fmr(self, score: float, photos: np.ndarray) -> float:
        """How often an impostor has such a score with any of the people, who have (p,) photos each."""
        numbers, counts = np.unique(photos, return_counts=True)
        true_non_match = [1 - self.calibration.extrapolated_fmr(score, number) for number in numbers.tolist()]
        return float(1 - np.prod(np.power(true_non_match, counts)))

    def verify(self, name: str, face: Face | np.ndarray) -> Decision:
        """Decide whether a face is that of an enrolled person, by the score with the person's mean embedding.

        Raises:
            KeyError: nobody of that name.
            ValueError, ModelMismatchError: see `identify`.
        """
        name = stored_name(name)
        enrolled = self._store.people()
        if name not in enrolled.names:
            raise self._unknown(name)
        person = enrolled.names.index(name)
        embeddings = self._embeddings_of(face)
        _check_dimensions(embeddings, enrolled.means.shape[1])
        mean, issue, photos = enrolled.means[[person]], _quality_issue(_as_list(face)[0]), int(enrolled.photos[person])
        score = self.calibration.score_matrix(embeddings, mean).item()
        distance = float(cosine_distance(embeddings[0], mean[0]))
        return self.calibration.decide(score, quality_issue=issue, photos=photos, distance=distance)

    def _embeddings_of(self, faces: OneOrMoreFaces) -> np.ndarray:
        """(n, d) float32 of unit length, checked."""
        listed = _as_list(faces)
        if not listed:
            raise ValueError("no face: give a Face, an embedding, or several")
        for face in listed:
            if isinstance(face, Face) and face.model_id not in ("", self.model_id):
                raise ModelMismatchError(
                    f"a face has an embedding of the model {face.model_id}, the gallery holds those of {self.model_id}"
                )
        embeddings = [face.embedding if isinstance(face, Face) else np.asarray(face) for face in listed]
        shapes = {embedding.shape for embedding in embeddings}
        if len(shapes) != 1 or embeddings[0].ndim != 1:
            raise ValueError(f"embeddings of shapes {sorted(shapes)}: expected (d,), with one d")
        return unit_vectors(np.stack(embeddings))

    def _unknown(self, name: str) -> KeyError:
        return KeyError(f"nobody is called {name!r} in {printable(self.path)}")


def _as_list(faces: OneOrMoreFaces) -> list[Face | np.ndarray]:
    """One face or embedding, or several, as a list."""
    if isinstance(faces, Face) or (isinstance(faces, np.ndarray) and faces.ndim == 1 and len(faces)):
        return [faces]
    return list(faces)


def _quality_issue(face: Face | np.ndarray) -> str:
    issue = face.quality_issue if isinstance(face, Face) else ""
    return f"the face is {issue}" if issue else ""


def _check_dimensions(embeddings: np.ndarray, expected: int) -> None:
    if embeddings.shape[1] != expected:
        raise ModelMismatchError(
            f"embeddings of {embeddings.shape[1]} dimensions, the gallery has {expected}: they are of another embedder"
        )
