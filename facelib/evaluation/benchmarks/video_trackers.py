"""Ways to follow the faces of a clip, which `facelib.evaluation.benchmarks.video` compares on the same detections."""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facelib.detection.rotation import detect_faces
from facelib.evaluation.benchmarks.video_metrics import IdentifiedFaces
from facelib.settings import SAME
from facelib.types import Face
from facelib.video.analysis import CutDetector, VideoPipeline, is_reliable
from facelib.video.people import UNKNOWN
from facelib.video.reader import Clip
from facelib.video.tracks import OpenTrack, Track, make_track

BUFFER = 30  # frames of a thirtieth of a second: how long the trackers of `trackers` keep a face that is not found
FACE_RECOGNITION_TOLERANCE = 0.6  # its default, Euclidean distance


@dataclass(frozen=True, eq=False)
class AnalysedFrame:
    """A frame of a clip. number: of the decoded frame. time: seconds. image: RGB uint8. faces: with embeddings.
    is_cut: whether another scene begins."""

    number: int
    time: float
    image: np.ndarray
    faces: list[Face]
    is_cut: bool


def analyse(pipeline: VideoPipeline, clip: Path) -> list[AnalysedFrame]:
    """Decode the frames of a clip that the product would, and find and embed their faces."""
    cuts = CutDetector()
    frames = []
    for frame in Clip(clip):
        found = detect_faces(pipeline.detector, pipeline.landmarker, frame.image)
        (faces,) = pipeline.embed_detected([frame.image], [found])
        frames.append(AnalysedFrame(frame.number, frame.time, frame.image, faces, cuts.is_cut(frame.image)))
    return frames


def track_ours(pipeline: VideoPipeline, frames: Sequence[AnalysedFrame]) -> list[Track]:
    """The product's own tracker."""
    tracker = pipeline.make_tracker()
    ended = [tracker.update(frame.time, frame.faces, frame.is_cut)[1] for frame in frames]
    return [track for tracks in [*ended, tracker.finish()] for track in tracks if is_reliable(track)]


def track_by_package(name: str, options: dict[str, Any], frames: Sequence[AnalysedFrame]) -> list[Track]:
    """A tracker of the package `trackers`. Each detection may start a track, as in the product; ByteTrack and OC-SORT
    name it from its second frame on.

    Args:
        name: of its class.
        options: of the class, beside the time that a lost face is kept.

    Raises:
        ImportError: the package is not installed.
    """
    import supervision
    import trackers

    rate = (len(frames) - 1) / max(frames[-1].time - frames[0].time, 1e-6) if len(frames) > 1 else 1.0
    tracker = getattr(trackers, name)(
        lost_track_buffer=BUFFER, frame_rate=rate, minimum_consecutive_frames=1, **options
    )
    open_tracks: dict[int, OpenTrack] = {}
    for frame in frames:
        detections = supervision.Detections(
            xyxy=np.array([face.box for face in frame.faces], np.float32).reshape(-1, 4),
            confidence=np.array([face.score for face in frame.faces], np.float32),
            data={"face": np.arange(len(frame.faces))},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frames that a tracker does not use
            tracked = tracker.update(detections, frame=np.ascontiguousarray(frame.image[:, :, ::-1]))
        for number, face in zip(tracked.tracker_id, tracked.data.get("face", ())):
            if number >= 0:
                track = open_tracks.setdefault(int(number), OpenTrack(int(number) + 1, [], []))
                track.add(frame.time, frame.faces[face])
    tracks = [make_track(track, track.samples, is_last=True) for track in open_tracks.values()]
    return [track for track in tracks if is_reliable(track)]


def by_label(times: Sequence[float], tracks: Sequence[Track], labels: Iterable[int]) -> list[IdentifiedFaces]:
    """The faces of each frame with the labels of their tracks, without those that are `UNKNOWN`.

    Args:
        times: of the frames, seconds. labels: of each track: its number, or its person.
    """
    boxes: dict[float, list[np.ndarray]] = {time: [] for time in times}
    ids: dict[float, list[int]] = {time: [] for time in times}
    for track, label in zip(tracks, labels):
        for time, box in zip(track.times.tolist(), track.boxes):
            if label != UNKNOWN:
                boxes[time].append(box)
                ids[time].append(int(label))
    return [_faces_of(boxes[time], ids[time]) for time in times]


def _faces_of(boxes: Sequence[np.ndarray], ids: Sequence[int]) -> IdentifiedFaces:
    return IdentifiedFaces(np.array(boxes, np.float32).reshape(-1, 4), np.array(ids, int))


def identify_alone(
    frames: Sequence[AnalysedFrame], matches: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> list[IdentifiedFaces]:
    """Each frame alone: a face is the known person whose first face is the most similar, or a new person.

    Args:
        matches: embeddings (1, d) and (m, d) -> (1, m) similarity, at least 0 where two are one person.
    """
    known: list[np.ndarray] = []
    result = []
    for frame in frames:
        ids = []
        for face in frame.faces:
            scores = matches(face.embedding[None], np.stack(known))[0] if known else np.array([-1.0])
            ids.append(int(scores.argmax()) if scores.max() >= 0 else len(known))
            if ids[-1] == len(known):
                known.append(face.embedding)
        result.append(_faces_of([face.box for face in frame.faces], ids))
    return result


def alone_with_ours(pipeline: VideoPipeline, frames: Sequence[AnalysedFrame]) -> list[IdentifiedFaces]:
    """Each frame alone, with our networks at the FMR of the verdict "same"."""
    limit = pipeline.calibration.score_at(SAME)
    return identify_alone(frames, lambda a, b: pipeline.calibration.score_matrix(a, b) - limit)


def alone_with_face_recognition(frames: Sequence[AnalysedFrame]) -> list[IdentifiedFaces]:
    """Each frame alone, with the detector, network and tolerance of face_recognition.

    Raises:
        ImportError: it is not installed.
    """
    import face_recognition

    found = []
    for frame in frames:
        places = face_recognition.face_locations(frame.image)
        vectors = face_recognition.face_encodings(frame.image, places)
        boxes = np.array([[left, top, right, bottom] for top, right, bottom, left in places], np.float32)
        nothing = np.zeros((0, 2), np.float32)
        faces = [Face(box, 1.0, nothing, nothing, vector, nothing, 1.0) for box, vector in zip(boxes, vectors)]
        found.append(AnalysedFrame(frame.number, frame.time, frame.image, faces, frame.is_cut))
    return identify_alone(found, lambda a, b: FACE_RECOGNITION_TOLERANCE - np.linalg.norm(a[:, None] - b, axis=2))


PACKAGE_TRACKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ByteTrack": ("ByteTrackTracker", {"track_activation_threshold": 0.0}),
    "OC-SORT": ("OCSORTTracker", {"high_conf_det_threshold": 0.0}),
    "BoT-SORT": ("BoTSORTTracker", {"track_activation_threshold": 0.0}),
}


def all_tracks(pipeline: VideoPipeline, frames: Sequence[AnalysedFrame]) -> dict[str, list[Track]]:
    """Method -> its tracks; without what is not installed."""
    tracks = {"facelib": track_ours(pipeline, frames)}
    for label, (name, options) in PACKAGE_TRACKERS.items():
        with contextlib.suppress(ImportError):
            tracks[label] = track_by_package(name, options, frames)
    return tracks


def all_alone(pipeline: VideoPipeline, frames: Sequence[AnalysedFrame]) -> dict[str, list[IdentifiedFaces]]:
    """Method -> the people that it tells apart in each frame alone; without what is not installed."""
    found = {"each frame alone": alone_with_ours(pipeline, frames)}
    with contextlib.suppress(ImportError):
        found["each frame alone, face_recognition"] = alone_with_face_recognition(frames)
    return found
