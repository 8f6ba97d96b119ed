"""Face recognition to learn from: detection, stacked-hourglass alignment, ArcFace embeddings."""

from facelib.alignment import align_faces
from facelib.detection import load_detector
from facelib.embedding import cosine_distance, load_embedder
from facelib.images import read_image
from facelib.landmarks import load_landmarker
from facelib.pipeline import Face, FacePipeline, sample_photo

__all__ = [
    "Face",
    "FacePipeline",
    "align_faces",
    "cosine_distance",
    "load_detector",
    "load_embedder",
    "load_landmarker",
    "read_image",
    "sample_photo",
]
