"""Similarity of embeddings: cosine distance, nearest neighbours, unit length, means."""

import numpy as np

from facelib.runtime.batching import batches
from facelib.types import EmbeddingError, ModelMismatchError


def cosine_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray | float:
    """Cosine distance, 1 - cosine similarity: 0 for the same direction, 2 for opposite ones.

    Args:
        a: embeddings (n, d), or one (d,), of any length.
        b: embeddings (m, d), or one (d,), of any length.

    Returns:
        (n, m) float32, without the axis of an argument that is one embedding; a float for two single embeddings.

    Raises:
        ModelMismatchError: embeddings of different dimensions.
        ValueError: embeddings without a direction, see `unit_vectors`.
    """
    a = unit_vectors(a)
    b = unit_vectors(b)
    if a.shape[-1] != b.shape[-1]:
        raise ModelMismatchError(
            f"embeddings of {a.shape[-1]} and {b.shape[-1]} dimensions: they come from different embedders"
        )
    distances = np.maximum(1 - a @ b.T, 0)  # rounding must not make a distance negative
    return distances if distances.ndim else float(distances)


def nearest_neighbours(
    embeddings: np.ndarray, at_once: int = 1024, offsets: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest other embedding of each: the one with the highest score.

    Args:
        embeddings: (n, d), n > 1.
        at_once: rows of the distance matrix that are in memory.
        offsets: (n,) what each embedding takes from its scores, see `score_offsets`; None: the score is the cosine.

    Returns:
        Row of the nearest neighbour (n,) int, and its cosine distance (n,) float32.
    """
    embeddings = unit_vectors(embeddings)
    neighbours = np.empty(len(embeddings), int)
    nearest = np.empty(len(embeddings), np.float32)
    for part in batches(len(embeddings), at_once, few_sizes=False):
        distances = np.maximum(1 - embeddings[part] @ embeddings.T, 0)
        rows = np.arange(len(distances))
        distances[rows, rows + part.start] = np.inf
        neighbours[part] = (distances if offsets is None else distances + offsets).argmin(1)
        nearest[part] = distances[rows, neighbours[part]]
    return neighbours, nearest


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors (d,) or (n, d) as float32 of unit length. An array that has it within 1e-5 is returned as it is.

    Raises:
        ValueError: another shape, or a vector without a direction (all zeros, NaN, infinity).
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim not in (1, 2):
        raise ValueError(f"embeddings of shape {vectors.shape}: expected (d,) or (n, d)")
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        number = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        raise ValueError(f"embedding {number} has no direction: it is all zeros, or holds NaN or infinity")
    return vectors if np.abs(lengths - 1).max(initial=0.0) < 1e-5 else vectors / lengths


def mean_embedding(embeddings: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean embedding of a person, weighted and scaled to unit length.

    On open_val it identifies people better than the nearest of their photos (`python -m facelib.evaluation
    identification`).

    Args:
        embeddings: (n, d) of the person's photos.
        weights: (n,) such as their quality; below 0.001 they count as that.

    Returns:
        (d,) float32.
    """
    mean = np.maximum(weights, 1e-3).astype(np.float32) @ embeddings
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def group_sums(embeddings: np.ndarray, groups: np.ndarray, count: int | None = None) -> np.ndarray:
    """Sum of the embeddings of each group.

    Args:
        embeddings: (n, d). Any float type; they are added as float32, a part at a time.
        groups: (n,) int, group of each embedding from 0; negative: skipped.
        count: number of groups; None: the largest group + 1.

    Returns:
        (count, d) float32; zeros for a group without embeddings.
    """
    count = int(groups.max(initial=-1)) + 1 if count is None else count
    sums = np.zeros((count, embeddings.shape[1]), np.float32)
    kept = np.flatnonzero(groups >= 0)
    for part in batches(len(kept), 100_000, few_sizes=False):
        rows = kept[part]
        np.add.at(sums, groups[rows], embeddings[rows].astype(np.float32))
    return sums


def person_means(embeddings: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean embedding of each person, scaled to unit length.

    Args:
        embeddings: (n, d) float32.
        people: (n,) person of each embedding.

    Returns:
        people (p,), sorted; means (p, d) float32 of unit length; number of embeddings of each person (p,).
    """
    names, person, counts = np.unique(people, return_inverse=True, return_counts=True)
    sums = group_sums(embeddings, person, len(names))
    return names, sums / np.linalg.norm(sums, axis=1, keepdims=True), counts


def check_embeddings(embeddings: np.ndarray, count: int, model_id: str) -> np.ndarray:
    """Check that an embedder returned one finite embedding of unit length for each face.

    Args:
        embeddings: what it returned.
        count: number of faces.
        model_id: of the embedder, for the error.

    Returns:
        The embeddings (count, d), as float32.

    Raises:
        EmbeddingError: anything else.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise EmbeddingError(
            f"the embedder {model_id} returned an array of shape {embeddings.shape} for {count} faces: expected "
            f"({count}, d), one embedding for each face"
        )
    if not np.isfinite(embeddings).all():
        raise EmbeddingError(f"the embedder {model_id} returned NaN or infinity")
    lengths = np.linalg.norm(embeddings.astype(np.float32), axis=1)
    if (np.abs(lengths - 1) > 1e-2).any():
        raise EmbeddingError(
            f"the embedder {model_id} returned embeddings of length {lengths.min():.3g} to {lengths.max():.3g}: "
            "expected unit length; divide each by its norm"
        )
    return embeddings.astype(np.float32, copy=False)
