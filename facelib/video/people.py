"""Which tracks, of one or several clips, show one person."""

from collections.abc import Hashable, Sequence

import numpy as np

from facelib.embedding.similarity import unit_vectors
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import FULL_RATE_FACES, cluster_faces
from facelib.recognition.cohort import score_offsets
from facelib.recognition.condition import measure_condition
from facelib.settings import SAME
from facelib.video.tracks import EMBEDDED_FRAMES, Track

UNKNOWN = -1  # in place of the person of a track that shows too little to be recognised

# Chosen on twelve generated clips of open_val people (`facelib.evaluation.benchmarks.clips`, seeds 11 to 22).
MAX_TRACK_FMR = 0.01  # target FMR of two tracks, falling in inverse proportion above FULL_RATE_FACES tracks,
MIN_TRACK_FMR = 2e-4  # down to this
TRACK_RATIO = 5.0  # about how much higher the FMR of tracks is than that of photos, where it was not measured
MIN_FRAMES = 3  # in the embedding of a track, and
MIN_QUALITY = 0.6  # of its best face, from which on it may be a person of its own; a track with as many frames as an
# embedding is made of may be one with any quality


def group_tracks(
    tracks: Sequence[Track], clips: Sequence[int], calibration: Calibration, score: float | None = None
) -> np.ndarray:
    """Group tracks by person, see `cluster_faces`. Two tracks that are in one clip at the same time are two people.

    Tracks that show little, see `MIN_FRAMES`, only join people whom other tracks show. Where all are too short, as in
    a show of single pictures, those with a good face count.

    Args:
        clips: number of the clip of each track.
        score: from which on two tracks are one person's; None: that of `MAX_TRACK_FMR`.

    Returns:
        (n,) int, the person of each track from 0, the person with the most tracks first; `UNKNOWN` for a track whose
        faces all have a quality issue, or that shows little and joins nobody.
    """
    people = np.full(len(tracks), UNKNOWN)
    usable = np.array([not track.face.quality_issue for track in tracks], bool)
    full = np.array([track.photos >= EMBEDDED_FRAMES for track in tracks], bool)
    good = usable & (full | np.array([track.face.quality >= MIN_QUALITY for track in tracks], bool))
    strong = good & np.array([track.photos >= MIN_FRAMES for track in tracks], bool)
    strong = strong if strong.any() else good
    if not strong.any():
        return people
    rows = np.flatnonzero(strong).tolist()
    embeddings = np.stack([tracks[row].face.embedding for row in rows])
    if score is None:
        rate = max(MAX_TRACK_FMR * min(1.0, FULL_RATE_FACES / len(rows)), MIN_TRACK_FMR)
        rate /= 1 if calibration.fmr_of_tracks else TRACK_RATIO
        score = calibration.score_at(rate, extrapolate=True, tracks=True)
    condition = measure_condition(embeddings, score, np.arange(len(rows)), calibration.cohort) or 0.0
    offsets = score_offsets(embeddings, calibration.cohort) + condition / 2
    apart: list[set[Hashable]] = [set() for _ in rows]
    for pair in simultaneous([tracks[row] for row in rows], [clips[row] for row in rows]).tolist():
        for track in pair:
            apart[track].add(tuple(pair))
    people[rows] = cluster_faces(embeddings, score, offsets=offsets, apart=apart)
    weak = np.flatnonzero(usable & ~strong).tolist()
    _join(tracks, clips, people, weak, calibration, calibration.score_at(SAME, extrapolate=True) + condition)
    return people


def _join(
    tracks: Sequence[Track],
    clips: Sequence[int],
    people: np.ndarray,
    weak: Sequence[int],
    calibration: Calibration,
    score: float,
) -> None:
    """Give each weak track the person with whose mean it has the highest score, from `score` on, in place."""
    known = np.flatnonzero(people >= 0).tolist()
    if not weak:
        return
    weights = np.array([tracks[row].photos * tracks[row].face.quality for row in known])
    sums = np.zeros((people.max() + 1, len(tracks[0].face.embedding)), np.float32)
    np.add.at(sums, people[known], weights[:, None] * np.stack([tracks[row].face.embedding for row in known]))
    embeddings = np.stack([tracks[row].face.embedding for row in weak])
    scores = calibration.score_matrix(embeddings, unit_vectors(sums))
    for row, own in zip(weak, scores):
        person = int(own.argmax())
        group = [row, *np.flatnonzero(people == person).tolist()]
        together = simultaneous([tracks[i] for i in group], [clips[i] for i in group])
        if own[person] >= score and not (together[:, 0] == 0).any():
            people[row] = person


def simultaneous(tracks: Sequence[Track], clips: Sequence[int]) -> np.ndarray:
    """(m, 2) int: the pairs of tracks that are in one clip at the same time."""
    first, last = (np.array([getattr(track, end) for track in tracks]) for end in ("first", "last"))
    clip = np.asarray(clips)
    overlap = (first[:, None] <= last) & (first <= last[:, None]) & (clip[:, None] == clip)
    return np.argwhere(np.triu(overlap, 1))
