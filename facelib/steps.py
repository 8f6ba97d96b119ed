"""The steps from a picture to embedded faces, which photos and video share, and the networks that do them."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from facelib.alignment.align import METHODS, warp_faces
from facelib.alignment.landmarker import load_landmarker
from facelib.detection.backends import INPUT_SIZE
from facelib.detection.detector import load_detector
from facelib.detection.rotation import DetectedFaces
from facelib.embedding.embedder import load_embedder
from facelib.embedding.similarity import check_embeddings
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.cohort import Cohort
from facelib.recognition.quality import face_quality, find_quality_issue
from facelib.types import CalibrationMissingError, Detector, Embedder, Face, Landmarker


class FaceSteps:
    """A detector, a landmarker and an embedder, and what follows from them. `from_pretrained()` loads them.

    Args:
        detector, landmarker, embedder: see the protocols in `facelib.types`.
        align: method of `align_faces`; None: the embedder's `alignment`, with which it was trained.

    Raises:
        ValueError: unknown alignment method.
    """

    detector_input = INPUT_SIZE  # of a detector that `from_pretrained` loads, see `load_detector`

    def __init__(self, detector: Detector, landmarker: Landmarker, embedder: Embedder, align: str | None = None):
        align = align or getattr(embedder, "alignment", METHODS[0])
        if align not in METHODS:
            raise ValueError(f"align={align!r}: expected one of {', '.join(METHODS)}")
        self.detector, self.landmarker, self.embedder, self.align = detector, landmarker, embedder, align

    @classmethod
    def from_pretrained(
        cls,
        detector: str | Detector = "auto",
        device: str | int | None = None,
        align: str | None = None,
        embedder: str | Path | None = None,
        runtime: str = "auto",
    ) -> Self:
        """The shipped networks. Arguments: see `load_detector`, `resolve_device`, `align_faces`, `load_embedder`."""
        if isinstance(detector, str):
            detector = load_detector(detector, device, input_size=cls.detector_input)
        landmarker = load_landmarker(device=device, runtime=runtime)
        return cls(detector, landmarker, load_embedder(embedder, device, runtime=runtime), align)

    @functools.cached_property
    def calibration(self) -> Calibration:
        """Error rates by score of this embedder, see `load_calibration`."""
        return load_calibration(self.model_id)

    @property
    def cohort(self) -> Cohort | None:
        """By which scores are normalised; None: the score is the cosine, also where the calibration is missing."""
        try:
            return self.calibration.cohort
        except CalibrationMissingError:
            return None

    @property
    def model_id(self) -> str:
        """Which embeddings these are, see `facelib.types.Embedder`."""
        return getattr(self.embedder, "model_id", type(self.embedder).__name__)

    @property
    def detector_name(self) -> str:
        """What results are marked with."""
        return getattr(self.detector, "name", type(self.detector).__name__)

    @property
    def pipeline_id(self) -> str:
        """All that embeddings depend on: alignment, landmarker, embedder and the detector's settings. Results of one
        pipeline_id can be resumed."""
        landmarker = getattr(self.landmarker, "model_id", type(self.landmarker).__name__)
        return f"{self.align} {landmarker} {self.model_id}{getattr(self.detector, 'settings_id', '')}"

    def embed_detected(self, images: Sequence[np.ndarray], detected: Sequence[DetectedFaces]) -> list[list[Face]]:
        """Align and embed the faces found in each image, RGB uint8 (H, W, 3); all go through the embedder together.

        Raises:
            EmbeddingError: see `check_embeddings`.
        """
        aligned = [warp_faces(image, found.landmarks, self.align) for image, found in zip(images, detected)]
        embeddings = self._embed(images, detected, aligned)
        embedded = zip(embeddings, self._cohort_similarity(embeddings))
        return [
            [self._face(found, i, crop, *next(embedded)) for i, crop in enumerate(crops)]
            for found, crops in zip(detected, aligned)
        ]

    def _embed(
        self, images: Sequence[np.ndarray], detected: Sequence[DetectedFaces], aligned: list[np.ndarray]
    ) -> np.ndarray:
        """Embeddings (n, d) of the faces of all images."""
        own_align = getattr(self.embedder, "align", None)
        faces = sum(map(len, aligned))
        if not faces:
            return np.zeros((0, 0), np.float32)
        crops = aligned
        if own_align:
            crops = [own_align(image, found.landmarks) for image, found in zip(images, detected)]
        return check_embeddings(self.embedder.embed(np.concatenate(crops)), faces, self.model_id)

    def _cohort_similarity(self, embeddings: np.ndarray) -> list[float] | list[None]:
        """`Face.cohort_similarity` of embeddings (n, d)."""
        cohort = self.cohort if len(embeddings) else None
        return cohort.similarity(embeddings).tolist() if cohort else [None] * len(embeddings)

    def _face(
        self, found: DetectedFaces, i: int, aligned: np.ndarray, embedding: np.ndarray, cohort_similarity: float | None
    ) -> Face:
        landmarks, confidence = found.landmarks[i], found.confidence[i]
        return Face(
            box=found.boxes[i],
            score=float(found.scores[i]),
            landmarks=landmarks,
            aligned=aligned,
            embedding=embedding,
            landmark_confidence=confidence,
            quality=face_quality(aligned, confidence),
            model_id=self.model_id,
            quality_issue=find_quality_issue(aligned, confidence, landmarks),
            alignment=self.align,
            cohort_similarity=cohort_similarity,
        )
