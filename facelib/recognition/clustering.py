"""Clustering: faces grouped by person, without names.

Agglomerative clustering with average linkage (UPGMA): the two groups with the highest mean score are merged, again and
again, while that score is high enough for their sizes.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from facelib.recognition.calibration import Calibration

# Chosen on open_val and the held-out families, for both shipped embedders: `facelib.evaluation.clustering_choice`.
MAX_CLUSTERING_FMR = 0.001  # target FMR of two single faces
MIN_CLUSTERING_FMR = 2e-5
FULL_RATE_FACES = 2_000  # the largest number of faces that MAX_CLUSTERING_FMR is used for
SIZE_EXPONENT = 2.0  # of the mean of 1 / size: 1 for two single faces, near 0 for large groups
LARGE_GROUP_RATE = 10.0  # times the FMR of two single faces: that of two large groups,
MAX_LARGE_GROUP_FMR = 0.05  # which is not above this one, unless that of single faces is

SCORED_ROWS = 1_024  # faces whose scores with all others are in memory at the same time
SCORED_PAIRS = 16_384  # pairs of groups whose means are in memory at the same time
ROUNDING = 1e-6  # of a mean score
ABSORBING_SIZE = 32  # faces of a group that takes small ones without changing much
ABSORBED_SHARE = 8  # times as many faces as a small one has
_NOTHING: Set[Hashable] = frozenset()
_NO_PHOTOS: Counter = Counter()


@dataclass(frozen=True)
class MergeScores:
    """Mean scores above which two groups of faces are one person's.

    A mean of many scores varies less than a single score, so two large groups can be merged at a lower one than two
    single faces at the same risk.

    single: of two groups of one face.
    large: of two groups of very many.
    exponent: how fast it falls from the one to the other.
    """

    single: float
    large: float
    exponent: float = SIZE_EXPONENT

    def of_sizes(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The score for groups of `first` (m,) and `second` (m,) faces."""
        return self.large + (self.single - self.large) * ((1 / first + 1 / second) / 2) ** self.exponent


def clustering_fmr(faces: int) -> float:
    """Target FMR of two single faces, for a number of faces.

    The number of impostor pairs grows with the number of faces, so the rate falls in inverse proportion above 2,000
    faces, from 0.001 down to 0.00002.
    """
    return max(MAX_CLUSTERING_FMR * min(1.0, FULL_RATE_FACES / max(faces, 1)), MIN_CLUSTERING_FMR)


def merge_scores(
    calibration: Calibration, faces: int, fmr: float | None = None, ratio: float = LARGE_GROUP_RATE
) -> MergeScores:
    """The scores from which groups are merged in a collection of so many faces.

    Args:
        fmr: target FMR of two single faces; None: `clustering_fmr`.
        ratio: how many times higher the one of two large groups is.
    """
    fmr = clustering_fmr(faces) if fmr is None else fmr
    large = max(fmr, min(ratio * fmr, MAX_LARGE_GROUP_FMR))
    return MergeScores(*(calibration.score_at(rate, extrapolate=True) for rate in (fmr, large)))


def cluster_faces(
    embeddings: np.ndarray,
    score: float | MergeScores,
    photos: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
    apart: Sequence[Set[Hashable]] | None = None,
    pairs: np.ndarray | None = None,
) -> np.ndarray:
    """Group embeddings by person.

    Args:
        embeddings: (n, d) of unit length.
        score: mean score above which two groups are merged, see `Calibration.score_matrix`; a number: for all sizes.
        photos: (n,) photo of each face. Two faces of one photo are assumed to be two people: in 1 - score they count
            as twice as far apart as two groups may be.
        weights: (n,) number of faces that each embedding is the mean of, then not of unit length; None: 1 each.
        offsets: (n,) what each face takes from its scores, see `score_offsets`; of a mean embedding the mean of its
            faces' offsets. None: the score is the cosine.
        apart: (n,) sets: embeddings that share an element of theirs never come into one group.
        pairs: (m, 2) int, pairs of embeddings that may be one person's; None: all whose score is high enough.

    Returns:
        (n,) int, the person of each embedding from 0, the person with the most embeddings first.
    """
    embeddings = np.asarray(embeddings)
    offsets = np.zeros(len(embeddings), np.float32) if offsets is None else np.asarray(offsets, np.float32)
    scores = score if isinstance(score, MergeScores) else MergeScores(score, score)
    if pairs is None:
        pairs = np.concatenate([np.zeros((0, 2), np.int32), *close_pairs(embeddings, offsets, scores.large)])
    sizes = np.ones(len(embeddings)) if weights is None else np.asarray(weights, float)
    groups = _Groups(embeddings.astype(np.float32), sizes, offsets, scores, _photos(photos), apart)
    return _largest_first(groups.merge_all(pairs))


def close_pairs(embeddings: np.ndarray, offsets: np.ndarray, score: float) -> Iterator[np.ndarray]:
    """Pairs (m, 2) int32 of embeddings with a score above `score`, a part at a time."""
    for start in range(0, len(embeddings), SCORED_ROWS):
        stop = start + SCORED_ROWS
        rows, others = (embeddings[part].astype(np.float32) for part in (slice(start, stop), slice(start, None)))
        found = np.argwhere(rows @ others.T - offsets[start:stop, None] - offsets[start:] > score)
        yield (found[found[:, 0] < found[:, 1]] + start).astype(np.int32)


def _photos(photos: np.ndarray | None) -> dict[int, Counter]:
    """The photo of each face that shares it with others, as the photos of a group: photo -> its faces in it."""
    if photos is None:
        return {}
    _, numbers, counts = np.unique(photos, return_inverse=True, return_counts=True)
    return {row: Counter([int(numbers[row])]) for row in np.flatnonzero(counts[numbers] > 1).tolist()}


class _Groups:
    """Groups of faces while they are merged; each has the number of one of its faces."""

    def __init__(
        self,
        means: np.ndarray,
        sizes: np.ndarray,
        offsets: np.ndarray,
        scores: MergeScores,
        photos: dict[int, Counter],
        apart: Sequence[Set[Hashable]] | None,
    ) -> None:
        """Arguments: see `cluster_faces` and `_photos`; changed in place."""
        self._means, self._sizes, self._offsets = means, sizes, offsets.astype(np.float64)
        self._scores, self._photos = scores, photos
        self._apart = {row: set(own) for row, own in enumerate(apart or ()) if own}

    def merge_all(self, pairs: np.ndarray) -> np.ndarray:
        """(n,) group of each face, after all merges along pairs (m, 2) of faces.

        A round merges all pairs of groups that are nearest to each other: with one score for all sizes that gives what
        one merge at a time gives, because no merge brings a third group nearer than the nearer of the two was. In the
        same round, groups of `ABSORBING_SIZE` faces take the small groups that are nearest to them.
        """
        groups = np.arange(len(self._means))
        first, second = _different(*pairs.T)
        excess = self._excess(first, second)
        while len(chosen := self._nearest_pairs(first, second, excess)):
            merged, parted = self._merge(first[chosen], second[chosen], excess[chosen])
            excess[chosen[parted]] = -np.inf  # until one of the two groups changes
            groups = merged[groups]
            touched = np.zeros(len(groups), bool)
            touched[merged[merged != np.arange(len(merged))]] = True
            first, second = merged[first], merged[second]
            changed = touched[first] | touched[second]
            near = _different(first[changed], second[changed])
            first, second = np.r_[first[~changed], near[0]], np.r_[second[~changed], near[1]]
            excess = np.r_[excess[~changed], self._excess(*near)]
        return groups

    def _excess(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(m,) by how much the mean score of two groups is above what it has to be."""
        # Means are not of unit length, so their product is the mean of all cosines between two groups.
        parts = [slice(start, start + SCORED_PAIRS) for start in range(0, len(first), SCORED_PAIRS)]
        products = [np.einsum("ij,ij->i", self._means[first[part]], self._means[second[part]]) for part in parts]
        cosines = np.concatenate([np.zeros(0), *products])
        needed = self._scores.of_sizes(self._sizes[first], self._sizes[second])
        return cosines - self._offsets[first] - self._offsets[second] - needed - ROUNDING

    def _nearest_pairs(self, first: np.ndarray, second: np.ndarray, excess: np.ndarray) -> np.ndarray:
        """Indices of the pairs that are merged in this round: those that are nearest for both of their groups, then
        those of a small group with a large one that is nearest for the small one."""
        above = np.flatnonzero(excess > 0)
        highest = np.zeros(len(self._means))
        for side in (first, second):
            np.maximum.at(highest, side[above], excess[above])
        is_nearest = [excess[above] == highest[side[above]] for side in (first, second)]
        sizes = [self._sizes[side[above]] for side in (first, second)]
        both = is_nearest[0] & is_nearest[1]
        takes = [
            is_nearest[small] & (sizes[large] >= np.maximum(ABSORBING_SIZE, ABSORBED_SHARE * sizes[small]))
            for small, large in ((0, 1), (1, 0))
        ]
        return np.r_[above[both], above[(takes[0] | takes[1]) & ~both]]

    def _merge(self, first: np.ndarray, second: np.ndarray, excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Merge pairs of groups.

        A group is merged once a round, but a large one takes any number of small ones: of exact copies, which are all
        nearest to each other, the others are left for the next round.

        Returns:
            (n,) the group that each group is now; (m,) bool, whether a pair must stay apart.
        """
        merged, parted = np.arange(len(self._means)), np.zeros(len(first), bool)
        used: set[int] = set()
        for number, pair in enumerate(zip(first.tolist(), second.tolist())):
            large, small = sorted(pair, key=lambda group: -self._sizes[group])
            absorbs = self._sizes[large] >= max(ABSORBING_SIZE, ABSORBED_SHARE * self._sizes[small])
            if small in used or (large in used and not absorbs) or merged[large] != large:
                continue
            if self._stay_apart(large, small, excess[number]):
                parted[number] = True
                continue
            used |= {large, small}
            merged[small] = large
            if small in self._apart:
                self._apart[large] = self._apart.get(large, set()) | self._apart[small]
            if small in self._photos:
                self._photos[large] = self._photos.get(large, Counter()) + self._photos[small]
        rows = np.flatnonzero(merged != np.arange(len(merged)))
        into, places = np.unique(merged[rows], return_inverse=True)
        before, added = self._sizes[into], self._sizes[rows]
        self._sizes[into] = sizes = before + np.bincount(places, added, len(into))
        offsets = self._offsets[into] * before + np.bincount(places, self._offsets[rows] * added, len(into))
        self._offsets[into] = offsets / sizes
        self._means[into] *= (before / sizes)[:, None]
        np.add.at(self._means, merged[rows], self._means[rows] * (added / sizes[places])[:, None].astype(np.float32))
        return merged, parted

    def _stay_apart(self, one: int, other: int, excess: float) -> bool:
        """Whether a pair of groups cannot be merged, or is in too many photos together."""
        if not self._apart.get(one, _NOTHING).isdisjoint(self._apart.get(other, _NOTHING)):
            return True
        counts, others = self._photos.get(one, _NO_PHOTOS), self._photos.get(other, _NO_PHOTOS)
        shared = sum(counts[photo] * others[photo] for photo in counts.keys() & others.keys())
        if not shared:
            return False
        needed = float(self._scores.of_sizes(self._sizes[one], self._sizes[other]))
        above = excess + 1 - needed  # of the mean score, above the one at twice the distance
        return excess <= shared / (self._sizes[one] * self._sizes[other]) * above


def _different(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of two different groups, each once."""
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
    base = int(high.max(initial=0)) + 1
    pairs = np.unique((low * base + high)[low != high])
    return pairs // base, pairs % base


def _largest_first(groups: np.ndarray) -> np.ndarray:
    """Number the groups by size, the largest first; of equal size, the one whose face comes first."""
    _, first_face, groups, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first_face, -sizes))
    return np.argsort(order)[groups]
