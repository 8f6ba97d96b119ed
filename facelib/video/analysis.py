"""Clip in, tracks out: `VideoPipeline`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facelib.detection.rotation import detect_faces
from facelib.recognition.calibration import Calibration
from facelib.steps import FaceSteps
from facelib.types import CalibrationMissingError, Face
from facelib.video.association import AssociationScores, Tracker
from facelib.video.reader import Clip, Frame
from facelib.video.tracks import Track, is_reliable

SAME_FMR = 1e-3  # of two faces that are near each other in successive frames, and taken for one person
DIFFERENT_FMR = 0.1  # of two faces that overlap in successive frames, and are taken for two people
SPLIT_FMR = 0.1  # of the mean embeddings of two parts of a track, taken for two people's
CUT_DIFFERENCE = 0.12  # mean difference of the grey levels of two small frames, of their range, from which it is a cut
CUT_RATIO = 3.0  # and so many times as much as the frames before differed
SMALL_FRAME = (32, 18)  # pixels, width and height


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face of a frame. track: number of its track. face: with the embedding of this frame."""

    track: int
    face: Face


@dataclass(eq=False)
class CutDetector:
    """Tells where another scene begins, from small grey copies of the frames.

    before: small copy of the last frame, from 0 to 1; None before the first one. usual: mean difference of the frames
    before, the latest most.
    """

    before: np.ndarray | None = None
    usual: float = 0.0

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether another scene begins with this frame, RGB uint8 (H, W, 3); the frames are given in order."""
        small = cv2.cvtColor(cv2.resize(image, SMALL_FRAME, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        small = small.astype(np.float32) / 255
        before, self.before = self.before, small
        if before is None:
            return False
        difference = float(np.abs(small - before).mean())
        is_cut = difference > max(CUT_DIFFERENCE, CUT_RATIO * self.usual)
        self.usual = 0.0 if is_cut else 0.8 * self.usual + 0.2 * difference
        return is_cut


class VideoPipeline(FaceSteps):
    """Finds the faces of clips and follows them. `VideoPipeline.from_pretrained()` loads the networks.

    Arguments and errors: see `FaceSteps`. A clip is a path or a `Clip`, which says what part of it is read.
    """

    detector_input = 960  # a frame of 720p is not halved, as it would be for photos: faces of people far away are found

    def frames(self, clip: str | Path | Clip) -> Iterator[tuple[Frame, list[TrackedFace]]]:
        """Each frame that is read, with its faces; nothing is kept. Tracks are not divided afterwards, see `tracks`.

        Raises:
            VideoError, OSError: see `Clip`.
        """
        tracker = self.make_tracker()
        for frame, faces, _ in self.follow(clip, tracker):
            yield frame, faces

    def tracks(self, clip: str | Path | Clip) -> Iterator[Track]:
        """The tracks of a clip, each when it has ended.

        Raises:
            VideoError, OSError: see `Clip`.
        """
        tracker = self.make_tracker()
        for _, _, ended in self.follow(clip, tracker):
            yield from filter(is_reliable, ended)
        yield from filter(is_reliable, tracker.finish())

    def make_tracker(
        self, pieces: "list[Track] | tuple[()]" = (), next_number: int = 1, last_time: float | None = None
    ) -> Tracker:
        """A tracker with the scores of this embedder; without a calibration it uses the boxes alone. Arguments: see
        `Tracker`."""
        try:
            return Tracker(association_scores(self.calibration), self.cohort, pieces, next_number, last_time)
        except CalibrationMissingError:
            return Tracker(pieces=pieces, next_number=next_number, last_time=last_time)

    def follow(
        self, clip: str | Path | Iterable[Frame], tracker: Tracker, cuts: CutDetector | None = None
    ) -> Iterator[tuple[Frame, list[TrackedFace], list[Track]]]:
        """Each frame of a clip, its faces, and the tracks that ended before it.

        Args:
            clip: also any iterable of frames in order of time. cuts: of the frames before; None: there were none.
        """
        cuts = cuts or CutDetector()
        for frame in Clip(clip) if isinstance(clip, str | Path) else clip:
            found = detect_faces(self.detector, self.landmarker, frame.image)
            (faces,) = self.embed_detected([frame.image], [found])
            numbers, ended = tracker.update(frame.time, faces, cuts.is_cut(frame.image))
            yield frame, [TrackedFace(number, face) for number, face in zip(numbers, faces)], ended


def association_scores(calibration: Calibration) -> AssociationScores:
    """When faces of successive frames are one person or two."""
    rates = (SAME_FMR, DIFFERENT_FMR, SPLIT_FMR)
    return AssociationScores(*(calibration.score_at(rate, extrapolate=True) for rate in rates))
