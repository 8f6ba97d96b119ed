"""The types that sub-packages share: faces, the steps that can be replaced, and errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np


class FacelibError(Exception):
    """Base of the errors that this package defines. Each of them is also the built-in exception of its kind, so that
    `except ValueError` works too. Missing and unreadable files raise FileNotFoundError and OSError as usual."""


class ImageError(FacelibError, ValueError):
    """A photo cannot be decoded, is too large, or an array is no photo."""


class VideoError(FacelibError, ValueError):
    """A clip cannot be decoded, has no picture, or the part of it that is asked for does not exist."""


class WeightsError(FacelibError, ValueError):
    """Weights, or the manifest beside them, are damaged, unknown or of another architecture."""


class ModelMismatchError(FacelibError, ValueError):
    """Embeddings of different models meet: distances between them mean nothing."""


class EmbeddingError(FacelibError, ValueError):
    """An embedder returned something else than one finite embedding of unit length for each face."""


class GalleryError(FacelibError, ValueError):
    """A file is no gallery, or damaged."""


class ConfigurationError(FacelibError, ValueError):
    """A training configuration names an unknown key, or values that do not fit."""


class CalibrationMissingError(FacelibError, FileNotFoundError):
    """The false match rates of an embedder have not been measured."""


class DownloadError(FacelibError, OSError):
    """A file could not be downloaded, or its content is not the expected one."""


class ForkError(FacelibError, RuntimeError):
    """A network is used in a process that was forked after networks had been loaded: it would hang."""


@runtime_checkable
class Detector(Protocol):
    """Finds faces. Optional attributes: `name`, a str that results are marked with; `min_detectable_face(image)`, the
    smallest face that is looked for, in pixels of the image."""

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 (H, W, 3) -> boxes (n, 4) float32 x1 y1 x2 y2 in pixels, largest first; scores (n,), 0 to 1."""
        ...


@runtime_checkable
class Landmarker(Protocol):
    """Finds five landmarks in each box. Optional: `predict_with_confidence`, which also returns for each image
    (n, 5) float32, how sure each landmark is from 0 to 1; without it all count as sure."""

    def predict(self, images: list[np.ndarray], boxes: list[np.ndarray]) -> list[np.ndarray]:
        """RGB uint8 images and their boxes (n, 4) -> for each image (n, 5, 2) float32, x and y in pixels."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns aligned faces into embeddings. Optional attributes: `model_id`, a str: only embeddings of one model_id
    are compared (default: the name of the class); `alignment`, a method of `align_faces` ("five_points");
    `align(image, landmarks)`, which cuts the faces that `embed` wants where those of `align_faces` will not do."""

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Aligned faces (n, 112, 112, 3) RGB uint8 -> embeddings (n, d) float32 of unit length."""
        ...


class NamedEmbedder(Embedder, Protocol):
    """What `load_embedder` returns.

    model_id: identifies its embeddings. crop_mode: how data sets crop faces for it, a key of `CROP_MODES`.
    """

    model_id: str
    crop_mode: str


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo. Two are equal when they are the same object.

    box: (4,) float32, x1 y1 x2 y2 in pixels of the photo, inside it.
    score: of the detector, 0 to 1.
    landmarks: (5, 2) float32, x and y in pixels of the photo.
    aligned: (112, 112, 3) RGB uint8.
    embedding: (d,) float32 of unit length.
    landmark_confidence: (5,) float32, 0 to 1, see `heatmap_confidence`.
    quality: 0 to 1, see `face_quality`.
    model_id: of the embedder, see `Embedder`; "" where it is not known.
    quality_issue: why the face shows too little to be recognised, e.g. "too blurred"; "" where it shows enough.
    alignment: method of `align_faces` that made `aligned`.
    cohort_similarity: see `Cohort.similarity`; None where the embedder has no cohort.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray = field(repr=False)
    aligned: np.ndarray = field(repr=False)
    embedding: np.ndarray = field(repr=False)
    landmark_confidence: np.ndarray = field(repr=False)
    quality: float
    model_id: str = ""
    quality_issue: str = ""
    alignment: str = "five_points"
    cohort_similarity: float | None = None

    def _repr_html_(self) -> str:
        from facelib.render import faces_html

        return faces_html([self])


class Faces(list[Face]):
    """The faces of one photo, the largest first.

    error: why a photo of a batch could not be read, or None.
    min_detectable_face: the smallest faces that were looked for, in pixels of the photo; None where the detector does
        not say.
    """

    def __init__(
        self, faces: Sequence[Face] = (), error: Exception | None = None, min_detectable_face: float | None = None
    ):
        super().__init__(faces)
        self.error, self.min_detectable_face = error, min_detectable_face

    def _repr_html_(self) -> str:
        from facelib.render import faces_html

        return faces_html(self, str(self.error or ""))
