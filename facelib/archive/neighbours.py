"""Clustering of very many faces by person: `cluster_faces` along pairs of nearest neighbours.

The album compares all pairs of faces. An archive does so up to `EXACT_LIMIT` faces; above, only faces that are among
each other's nearest ones in a few k-means cells may come into one group, then only the nearest of these groups.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances

from facelib.embedding.similarity import group_sums
from facelib.recognition.clustering import MergeScores, cluster_faces

NEIGHBOURS = 16  # nearest neighbours of each face that it may be merged with
QUERY_BATCH = 256  # faces whose neighbours are computed together
EXACT_LIMIT = 30_000  # faces up to which all pairs are compared
CELL_SIZE = 1000  # mean number of faces in a k-means cell, above EXACT_LIMIT
PROBED_CELLS = 8  # nearest cells in which the neighbours of a face are searched
KMEANS_SAMPLE = 100_000  # faces from which the cells are learned


def cluster_archive(
    embeddings: np.ndarray,
    scores: MergeScores,
    photos: np.ndarray,
    offsets: np.ndarray,
    exact_limit: int = EXACT_LIMIT,
) -> np.ndarray:
    """Cluster faces by person, see `cluster_faces`.

    Args:
        embeddings: (n, d) of unit length, any float type.
        exact_limit: number of faces up to which all pairs are compared.

    Returns:
        (n,) int, the person of each face, from 0 without gaps.
    """
    if len(embeddings) <= exact_limit:
        return cluster_faces(embeddings, scores, photos, offsets=offsets)
    near = np.concatenate(list(cell_pairs(embeddings, offsets, scores.large)))
    groups = cluster_faces(embeddings, scores, photos, offsets=offsets, pairs=near)
    # Once more, with the neighbours of these groups: a face has only so many.
    sizes = np.bincount(groups).astype(float)
    # Not of unit length: so a @ b - offset - offset is the mean of all scores between the faces of two groups.
    means = group_sums(embeddings, groups) / sizes[:, None].astype(np.float32)
    mean_offsets = (np.bincount(groups, offsets) / sizes).astype(np.float32)
    near = np.concatenate(list(cell_pairs(means, mean_offsets, scores.large)))
    apart = photos_of_groups(photos, groups)
    return cluster_faces(means, scores, weights=sizes, offsets=mean_offsets, apart=apart, pairs=near)[groups]


def photos_of_groups(photos: np.ndarray, groups: np.ndarray) -> list[set]:
    """For each group the photos that show several faces."""
    _, numbers, counts = np.unique(photos, return_inverse=True, return_counts=True)
    found: list[set] = [set() for _ in range(groups.max() + 1)]
    for row in np.flatnonzero(counts[numbers] > 1).tolist():
        found[groups[row]].add(int(numbers[row]))
    return found


def cell_pairs(embeddings: np.ndarray, offsets: np.ndarray, score: float) -> Iterator[np.ndarray]:
    """Pairs (m, 2) int32 of embeddings (n, d), not all of unit length, with a score above `score`: each with its
    `NEIGHBOURS` nearest ones in the `PROBED_CELLS` k-means cells that are nearest to its own.

    LanceDB's index is not used here: it answers one query at a time, and a million queries would take hours.
    """
    sample = np.random.default_rng(0).permutation(len(embeddings))[:KMEANS_SAMPLE]
    kmeans = MiniBatchKMeans(-(-len(embeddings) // CELL_SIZE), random_state=0, n_init=1, batch_size=4096)
    kmeans.fit(embeddings[sample].astype(np.float32))
    parts = np.array_split(np.arange(len(embeddings)), -(-len(embeddings) // KMEANS_SAMPLE))
    cells = np.concatenate([kmeans.predict(embeddings[part].astype(np.float32)) for part in parts])
    order = np.argsort(cells, kind="stable")
    members = np.split(order, np.searchsorted(cells[order], np.arange(1, len(kmeans.cluster_centers_))))
    nearest_cells = pairwise_distances(kmeans.cluster_centers_).argsort(axis=1)[:, :PROBED_CELLS]
    for cell, rows in enumerate(members):
        if len(rows):
            candidates = np.concatenate([members[near] for near in nearest_cells[cell]])
            yield from near_pairs(embeddings, offsets, score, rows, candidates)


def near_pairs(
    embeddings: np.ndarray, offsets: np.ndarray, score: float, rows: np.ndarray, candidates: np.ndarray
) -> Iterator[np.ndarray]:
    """Pairs (m, 2) int32 of `rows` with their nearest `candidates`, both rows of `embeddings`, that have a score above
    `score`; a batch at a time."""
    candidate_embeddings = embeddings[candidates].astype(np.float32)
    k = min(NEIGHBOURS + 1, len(candidates))  # a face is among its own neighbours
    for part in np.array_split(rows, -(-len(rows) // QUERY_BATCH)):
        found = embeddings[part].astype(np.float32) @ candidate_embeddings.T
        found -= offsets[part][:, None] + offsets[candidates]
        nearest = np.argpartition(found, -k, axis=1)[:, -k:]
        row, place = np.nonzero(np.take_along_axis(found, nearest, 1) > score)
        yield np.stack([part[row], candidates[nearest[row, place]]], 1).astype(np.int32)
