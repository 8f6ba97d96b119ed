"""Which of many faces are one person's.

Each face is tied to those of its nearest faces that are within a distance; in this graph communities are found (Leiden,
Traag et al. 2019), so that one wrong tie does not make two people one. Of many faces none is compared with all.
"""

from collections.abc import Iterator

import igraph
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances

from facelib.embedding.similarity import unit_vectors
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import cluster_faces, clustering_fmr

NEIGHBOURS = 16  # of each face
TOGETHER = 256  # faces whose neighbours are looked for at a time
SHARE = 0.1  # see `link_fmr`
RESOLUTION = 0.005  # of Leiden's constant Potts model: mean weight of the ties that hold a community together
COMPARED = 30_000  # faces up to which each is compared with all
CELL, LOOKED_AT = 1000, 8  # beyond: faces of a cell, about; cells in which a face's neighbours are looked for
LEARNED = 100_000  # faces from which the cells are made
MANY, MAX_FPIR = 10, 0.01  # see `with_left_over`
LARGE = 6  # faces of a community that may be a part of somebody with many photos


def link_fmr(faces: int) -> float:
    """Share of the pairs of strangers that are as near as two faces that are tied: a tenth of the album's, because one
    tie says less than the mean of many distances. Chosen, with `RESOLUTION`, on open_val and the held-out families, and
    on 10,000 and 50,000 faces made up from them (`facelib.evaluation.benchmarks.archive`)."""
    return SHARE * clustering_fmr(faces)


def communities(
    vectors: np.ndarray, distance: float, photos: np.ndarray | None = None, compared: int = COMPARED
) -> np.ndarray:
    """(n,) numbers of the communities of n vectors (n, d) of length 1, whose ties are pairs of neighbours within a
    cosine distance.

    With ties to `NEIGHBOURS` alone, a community can have some hundred faces before Leiden parts it. So large ones are
    joined again, by the mean distance between all their faces.

    Args:
        photos: (n,) number of each vector's; two faces of one photo are not tied. None: all of different ones.
        compared: up to how many vectors each is compared with all.
    """
    if len(vectors) == 0:
        return np.zeros(0, int)
    photo = np.arange(len(vectors)) if photos is None else photos
    ties, weights = [], []
    for rows, numbers, apart in by_comparing(vectors) if len(vectors) <= compared else by_cells(vectors):
        close = (apart < distance) & (photo[numbers] != photo[rows][:, None])
        ties.append(np.stack([np.broadcast_to(rows[:, None], numbers.shape)[close], numbers[close]], 1))
        weights.append(1 - apart[close] / distance)
    graph = igraph.Graph(len(vectors), np.concatenate(ties))
    graph.es["weight"] = np.concatenate(weights)
    graph.simplify(combine_edges="max")
    found = graph.community_leiden("CPM", weights="weight", resolution=RESOLUTION, n_iterations=4)
    groups = np.array(found.membership)
    large, means = means_of(vectors, groups, LARGE)
    if len(large):
        weights = np.bincount(groups)[large]
        place = np.arange(groups.max() + 1)
        place[large] = len(place) + cluster_faces(means, distance, weights=weights)
        groups = place[groups]
    return np.unique(groups, return_inverse=True)[1]


def means_of(vectors: np.ndarray, groups: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """The groups (g,) with so many vectors at least, and the means (g, d) of each."""
    sizes = np.bincount(groups)
    large = np.flatnonzero(sizes >= least)
    means, place = np.zeros((len(large), vectors.shape[1]), np.float32), np.full(len(sizes), -1)
    place[large] = np.arange(len(large))
    for rows in np.array_split(np.flatnonzero(place[groups] >= 0), max(1, len(vectors) // 100_000)):
        np.add.at(means, place[groups[rows]], vectors[rows].astype(np.float32))
    return large, means / sizes[large][:, None]


def with_left_over(
    vectors: np.ndarray, groups: np.ndarray, calibration: Calibration, photos: np.ndarray | None = None
) -> np.ndarray:
    """Groups in which faces of small ones have gone to the large one whose mean is nearest (`MANY` faces or more), as
    far as one in a hundred strangers (`MAX_FPIR`) at most would come so near to any; but not two of one photo.

    Args: see `communities`.
    """
    large, means = means_of(vectors, groups, MANY)
    if not len(large):
        return groups
    means, distances = unit_vectors(means), np.linspace(0, 1, 1001)
    rates = np.array([calibration.extrapolated_fmr(distance, MANY) for distance in distances])
    limit = distances[np.searchsorted(rates, MAX_FPIR / len(large))]
    photo, result = np.arange(len(vectors)) if photos is None else photos, groups.copy()
    small = np.flatnonzero(np.bincount(groups)[groups] < MANY)
    for rows in np.array_split(small, -(-len(small) // TOGETHER) or 1):
        apart = 1 - vectors[rows].astype(np.float32) @ means.T
        near = apart.min(axis=1, initial=2) < limit
        result[rows[near]] = large[apart[near].argmin(axis=1)]
    pairs = np.stack([photo, result], 1)  # those that were there come first
    order = np.argsort(result != groups, kind="stable")
    first = order[np.unique(pairs[order], axis=0, return_index=True)[1]]
    again = np.setdiff1d(np.flatnonzero(result != groups), first)
    result[again] = groups[again]
    return np.unique(result, return_inverse=True)[1]


Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]  # (m,) numbers of vectors, (m, k) of their nearest, distances


def by_comparing(vectors: np.ndarray) -> Iterator[Neighbours]:
    """The nearest of each vector, itself among them, by comparing with all."""
    every = np.arange(len(vectors))
    return nearest_of(vectors, every, every)


def by_cells(vectors: np.ndarray) -> Iterator[Neighbours]:
    """As `by_comparing`, but only with the vectors of those cells whose centres are nearest to that of its own cell.
    (LanceDB's index is made for one question at a time: a million of them would take hours.)"""
    few = np.random.default_rng(0).permutation(len(vectors))[:LEARNED]
    means = MiniBatchKMeans(-(-len(vectors) // CELL), random_state=0, n_init=1, batch_size=4096)
    means.fit(vectors[few].astype(np.float32))
    parts = np.array_split(np.arange(len(vectors)), -(-len(vectors) // LEARNED))
    cells = np.concatenate([means.predict(vectors[part].astype(np.float32)) for part in parts])
    order = np.argsort(cells, kind="stable")
    members = np.split(order, np.searchsorted(cells[order], np.arange(1, len(means.cluster_centers_))))
    near = pairwise_distances(means.cluster_centers_).argsort(axis=1)[:, :LOOKED_AT]
    for cell, own in enumerate(members):
        if len(own):
            yield from nearest_of(vectors, own, np.concatenate([members[other] for other in near[cell]]))


def nearest_of(vectors: np.ndarray, rows: np.ndarray, others: np.ndarray) -> Iterator[Neighbours]:
    """Of some vectors the nearest among others."""
    theirs, k = vectors[others].astype(np.float32), min(NEIGHBOURS + 1, len(others))
    for part in np.array_split(rows, -(-len(rows) // TOGETHER)):
        apart = 1 - vectors[part].astype(np.float32) @ theirs.T
        nearest = np.argpartition(apart, k - 1, axis=1)[:, :k]
        yield part, others[nearest], np.take_along_axis(apart, nearest, 1)
