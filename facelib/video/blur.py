"""Faces made unrecognisable, in pictures and in clips: which are looked for, and what takes their place."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from facelib.detection.detector import FaceDetector
from facelib.detection.nms import box_iou, merge_detections
from facelib.detection.rotation import rotate_quarters, unrotate_points
from facelib.settings import SMALLEST_FACE, TINY_FACE
from facelib.video.analysis import VideoPipeline
from facelib.video.reader import Clip
from facelib.video.tracks import Track
from facelib.video.writer import ClipWriter

STYLES = ("blur", "pixels", "box")
# The lowest score of 0.1, 0.15, 0.2, 0.3 and 0.5 with which at most four areas without a face are hidden in a photo
# on average, on one half of photos/, see `facelib.evaluation.benchmarks.blur`.
THRESHOLDS = {"insightface": 0.3, "retinaface": 0.2}
ENLARGED = 1.5  # side of the hidden area / side of the box: an ellipse of that size holds the whole box
CELLS = 8  # of the mosaic, along the longer side of a box
MIN_CELL = 4.0  # pixels
COVER = (40, 40, 40)  # colour of the style "box"
BRIGHTENING = np.round(255 * (np.arange(256) / 255) ** 0.4).astype(np.uint8)  # dark faces become as bright as others
MARGIN = 0.5  # seconds before the first and after the last detection of a track in which its box is hidden too, and
# always in the frame before and after them
SAME_BOX = 0.4  # IoU from which a box is taken for that of a face that stays visible


@dataclass(frozen=True)
class Hiding:
    """What takes the place of faces.

    style: "blur", a mosaic of about eight cells a face that is blurred too; "pixels", the mosaic alone; "box", one
        colour, of which alone nothing of the face can be restored.
    enlarged: side of the hidden ellipse / side of the face's box.
    """

    style: str = "blur"
    enlarged: float = ENLARGED

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style={self.style!r}: expected one of {', '.join(STYLES)}")


def sensitive(detector: FaceDetector, smallest_face: float = TINY_FACE, threshold: float | None = None) -> FaceDetector:
    """A detector that rather finds too much: with a low threshold, and for small faces.

    Args:
        smallest_face: pixels, see `FaceDetector`.
        threshold: minimum score; None: that of `THRESHOLDS`.
    """
    threshold = THRESHOLDS[detector.name] if threshold is None else threshold
    return replace(detector, threshold=threshold, recheck_threshold=threshold, smallest_face=smallest_face)


def find_all_faces(detector: FaceDetector, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All that may be a face: boxes (n, 4) float32 in pixels, and scores (n,) float32.

    The photo is searched as it is, brightened, and turned by quarters, because faces may be dark, or lie on their
    side. One face has several boxes where several searches find it.

    Args:
        detector: see `sensitive`. image: RGB uint8 (H, W, 3).
    """
    quick = replace(detector, smallest_face=max(detector.smallest_face, SMALLEST_FACE))
    found = [detector.detect(image), quick.detect(BRIGHTENING[image])]
    for quarters in (1, 2, 3):
        boxes, scores = quick.detect(rotate_quarters(image, quarters))
        # Boxes span pixel edges, `unrotate_points` uses pixel centres.
        corners = unrotate_points(boxes.reshape(-1, 2, 2) - 0.5, quarters, image.shape) + 0.5
        found.append((np.concatenate([corners.min(1), corners.max(1)], 1), scores))
    return np.concatenate([boxes for boxes, _ in found]), np.concatenate([scores for _, scores in found])


def count_areas(boxes: np.ndarray) -> int:
    """How many areas boxes (n, 4) are, where those of one face count once."""
    return len(merge_detections(np.insert(boxes, 4, 1.0, axis=1), np.zeros((0, 5))))


def boxes_to_hide(candidates: np.ndarray, faces: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """All boxes but those of the faces that stay visible.

    Args:
        candidates: (n, 4) boxes of all that may be a face, see `find_all_faces`.
        faces: (m, 4) boxes of the faces that were examined. visible: (m,) bool, which of them stay visible.

    Returns:
        (k, 4): the examined faces that are hidden, and the candidates that are not a visible face's.
    """
    same = box_iou(candidates, faces[visible]).max(1, initial=0.0) >= SAME_BOX
    nearer = box_iou(candidates, faces[~visible]).max(1, initial=0.0)
    same &= nearer < box_iou(candidates, faces[visible]).max(1, initial=0.0)
    return np.concatenate([faces[~visible], candidates[~same]])


def hide_faces(image: np.ndarray, boxes: np.ndarray, hiding: Hiding = Hiding()) -> np.ndarray:
    """A copy of an image, RGB uint8 (H, W, 3), whose faces, in boxes (n, 4) in pixels, cannot be recognised."""
    canvas = image.copy()
    for box in boxes:
        _hide(canvas, np.asarray(box, float), hiding)
    return canvas


def _hide(canvas: np.ndarray, box: np.ndarray, hiding: Hiding) -> None:
    centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    axes = sides * hiding.enlarged / 2
    height, width = canvas.shape[:2]
    x1, y1 = np.clip(np.floor(centre - axes), 0, [width, height]).astype(int)
    x2, y2 = np.clip(np.ceil(centre + axes), 0, [width, height]).astype(int)
    if x1 >= x2 or y1 >= y2:
        return
    area = canvas[y1:y2, x1:x2]
    columns, rows = ((np.arange(low, high) + 0.5 - middle) / max(axis, 0.5)
                     for low, high, middle, axis in zip((x1, y1), (x2, y2), centre, axes))  # fmt: skip
    inside = columns**2 + rows[:, None] ** 2 <= 1
    np.copyto(area, _replacement(area, sides.max(), hiding.style), where=inside[..., None])


def _replacement(area: np.ndarray, side: float, style: str) -> np.ndarray:
    """What takes the place of the pixels (h, w, 3) around a face of that longer side: cells of one colour."""
    if style == "box":
        return np.full_like(area, COVER)
    cell = max(side / CELLS, MIN_CELL)
    size = [max(1, round(length / cell)) for length in area.shape[1::-1]]
    cells = cv2.resize(area, size, interpolation=cv2.INTER_AREA)
    if style == "blur":  # of the cells, which costs the same for a face of any size
        cells = cv2.GaussianBlur(cells, (0, 0), 1.0)
    interpolation = cv2.INTER_LINEAR if style == "blur" else cv2.INTER_NEAREST
    return cv2.resize(cells, area.shape[1::-1], interpolation=interpolation)


@dataclass(frozen=True)
class FollowedFaces:
    """All faces of a clip.

    tracks: in no order; a face that was found once is a track too. times: (k,) seconds, of the frames that were
    searched. problem: why the last one is the last, see `Clip.problem`.
    """

    tracks: list[Track]
    times: np.ndarray
    problem: str

    @property
    def until(self) -> float:
        """Time of the last frame that was searched, in seconds; -1 where there is none."""
        return float(self.times[-1]) if len(self.times) else -1.0


def follow_faces(pipeline: VideoPipeline, path: Path) -> FollowedFaces:
    """Find the faces in every frame of a clip.

    Args:
        pipeline: with a detector that rather finds too much, see `sensitive`.

    Raises:
        VideoError, OSError: see `Clip`.
    """
    tracker = pipeline.make_tracker()
    tracks: list[Track] = []
    times = array("d")
    with Clip(path, every=1) as clip:
        for frame, _, ended in pipeline.follow(clip, tracker):
            tracks += ended
            times.append(frame.time)
        return FollowedFaces(tracks + tracker.finish(), np.array(times), clip.problem)


def blur_clip(path: Path, followed: FollowedFaces, hidden: Sequence[Track], writer: ClipWriter, hiding: Hiding) -> None:
    """Write a clip whose faces cannot be recognised: each from `MARGIN` before its first detection to as long after its
    last one, also in frames between in which it was not found.

    Frames after the last one that was searched, such as those of a clip that is still being written, are left out.

    Args:
        hidden: the tracks of `followed` that are hidden. writer: open, of the size of the clip's frames.

    Raises:
        VideoError, OSError: see `Clip` and `ClipWriter`.
    """
    boxes = BoxesInTime(hidden, followed.times)
    with Clip(path, every=1) as clip:
        for frame in clip:
            if frame.time > followed.until:
                break
            writer.write(hide_faces(frame.image, boxes.at(frame.time), hiding), frame.time)


class BoxesInTime:
    """Where tracks are, for one time after the other.

    Args:
        tracks: in any order. times: (k,) seconds, of the frames that were searched, increasing.
    """

    def __init__(self, tracks: Sequence[Track], times: np.ndarray | Sequence[float] = ()):
        self._times = np.asarray(times, float)
        self._coming = sorted(((*self._shown(track), track) for track in tracks), key=lambda shown: -shown[0])
        self._current: list[tuple[float, float, Track]] = []

    def _shown(self, track: Track) -> tuple[float, float]:
        """From when to when the box of a track is hidden, in seconds."""
        before = int(np.searchsorted(self._times, track.first)) - 1
        after = int(np.searchsorted(self._times, track.last, side="right"))
        first = min(track.first - MARGIN, self._times[before] if before >= 0 else np.inf)
        return first, max(track.last + MARGIN, self._times[after] if after < len(self._times) else -np.inf)

    def at(self, time: float) -> np.ndarray:
        """Boxes (n, 4) at a time in seconds, which is not before that of the last call: interpolated between
        detections, and held for `MARGIN`, at least for a frame, before the first and after the last one."""
        while self._coming and self._coming[-1][0] <= time:
            self._current.append(self._coming.pop())
        self._current = [shown for shown in self._current if time <= shown[1]]
        return np.array([*self._boxes(time)], np.float32).reshape(-1, 4)

    def _boxes(self, time: float) -> Iterator[np.ndarray | None]:
        for _, _, track in self._current:
            yield track.box_at(float(np.clip(time, track.first, track.last)))
