"""Clustering of very many faces by person: communities in the graph of nearest neighbours.

An edge links each face to those of its nearest neighbours that lie within a cosine distance. Communities of this graph
are found with the Leiden algorithm (Traag et al. 2019, https://www.nature.com/articles/s41598-019-41695-z), so that one
wrong edge does not merge two people. Large archives are never compared pair by pair.
"""

from collections.abc import Iterator

import igraph
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances

from facelib.embedding.similarity import group_sums, unit_vectors
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import cluster_faces, clustering_fmr

# LINK_FMR_SHARE and RESOLUTION were chosen on open_val and the held-out families, and on 10,000 and 50,000 synthetic
# faces drawn from them (`facelib.evaluation.benchmarks.archive`).
LINK_FMR_SHARE = 0.1  # FMR of an edge / FMR of the album's clustering
RESOLUTION = 0.005  # of Leiden's constant Potts model: mean edge weight that holds a community together
NEIGHBOURS = 16  # nearest neighbours of each face that may become edges
QUERY_BATCH = 256  # faces whose neighbours are computed together
EXACT_LIMIT = 30_000  # faces up to which neighbours are found by comparing all pairs
CELL_SIZE = 1000  # mean number of faces in a k-means cell, above EXACT_LIMIT
PROBED_CELLS = 8  # nearest cells in which the neighbours of a face are searched
KMEANS_SAMPLE = 100_000  # faces from which the cells are learned
MIN_MERGE_SIZE = 6  # faces of a community that is merged with others by the mean distance
MIN_PERSON_SIZE = 10  # faces of a community that faces of smaller ones may be assigned to
MAX_FPIR = 0.01  # false positive identification rate at which they are assigned


def link_fmr(faces: int) -> float:
    """False match rate at the distance of an edge, in an archive of so many faces.

    A tenth of the rate at which the album's clustering merges groups (`clustering_fmr`), because one edge is weaker
    evidence than the mean of many distances.
    """
    return LINK_FMR_SHARE * clustering_fmr(faces)


def communities(
    embeddings: np.ndarray, distance: float, photos: np.ndarray | None = None, exact_limit: int = EXACT_LIMIT
) -> np.ndarray:
    """Cluster faces by person.

    Args:
        embeddings: (n, d) of unit length.
        distance: cosine distance, 0 to 2, below which two neighbours are linked.
        photos: (n,) int, photo of each face; two faces of one photo are not linked. None: n different photos.
        exact_limit: number of faces up to which neighbours are found by comparing all pairs.

    Returns:
        (n,) int, community of each face, from 0 without gaps.
    """
    if len(embeddings) == 0:
        return np.zeros(0, int)
    graph = neighbour_graph(embeddings, distance, photos, exact_limit)
    found = graph.community_leiden("CPM", weights="weight", resolution=RESOLUTION, n_iterations=4)
    groups = merge_large(embeddings, np.array(found.membership), distance)
    return np.unique(groups, return_inverse=True)[1]


def neighbour_graph(
    embeddings: np.ndarray, distance: float, photos: np.ndarray | None, exact_limit: int
) -> igraph.Graph:
    """Graph of n faces with an edge for each pair of neighbours within `distance`; `weight` falls from 1 at distance 0
    to 0 at `distance`. Arguments: see `communities`."""
    photos = np.arange(len(embeddings)) if photos is None else photos
    search = exact_neighbours if len(embeddings) <= exact_limit else cell_neighbours
    edges, weights = [], []
    for rows, neighbours, distances in search(embeddings):
        linked = (distances < distance) & (photos[neighbours] != photos[rows][:, None])
        starts = np.broadcast_to(rows[:, None], neighbours.shape)
        edges.append(np.stack([starts[linked], neighbours[linked]], 1))
        weights.append(1 - distances[linked] / distance)
    graph = igraph.Graph(len(embeddings), np.concatenate(edges))
    graph.es["weight"] = np.concatenate(weights)
    graph.simplify(combine_edges="max")
    return graph


def merge_large(embeddings: np.ndarray, groups: np.ndarray, distance: float) -> np.ndarray:
    """(n,) communities after those of `MIN_MERGE_SIZE` faces or more are merged by average linkage.

    With edges to `NEIGHBOURS` faces only, Leiden splits a person with more than some hundred faces.
    """
    large, means = group_means(embeddings, groups, MIN_MERGE_SIZE)
    if not len(large):
        return groups
    sizes = np.bincount(groups)[large]
    merged = np.arange(groups.max() + 1)
    merged[large] = len(merged) + cluster_faces(means, distance, weights=sizes)
    return merged[groups]


def group_means(embeddings: np.ndarray, groups: np.ndarray, min_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups (g,) of at least `min_size` embeddings, and the mean (g, d) of each, not scaled to unit length."""
    sizes = np.bincount(groups)
    large = np.flatnonzero(sizes >= min_size)
    index = np.full(len(sizes), -1)
    index[large] = np.arange(len(large))
    return large, group_sums(embeddings, index[groups], len(large)) / sizes[large][:, None]


def assign_small_groups(
    embeddings: np.ndarray, groups: np.ndarray, calibration: Calibration, photos: np.ndarray | None = None
) -> np.ndarray:
    """Assign faces of small groups to the nearest mean of a group of `MIN_PERSON_SIZE` faces or more.

    A face is assigned where at most `MAX_FPIR` of the people who are in none of these groups would come so near to any
    of them, and not to a group that already has a face of its photo.

    Args:
        groups: (n,) int, see `communities`. For the other arguments and the result too.
    """
    large, means = group_means(embeddings, groups, MIN_PERSON_SIZE)
    if not len(large):
        return groups
    means = unit_vectors(means)
    limit = max_assign_distance(calibration, len(large))
    photos = np.arange(len(embeddings)) if photos is None else photos
    result = groups.copy()
    small = np.flatnonzero(np.bincount(groups)[groups] < MIN_PERSON_SIZE)
    for rows in np.array_split(small, -(-len(small) // QUERY_BATCH) or 1):
        distances = 1 - embeddings[rows].astype(np.float32) @ means.T
        near = distances.min(axis=1, initial=2) < limit
        result[rows[near]] = large[distances[near].argmin(axis=1)]
    # Of several faces of one photo in a group the first counts; faces that did not move come first.
    order = np.argsort(result != groups, kind="stable")
    photo_and_group = np.stack([photos, result], 1)[order]
    first = order[np.unique(photo_and_group, axis=0, return_index=True)[1]]
    rejected = np.setdiff1d(np.flatnonzero(result != groups), first)
    result[rejected] = groups[rejected]
    return np.unique(result, return_inverse=True)[1]


def max_assign_distance(calibration: Calibration, groups: int) -> float:
    """Cosine distance to the mean of a group at which the false positive identification rate among so many groups is
    `MAX_FPIR`."""
    distances = np.linspace(0, 1, 1001)
    rates = np.array([calibration.extrapolated_fmr(distance, MIN_PERSON_SIZE) for distance in distances])
    return distances[np.searchsorted(rates, MAX_FPIR / groups)]


# Rows (m,) of embeddings, the rows (m, k) of the nearest neighbours of each, itself among them, and their cosine
# distances (m, k).
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
        distances = 1 - embeddings[part].astype(np.float32) @ candidate_embeddings.T
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        yield part, candidates[nearest], np.take_along_axis(distances, nearest, 1)
