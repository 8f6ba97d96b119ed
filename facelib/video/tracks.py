"""Tracks: one face followed over the frames of a clip, and the one embedding that stands for it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from facelib.embedding.similarity import mean_embedding, unit_vectors
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.types import Face

EMBEDDED_FRAMES = 10  # at most so many frames make the embedding of a track: the best, spread over it
MAX_SAMPLES = 40  # faces of a track that are kept while it lasts, spread over it
FIRST_INTERVAL = 0.1  # seconds: of these only the best face is kept; twice as long whenever there are too many samples
MIN_SIDE = 3  # usable samples on both sides of a split, the nearest of which are compared
MAX_SIDE = 4
MOTION_TIME = 0.4  # seconds: before the last frame, in which the velocity is measured; and how long it lasts
MEMORY = 0.9  # of the mean embedding of a track, when a face is added


@dataclass(frozen=True, eq=False)
class Track:
    """One face over the frames of a clip in which the detector found it.

    number: from 1 in a clip; numbers of tracks that were dropped as too short are missing.
    times: (k,) float64, seconds from the start of the clip, increasing.
    boxes: (k, 4) float32, x1 y1 x2 y2 in pixels of the frame.
    face: the best of its faces, as in its frame, but with the embedding of the track, see `track_face`.
    best_time: seconds, of the frame with that face.
    photos: number of faces whose mean the embedding is.
    """

    number: int
    times: np.ndarray
    boxes: np.ndarray
    face: Face
    best_time: float
    photos: int

    @property
    def first(self) -> float:
        """Time of the first frame, in seconds."""
        return float(self.times[0])

    @property
    def last(self) -> float:
        """Time of the last frame, in seconds."""
        return float(self.times[-1])

    def box_at(self, time: float) -> np.ndarray | None:
        """Box (4,) at a time in seconds, interpolated linearly between detections; None outside of the track."""
        if not self.first <= time <= self.last:
            return None
        return np.array([np.interp(time, self.times, side) for side in self.boxes.T], np.float32)


@dataclass(frozen=True, eq=False)
class Sample:
    """A face of a track. time: seconds, of its frame."""

    time: float
    face: Face


@dataclass(eq=False)
class OpenTrack:
    """A track that may go on.

    times, boxes: as in `Track`, also of its earlier pieces.
    mean: (d,) of unit length, of its faces without a quality issue, the latest most; None where there is none.
    samples: the best face of each `interval`, in seconds, in order of time.
    closed: number of times and boxes that are in a `Track` already.
    """

    number: int
    times: list[float]
    boxes: list[np.ndarray]
    mean: np.ndarray | None = None
    samples: list[Sample] = field(default_factory=list)
    interval: float = FIRST_INTERVAL
    closed: int = 0

    def add(self, time: float, face: Face) -> None:
        """Add the face of a frame."""
        self.times.append(time)
        self.boxes.append(face.box)
        self.samples[-1:] = _best_of_each([*self.samples[-1:], Sample(time, face)], self.interval)
        while len(self.samples) > MAX_SAMPLES:
            self.interval *= 2
            self.samples = _best_of_each(self.samples, self.interval)
        if not face.quality_issue:
            before = face.embedding if self.mean is None else self.mean
            self.mean = mean_embedding(np.stack([before, face.embedding]), np.array([MEMORY, 1 - MEMORY]))

    def expected_box(self, time: float) -> np.ndarray:
        """(4,) float32: where the face is if it moves on as in the last `MOTION_TIME`."""
        start = max(0, int(np.searchsorted(self.times, self.times[-1] - MOTION_TIME)))
        elapsed = self.times[-1] - self.times[start]
        if elapsed <= 0:
            return self.boxes[-1]
        velocity = (self.boxes[-1] - self.boxes[start]).reshape(2, 2).mean(0) / elapsed
        return self.boxes[-1] + np.tile(velocity, 2) * min(time - self.times[-1], MOTION_TIME)


def _best_of_each(samples: Sequence[Sample], interval: float) -> list[Sample]:
    """The best of the samples, in order of time, in each interval of so many seconds."""
    groups = itertools.groupby(samples, lambda sample: int(sample.time / interval + 1e-6))
    return [max(group, key=_rank) for _, group in groups]


def face_rank(face: Face) -> tuple[bool, float]:
    """Sorts faces from the worst to the best: by quality, those with a quality issue first."""
    return not face.quality_issue, face.quality


def _rank(sample: Sample) -> tuple[bool, float]:
    return face_rank(sample.face)


def track_face(samples: Sequence[Sample]) -> tuple[Face, float, int]:
    """The best face of a track with the embedding of the track, its time in seconds, and the number of faces averaged.

    The samples, in order of time, are divided into `EMBEDDED_FRAMES` parts; the embedding is the mean of the best face
    of each, weighted by quality. Faces with a quality issue count only where there are no others.
    """
    usable = [sample for sample in samples if not sample.face.quality_issue] or list(samples)
    parts = np.array_split(np.arange(len(usable)), min(EMBEDDED_FRAMES, len(usable)))
    chosen = [max((usable[number] for number in part), key=_rank) for part in parts]
    qualities = np.array([sample.face.quality for sample in chosen])
    mean = mean_embedding(np.stack([sample.face.embedding for sample in chosen]), qualities)
    best = max(chosen, key=_rank)
    return replace(best.face, embedding=mean, cohort_similarity=None), best.time, len(chosen)


def find_split(samples: Sequence[Sample], score: float, cohort: Cohort | None) -> float | None:
    """The time at which a track changes from one person to another, or None.

    At each time between two usable samples, the mean embeddings of the `MIN_SIDE` to `MAX_SIDE` samples before and
    after it are compared. It is the time of the lowest score, if that is below `score`.
    """
    usable = [sample for sample in samples if not sample.face.quality_issue]
    if len(usable) < 2 * MIN_SIDE:
        return None
    weighted = np.stack([sample.face.quality * sample.face.embedding for sample in usable])
    places = range(MIN_SIDE, len(usable) - MIN_SIDE + 1)
    before = unit_vectors(np.stack([weighted[max(0, place - MAX_SIDE) : place].sum(0) for place in places]))
    after = unit_vectors(np.stack([weighted[place : place + MAX_SIDE].sum(0) for place in places]))
    scores = (before * after).sum(1) - score_offsets(before, cohort) - score_offsets(after, cohort)
    lowest = int(scores.argmin())
    if scores[lowest] >= score:
        return None
    place = places[lowest]
    return (usable[place - 1].time + usable[place].time) / 2


def split_samples(samples: Sequence[Sample], score: float, cohort: Cohort | None) -> list[Sequence[Sample]]:
    """The samples of a track, divided where the person changes, see `find_split`."""
    time = find_split(samples, score, cohort)
    if time is None:
        return [samples] if samples else []
    sides = [sample for sample in samples if sample.time < time], [sample for sample in samples if sample.time > time]
    return [part for side in sides for part in split_samples(side, score, cohort)]


def make_track(track: OpenTrack, samples: Sequence[Sample], is_last: bool) -> Track:
    """Close a part of an open track: what is not closed yet up to the last of the samples, or all of it."""
    start, end = track.closed, len(track.times)
    if not is_last:
        end = int(np.searchsorted(track.times, samples[-1].time, side="right"))
    track.closed = end
    face, best_time, photos = track_face(samples)
    return Track(
        track.number, np.array(track.times[start:end]), np.stack(track.boxes[start:end]), face, best_time, photos
    )


def join_pieces(pieces: Sequence[Track]) -> Track:
    """The track whose pieces these are, in order of time; their embeddings count by the faces in them."""
    faces = [piece.face for piece in pieces]
    best = max(pieces, key=lambda piece: face_rank(piece.face))
    usable = [piece for piece in pieces if not piece.face.quality_issue] or list(pieces)
    weights = np.array([piece.photos * piece.face.quality for piece in usable])
    mean = mean_embedding(np.stack([piece.face.embedding for piece in usable]), weights)
    return Track(
        number=pieces[0].number,
        times=np.concatenate([piece.times for piece in pieces]),
        boxes=np.concatenate([piece.boxes for piece in pieces]),
        face=faces[0] if len(pieces) == 1 else replace(best.face, embedding=mean),
        best_time=best.best_time,
        photos=sum(piece.photos for piece in usable),
    )


def is_reliable(track: Track) -> bool:
    """Whether a track is more than one detection of something that shows too little of a face."""
    return len(track.times) > 1 or not track.face.quality_issue
