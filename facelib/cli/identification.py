"""Faces identified in a gallery as the options say: by a target false match rate, or by a score."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from facelib.cli.arguments import threshold_advice
from facelib.cli.options import DecisionOptions
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.gallery import Gallery, Identification
from facelib.types import CalibrationMissingError, Face

NOT_MEASURED = "not measured"  # in place of the data of a calibration


def usable_calibration(model_id: str, decision: DecisionOptions) -> Calibration:
    """The calibration of the embedder; where there is none but a threshold, one that knows nothing, see `is_measured`.

    Raises:
        CalibrationMissingError: there is neither.
    """
    try:
        with threshold_advice():
            return load_calibration(model_id)
    except CalibrationMissingError:
        if decision.threshold is None:
            raise
        return _unmeasured(model_id)


def measured_calibration(model_id: str, decision: DecisionOptions) -> Calibration | None:
    """As `usable_calibration`; None for one that knows nothing."""
    calibration = usable_calibration(model_id, decision)
    return None if calibration.data == NOT_MEASURED else calibration


def open_gallery(path: Path, model_id: str, decision: DecisionOptions) -> Gallery:
    """Open a gallery of the embedder, or make it.

    Raises:
        CalibrationMissingError: see `usable_calibration`.
        GalleryError, ModelMismatchError, OSError: see `Gallery`.
    """
    return Gallery(path, model_id, usable_calibration(model_id, decision))


def identify_faces(
    gallery: Gallery, faces: Sequence[Face | np.ndarray], decision: DecisionOptions
) -> list[Identification]:
    """Identify faces by the target false match rate or, where one is given, by the threshold.

    A threshold names the nearest person from that score on, but nobody for a face of low quality.
    """
    if not len(faces):
        return []
    answers = gallery.identify(list(faces), decision.target_fmr)
    if decision.threshold is None:
        return answers
    return [_by_threshold(answer, face, decision.threshold) for answer, face in zip(answers, faces)]


def _by_threshold(answer: Identification, face: Face | np.ndarray, threshold: float) -> Identification:
    issue = getattr(face, "quality_issue", "")
    near = bool(answer.nearest) and answer.score >= threshold
    name = answer.nearest[0][0] if near and not issue else None
    return replace(answer, name=name, reason=f"the face is {issue}" if near and issue else "")


def is_measured(gallery: Gallery) -> bool:
    """Whether the false match rates of an open gallery mean anything."""
    return gallery.calibration.data != NOT_MEASURED


def _unmeasured(model_id: str) -> Calibration:
    """A calibration that knows nothing: at every score all impostor pairs may be as close."""
    return Calibration(model_id, [-2.0, 2.0], [1.0, 1.0], [[1.0, 1.0]] * 2, [], {}, 1.0, NOT_MEASURED)
