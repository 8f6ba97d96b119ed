"""Synthetic embeddings of people, whose identities are known, and a calibration of them."""

import numpy as np

from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import Cohort


def synthetic_embeddings(people=40, photos=8, spread=0.6, size=32, seed=0):
    """Embeddings (people * photos, size) around a random centre for each person, and the person of each."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(people, 1, size)) + spread * rng.normal(size=(people, photos, size))
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    names = np.repeat([f"p{number:03d}" for number in range(people)], photos)
    return embeddings.reshape(-1, size).astype(np.float32), names


def calibration_with_cohort(model_id, centres, weight=0.8):
    """A calibration of two groups, without genuine pairs, with a cohort of centres (c, d)."""
    rates, lower = [1, 0.5, 1e-3, 1e-6], [1, 0.4, 1e-4, 1e-7]
    cohort = Cohort(model_id, centres, min(3, len(centres)), weight)
    groups = {"adults": lower, "children": rates}
    return Calibration(
        model_id, [-1, 0, 0.5, 1], rates, [[rate, rate] for rate in rates], [], {}, 1e-5, "none", groups, cohort
    )
