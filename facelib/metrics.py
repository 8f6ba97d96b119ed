"""Recognition metrics: ROC, verification, identification rate, clustering.

Similarities are cosines of embeddings, or their normalised scores where `offsets` are given (what each embedding takes
from its scores, `facelib.recognition.cohort.score_offsets`); higher is more similar. Genuine pairs are of one person,
impostor pairs of two.
Intervals of these metrics: `bootstrap_intervals`.
"""

from collections.abc import Sequence

import numpy as np

from facelib.embedding.similarity import unit_vectors

FPRS = (0.1, 0.01, 0.001, 0.0001)


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ROC curve, without points that lie on the line between their neighbours.

    Args:
        labels: (n,) bool, True for positives; both kinds must occur.
        scores: (n,), higher for positives.

    Returns:
        FPR (k,), TPR (k,) and threshold (k,); a score counts as positive at or above the threshold. The first point
        is (0, 0) at infinity, the last (1, 1).

    Raises:
        ValueError: no positive or no negative.
    """
    labels = np.asarray(labels, bool)
    scores = np.asarray(scores)
    if labels.all() or not labels.any():
        raise ValueError("a ROC curve needs at least one positive and one negative")
    order = np.argsort(scores, kind="stable")[::-1]
    scores = scores[order]
    last_of_ties = np.r_[np.flatnonzero(np.diff(scores)), len(scores) - 1]
    true_positives = np.cumsum(labels[order])[last_of_ties]
    false_positives = 1 + last_of_ties - true_positives
    bend = np.diff(false_positives, 2).astype(bool) | np.diff(true_positives, 2).astype(bool)
    kept = np.r_[True, bend, True] if len(last_of_ties) > 2 else slice(None)
    fpr = np.r_[0, false_positives[kept]] / false_positives[-1]
    tpr = np.r_[0, true_positives[kept]] / true_positives[-1]
    return fpr, tpr, np.r_[np.inf, scores[last_of_ties][kept]]


def auc(x: np.ndarray, y: np.ndarray) -> float:
    """Area under a curve through points (n,), (n,) with increasing x, by the trapezoidal rule."""
    return float(np.trapezoid(y, x))


def verification_summary(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, float | np.ndarray]:
    """ROC over the similarities of genuine and impostor pairs.

    Returns:
        "auc", "eer" (equal error rate: FPR where it equals 1 - TPR), and the curve as "fpr" and "tpr".
    """
    labels = np.r_[np.ones(len(genuine), bool), np.zeros(len(impostor), bool)]
    fpr, tpr, _ = roc_curve(labels, np.r_[genuine, impostor])
    gap = (1 - tpr) - fpr  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    eer = fpr[after - 1] + share * (fpr[after] - fpr[after - 1])
    return {"auc": auc(fpr, tpr), "eer": float(eer), "fpr": fpr, "tpr": tpr}


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of rows of (n, classes) margin-free logits whose label (n,) is among the k highest, or all if fewer."""
    k = min(k, logits.shape[1])
    best = np.argpartition(-logits, k - 1, axis=1)[:, :k]
    return float((best == np.asarray(labels)[:, None]).any(1).mean())


def pair_similarities(
    query: np.ndarray,
    people: np.ndarray,
    distractors: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of all genuine and all impostor pairs.

    Args:
        query: (n, d) embeddings.
        people: (n,) person of each.
        distractors: (m, d) embeddings of people who are not in the query, or None.
        offsets: (n,), with distractors (n + m,); None: cosines.

    Returns:
        genuine: pairs of one person in the query. impostor: pairs of two people in the query, and every pair of query
        and distractor.

    Raises:
        ValueError: bad embeddings, see `unit_vectors`, or no genuine or impostor pair.
    """
    query = _unit_rows(query)
    people = np.asarray(people)
    if len(query) != len(people):
        raise ValueError(f"{len(query)} embeddings but {len(people)} names")
    others = query[:0] if distractors is None else _unit_rows(distractors)
    taken = np.zeros(len(query) + len(others), np.float32) if offsets is None else offsets
    if taken.shape != (len(query) + len(others),):
        raise ValueError(f"offsets of shape {taken.shape} for {len(query)} embeddings and {len(others)} distractors")
    upper = np.triu_indices(len(query), 1)
    scores = query @ np.concatenate([query, others]).T - taken[: len(query), None] - taken
    within = scores[:, : len(query)][upper]
    same = (people[:, None] == people)[upper]
    impostor = np.concatenate([within[~same], scores[:, len(query) :].ravel()])
    if not same.any() or len(impostor) == 0:
        raise ValueError("no genuine or no impostor pair: at least two people, one of them with two photos, are needed")
    return within[same], impostor


def identification_rate(
    query: np.ndarray,
    people: np.ndarray,
    distractors: np.ndarray | None = None,
    fprs: Sequence[float] = FPRS,
    offsets: np.ndarray | None = None,
) -> list[dict[str, float]]:
    """TPR at fixed FPR over all pairs, for identities not seen in training.

    The threshold is the impostor similarity at index int(fpr * number of impostor pairs) in descending order; a
    genuine pair counts when it is strictly above.

    Args:
        query, people, distractors, offsets: see `pair_similarities`.
        fprs: false positive rates, each at least 0 and below 1.

    Returns:
        For each FPR a dict of "fpr", "threshold" (a similarity) and "tpr".

    Raises:
        ValueError: an FPR out of range, or above 0 and less than one of the pairs; see also `pair_similarities`.
    """
    if not all(0 <= fpr < 1 for fpr in fprs):
        raise ValueError(f"fprs={list(fprs)}: each must be at least 0 and below 1")
    genuine, impostor = pair_similarities(query, people, distractors, offsets)
    too_small = [fpr for fpr in fprs if fpr > 0 and not threshold_index(fpr, len(impostor))]
    if too_small:
        raise ValueError(
            f"FPR {too_small[0]:g} of {len(impostor):,} impostor pairs is less than one pair, which would be the TPR "
            f"at FPR 0: give more photos of different people, or a rate of 1 / {len(impostor)} at least"
        )
    impostor = np.sort(impostor)[::-1]
    rows = []
    for fpr in fprs:
        threshold = impostor[threshold_index(fpr, len(impostor))]
        rows.append({"fpr": float(fpr), "threshold": float(threshold), "tpr": float((genuine > threshold).mean())})
    return rows


def tpr_at_fprs(embeddings: np.ndarray, people: np.ndarray, offsets: np.ndarray | None = None) -> dict[str, float]:
    """FPR -> TPR of `identification_rate` for tables, e.g. {"0.1": 0.92, ...}, at the `measurable_fprs`."""
    rows = identification_rate(embeddings, people, fprs=measurable_fprs(people), offsets=offsets)
    return {f"{row['fpr']:g}": row["tpr"] for row in rows}


def threshold_index(fpr: float, pairs: int) -> int:
    """int(fpr * pairs), corrected for rounding: 1 / 779 of 779 pairs is one."""
    return int(fpr * pairs + 1e-9)


def measurable_fprs(people: np.ndarray, fprs: Sequence[float] = FPRS) -> list[float]:
    """The false positive rates that are at least one of the impostor pairs among photos of people (n,)."""
    counts = np.unique(people, return_counts=True)[1]
    pairs = (counts.sum() ** 2 - (counts**2).sum()) // 2
    return [fpr for fpr in fprs if threshold_index(fpr, pairs)]


def triplet_accuracy(embeddings: np.ndarray, people: np.ndarray) -> float:
    """Share of all triplets (anchor, positive, negative) with the positive closer to the anchor, as the triplet loss
    wants it.

    Args:
        embeddings: (n, d).
        people: (n,) person of each.

    Raises:
        ValueError: no triplet.
    """
    unit = _unit_rows(embeddings)
    people = np.asarray(people)
    correct = total = 0
    for anchor, cosines in enumerate(unit @ unit.T):
        same = people == people[anchor]
        positive = np.delete(cosines, anchor)[np.delete(same, anchor)]
        negative = np.sort(cosines[~same])
        correct += np.searchsorted(negative, positive).sum()
        total += len(positive) * len(negative)
    if total == 0:
        raise ValueError("no triplet: at least two people, one of them with two photos, are needed")
    return float(correct / total)


def rank_1(embeddings: np.ndarray, people: np.ndarray) -> np.ndarray:
    """(n,) bool: whether the nearest other photo is of the same person (rank-1 identification)."""
    unit = _unit_rows(embeddings)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    return np.asarray(people)[cosines.argmax(1)] == np.asarray(people)


def bcubed(people: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """BCubed precision and recall of a clustering (Bagga and Baldwin 1998).

    Args:
        people: (n,) true person of each face.
        groups: (n,) cluster of each face.

    Returns:
        "precision": share of the faces in a face's cluster that are of its person, mean over faces. "recall": share
        of the faces of its person that are in its cluster, mean over faces. "f": their harmonic mean.
    """
    person = np.unique(people, return_inverse=True)[1]
    group = np.unique(groups, return_inverse=True)[1]
    width = int(group.max()) + 1
    # Only the cells of the contingency table that occur: it would be too large for a million faces.
    cell, counts = np.unique(person.astype(np.int64) * width + group, return_counts=True)
    precision = float((counts**2 / np.bincount(group)[cell % width]).sum() / len(person))
    recall = float((counts**2 / np.bincount(person)[cell // width]).sum() / len(person))
    return {"precision": precision, "recall": recall, "f": 2 * precision * recall / (precision + recall)}


def lfw_accuracy(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """Accuracy by the LFW protocol (View 2): for each fold at the threshold that is best on the other folds.

    Args:
        similarity: (n,) of the pairs.
        same: (n,) bool, whether a pair is genuine.
        fold: (n,) int.

    Returns:
        Mean over the folds and its standard error.

    Raises:
        ValueError: a single fold.
    """
    similarity = np.asarray(similarity)
    same = np.asarray(same, bool)
    fold = np.asarray(fold)
    if len(np.unique(fold)) < 2:
        raise ValueError("a single fold: the threshold needs others to be chosen on")
    accuracies = []
    for held_out in np.unique(fold):
        test = fold == held_out
        threshold = _best_threshold(similarity[~test], same[~test])
        accuracies.append(((similarity[test] > threshold) == same[test]).mean())
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies)))


def _best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the highest accuracy: midway between two neighbouring scores, or the lowest or highest."""
    order = np.argsort(scores)
    # With the threshold below scores[order][k], the k lowest pairs are called different.
    correct = np.r_[0, np.cumsum(~labels[order])] + np.r_[labels.sum(), labels.sum() - np.cumsum(labels[order])]
    best = int(correct.argmax())
    edges = np.r_[-np.inf, scores[order], np.inf]
    return (edges[best] + edges[best + 1]) / 2 if 0 < best < len(order) else edges[best + (best > 0)]


def _unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """As `unit_vectors`, for (n, d) only."""
    embeddings = np.asarray(embeddings, np.float32)
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings of shape {embeddings.shape}: expected (n, d)")
    return unit_vectors(embeddings)
