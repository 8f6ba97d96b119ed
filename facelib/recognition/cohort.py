"""Score normalisation with a cohort of impostors.

Some faces are near to many impostors: an embedder that has seen few people like them puts them close together. So the
cosine at which two faces are one person differs from face to face. The normalised score takes from the cosine how near
both faces are to a cohort of impostors (adaptive symmetric normalisation of speaker verification: Matejka et al. 2017,
"Analysis of Score Normalization in Multilingual Speaker Recognition"; here the mean alone, with a weight).
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.embedding.similarity import group_sums, unit_vectors
from facelib.io.files import atomic_write

CENTRES = 1024  # k-means centres of a cohort
MIN_MEMBERS = 3  # embeddings whose mean a centre is: a centre is nobody's embedding
MAX_COSINE = 0.98  # of a centre with one of them: above, they are copies of one photo (infants are dense, up to 0.97)
ROUNDING = 0.01  # by which the length of a centre may differ from 1: files hold half precision
NEIGHBOURS = 3  # nearest centres whose mean cosine is taken from a score
WEIGHT = 0.9  # of that mean; 1: taken off in full. Chosen by `facelib.evaluation.cohort_choice`
ITERATIONS = 20  # of k-means
BATCH = 4096  # embeddings whose cosines to all centres are in memory together


@dataclass(frozen=True, eq=False)
class Cohort:
    """Impostors whose nearness is taken from scores.

    model_id: embedder of the centres, see `facelib.types.Embedder`.
    centres: (c, d) float32 of unit length, within `ROUNDING`, each the mean of `MIN_MEMBERS` embeddings or more.
    neighbours: number of nearest centres whose mean cosine is a face's cohort similarity.
    weight: how much of it is taken from a score.

    Raises:
        ValueError: centres of another length, more neighbours than centres, or a weight outside 0 to 1.
    """

    model_id: str
    centres: np.ndarray
    neighbours: int = NEIGHBOURS
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        if self.centres.ndim != 2 or not 1 <= self.neighbours <= len(self.centres):
            raise ValueError(f"{self.neighbours} neighbours in centres of shape {self.centres.shape}")
        if not (np.abs(np.linalg.norm(self.centres, axis=1) - 1) < ROUNDING).all():  # also refuses NaN
            raise ValueError("centres are not of unit length")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight {self.weight}: expected 0 to 1")

    @functools.cached_property
    def id(self) -> str:
        """Eight hexadecimal digits that change with the cohort."""
        content = self.centres.astype(np.float16).tobytes() + f"{self.neighbours} {self.weight:.6g}".encode()
        return hashlib.sha256(content).hexdigest()[:8]

    def similarity(self, embeddings: np.ndarray) -> np.ndarray:
        """Cohort similarity (n,) float32 of embeddings (n, d): mean of the highest `neighbours` cosines with centres.

        Raises:
            ValueError: embeddings of another size than the centres.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.centres.shape[1]:
            size = self.centres.shape[1]
            raise ValueError(f"embeddings of shape {embeddings.shape}, the cohort of {self.model_id} has (n, {size})")
        result = np.empty(len(embeddings), np.float32)
        for start in range(0, len(embeddings), BATCH):
            cosines = np.asarray(embeddings[start : start + BATCH], np.float32) @ self.centres.T
            nearest = np.partition(cosines, -self.neighbours, axis=1)[:, -self.neighbours :]
            result[start : start + BATCH] = nearest.mean(1)
        return result


def score_offsets(embeddings: np.ndarray, cohort: Cohort | None) -> np.ndarray:
    """What each of the embeddings (n, d), of unit length, takes from a cosine: (n,) float32, zeros without a cohort.

    The score of two faces is their cosine less the offsets of both.
    """
    if cohort is None:
        return np.zeros(len(embeddings), np.float32)
    return (cohort.weight / 2 * cohort.similarity(embeddings)).astype(np.float32)


def make_cohort(
    model_id: str,
    embeddings: np.ndarray,
    centres: int = CENTRES,
    neighbours: int = NEIGHBOURS,
    weight: float = WEIGHT,
    seed: int = 0,
) -> Cohort:
    """A cohort of the k-means centres of many people's embeddings.

    Args:
        embeddings: (n, d) of different people, one of each.
        centres: their largest number; a centre with fewer than `MIN_MEMBERS` members is dropped, and one that is almost
            the embedding of one of them (`MAX_COSINE`).

    Raises:
        ValueError: too few embeddings for `neighbours` centres.
    """
    embeddings = unit_vectors(embeddings)
    count = min(centres, len(embeddings) // (MIN_MEMBERS + 1))
    if count < neighbours:
        raise ValueError(
            f"{len(embeddings)} faces are too few for a cohort: at least {neighbours * (MIN_MEMBERS + 1)} of different "
            "people are needed"
        )
    means = embeddings[np.random.default_rng(seed).permutation(len(embeddings))[:count]]
    for _ in range(ITERATIONS):
        members = _nearest(embeddings, means)
        sums = group_sums(embeddings, members, count)
        used = np.bincount(members, minlength=count) > 0
        means = np.where(used[:, None], sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9), means)
    members = _nearest(embeddings, means)
    sums = group_sums(embeddings, members, count)
    lengths = np.linalg.norm(sums, axis=1)
    means = sums / np.maximum(lengths, 1e-9)[:, None]
    closest = np.full(count, -1.0)
    np.maximum.at(closest, members, (embeddings * means[members]).sum(1))
    kept = (np.bincount(members, minlength=count) >= MIN_MEMBERS) & (lengths > 1e-3) & (closest < MAX_COSINE)
    if kept.sum() < neighbours:
        raise ValueError(
            f"{len(embeddings)} faces form too few groups of {MIN_MEMBERS} people for a cohort: give more people"
        )
    rounded = means[kept].astype(np.float16).astype(np.float32)  # as in the file
    return Cohort(model_id, rounded, neighbours, weight)


def _nearest(embeddings: np.ndarray, centres: np.ndarray) -> np.ndarray:
    parts = range(0, len(embeddings), BATCH)
    return np.concatenate([(embeddings[start : start + BATCH] @ centres.T).argmax(1) for start in parts])


def save_cohort(cohort: Cohort, path: Path) -> None:
    """Write a cohort as .npz, centres in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as new, open(new, "wb") as file:
        np.savez(
            file,
            model_id=cohort.model_id,
            centres=cohort.centres.astype(np.float16),
            neighbours=cohort.neighbours,
            weight=cohort.weight,
        )


def load_cohort(path: Path, cohort_id: str) -> Cohort:
    """Read what `save_cohort` wrote.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is damaged, or another cohort than that of the calibration.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the cohort of this embedder's calibration is missing")
    try:
        with np.load(path, allow_pickle=False) as stored:
            centres = stored["centres"].astype(np.float32)
            cohort = Cohort(str(stored["model_id"]), centres, int(stored["neighbours"]), float(stored["weight"]))
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise ValueError(f"{path} is not a valid cohort ({str(error)[:120]})") from None
    if cohort.id != cohort_id:
        raise ValueError(f"{path} is the cohort {cohort.id}, the calibration was measured with {cohort_id}")
    return cohort
