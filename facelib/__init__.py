"""Face recognition to learn from: detection, stacked-hourglass alignment, ArcFace embeddings."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facelib.alignment import align_faces
    from facelib.detection import load_detector
    from facelib.embedding import cosine_distance, load_embedder
    from facelib.gallery import Gallery
    from facelib.landmarks import load_landmarker
    from facelib.pipeline import Face, FacePipeline, sample_photo
    from facelib.reading import read_image

__version__ = "0.2.0"

__all__ = [
    "Face",
    "FacePipeline",
    "Gallery",
    "align_faces",
    "cosine_distance",
    "load_detector",
    "load_embedder",
    "load_landmarker",
    "read_image",
    "sample_photo",
]

# Imported when first asked for: `python -m facelib --help` should not wait for PyTorch.
_ROOMS = {
    "Face": "pipeline",
    "FacePipeline": "pipeline",
    "Gallery": "gallery",
    "align_faces": "alignment",
    "cosine_distance": "embedding",
    "load_detector": "detection",
    "load_embedder": "embedding",
    "load_landmarker": "landmarks",
    "read_image": "reading",
    "sample_photo": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'facelib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"facelib.{_ROOMS[name]}"), name)
