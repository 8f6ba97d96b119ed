"""Face recognition to learn from: detection, stacked-hourglass alignment, ArcFace embeddings."""

import importlib
from typing import TYPE_CHECKING, Any

from facelib.settings import limit_openmp_spinning

if TYPE_CHECKING:
    from facelib.alignment.align import align_faces
    from facelib.alignment.landmarker import load_landmarker
    from facelib.detection.detector import load_detector
    from facelib.embedding.embedder import load_embedder
    from facelib.embedding.similarity import cosine_distance
    from facelib.io.images import read_image
    from facelib.io.sample import sample_photo
    from facelib.pipeline import FacePipeline
    from facelib.recognition.gallery import Gallery
    from facelib.types import Face, FacelibError, Faces
    from facelib.video.analysis import VideoPipeline

limit_openmp_spinning()

__version__ = "0.3.0.dev0"

__all__ = [
    "Face",
    "FacePipeline",
    "FacelibError",
    "Faces",
    "Gallery",
    "VideoPipeline",
    "align_faces",
    "cosine_distance",
    "load_detector",
    "load_embedder",
    "load_landmarker",
    "read_image",
    "sample_photo",
]

# Imported when first asked for, so that `python -m facelib --help` does not wait for NumPy.
_MODULES = {
    "Face": "types",
    "FacelibError": "types",
    "Faces": "types",
    "FacePipeline": "pipeline",
    "Gallery": "recognition.gallery",
    "VideoPipeline": "video.analysis",
    "align_faces": "alignment.align",
    "cosine_distance": "embedding.similarity",
    "load_detector": "detection.detector",
    "load_embedder": "embedding.embedder",
    "load_landmarker": "alignment.landmarker",
    "read_image": "io.images",
    "sample_photo": "io.sample",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'facelib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"facelib.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
