"""False match rates by group, from photos of different people of whom each has one."""

from collections.abc import Sequence

import numpy as np

from facelib.recognition.match_rates import MIN_PEOPLE


def impostor_scores(
    scores: np.ndarray, groups: np.ndarray, collections: np.ndarray, min_people: int = MIN_PEOPLE
) -> dict[str, np.ndarray]:
    """Scores of the impostor pairs of each group, within one collection: two collections differ in more than people.

    Args:
        scores: (n, n) symmetric, of all pairs.
        groups: (n,) str. collections: (n,) str, data set of each photo.
        min_people: smaller groups are skipped.

    Returns:
        Group -> (pairs,).
    """
    result = {}
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < min_people:
            continue
        parts = [rows[collections[rows] == name] for name in np.unique(collections[rows])]
        result[str(group)] = np.concatenate(
            [scores[np.ix_(part, part)][np.triu_indices(len(part), 1)] for part in parts]
        )
    return result


def group_fmrs(pairs: dict[str, np.ndarray], threshold: float) -> dict[str, float]:
    """Share of the impostor pairs of each group with a score of at least `threshold`."""
    return {group: float((scores >= threshold).mean()) for group, scores in pairs.items()}


def threshold_at(pairs: Sequence[np.ndarray], rate: float) -> float:
    """The lowest score at which the mean rate of some groups, with equal weight, is at most `rate`."""
    scores = np.concatenate(pairs)
    weights = np.concatenate([np.full(len(group), 1 / len(group) / len(pairs)) for group in pairs])
    order = np.argsort(-scores, kind="stable")
    accepted = int(np.searchsorted(np.cumsum(weights[order]), rate, side="right"))
    return float(np.nextafter(scores[order[accepted]], np.inf)) if accepted < len(order) else float(scores.min())
