"""What distances of an embedder mean: `python -m facelib.evaluation.calibration [--embedder NAME]`.

Measured on open_val and the held-out families, kept where `load_calibration` finds it, and checked on open_test and
LFW: how far off are the rates that were promised?
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.aligned_faces import aligned_families, aligned_open_set
from facelib.datasets.splits import family
from facelib.embedding.embedder import NetworkEmbedder, load_embedder
from facelib.embedding.similarity import mean_embedding
from facelib.evaluation.verification import lfw_pairs
from facelib.io.records import significant
from facelib.recognition.calibration import Calibration, own_folder, save_calibration
from facelib.settings import one_line_errors

STEPS = 200  # distances that are measured
SEVERAL = (2, 3, 5, 10)  # photos that a person is the mean of
TARGET_FMRS = (0.01, 0.001)  # rates that are checked


@dataclass(frozen=True)
class Pairs:
    """distances (n,); same (n,) bool, whether of one person; first, second (n,): numbers of the people."""

    distances: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray


def pairs_of(vectors: np.ndarray, people: np.ndarray, number: int = 0) -> Pairs:
    """All pairs of vectors (n, d) of length 1, but those of relatives; `number`: of the first person."""
    i, j = np.triu_indices(len(vectors), 1)
    who, families = (np.unique(names, return_inverse=True)[1] for names in (people, list(map(family, people))))
    kept = (who[i] == who[j]) | (families[i] != families[j])
    i, j = i[kept], j[kept]
    distances = np.maximum(1 - (vectors @ vectors.T)[i, j], 0)
    return Pairs(distances, who[i] == who[j], who[i] + number, who[j] + number)


def joined(parts: list[Pairs]) -> Pairs:
    """Several as one; their people must have numbers of their own."""
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in Pairs.__dataclass_fields__))


def rates_at(pairs: Pairs, distances: np.ndarray, repeats: int = 200, seed: int = 0) -> dict[bool, tuple]:
    """Share of the pairs of two people (key False) and of one (True) that are as close, at each of (k,) distances, and
    its 95 % interval (k, 2), drawing people with replacement."""
    step = np.searchsorted(distances, pairs.distances)  # the first distance that a pair is within
    people = int(max(pairs.first.max(), pairs.second.max())) + 1
    rng, found = np.random.default_rng(seed), {}
    for same in (False, True):
        part = pairs.same == same
        steps, first, second = step[part], pairs.first[part], pairs.second[part]

        def shares(weights: np.ndarray | None, steps: np.ndarray = steps) -> np.ndarray:
            counted = np.bincount(steps, weights, len(distances) + 1)
            return np.cumsum(counted)[:-1] / max(counted.sum(), 1)

        drawn = []
        for _ in range(repeats):
            times = np.bincount(rng.integers(people, size=people), minlength=people)
            drawn.append(shares(times[first] * (1 if same else times[second])))
        found[same] = shares(None), np.percentile(drawn, [2.5, 97.5], axis=0).T
    return found


def fmr_of_mean_embeddings(
    vectors: np.ndarray, people: np.ndarray, distances: np.ndarray, photos: int, draws: int = 5
) -> np.ndarray:
    """False positive rates (k,) at (k,) distances between a photo and the mean of some `photos` of another person."""
    rng, names, close = np.random.default_rng(0), np.unique(people), []
    families = np.array(list(map(family, people)))
    for name in names:
        rows = np.flatnonzero(people == name)
        for _ in range(draws if len(rows) >= photos else 0):
            chosen = rng.permutation(rows)[:photos]
            mean = mean_embedding(vectors[chosen], np.ones(photos))
            close.append(1 - vectors[families != family(name)] @ mean)
    every = np.sort(np.concatenate(close))
    return np.searchsorted(every, distances, side="right") / len(every)


def measure(embedder: NetworkEmbedder, landmarker: HourglassLandmarker) -> Calibration:
    """Rates of an embedder on open_val and the held-out families."""
    method = embedder.crop_mode
    sets = [aligned_open_set("open_val", landmarker, method), aligned_families(landmarker, method)]
    vectors, people = [embedder.embed(aligned) for aligned, _ in sets], [faces.people for _, faces in sets]
    numbers = [0, len(set(people[0].tolist()))]
    pairs = joined([pairs_of(*part) for part in zip(vectors, people, numbers)])
    everybody = np.concatenate(vectors), np.concatenate(people)
    return calibrate(pairs, *everybody, embedder.model_id, "open_val and the held-out families")


def calibrate(pairs: Pairs, vectors: np.ndarray, people: np.ndarray, embedder: str, data: str) -> Calibration:
    """From pairs, and the photos (n, d) of people (n,) with several, to a calibration."""
    impostors = pairs.distances[~pairs.same]
    rates = np.geomspace(1 / len(impostors), 1, STEPS)
    distances = np.unique(np.quantile(impostors, rates).astype(np.float64))
    found = rates_at(pairs, distances)
    most = np.unique(people, return_counts=True)[1].max()
    several = [number for number in SEVERAL if number <= most]
    return Calibration(
        embedder,
        distances.tolist(),
        found[False][0].tolist(),
        found[False][1].tolist(),
        found[True][0].tolist(),
        {str(number): fmr_of_mean_embeddings(vectors, people, distances, number).tolist() for number in several},
        len(impostors),
        data,
    )


def check(calibration: Calibration, embedder: NetworkEmbedder, landmarker: HourglassLandmarker) -> dict[str, Any]:
    """What becomes of the promised rates among other people: for open_test and LFW, at the distance of each promised
    false positive rate, the rates that were found there; with intervals over people on open_test."""
    aligned, faces = aligned_open_set("open_test", landmarker, embedder.crop_mode)
    pairs = pairs_of(embedder.embed(aligned), faces.people)
    similarity, same, _ = lfw_pairs(embedder, landmarker)
    result: dict[str, Any] = {}
    for target in (rate for rate in TARGET_FMRS if rate * calibration.pairs >= 1):
        distance = calibration.distance_at(target)
        found = rates_at(pairs, np.array([distance]))
        (wrong, wrong_bounds), (right, right_bounds) = found[False], found[True]
        close = 1 - similarity <= distance
        result[f"{target:g}"] = {
            "distance": distance,
            "open_test": {
                "false_match_rate": float(wrong[0]),
                "interval_95": wrong_bounds[0].tolist(),
                "true_match_rate": float(right[0]),
                "true_match_interval_95": right_bounds[0].tolist(),
            },
            "lfw": {
                "false_match_rate": float(close[~same].mean()),
                "true_match_rate": float(close[same].mean()),
                "impostor_pairs": int((~same).sum()),
            },
        }
    return result


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.calibration", description=__doc__)
    parser.add_argument("--embedder", help="what load_embedder takes; default: the shipped one")
    parser.add_argument("--out", type=Path, help="folder; default: that of one's own calibrations")
    parser.add_argument("--device")
    options = parser.parse_args()
    landmarker = load_landmarker(device=options.device)
    embedder = load_embedder(options.embedder, options.device, runtime="auto")
    calibration = measure(embedder, landmarker)
    path = save_calibration(calibration, options.out or own_folder())
    print(json.dumps(significant(check(calibration, embedder, landmarker)), indent=1))
    print(f"{path}: written")


if __name__ == "__main__":
    sys.exit(main())
