"""Figures for landmarks and for recognition. Similarities are cosines, higher is more alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score, roc_curve

FPRS = (0.1, 0.01, 0.001, 0.0001)
TURNS = {"frontal": (0, 0.15), "turned": (0.15, 0.35), "far turned": (0.35, np.inf)}  # of |head_turn|


def landmark_errors(predicted: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Distance of each landmark from its label, divided by the distance between the labelled eyes.

    Args:
        predicted, labelled: (n, 5, 2), in the same coordinates.

    Returns:
        (n, 5); the mean is the NME, the mean over axis 0 the error per point.
    """
    predicted, labelled = np.asarray(predicted, np.float64), np.asarray(labelled, np.float64)
    if predicted.shape != labelled.shape or predicted.shape[1:] != (5, 2):
        raise ValueError(f"landmarks of shape {predicted.shape} and {labelled.shape}: expected both (n, 5, 2)")
    eyes = np.linalg.norm(labelled[:, 0] - labelled[:, 1], axis=1)
    return np.linalg.norm(predicted - labelled, axis=2) / eyes[:, None]


def landmark_metrics(found: np.ndarray, labelled: np.ndarray, sets: np.ndarray) -> dict[str, dict]:
    """For each set of labels "nme", "above_10" (share of faces), "per_point", "faces" (number), and for further use
    "errors" (n,) and "found" (n, 5, 2).

    Args:
        found, labelled: (n, 5, 2); sets: (n,) names.
    """
    results = {}
    for name in sorted(set(sets.tolist())):
        part = sets == name
        errors = landmark_errors(found[part], labelled[part])
        results[name] = {
            "nme": float(errors.mean()),
            "above_10": float((errors.mean(1) > 0.1).mean()),
            "per_point": errors.mean(0).tolist(),
            "faces": int(part.sum()),
            "errors": errors.mean(1),
            "found": found[part],
        }
    return results


def confidence_metrics(errors: np.ndarray, confidence: np.ndarray, limit: float = 0.1) -> dict[str, Any]:
    """How well a confidence foretells the error of what it is given for.

    Args:
        errors, confidence: (n,), of faces or of landmarks.
        limit: from which an error counts as a failure.

    Returns:
        "rank_correlation": of confidence and minus the error (Spearman). "failure_auc": how often a failure is less
        sure than a face that is none, None where there are no failures or nothing else. "kept": share that is kept,
        the surest first -> "nme" and "above_10" of what is kept (the error-against-rejection curve).
    """
    errors, confidence = np.asarray(errors, np.float64), np.asarray(confidence, np.float64)
    failures, order = errors > limit, np.argsort(-confidence, kind="stable")
    kept = {}
    for share in (1.0, 0.99, 0.95, 0.9, 0.8, 0.5):
        best = errors[order[: max(1, round(share * len(errors)))]]
        kept[f"{share:g}"] = {"nme": float(best.mean()), "above_10": float((best > limit).mean())}
    mixed = failures.any() and not failures.all()
    return {
        "rank_correlation": float(spearmanr(confidence, -errors).statistic),
        "failure_auc": float(roc_auc_score(failures, -confidence)) if mixed else None,
        "kept": kept,
    }


def head_turn(points: np.ndarray) -> np.ndarray:
    """How far the nose tip lies beside the middle of the eyes, along the eye line, in eye distances.

    Args:
        points: (n, 5, 2), labelled.

    Returns:
        (n,), 0 for a frontal face, about 0.5 where the nose tip is below an eye; the sign is the side.
    """
    points = np.asarray(points, np.float64)
    eyes = points[:, 1] - points[:, 0]
    nose = points[:, 2] - (points[:, 0] + points[:, 1]) / 2
    return (nose * eyes).sum(1) / (eyes**2).sum(1)


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of rows of (n, classes) margin-free logits whose label (n,) is among the k highest, or all if fewer."""
    k = min(k, logits.shape[1])
    best = np.argpartition(-logits, k - 1, axis=1)[:, :k]
    return float((best == np.asarray(labels)[:, None]).any(1).mean())


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"embeddings of shape {vectors.shape}: expected (n, d) without NaN")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (length == 0).any():
        raise ValueError(f"embedding {int(length.argmin())} is all zeros, it has no direction")
    return vectors / length


def pair_similarities(
    query: np.ndarray, people: np.ndarray, distractors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all genuine and all impostor pairs.

    Args:
        query: (n, d) embeddings; people: (n,) their names.
        distractors: (m, d) embeddings of people who are not in the query, or None.

    Returns:
        genuine: same person, both in the query. impostor: different people in the query, and every
        query x distractor pair.
    """
    query, people = _unit(query), np.asarray(people)
    if len(query) != len(people):
        raise ValueError(f"{len(query)} embeddings but {len(people)} names")
    cosines = (query @ query.T)[np.triu_indices(len(query), 1)]
    same = (people[:, None] == people)[np.triu_indices(len(query), 1)]
    impostor = cosines[~same]
    if distractors is not None:
        impostor = np.concatenate([impostor, (query @ _unit(distractors).T).ravel()])
    if not same.any() or len(impostor) == 0:
        raise ValueError("no genuine or no impostor pair: at least two people, one of them with two photos, are needed")
    return cosines[same], impostor


def identification_rate(
    query: np.ndarray, people: np.ndarray, distractors: np.ndarray | None = None, fprs: Sequence[float] = FPRS
) -> list[dict[str, float]]:
    """TPR at fixed FPR over all pairs, for people never seen in training.

    The threshold is the impostor cosine at place int(fpr * number of impostor pairs), sorted from
    the highest, counted from 0; a genuine pair counts when it is strictly above it.

    Args: as `pair_similarities`; fprs: each at least 0 and below 1.

    Returns:
        For each FPR a dict of "fpr", "threshold" (cosine) and "tpr".
    """
    if not all(0 <= fpr < 1 for fpr in fprs):
        raise ValueError(f"fprs={list(fprs)}: each must be at least 0 and below 1")
    genuine, impostor = pair_similarities(query, people, distractors)
    if few := [fpr for fpr in fprs if fpr > 0 and not threshold_index(fpr, len(impostor))]:
        raise ValueError(
            f"FPR {few[0]:g} of {len(impostor):,} impostor pairs is less than one pair, which would be the TPR at FPR "
            f"0: give more photos of different people, or a rate of 1 / {len(impostor)} at least"
        )
    impostor = np.sort(impostor)[::-1]
    rows = []
    for fpr in fprs:
        threshold = impostor[threshold_index(fpr, len(impostor))]
        rows.append({"fpr": float(fpr), "threshold": float(threshold), "tpr": float((genuine > threshold).mean())})
    return rows


def tpr_at_fprs(vectors: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """FPR -> TPR of `identification_rate`, e.g. {"0.1": 0.92, ...}: the short form for tables, without the rates for
    which there are too few pairs."""
    return {f"{row['fpr']:g}": row["tpr"] for row in identification_rate(vectors, people, fprs=measurable_fprs(people))}


def threshold_index(fpr: float, pairs: int) -> int:
    """int(fpr * pairs), of the number that is meant: 1 / 779 of 779 pairs is one."""
    return int(fpr * pairs + 1e-9)


def measurable_fprs(people: np.ndarray, fprs: Sequence[float] = FPRS) -> list[float]:
    """Those of the false positive rates that are at least one of the impostor pairs among these people."""
    counts = np.unique(people, return_counts=True)[1]
    pairs = (counts.sum() ** 2 - (counts**2).sum()) // 2
    return [fpr for fpr in fprs if threshold_index(fpr, pairs)]


def triplet_accuracy(vectors: np.ndarray, people: np.ndarray) -> float:
    """Share of all triplets (anchor, positive, negative) whose positive is nearer: what triplet loss trains for.

    Args:
        vectors: (n, d) embeddings; people: (n,) their names.
    """
    unit, people = _unit(vectors), np.asarray(people)
    right = total = 0
    for i, cosines in enumerate(unit @ unit.T):
        positive = np.delete(cosines, i)[np.delete(people == people[i], i)]
        negative = np.sort(cosines[people != people[i]])
        right += np.searchsorted(negative, positive).sum()
        total += len(positive) * len(negative)
    if total == 0:
        raise ValueError("no triplet: at least two people, one of them with two photos, are needed")
    return float(right / total)


def rank_1(vectors: np.ndarray, people: np.ndarray) -> np.ndarray:
    """(n,) bool: is the nearest other photo one of the same person?"""
    cosines = _unit(vectors) @ _unit(vectors).T
    np.fill_diagonal(cosines, -2)
    return np.asarray(people)[cosines.argmax(1)] == np.asarray(people)


def bootstrap_summary(
    vectors: np.ndarray, people: np.ndarray, repeats: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of "auc", "eer" and "rank_1", drawing people as `bootstrap_identification_rate` does.

    AUC and EER are read from scores rounded to 4,000 steps between -1 and 1.
    """
    unit, (names, who) = _unit(vectors), np.unique(people, return_inverse=True)
    i, j = np.triu_indices(len(unit), 1)
    step = np.clip(((unit @ unit.T)[i, j] + 1) * 2000, 0, 3999).astype(np.int16)
    same, first = who[i] == who[j], rank_1(vectors, people)
    rng, rows = np.random.default_rng(seed), []
    for _ in range(repeats):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)).astype(float)
        genuine = np.bincount(step[same], times[who[i[same]]], 4000)
        impostor = np.bincount(step[~same], times[who[i[~same]]] * times[who[j[~same]]], 4000)
        tpr = np.r_[0, np.cumsum(genuine[::-1])] / max(genuine.sum(), 1)
        fpr = np.r_[0, np.cumsum(impostor[::-1])] / max(impostor.sum(), 1)
        eer = np.interp(0, fpr - (1 - tpr), fpr)
        rows.append((np.trapezoid(tpr, fpr), eer, (first * times[who]).sum() / times[who].sum()))
    low, high = np.percentile(rows, [2.5, 97.5], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(("auc", "eer", "rank_1"), low, high)}


def bootstrap_identification_rate(
    query: np.ndarray, people: np.ndarray, fprs: Sequence[float] = FPRS, repeats: int = 200, seed: int = 0
) -> list[tuple[float, float]]:
    """95 % intervals of `identification_rate` (without distractors), drawing people with replacement.

    A person drawn w times counts w times in its genuine pairs, and a pair of people v and w times
    counts v * w times; copies of one person are never impostors of each other.

    Returns:
        For each FPR the 2.5 and 97.5 percentiles of the TPR.
    """
    query, (names, who) = _unit(query), np.unique(people, return_inverse=True)
    i, j = np.triu_indices(len(query), 1)
    cosines, same = (query @ query.T)[i, j], who[i] == who[j]
    genuine, owner = cosines[same], who[i][same]
    # Only the highest impostor cosines can become thresholds.
    top = np.argsort(-cosines[~same])[: int(min(1.0, 2 * max(fprs) + 0.01) * (~same).sum())]
    impostor, first, second = cosines[~same][top], who[i][~same][top], who[j][~same][top]
    photos = np.bincount(who)
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(repeats):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        pairs = ((times * photos).sum() ** 2 - ((times * photos) ** 2).sum()) / 2
        counted = np.cumsum(times[first] * times[second])
        places = np.searchsorted(counted, [fpr * pairs for fpr in fprs], side="right").clip(max=len(impostor) - 1)
        weights = times[owner]
        rates.append([((genuine > impostor[p]) * weights).sum() / max(weights.sum(), 1) for p in places])
    return [tuple(np.percentile(column, [2.5, 97.5]).tolist()) for column in np.transpose(rates)]


def verification_summary(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, float | np.ndarray]:
    """ROC over pairs: "auc", "eer" (error rate where FPR = 1 - TPR), and the curve as "fpr", "tpr"."""
    labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    scores = np.r_[genuine, impostor]
    fpr, tpr, _ = roc_curve(labels, scores)
    gap = (1 - tpr) - fpr  # falls from 1 to -1
    place = int(np.argmax(gap <= 0))
    share = gap[place - 1] / (gap[place - 1] - gap[place])
    eer = fpr[place - 1] + share * (fpr[place] - fpr[place - 1])
    return {"auc": float(roc_auc_score(labels, scores)), "eer": float(eer), "fpr": fpr, "tpr": tpr}


def bcubed(people: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """How well groups (n,) are people (n,), face by face (Bagga and Baldwin 1998, "B-CUBED").

    Returns:
        "precision": of the faces grouped with a face, the share that is of its person, on average over the faces.
        "recall": of the faces of its person, the share that is grouped with it. "f": their harmonic mean.
    """
    who, group = (np.unique(values, return_inverse=True)[1] for values in (people, groups))
    width = int(group.max()) + 1
    place, both = np.unique(who.astype(np.int64) * width + group, return_counts=True)  # of a million faces, few pairs
    precision = float((both**2 / np.bincount(group)[place % width]).sum() / len(who))
    recall = float((both**2 / np.bincount(who)[place // width]).sum() / len(who))
    return {"precision": precision, "recall": recall, "f": 2 * precision * recall / (precision + recall)}


def rejection_curve(
    vectors: np.ndarray, people: np.ndarray, quality: np.ndarray, threshold: float, shares: Sequence[float]
) -> dict[str, float]:
    """Share of the pairs of one person that are not found (cosine at most `threshold`), by the share of faces that is
    kept, those of the highest quality: a number that foretells errors makes it fall."""
    unit, (_, who) = _unit(vectors), np.unique(people, return_inverse=True)
    i, j = np.triu_indices(len(unit), 1)
    same = who[i] == who[j]
    i, j = i[same], j[same]
    missed, order = (unit[i] * unit[j]).sum(1) <= threshold, np.argsort(-np.asarray(quality), kind="stable")
    result = {}
    for share in shares:
        kept = np.zeros(len(unit), bool)
        kept[order[: round(share * len(unit))]] = True
        pairs = kept[i] & kept[j]
        result[f"{share:g}"] = float(missed[pairs].mean()) if pairs.any() else float("nan")
    return result


def lfw_accuracy(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """LFW View 2: for each fold the accuracy at the threshold that is best on the others.

    Args:
        similarity: (n,) of the pairs; same: (n,) bool; fold: (n,) int.

    Returns:
        Mean over the folds and its standard error.
    """
    similarity, same, fold = np.asarray(similarity), np.asarray(same, bool), np.asarray(fold)
    if len(np.unique(fold)) < 2:
        raise ValueError("a single fold: the threshold needs others to be chosen on")
    accuracies = []
    for held_out in np.unique(fold):
        scores, labels = similarity[fold != held_out], same[fold != held_out]
        order = np.argsort(scores)
        # With the threshold below scores[order][k], the k lowest pairs are called different.
        right = np.r_[0, np.cumsum(~labels[order])] + np.r_[labels.sum(), labels.sum() - np.cumsum(labels[order])]
        best = int(right.argmax())
        edges = np.r_[-np.inf, scores[order], np.inf]
        threshold = (edges[best] + edges[best + 1]) / 2 if 0 < best < len(order) else edges[best + (best > 0)]
        test = fold == held_out
        accuracies.append(((similarity[test] > threshold) == same[test]).mean())
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies)))
