"""Clustering of very many faces by person: communities in the graph of nearest neighbours.

An edge links each face to those of its nearest neighbours with which its score (`Calibration.score_matrix`) is high
enough. Communities of this graph are found with the Leiden algorithm (Traag et al. 2019,
https://www.nature.com/articles/s41598-019-41695-z), so that one wrong edge does not merge two people. Large archives
are never compared pair by pair.
"""

from collections.abc import Iterable, Iterator

import igraph
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances

from facelib.embedding.similarity import group_sums, unit_vectors
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import cluster_faces
from facelib.recognition.cohort import score_offsets

# RESOLUTION was chosen on open_val and the held-out families, with both shipped embedders.
RESOLUTION = 0.05  # of Leiden's constant Potts model: mean edge weight that holds a community together
FULL_WEIGHT_SHARE = 0.01  # FMR at the score from which an edge has the weight 1 / FMR at the lowest score of an edge
NEIGHBOURS = 16  # nearest neighbours of each face that may become edges
QUERY_BATCH = 256  # faces whose neighbours are computed together
EXACT_LIMIT = 30_000  # faces up to which neighbours are found by comparing all pairs
CELL_SIZE = 1000  # mean number of faces in a k-means cell, above EXACT_LIMIT
PROBED_CELLS = 8  # nearest cells in which the neighbours of a face are searched
KMEANS_SAMPLE = 100_000  # faces from which the cells are learned
MIN_MERGE_SIZE = 6  # faces of a community that is merged with others by the mean score
MIN_PERSON_SIZE = 10  # faces of a community that faces of smaller ones may be assigned to
MAX_FPIR = 0.01  # false positive identification rate at which they are assigned


def communities(
    embeddings: np.ndarray,
    calibration: Calibration,
    fmr: float,
    photos: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
    exact_limit: int = EXACT_LIMIT,
) -> np.ndarray:
    """Cluster faces by person.

    Args:
        embeddings: (n, d) of unit length.
        calibration: of their embedder.
        fmr: false match rate at the score above which two neighbours are linked, see `clustering_fmr`.
        photos: (n,) int, photo of each face; two faces of one photo are not linked. None: n different photos.
        offsets: (n,) what each face takes from its scores, see `score_offsets`; None: the score is the cosine.
        exact_limit: number of faces up to which neighbours are found by comparing all pairs.

    Returns:
        (n,) int, community of each face, from 0 without gaps.
    """
    if len(embeddings) == 0:
        return np.zeros(0, int)
    photos = np.arange(len(embeddings)) if photos is None else photos
    offsets = np.zeros(len(embeddings), np.float32) if offsets is None else offsets
    score = calibration.score_at(fmr, extrapolate=True)
    full_weight = calibration.score_at(FULL_WEIGHT_SHARE * fmr, extrapolate=True)
    neighbours = (exact_neighbours if len(embeddings) <= exact_limit else cell_neighbours)(embeddings)
    graph = neighbour_graph(neighbours, (score, full_weight), photos, offsets)
    found = graph.community_leiden("CPM", weights="weight", resolution=RESOLUTION, n_iterations=4)
    groups = merge_large(embeddings, np.array(found.membership), score, offsets)
    return np.unique(groups, return_inverse=True)[1]


def neighbour_graph(
    neighbours: "Iterable[Neighbours]", scores: tuple[float, float], photos: np.ndarray, offsets: np.ndarray
) -> igraph.Graph:
    """Graph of n faces with an edge for each pair of neighbours above the lower of two scores; `weight` rises from 0
    there to 1 at the higher one. Arguments: see `communities`."""
    low, high = scores
    edges, weights = [], []
    for rows, near, cosines in neighbours:
        found = cosines - offsets[rows][:, None] - offsets[near]
        linked = (found > low) & (photos[near] != photos[rows][:, None])
        starts = np.broadcast_to(rows[:, None], near.shape)
        edges.append(np.stack([starts[linked], near[linked]], 1))
        weights.append(np.minimum((found[linked] - low) / (high - low), 1))
    graph = igraph.Graph(len(photos), np.concatenate(edges))
    graph.es["weight"] = np.concatenate(weights)
    graph.simplify(combine_edges="max")
    return graph


def merge_large(embeddings: np.ndarray, groups: np.ndarray, score: float, offsets: np.ndarray) -> np.ndarray:
    """(n,) communities after those of `MIN_MERGE_SIZE` faces or more are merged by average linkage.

    With edges to `NEIGHBOURS` faces only, Leiden splits a person with more than some hundred faces.
    """
    large, means = group_means(embeddings, groups, MIN_MERGE_SIZE)
    if not len(large):
        return groups
    sizes = np.bincount(groups)[large]
    mean_offsets = np.bincount(groups, offsets)[large] / sizes
    merged = np.arange(groups.max() + 1)
    merged[large] = len(merged) + cluster_faces(means, score, weights=sizes, offsets=mean_offsets)
    return merged[groups]


def group_means(embeddings: np.ndarray, groups: np.ndarray, min_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups (g,) of at least `min_size` embeddings, and the mean (g, d) of each, not scaled to unit length."""
    sizes = np.bincount(groups)
    large = np.flatnonzero(sizes >= min_size)
    index = np.full(len(sizes), -1)
    index[large] = np.arange(len(large))
    return large, group_sums(embeddings, index[groups], len(large)) / sizes[large][:, None]


def assign_small_groups(
    embeddings: np.ndarray,
    groups: np.ndarray,
    calibration: Calibration,
    photos: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
) -> np.ndarray:
    """Assign faces of small groups to the mean of a group of `MIN_PERSON_SIZE` faces or more with the highest score.

    A face is assigned where at most `MAX_FPIR` of the people who are in none of these groups would have such a score
    with any of them, and not to a group that already has a face of its photo.

    Args:
        groups: (n,) int, see `communities`. For the other arguments and the result too.
    """
    large, means = group_means(embeddings, groups, MIN_PERSON_SIZE)
    if not len(large):
        return groups
    means = unit_vectors(means)
    mean_offsets = score_offsets(means, calibration.cohort)
    limit = min_assign_score(calibration, len(large))
    photos = np.arange(len(embeddings)) if photos is None else photos
    offsets = np.zeros(len(embeddings), np.float32) if offsets is None else offsets
    result = groups.copy()
    small = np.flatnonzero(np.bincount(groups)[groups] < MIN_PERSON_SIZE)
    for rows in np.array_split(small, -(-len(small) // QUERY_BATCH) or 1):
        scores = embeddings[rows].astype(np.float32) @ means.T - offsets[rows][:, None] - mean_offsets
        near = scores.max(axis=1, initial=-np.inf) > limit
        result[rows[near]] = large[scores[near].argmax(axis=1)]
    # Of several faces of one photo in a group the first counts; faces that did not move come first.
    order = np.argsort(result != groups, kind="stable")
    photo_and_group = np.stack([photos, result], 1)[order]
    first = order[np.unique(photo_and_group, axis=0, return_index=True)[1]]
    rejected = np.setdiff1d(np.flatnonzero(result != groups), first)
    result[rejected] = groups[rejected]
    return np.unique(result, return_inverse=True)[1]


def min_assign_score(calibration: Calibration, groups: int) -> float:
    """Score with the mean of a group at which the false positive identification rate among so many groups is
    `MAX_FPIR`."""
    scores = np.linspace(1, -1, 2001)
    rates = np.array([calibration.extrapolated_fmr(score, MIN_PERSON_SIZE) for score in scores])
    return float(scores[np.searchsorted(rates, MAX_FPIR / groups)])


# Rows (m,) of embeddings, the rows (m, k) of the nearest neighbours of each, itself among them, and the cosines (m, k)
# with them.
Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]


def exact_neighbours(embeddings: np.ndarray) -> Iterator[Neighbours]:
    """Nearest neighbours of all embeddings (n, d), by comparing all pairs."""
    rows = np.arange(len(embeddings))
    return nearest_among(embeddings, rows, rows)


def cell_neighbours(embeddings: np.ndarray) -> Iterator[Neighbours]:
    """Approximate nearest neighbours of all embeddings (n, d): among those of the `PROBED_CELLS` k-means cells that are
    nearest to its own.

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
            yield from nearest_among(embeddings, rows, np.concatenate([members[near] for near in nearest_cells[cell]]))


def nearest_among(embeddings: np.ndarray, rows: np.ndarray, candidates: np.ndarray) -> Iterator[Neighbours]:
    """Nearest neighbours of the embeddings `rows` among the embeddings `candidates`, a batch at a time."""
    candidate_embeddings = embeddings[candidates].astype(np.float32)
    k = min(NEIGHBOURS + 1, len(candidates))
    for part in np.array_split(rows, -(-len(rows) // QUERY_BATCH)):
        cosines = embeddings[part].astype(np.float32) @ candidate_embeddings.T
        nearest = np.argpartition(cosines, -k, axis=1)[:, -k:]
        yield part, candidates[nearest], np.take_along_axis(cosines, nearest, 1)
