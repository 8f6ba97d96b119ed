"""Photos that may show somebody else than the person they were enrolled as."""

import numpy as np

from facelib.embedding.similarity import mean_embedding
from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import score_offsets
from facelib.recognition.gallery_store import DUPLICATE_DISTANCE, EnrolledPeople


def find_enrolment_issue(
    enrolled: EnrolledPeople, name: str, embedding: np.ndarray, calibration: Calibration | None
) -> str:
    """Why an enrolled photo may not show the person, or "": nearer to somebody else, or far from the other photos.

    Args:
        enrolled: the gallery, with the photo.
        name: the person as whom it is enrolled.
        embedding: (d,) of unit length, of the photo.
        calibration: tells which scores are too low for one person; None: only the nearer person is reported.
    """
    person = enrolled.names.index(name)
    with_means = _scores(enrolled.means, embedding, calibration)
    with_means[person] = -np.inf
    nearest = int(with_means.argmax())
    other, with_other = enrolled.names[nearest], float(with_means[nearest])
    verdict_on_other = _verdict(calibration, with_other, int(enrolled.photos[nearest]))
    own = enrolled.embeddings[enrolled.owners == person]
    rest = own[1 - own @ embedding > DUPLICATE_DISTANCE]
    if not len(rest):
        known = f"may show {other}, who is enrolled already (score {with_other:.3f})"
        return known if verdict_on_other == "same" else ""
    mean = mean_embedding(rest, np.ones(len(rest)))
    with_rest = float(_scores(mean[None], embedding, calibration)[0])
    if with_other > with_rest and verdict_on_other != "different":
        return f"is nearer to {other} (score {with_other:.3f}) than to the other photos of {name} ({with_rest:.3f})"
    if _verdict(calibration, with_rest, len(rest)) == "different":
        return f"is far from the other photos of {name} (score {with_rest:.3f})"
    return ""


def _scores(means: np.ndarray, embedding: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    """(n,) scores of an embedding (d,) with mean embeddings (n, d); cosines without a calibration."""
    cohort = calibration.cohort if calibration else None
    return means @ embedding - score_offsets(means, cohort) - score_offsets(embedding[None], cohort)


def _verdict(calibration: Calibration | None, score: float, photos: int) -> str:
    return calibration.decide(float(score), photos=photos).verdict if calibration and np.isfinite(score) else ""
