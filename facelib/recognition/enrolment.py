"""Photos that may show somebody else than the person they were enrolled as."""

import numpy as np

from facelib.embedding.similarity import mean_embedding
from facelib.recognition.calibration import Calibration
from facelib.recognition.gallery_store import DUPLICATE_DISTANCE, EnrolledPeople


def find_enrolment_issue(
    enrolled: EnrolledPeople, name: str, embedding: np.ndarray, calibration: Calibration | None
) -> str:
    """Why an enrolled photo may not show the person, or "": nearer to somebody else, or far from the other photos.

    Args:
        enrolled: the gallery, with the photo.
        name: the person as whom it is enrolled.
        embedding: (d,) of unit length, of the photo.
        calibration: tells which distances are too far for one person; None: only the nearer person is reported.
    """
    person = enrolled.names.index(name)
    to_means = 1 - enrolled.means @ embedding
    to_means[person] = np.inf
    nearest = int(to_means.argmin())
    other, to_other = enrolled.names[nearest], float(to_means[nearest])
    verdict_on_other = _verdict(calibration, to_other, int(enrolled.photos[nearest]))
    own = enrolled.embeddings[enrolled.owners == person]
    rest = own[1 - own @ embedding > DUPLICATE_DISTANCE]
    if not len(rest):
        known = f"may show {other}, who is enrolled already (distance {to_other:.3f})"
        return known if verdict_on_other == "same" else ""
    to_rest = float(1 - mean_embedding(rest, np.ones(len(rest))) @ embedding)
    if to_other < to_rest and verdict_on_other != "different":
        return f"is nearer to {other} (distance {to_other:.3f}) than to the other photos of {name} ({to_rest:.3f})"
    if _verdict(calibration, to_rest, len(rest)) == "different":
        return f"is far from the other photos of {name} (distance {to_rest:.3f})"
    return ""


def _verdict(calibration: Calibration | None, distance: float, photos: int) -> str:
    return calibration.decide(max(distance, 0.0), photos=photos).verdict if calibration else ""
