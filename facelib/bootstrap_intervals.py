"""Intervals of recognition metrics, by bootstrap over people."""

from collections.abc import Sequence

import numpy as np

from facelib.embedding.similarity import unit_vectors
from facelib.metrics import FPRS, auc, rank_1

SCORE_STEPS = 4000  # steps between -1 and 1 that similarities are rounded to in `bootstrap_summary`


def bootstrap_summary(
    embeddings: np.ndarray, people: np.ndarray, repeats: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of "auc", "eer" and "rank_1", drawing people as `bootstrap_identification_rate` does.

    AUC and EER are computed from similarities rounded to `SCORE_STEPS` steps between -1 and 1.
    """
    unit = unit_vectors(embeddings)
    names, person = np.unique(people, return_inverse=True)
    i, j = np.triu_indices(len(unit), 1)
    half = SCORE_STEPS // 2
    step = np.clip(((unit @ unit.T)[i, j] + 1) * half, 0, SCORE_STEPS - 1).astype(np.int16)
    same = person[i] == person[j]
    correct = rank_1(embeddings, people)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(repeats):
        weights = _draw_people(rng, len(names)).astype(float)
        genuine = np.bincount(step[same], weights[person[i[same]]], SCORE_STEPS)
        impostor = np.bincount(step[~same], weights[person[i[~same]]] * weights[person[j[~same]]], SCORE_STEPS)
        tpr = np.r_[0, np.cumsum(genuine[::-1])] / max(genuine.sum(), 1)
        fpr = np.r_[0, np.cumsum(impostor[::-1])] / max(impostor.sum(), 1)
        eer = np.interp(0, fpr - (1 - tpr), fpr)
        rows.append((auc(fpr, tpr), eer, (correct * weights[person]).sum() / weights[person].sum()))
    low, high = np.percentile(rows, [2.5, 97.5], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(("auc", "eer", "rank_1"), low, high)}


def bootstrap_identification_rate(
    query: np.ndarray,
    people: np.ndarray,
    fprs: Sequence[float] = FPRS,
    repeats: int = 200,
    seed: int = 0,
    offsets: np.ndarray | None = None,
) -> list[tuple[float, float]]:
    """95 % intervals of `identification_rate` (without distractors), drawing people with replacement.

    The genuine pairs of a person drawn w times count w times, and a pair of people drawn v and w times counts v * w
    times; copies of one person are never impostors of each other.

    Args:
        offsets: (n,), see `facelib.metrics`; None: similarities are cosines.

    Returns:
        For each FPR the 2.5 and 97.5 percentiles of the TPR.
    """
    query = unit_vectors(query)
    names, person = np.unique(people, return_inverse=True)
    i, j = np.triu_indices(len(query), 1)
    scores = (query @ query.T)[i, j]
    if offsets is not None:
        scores = scores - offsets[i] - offsets[j]
    same = person[i] == person[j]
    genuine = scores[same]
    owner = person[i][same]
    # Only the highest impostor similarities can become thresholds.
    top = np.argsort(-scores[~same])[: int(min(1.0, 2 * max(fprs) + 0.01) * (~same).sum())]
    impostor, first, second = (values[~same][top] for values in (scores, person[i], person[j]))
    photos = np.bincount(person)
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(repeats):
        weights = _draw_people(rng, len(names))
        pairs = ((weights * photos).sum() ** 2 - ((weights * photos) ** 2).sum()) / 2
        cumulative = np.cumsum(weights[first] * weights[second])
        places = np.searchsorted(cumulative, [fpr * pairs for fpr in fprs], side="right").clip(max=len(impostor) - 1)
        pair_weights = weights[owner]
        total = max(pair_weights.sum(), 1)
        rates.append([((genuine > impostor[place]) * pair_weights).sum() / total for place in places])
    return [tuple(np.percentile(column, [2.5, 97.5]).tolist()) for column in np.transpose(rates)]


def _draw_people(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) how often each person is in a bootstrap sample of people."""
    return np.bincount(rng.integers(count, size=count), minlength=count)
