"""Clustering: faces grouped by person, without names."""

import numpy as np

from facelib.embedding.similarity import group_sums

MAX_LINKAGE_FACES = 6_000  # one linkage holds all distances between its faces in memory, 0.5 GB for this many
CELL_FACES = 3_000  # average number of faces in a k-means cell, where there are more than MAX_LINKAGE_FACES
MAX_ROUNDS = 6  # of partitioning into cells
KMEANS_ITERATIONS = 10
KMEANS_SAMPLE = 20_000  # faces that the centres of the cells are computed from
NEVER = 1e9  # distance of two embeddings that no mean of many distances brings near
ASSIGNMENT_BLOCK = 16_384  # faces whose distances to all centres are in memory at the same time

MAX_CLUSTERING_FMR = 0.005
MIN_CLUSTERING_FMR = 1e-4
FULL_RATE_FACES = 2_000  # the largest number of faces that MAX_CLUSTERING_FMR is used for


def clustering_fmr(faces: int) -> float:
    """Target FMR of the mean score of two clusters, for a number of faces.

    The number of impostor pairs grows with the number of faces, so the rate falls in inverse proportion above 2,000
    faces, from 0.005 down to 0.0001. Chosen on subsets of open_val with 8, 15, 30 and 60 people, on the held-out
    families and on ORL: 0.01 has a BCubed F 0.02 higher on the first two, and takes ORL's 40 people, with one photo
    each, for 34.
    """
    rate = MAX_CLUSTERING_FMR * min(1.0, FULL_RATE_FACES / max(faces, 1))
    return max(rate, MIN_CLUSTERING_FMR)


def cluster_faces(
    embeddings: np.ndarray,
    score: float,
    photos: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
    apart: np.ndarray | None = None,
) -> np.ndarray:
    """Group embeddings by person with average linkage: agglomerative clustering that merges the two clusters with the
    highest mean score while that is above `score`.

    More than `MAX_LINKAGE_FACES` embeddings are first partitioned by k-means into cells, which are clustered one by
    one. The means of the resulting clusters are partitioned again, until one linkage can hold them or their number no
    longer falls.

    Args:
        embeddings: (n, d) float32 of unit length.
        score: of two faces, see `Calibration.score_matrix`.
        photos: (n,) photo of each face. Two faces of one photo are assumed to be two people: in 1 - score they count
            as at least twice as far apart as `score` is.
        weights: (n,) number of faces that each embedding is the mean of, then not of unit length; None: 1 each.
        offsets: (n,) what each face takes from its scores, see `score_offsets`; of a mean embedding the mean of its
            faces' offsets. None: the score is the cosine.
        apart: (m, 2) int, pairs of embeddings that never come into one group; for at most `MAX_LINKAGE_FACES`
            embeddings.

    Raises:
        ValueError: `apart` with more embeddings.

    Returns:
        (n,) int, the person of each face from 0, the person with the most faces first.
    """
    embeddings = np.asarray(embeddings, np.float32)
    weights = np.ones(len(embeddings), np.float32) if weights is None else np.asarray(weights, np.float32)
    face_photos = np.arange(len(embeddings)) if photos is None else np.unique(photos, return_inverse=True)[1]
    offsets = np.zeros(len(embeddings), np.float32) if offsets is None else np.asarray(offsets, np.float32)
    if apart is not None:
        if len(embeddings) > MAX_LINKAGE_FACES:
            raise ValueError(f"{len(embeddings):,} embeddings with apart: expected at most {MAX_LINKAGE_FACES:,}")
        return _largest_first(_average_linkage(embeddings, offsets, 1 - score, face_photos, apart))
    groups = np.arange(len(embeddings))
    means, mean_offsets, group_photos = embeddings, offsets, face_photos
    for seed in range(MAX_ROUNDS):
        before = len(means)
        single_cell = before <= MAX_LINKAGE_FACES
        cells = np.zeros(before, int) if single_cell else _kmeans_cells(means, -(-before // CELL_FACES), seed)
        groups = _cluster_cells(means, mean_offsets, cells, 1 - score, group_photos)[groups]
        sizes, totals = np.bincount(groups), np.bincount(groups, weights)
        # Not of unit length: so a @ b - offset - offset is the mean of all scores between the faces of two groups.
        means = (group_sums(embeddings * weights[:, None], groups) / totals[:, None]).astype(np.float32)
        mean_offsets = (np.bincount(groups, weights * offsets) / totals).astype(np.float32)
        group_photos = _photos_of_groups(groups, sizes, face_photos)
        if single_cell or len(sizes) > 0.99 * before:
            break
    return _largest_first(groups)


def _photos_of_groups(groups: np.ndarray, sizes: np.ndarray, face_photos: np.ndarray) -> np.ndarray:
    """(k,) photo of each group: of a single face its own, of several a unique negative number that no face has."""
    first_face = np.unique(groups, return_index=True)[1]
    return np.where(sizes == 1, face_photos[first_face], -1 - np.arange(len(sizes)))


def _largest_first(groups: np.ndarray) -> np.ndarray:
    """Number the groups by size, the largest first; of equal size, the one whose face comes first."""
    _, first_face, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = np.lexsort((first_face, -sizes))
    return np.argsort(order)[groups]


def _kmeans_cells(means: np.ndarray, count: int, seed: int) -> np.ndarray:
    """k-means cell of each row of (n, d) float32. The centres come from a random sample of the rows (Lloyd)."""
    rng = np.random.default_rng(seed)
    sample = means[rng.permutation(len(means))[: max(KMEANS_SAMPLE, 20 * count)]]
    centres = sample[:count].copy()
    for _ in range(KMEANS_ITERATIONS):
        cells = _nearest_centre(sample, centres)
        sizes = np.bincount(cells, minlength=count)
        sums = group_sums(sample, cells, count)
        used = sizes > 0
        centres[used] = sums[used] / sizes[used, None].astype(np.float32)
    return _nearest_centre(means, centres)


def _nearest_centre(means: np.ndarray, centres: np.ndarray) -> np.ndarray:
    from scipy.cluster.vq import vq  # half a second, which `compare` should not wait for

    starts = range(0, len(means), ASSIGNMENT_BLOCK)
    return np.concatenate([vq(means[i : i + ASSIGNMENT_BLOCK], centres, check_finite=False)[0] for i in starts])


def _cluster_cells(
    means: np.ndarray, offsets: np.ndarray, cells: np.ndarray, distance: float, photos: np.ndarray
) -> np.ndarray:
    """(n,) groups from 0 without gaps; only rows of one cell come into one group. `distance`: 1 - score."""
    groups = np.zeros(len(means), int)
    count = 0
    for cell in np.unique(cells):
        rows = np.flatnonzero(cells == cell)
        for part in np.array_split(rows, -(-len(rows) // MAX_LINKAGE_FACES)):  # a cell may be too large
            groups[part] = count + _average_linkage(means[part], offsets[part], distance, photos[part])
            count = groups[part].max() + 1
    return groups


def _average_linkage(
    means: np.ndarray, offsets: np.ndarray, distance: float, photos: np.ndarray, apart: np.ndarray | None = None
) -> np.ndarray:
    """(n,) groups from 0 of a few rows, see `cluster_faces`."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(means) == 1:
        return np.zeros(1, int)
    distances = np.maximum(1 - means @ means.T + offsets[:, None] + offsets, 0)
    same_photo = photos[:, None] == photos
    distances[same_photo] = np.maximum(distances[same_photo], 2 * distance)
    if apart is not None:
        first, second = apart.T
        distances[first, second] = distances[second, first] = NEVER
    merges = linkage(squareform(distances, checks=False), method="average")
    # fcluster merges at its threshold and below, `distance` itself is excluded.
    threshold = np.nextafter(distance, -np.inf)
    return fcluster(merges, threshold, criterion="distance") - 1
