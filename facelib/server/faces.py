"""Faces of an album that is served, and how near the people are to each other and to their own faces."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.embedding.similarity import mean_embedding
from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import score_offsets
from facelib.recognition.names import LOW_QUALITY, is_named, natural_key
from facelib.settings import DIFFERENT

CANDIDATES = 8  # nearest people that are looked at for each person
PER_PERSON = 3  # of them, those that are suggested
MAX_SUGGESTIONS = 200

Members = tuple[int, ...]  # indices of the faces of a person


@dataclass(frozen=True)
class ServedFace:
    """A face of the album.

    key: which it has in every session.
    photo: path of its photo, as text.
    number: of the face in the photo.
    embedding: (d,) float32 of unit length.
    offset: what it takes from its scores, see `score_offsets`.
    quality_issue: see `Face.quality_issue`.
    aligned: picture of the aligned face.
    annotated: picture of the photo.
    """

    key: str
    photo: str
    number: int
    embedding: np.ndarray
    offset: float
    quality_issue: str
    aligned: Path
    annotated: Path


@dataclass(frozen=True)
class _Person:
    """A person's faces as one.

    mean: (d,) mean of the embeddings, not of unit length: with it the mean of all scores is one product.
    offset: mean of their offsets.
    centre: (d,) mean embedding, of unit length.
    centre_offset: what it takes from scores.
    order: of the faces, those with the highest score with the centre first.
    """

    mean: np.ndarray
    offset: float
    centre: np.ndarray
    centre_offset: float
    order: Members


@dataclass(frozen=True)
class Suggestion:
    """Two people who may be one.

    first, second: their names; of two without a name the one with more faces is the first.
    faces: number of faces that the answer decides.
    score: of the faces of the person with fewer of them with the mean embedding of the other one, on average.
    false_match_rate: of that score.
    """

    first: str
    second: str
    faces: int
    score: float
    false_match_rate: float


class Scores:
    """Scores of faces and people, of which only what has changed is computed again. Several threads may use it.

    Args:
        faces: of the album.
        calibration: error rates, and the cohort of the scores; None: not known, then nothing is suggested.
        condition: of the album, see `measure_condition`; half of it is in the offset of each face.
    """

    def __init__(self, faces: Sequence[ServedFace], calibration: Calibration | None, condition: float):
        self._embeddings = np.stack([face.embedding for face in faces]) if faces else np.zeros((0, 1), np.float32)
        self._offsets = np.array([face.offset for face in faces])
        self._photos = [face.photo for face in faces]
        self._calibration, self._condition = calibration, condition
        self._known: dict[Members, _Person] = {}

    def order(self, people: Mapping[str, Members]) -> dict[str, Members]:
        """The faces of each person, those with the highest score with the person first."""
        known = self._updated(people.values())
        return {name: known[members].order for name, members in people.items()}

    def _updated(self, groups: Iterable[Members]) -> dict[Members, _Person]:
        groups, before = list(groups), self._known
        known = {members: before[members] for members in groups if members in before}
        new = [members for members in groups if members not in known]
        centres = [mean_embedding(self._embeddings[list(members)], np.ones(len(members))) for members in new]
        if new:
            cohort = self._calibration.cohort if self._calibration else None
            offsets = score_offsets(np.stack(centres), cohort) + self._condition / 2
            for members, centre, offset in zip(new, centres, offsets.tolist()):
                rows = list(members)
                order = np.argsort(self._offsets[rows] - self._embeddings[rows] @ centre, kind="stable")
                mean, own = self._embeddings[rows].mean(0), float(self._offsets[rows].mean())
                known[members] = _Person(mean, own, centre, offset, tuple(members[i] for i in order.tolist()))
        self._known = known
        return known

    def suggestions(
        self, people: Mapping[str, Members], refused: Mapping[str, Set[str]], apart: Set[frozenset[str]]
    ) -> list[Suggestion]:
        """People who may be one, those first whose answer decides most faces; of equal ones the lower FMR first.

        Two people with names, people who are in one photo, and those of whom somebody has said that they differ are
        not suggested, nor are scores whose FMR is above `DIFFERENT`.

        Args:
            people: name -> faces.
            refused: name -> names that were taken from a face of the person.
            apart: pairs of people who differ.
        """
        names = [name for name in people if name != LOW_QUALITY]
        if self._calibration is None or len(names) < 2:
            return []
        photos = {name: {self._photos[face] for face in people[name]} for name in names}
        found = []
        for one, other, score in self._nearest(names, people):
            fits = not photos[one] & photos[other] and frozenset((one, other)) not in apart
            fits = fits and other not in refused.get(one, ()) and one not in refused.get(other, ())
            rate = self._calibration.false_match_rate(score, len(people[other])) if fits else 1.0
            if rate <= DIFFERENT:
                found.append(_suggestion(one, other, people, score, rate))
        kept, counts = [], dict.fromkeys(names, 0)
        for each in sorted(found, key=lambda each: (-each.faces, each.false_match_rate, natural_key(each.first))):
            if counts[each.second] < PER_PERSON:
                counts[each.second] += 1
                kept.append(each)
        return kept[:MAX_SUGGESTIONS]

    def _nearest(self, names: Sequence[str], people: Mapping[str, Members]) -> list[tuple[str, str, float]]:
        """(person, another one with as many faces or more, score), of the nearest such people of each."""
        known = self._updated(people[name] for name in names)
        rows = [known[people[name]] for name in names]
        scores = np.stack([row.mean for row in rows]) @ np.stack([row.centre for row in rows]).T
        scores -= np.array([row.offset for row in rows])[:, None] + np.array([row.centre_offset for row in rows])
        sizes = np.array([len(people[name]) for name in names])
        earlier = np.arange(len(names))[:, None] >= np.arange(len(names))
        scores[(sizes[:, None] > sizes) | ((sizes[:, None] == sizes) & earlier)] = -np.inf
        named = np.array([is_named(name) for name in names])
        scores[named[:, None] & named] = -np.inf
        count = min(CANDIDATES, len(names))
        nearest = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        pairs = [(i, j) for i, row in enumerate(nearest.tolist()) for j in row if np.isfinite(scores[i, j])]
        return [(names[i], names[j], float(scores[i, j])) for i, j in pairs]


def _suggestion(smaller: str, larger: str, people: Mapping[str, Members], score: float, rate: float) -> Suggestion:
    first, second = (smaller, larger) if is_named(smaller) else (larger, smaller)
    return Suggestion(first, second, len(people[second]), score, rate)
