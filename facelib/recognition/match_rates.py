"""Measure the match rates of an embedder: `calibrate`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from facelib.embedding.similarity import mean_embedding, unit_vectors
from facelib.io.records import significant
from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import Cohort, score_offsets

STEPS = 200  # scores at which rates are measured
MEAN_SIZES = (2, 3, 5, 10)  # photos averaged into a mean embedding
MEAN_DRAWS = 5  # random choices of those photos, for each person
MIN_PEOPLE = 100  # of a group whose rate counts, where there is such a group
MIN_MATCHES = 10  # false matches on which a rate must rest; rates below are extrapolated
DUPLICATE_QUANTILE = 0.75  # of genuine scores, from which two of many single photos may show one person


@dataclass(frozen=True)
class MeasuredFaces:
    """Faces of one collection that rates are measured on. Pairs are made within a collection only: two collections
    differ in more than people.

    name: of the collection, which is its group where it has no groups.
    embeddings: (n, d) of unit length.
    people: (n,) ID of each person.
    groups: (n,) group of each face, within which impostor pairs are made; None: all are one group.
    families: (n,) ID of each person's family: relatives are no impostors of each other; None: no relatives.
    """

    name: str
    embeddings: np.ndarray
    people: np.ndarray
    groups: np.ndarray | None = None
    families: np.ndarray | None = None


@dataclass(frozen=True)
class Pairs:
    """Pairs of photos.

    scores: (n,).
    first, second: (n,) int, the person in each photo.
    """

    scores: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def join(cls, parts: "Sequence[Pairs]") -> "Pairs":
        """Concatenate pairs."""
        nothing = cls(np.zeros(0, np.float32), np.zeros(0, int), np.zeros(0, int))
        columns = [[getattr(part, name) for part in (nothing, *parts)] for name in ("scores", "first", "second")]
        return cls(*map(np.concatenate, columns))


def split_pairs(faces: MeasuredFaces, cohort: Cohort | None, first_index: int = 0) -> tuple[Pairs, dict[str, Pairs]]:
    """All genuine pairs, and the impostor pairs of each group, without those of relatives.

    Args:
        first_index: number of the first person; the others follow in alphabetical order.
    """
    groups = np.full(len(faces.people), faces.name) if faces.groups is None else faces.groups
    people = np.unique(faces.people, return_inverse=True)[1]
    families = people if faces.families is None else np.unique(faces.families, return_inverse=True)[1]
    offsets = score_offsets(faces.embeddings, cohort)
    genuine, impostors = [], {}
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        i, j = np.triu_indices(len(rows), 1)
        scores = (faces.embeddings[rows] @ faces.embeddings[rows].T)[i, j]
        i, j = rows[i], rows[j]
        pairs = np.stack([people[i], people[j]]) + first_index
        scores = scores - offsets[i] - offsets[j]
        same, unrelated = people[i] == people[j], families[i] != families[j]
        genuine.append(Pairs(scores[same], *pairs[:, same]))
        impostors[str(group)] = Pairs(scores[unrelated], *pairs[:, unrelated])
    return Pairs.join(genuine), impostors


def without_duplicates(pairs: Pairs, highest: float) -> Pairs:
    """The pairs without people who may be in a collection twice: of a pair above `highest` the second is dropped."""
    dropped: set[int] = set()
    for k in np.flatnonzero(pairs.scores > highest):
        first, second = int(pairs.first[k]), int(pairs.second[k])
        if first not in dropped and second not in dropped:
            dropped.add(second)
    kept = ~np.isin(pairs.first, list(dropped)) & ~np.isin(pairs.second, list(dropped))
    return Pairs(pairs.scores[kept], pairs.first[kept], pairs.second[kept])


def match_rates(pairs: Pairs, scores: np.ndarray) -> np.ndarray:
    """(k,) share of the pairs with at least each of the scores (k,)."""
    return 1 - np.searchsorted(np.sort(pairs.scores), scores) / max(len(pairs.scores), 1)


def false_match_curve(pairs: Pairs, scores: np.ndarray) -> np.ndarray:
    """As `match_rates`; where fewer than `MIN_MATCHES` pairs are left, log-linear as in the decade of rates above."""
    rates = match_rates(pairs, scores)
    falling = np.sort(pairs.scores)[::-1]
    few = max(1, min(MIN_MATCHES, len(falling) // 100))
    many = min(10 * few, len(falling))
    high, low = falling[few - 1], falling[many - 1]
    slope = np.log(many / few) / max(high - low, 1e-3)
    tail = few / len(falling) * np.exp(-slope * np.maximum(scores - high, 0))
    return np.where(scores > high, tail, rates)


def match_rate_intervals(pairs: Pairs, scores: np.ndarray, repeats: int = 200, seed: int = 0) -> np.ndarray:
    """(k, 2) bounds of the 95 % interval of `match_rates`, drawing people with replacement, `repeats` times."""
    rng = np.random.default_rng(seed)
    steps = np.searchsorted(scores, pairs.scores, side="right")  # how many of the scores accept a pair
    people = np.unique(np.r_[pairs.first, pairs.second])
    first, second = np.searchsorted(people, pairs.first), np.searchsorted(people, pairs.second)
    same = (first == second).all()  # the genuine pairs of a person drawn twice count twice
    samples = []
    for _ in range(repeats):
        times = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        counts = np.bincount(steps, times[first] * (1 if same else times[second]), len(scores) + 1)
        samples.append(np.cumsum(counts[::-1])[::-1][1:] / max(counts.sum(), 1))
    return np.percentile(samples, [2.5, 97.5], axis=0).T


def mean_embedding_scores(faces: MeasuredFaces, photos: int, cohort: Cohort | None) -> np.ndarray:
    """Scores of all photos with mean embeddings of `photos` photos of people of other families."""
    rng = np.random.default_rng(0)
    families = faces.people if faces.families is None else faces.families
    offsets = score_offsets(faces.embeddings, cohort)
    scores = [np.zeros(0, np.float32)]
    for name in np.unique(faces.people):
        rows = np.flatnonzero(faces.people == name)
        for _ in range(MEAN_DRAWS if len(rows) >= photos else 0):
            mean = mean_embedding(faces.embeddings[rng.permutation(rows)[:photos]], np.ones(photos))[None]
            others = families != families[rows[0]]
            own = score_offsets(mean, cohort)
            scores.append(faces.embeddings[others] @ mean[0] - offsets[others] - own)
    return np.concatenate(scores)


def calibrate(model_id: str, collections: Sequence[MeasuredFaces], cohort: Cohort | None, data: str) -> Calibration:
    """Calibration of an embedder.

    Each group counts alike, however many faces it has: the false match rate of a score is that of the group where it is
    highest, among those with `MIN_PEOPLE` people. Mean embeddings are measured on the people with several photos; their
    rates are raised by as much as those of single photos are from these people to the worst group.

    Args:
        collections: people who are in no training set of the embedder, and not in the cohort.
        data: description of the collections.

    Raises:
        ValueError: all photos are of one person, or bad embeddings.
    """
    collections = [replace(faces, embeddings=unit_vectors(faces.embeddings)) for faces in collections]
    genuine, groups = _pairs_by_group(collections, cohort)
    sizes = {group: len(np.unique(np.r_[pairs.first, pairs.second])) for group, pairs in groups.items()}
    large = {group: pairs for group, pairs in groups.items() if sizes[group] >= MIN_PEOPLE}
    counted = large or groups
    scores = _measured_scores([genuine.scores, *(pairs.scores for pairs in counted.values())])
    curves = {group: false_match_curve(pairs, scores) for group, pairs in counted.items()}
    worst = np.argmax(list(curves.values()), axis=0)
    rates = np.max(list(curves.values()), axis=0)
    bounds = np.stack([match_rate_intervals(pairs, scores) for pairs in counted.values()])
    bounds = bounds[worst, np.arange(len(scores))]
    bounds = np.stack([np.minimum(bounds[:, 0], rates), np.maximum(bounds[:, 1], rates)], 1)
    pairs_of_groups = float(np.median([len(pairs.scores) for pairs in counted.values()]))
    return Calibration(
        model_id=model_id,
        scores=scores.tolist(),
        false_match_rates=rates.tolist(),
        false_match_bounds=bounds.tolist(),
        true_match_rates=match_rates(genuine, scores).tolist() if len(genuine.scores) else [],
        fmr_of_means=_fmr_of_means(collections, cohort, scores, rates),
        lowest_rate=min(MIN_MATCHES, pairs_of_groups / 2) / pairs_of_groups,
        data=data,
        group_fmrs={group: curve.tolist() for group, curve in sorted(curves.items())} if len(curves) > 1 else {},
        cohort=cohort,
    )


def _pairs_by_group(collections: Sequence[MeasuredFaces], cohort: Cohort | None) -> tuple[Pairs, dict[str, Pairs]]:
    """All genuine pairs, and the impostor pairs of each group; with a cohort without likely duplicates of people of
    whom each has one photo. (Without one, the photos of some groups are as near to each other as those of one person.)

    Raises:
        ValueError: there are no impostor pairs.
    """
    genuine_parts, parts, index = [], [], 0
    for faces in collections:
        genuine_pairs, by_group = split_pairs(faces, cohort, index)
        genuine_parts.append(genuine_pairs)
        parts += [(group, pairs, not len(genuine_pairs.scores)) for group, pairs in by_group.items()]
        index += len(np.unique(faces.people))
    genuine = Pairs.join(genuine_parts)
    highest = np.quantile(genuine.scores, DUPLICATE_QUANTILE) if cohort and len(genuine.scores) else np.inf
    groups: dict[str, list[Pairs]] = {}
    for group, pairs, has_single_photos in parts:
        kept = without_duplicates(pairs, float(highest)) if has_single_photos else pairs
        if len(kept.scores):
            groups.setdefault(group, []).append(kept)
    if not groups:
        raise ValueError("no impostor pairs: a calibration needs photos of at least two people")
    return genuine, {group: Pairs.join(parts) for group, parts in groups.items()}


def _measured_scores(parts: Sequence[np.ndarray]) -> np.ndarray:
    """(k,) scores at which rates are measured, as files hold them, so that saving changes no rate.

    Args:
        parts: scores of the genuine pairs, then of the impostor pairs of each group.
    """
    everything = np.concatenate(parts)
    lowest = min(float(np.quantile(impostors, 0.05)) for impostors in parts[1:])
    steps = np.linspace(lowest, float(everything.max()), STEPS)
    everybody = min(-2.0, float(np.floor(everything.min())))  # a score that all pairs have
    return np.unique(significant([everybody, *steps.tolist()]))


def _fmr_of_means(
    collections: Sequence[MeasuredFaces], cohort: Cohort | None, scores: np.ndarray, worst: np.ndarray
) -> dict[str, list[float]]:
    """Number of photos -> (k,) FMR of mean embeddings, see `calibrate`.

    Args:
        worst: (k,) FMR of single photos in the group where it is highest.
    """
    several = [faces for faces in collections if len(np.unique(faces.people)) < len(faces.people)]
    single = Pairs.join([pairs for faces in several for pairs in split_pairs(faces, cohort)[1].values()])
    if not len(single.scores):
        return {}
    raised = np.maximum(worst / np.maximum(false_match_curve(single, scores), 1e-12), 1)
    result = {}
    for photos in MEAN_SIZES:
        of_means = np.concatenate([mean_embedding_scores(faces, photos, cohort) for faces in several])
        if not len(of_means):
            break
        nobody = np.zeros(len(of_means), int)
        rates = np.minimum(false_match_curve(Pairs(of_means, nobody, nobody), scores) * raised, 1)
        result[str(photos)] = np.minimum.accumulate(rates).tolist()
    return result
