"""How much nearer impostors are to each other in one collection than elsewhere: one camera, one studio, one light."""

import numpy as np

from facelib.embedding.similarity import person_means
from facelib.recognition.clustering import MergeScores, cluster_faces
from facelib.recognition.cohort import BATCH, Cohort, score_offsets

MAX_FACES = 3_000  # of a collection from which its condition is measured, a random sample of them
MIN_OTHERS = 10  # other people than a face's own, below which a collection says nothing about its condition


def condition_offset(embeddings: np.ndarray, people: np.ndarray, cohort: Cohort | None) -> float:
    """What the condition that all faces of a collection share should take from the score of two of them.

    Half of the other people of a collection are nearer to a face than a certain cosine, and half of the cohort are
    nearer than another. The mean difference of the two, where it is positive, comes from what the faces share. It is
    weighted as the cohort similarity is. The median is used, not the nearest, so that people who are in the collection
    under two names do not matter.

    Args:
        embeddings: (n, d) of unit length. people: (n,) int, person of each face, as far as it is known.

    Returns:
        0 without a cohort, for few people, and for faces that share no condition.
    """
    if cohort is None or not len(embeddings):
        return 0.0
    persons, means, _ = person_means(np.asarray(embeddings, np.float32), people)
    if len(persons) <= MIN_OTHERS:
        return 0.0
    own = np.searchsorted(persons, people)
    differences = []
    for start in range(0, len(embeddings), BATCH):
        part = np.asarray(embeddings[start : start + BATCH], np.float32)
        others = part @ means.T
        others[np.arange(len(part)), own[start : start + BATCH]] = np.nan
        differences.append(np.nanmedian(others, axis=1) - np.median(part @ cohort.centres.T, axis=1))
    return max(0.0, cohort.weight * float(np.concatenate(differences).mean()))


def measure_condition(
    embeddings: np.ndarray, score: float | MergeScores, photos: np.ndarray, cohort: Cohort | None
) -> float | None:
    """The `condition_offset` of a collection whose people are not known: faces are clustered first.

    Args:
        embeddings: (n, d) of unit length. score: of `cluster_faces`. photos: (n,) photo of each face.

    Returns:
        None where there are too few people to tell.
    """
    if cohort is None or len(embeddings) <= MIN_OTHERS:
        return None
    chosen = np.random.default_rng(0).permutation(len(embeddings))[:MAX_FACES]
    embeddings, photos = embeddings[chosen], photos[chosen]
    people = cluster_faces(embeddings, score, photos, offsets=score_offsets(embeddings, cohort))
    return condition_offset(embeddings, people, cohort) if people.max() >= MIN_OTHERS else None
