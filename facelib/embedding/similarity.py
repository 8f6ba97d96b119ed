"""Embeddings compared: cosine distance, nearest neighbours, means of several."""

import numpy as np

from facelib.runtime.batching import batches
from facelib.types import EmbeddingError


def cosine_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray | float:
    """1 - cosine similarity: 0 for the same direction, 2 for opposite ones. Vectors of another length than 1, such as
    the mean of several, are made so first.

    Args:
        a: (n, d) or (d,). b: (m, d) or (d,).

    Returns:
        (n, m), without the axis of an argument that is a single vector; a plain float for two single vectors.

    Raises:
        ValueError: vectors of different embedders, or without a direction (all zeros, NaN, infinity).
    """
    a, b = unit_vectors(a), unit_vectors(b)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"embeddings of {a.shape[-1]} and {b.shape[-1]} numbers: they come from different embedders")
    distances = np.maximum(1 - a @ b.T, 0)  # rounding must not make a distance negative
    return distances if distances.ndim else float(distances)


def nearest_neighbours(vectors: np.ndarray, at_once: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Of each of n > 1 vectors (n, d), the row of the one nearest to it, and their cosine distance: (n,) and (n,)."""
    vectors = unit_vectors(vectors)
    rows, apart = np.empty(len(vectors), int), np.empty(len(vectors), np.float32)
    for part in batches(len(vectors), at_once, few_sizes=False):
        distances = cosine_distance(vectors[part], vectors)
        own = np.arange(len(distances))
        distances[own, own + part.start] = np.inf
        rows[part] = distances.argmin(1)
        apart[part] = distances[own, rows[part]]
    return rows, apart


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors (d,) or (n, d) as float32 of length 1.

    Raises:
        ValueError: of another shape, or without a direction.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim not in (1, 2):
        raise ValueError(f"embeddings of shape {vectors.shape}: expected (d,) or (n, d)")
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        number = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        raise ValueError(f"embedding {number} has no direction: it is all zeros, or holds NaN or infinity")
    return vectors if np.abs(lengths - 1).max(initial=0.0) < 1e-5 else vectors / lengths


def mean_embedding(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What several photos of a person (n, d) say together: their weighted mean, of length 1.

    On open_val it finds people better than the nearest of their photos does (`python -m facelib.evaluation who`).
    """
    mean = np.maximum(weights, 1e-3).astype(np.float32) @ vectors
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def check_embeddings(embeddings: np.ndarray, count: int, model_id: str) -> np.ndarray:
    """What an embedder returned, (count, d) float32, if it is one finite embedding of unit length for each face.

    Raises:
        EmbeddingError: it is not; names the embedder.
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
