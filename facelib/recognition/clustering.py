"""Faces sorted by person, without names."""

import numpy as np
from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans

MOST_AT_ONCE = 6_000  # faces, whose distances to each other are held in memory
CELL = 3_000  # faces, or groups of them, that are compared with each other where there are more
ROUNDS = 6
RATE, FACES = 0.01, 1_000  # see `clustering_fmr`


def clustering_fmr(faces: int) -> float:
    """Share of the pairs of strangers that may come together, when judged by the mean of all distances between them.

    The more faces there are, the more strangers each could be taken for, and the rarer a chance likeness has to be:
    `RATE` among up to `FACES`, then less in proportion, but not below 0.0001. On parts of open_val with 8, 15, 30 and
    60 people and with the held-out families (170 to 2,613 faces) it sorts about as well as the best rate of each.
    """
    return max(RATE * min(1.0, FACES / max(faces, 1)), 1e-4)


def cluster_faces(
    vectors: np.ndarray, distance: float, photos: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """Which vectors are one person's, by average linkage: the two groups that are nearest on average become one, as
    long as that average is below `distance`.

    More than `MOST_AT_ONCE` are parted into cells of similar ones and grouped there, then the groups by their means,
    parted anew, until they are few enough or no longer become fewer.

    Args:
        vectors: (n, d) of length 1. distance: cosine, 0 to 2.
        photos: (n,) which photo each is from: two faces of one photo are two people as far as they alone tell, so
            their distance counts as twice `distance` at least.
        weights: (n,) how many faces each vector is the mean of, then not of length 1; None: each is one face.

    Returns:
        (n,) numbers of persons from 0, the one with the most faces first.
    """
    groups, means = np.arange(len(vectors)), np.asarray(vectors, np.float32)
    photo = np.arange(len(vectors)) if photos is None else np.unique(photos, return_inverse=True)[1]
    weights = np.ones(len(vectors), np.float32) if weights is None else np.asarray(weights, np.float32)
    for seed in range(ROUNDS):
        whole = len(means) <= MOST_AT_ONCE
        joined = _in_cells(means, distance, photo, None if whole else seed)
        groups = joined[groups]
        sizes = np.bincount(groups)
        means = np.zeros((len(sizes), vectors.shape[1]), np.float32)
        np.add.at(means, groups, vectors * weights[:, None])
        means /= np.bincount(groups, weights)[
            :, None
        ]  # not of length 1: so 1 - a @ b is the mean of all distances between two groups
        # A face by itself keeps its photo; a group of several is of none.
        alone, first = sizes == 1, np.unique(groups, return_index=True)[1]
        own = np.arange(len(vectors)) if photos is None else np.unique(photos, return_inverse=True)[1]
        photo = np.where(alone, own[first], -1 - np.arange(len(sizes)))
        if whole or len(sizes) > 0.99 * len(joined):
            break
    _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    return np.argsort(np.lexsort((first, -sizes)))[groups]


def _in_cells(means: np.ndarray, distance: float, photos: np.ndarray, seed: int | None) -> np.ndarray:
    """(n,) numbers of groups, without gaps; `seed`: of the cells, None for a single one."""
    cells = np.zeros(len(means), int)
    if seed is not None:
        number = -(-len(means) // CELL)
        cells = MiniBatchKMeans(number, random_state=seed, n_init=1, batch_size=4096).fit_predict(means)
    groups, number = np.zeros(len(means), int), 0
    for cell in np.unique(cells):
        rows = np.flatnonzero(cells == cell)
        for part in np.array_split(rows, -(-len(rows) // MOST_AT_ONCE)):  # where a cell is too large
            groups[part] = _grouped(means[part], distance, photos[part]) + number
            number = groups[part].max() + 1
    return groups


def _grouped(means: np.ndarray, distance: float, photos: np.ndarray) -> np.ndarray:
    if len(means) == 1:
        return np.zeros(1, int)
    distances = np.maximum(1 - means @ means.T, 0)
    together = photos[:, None] == photos
    distances[together] = np.maximum(distances[together], 2 * distance)
    np.fill_diagonal(distances, 0)
    method = AgglomerativeClustering(None, metric="precomputed", linkage="average", distance_threshold=distance)
    return method.fit_predict(distances)
