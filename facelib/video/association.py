"""Association: which faces of successive frames are one, by their boxes and their embeddings.

As in SORT (Bewley et al. 2016) boxes move with constant velocity and are assigned by intersection over union; as in
DeepSORT (Wojke et al. 2017) embeddings decide too: they forbid a pair of two people, and allow one that has moved far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from facelib.detection.nms import box_iou
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.types import Face
from facelib.video.tracks import OpenTrack, Track, make_track, split_samples

MAX_GAP = 1.0  # seconds without a detection, after which a track has ended, or where frames are rarer
MAX_GAP_FRAMES = 2.5  # so many times the time between two of them
MIN_IOU = 0.2  # of a box with where it is expected
REACH = 3.0  # widths of a face, that a face may be from where it is expected if the embeddings say one person
EMBEDDING_WEIGHT = 1.0  # of a score beside an intersection over union


@dataclass(frozen=True)
class AssociationScores:
    """Scores of two faces in successive frames.

    same: from which on they may be one person wherever they are near. different: below which they are two people.
    split: of the mean embeddings of two parts of a track, below which they are two people's.
    """

    same: float = np.inf
    different: float = -np.inf
    split: float = -np.inf


class Tracker:
    """Follows the faces of one clip. Call `update` with each frame in order, and `finish` after the last one.

    Args:
        scores: when two faces are one person or two; the default leaves it to the boxes.
        cohort: by which scores are normalised.
        pieces: of tracks that may go on, from `close_pieces`.
        next_number: of the first new track.
        last_time: seconds, of the frame before the first one; None: there is none.
    """

    def __init__(
        self,
        scores: AssociationScores = AssociationScores(),
        cohort: Cohort | None = None,
        pieces: Sequence[Track] = (),
        next_number: int = 1,
        last_time: float | None = None,
    ):
        self.scores, self.cohort, self.next_number, self.last_time = scores, cohort, next_number, last_time
        self._open = [_continue(piece) for piece in pieces]

    def update(self, time: float, faces: Sequence[Face], is_cut: bool = False) -> tuple[list[int], list[Track]]:
        """Add a frame.

        Args:
            time: seconds. faces: of the frame. is_cut: another scene begins: all tracks end.

        Returns:
            The number of each face's track, and the tracks that have ended.
        """
        between = 0.0 if self.last_time is None else time - self.last_time
        gap, self.last_time = max(MAX_GAP, MAX_GAP_FRAMES * between), time
        ending = [track for track in self._open if is_cut or time - track.times[-1] > gap]
        self._open = [track for track in self._open if track not in ending]
        numbers = [0] * len(faces)
        for track, face_number in self._assign(time, faces):
            track.add(time, faces[face_number])
            numbers[face_number] = track.number
        for face_number, face in enumerate(faces):
            if not numbers[face_number]:
                numbers[face_number] = self.next_number
                self._open.append(OpenTrack(self.next_number, [], []))
                self._open[-1].add(time, face)
                self.next_number += 1
        return numbers, [track for ended in ending for track in self._close(ended)]

    def finish(self) -> list[Track]:
        """End all tracks."""
        ended = [track for each in self._open for track in self._close(each)]
        self._open = []
        return ended

    def close_pieces(self) -> tuple[list[Track], list[Track]]:
        """End the pieces of all open tracks, and go on from them as a tracker does that is made with them.

        Returns:
            The pieces, and those of them that may go on: what follows of them gets their numbers (`join_pieces`).
        """
        tracks = self._open
        pieces = self.finish()
        last = {piece.number: piece for piece in pieces}
        going_on = [last[track.number] for track in tracks if track.number in last]
        self._open = [_continue(piece) for piece in going_on]
        return pieces, going_on

    def _assign(self, time: float, faces: Sequence[Face]) -> list[tuple[OpenTrack, int]]:
        """Pairs of open tracks and numbers of faces, each at most once, with the highest sum of values."""
        if not self._open or not faces:
            return []
        expected = np.stack([track.expected_box(time) for track in self._open])
        boxes = np.stack([face.box for face in faces])
        overlaps = box_iou(expected, boxes)
        scores = self._scores(faces)
        centres = [group.reshape(-1, 2, 2).mean(1) for group in (expected, boxes)]
        moved = np.linalg.norm(centres[0][:, None] - centres[1], axis=2) / np.ptp(expected[:, ::2], axis=1)[:, None]
        allowed = (overlaps >= MIN_IOU) & ~(scores < self.scores.different)  # a score of NaN forbids nothing
        allowed |= (moved <= REACH) & (scores >= self.scores.same)
        values = overlaps + EMBEDDING_WEIGHT * np.nan_to_num(scores).clip(0, 1) + 1e-3
        rows, columns = linear_sum_assignment(-np.where(allowed, values, 0))
        return [(self._open[row], int(column)) for row, column in zip(rows, columns) if allowed[row, column]]

    def _scores(self, faces: Sequence[Face]) -> np.ndarray:
        """(tracks, faces) scores; NaN where a face, or all of a track, shows too little to be recognised."""
        scores = np.full((len(self._open), len(faces)), np.nan, np.float32)
        known = {row: track.mean for row, track in enumerate(self._open) if track.mean is not None}
        columns = [column for column, face in enumerate(faces) if not face.quality_issue]
        if known and columns:
            means = np.stack(list(known.values()))
            embeddings = np.stack([faces[column].embedding for column in columns])
            offsets = score_offsets(means, self.cohort)[:, None] + score_offsets(embeddings, self.cohort)
            scores[np.ix_(list(known), columns)] = means @ embeddings.T - offsets
        return scores

    def _close(self, track: OpenTrack) -> list[Track]:
        """What was added to a track since its last piece: a track for each person in it."""
        ended = []
        parts = split_samples(track.samples, self.scores.split, self.cohort)
        for part_number, samples in enumerate(parts):
            if part_number:
                track.number, self.next_number = self.next_number, self.next_number + 1
            ended.append(make_track(track, samples, is_last=part_number == len(parts) - 1))
        return ended


def _continue(piece: Track) -> OpenTrack:
    """The open track that goes on from a piece."""
    mean = None if piece.face.quality_issue else piece.face.embedding
    return OpenTrack(piece.number, [*piece.times], [*piece.boxes], mean, closed=len(piece.times))
