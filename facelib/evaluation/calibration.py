"""False and true match rates by cosine distance: `python -m facelib.evaluation.calibration [--embedder NAME]`.

The rates of an embedder are measured on open_val and the held-out families and saved where `load_calibration` finds
them. `check` then compares the target FMR with the FMR found on open_test and LFW.
"""

import argparse
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.aligned_faces import aligned_families, aligned_open_set
from facelib.datasets.splits import family
from facelib.embedding.embedder import load_embedder
from facelib.embedding.similarity import mean_embedding
from facelib.evaluation.verification import lfw_pairs
from facelib.io.records import significant
from facelib.recognition.calibration import Calibration, save_calibration, user_calibrations_folder
from facelib.settings import one_line_errors
from facelib.types import NamedEmbedder

STEPS = 200  # distances at which rates are measured
MEAN_SIZES = (2, 3, 5, 10)  # photos averaged into a mean embedding
TARGET_FMRS = (0.01, 0.001)


@dataclass(frozen=True)
class Pairs:
    """Genuine and impostor pairs of photos."""

    distances: np.ndarray  # (n,) cosine distances
    genuine: np.ndarray  # (n,) bool: both photos show one person
    first: np.ndarray  # (n,) int: index of the person in the first photo
    second: np.ndarray  # (n,) int: index of the person in the second photo


@dataclass(frozen=True)
class Rates:
    """Share of pairs accepted at each of k distances."""

    values: np.ndarray  # (k,)
    intervals: np.ndarray  # (k, 2): 95 % bootstrap interval over people


def all_pairs(embeddings: np.ndarray, people: np.ndarray, first_index: int = 0) -> Pairs:
    """All pairs of photos, without pairs of relatives.

    Args:
        embeddings: (n, d), unit length.
        people: (n,) names.
        first_index: index given to the first person; the others follow in alphabetical order.
    """
    i, j = np.triu_indices(len(embeddings), 1)
    person = np.unique(people, return_inverse=True)[1]
    families = np.unique([family(name) for name in people], return_inverse=True)[1]
    kept = (person[i] == person[j]) | (families[i] != families[j])
    i, j = i[kept], j[kept]
    distances = np.maximum(1 - (embeddings @ embeddings.T)[i, j], 0)
    return Pairs(distances, person[i] == person[j], person[i] + first_index, person[j] + first_index)


def concatenate_pairs(parts: list[Pairs]) -> Pairs:
    """Join the pairs of several data sets, whose person indices must not overlap."""
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Pairs)}
    return Pairs(**{name: np.concatenate(values) for name, values in columns.items()})


def match_rates(pairs: Pairs, distances: np.ndarray, repeats: int = 200, seed: int = 0) -> tuple[Rates, Rates]:
    """False match rates (of impostor pairs) and true match rates (of genuine pairs) at `distances` (k,), ascending.

    The intervals come from drawing people with replacement, `repeats` times.
    """
    rng = np.random.default_rng(seed)
    bins = np.searchsorted(distances, pairs.distances)  # index of the smallest distance that accepts the pair
    people = int(max(pairs.first.max(), pairs.second.max())) + 1

    def rates(genuine: bool) -> Rates:
        chosen = pairs.genuine == genuine
        chosen_bins, first, second = bins[chosen], pairs.first[chosen], pairs.second[chosen]

        def accepted(weights: np.ndarray | None) -> np.ndarray:
            counts = np.bincount(chosen_bins, weights, len(distances) + 1)
            return np.cumsum(counts)[:-1] / max(counts.sum(), 1)

        samples = []
        for _ in range(repeats):
            times = np.bincount(rng.integers(people, size=people), minlength=people)
            samples.append(accepted(times[first] * (1 if genuine else times[second])))
        return Rates(accepted(None), np.percentile(samples, [2.5, 97.5], axis=0).T)

    return rates(False), rates(True)


def fmr_of_mean_embeddings(
    embeddings: np.ndarray, people: np.ndarray, distances: np.ndarray, photos: int, draws: int = 5
) -> np.ndarray:
    """FMR (k,) at `distances` (k,) between a photo and the mean embedding of `photos` photos of another person."""
    rng = np.random.default_rng(0)
    families = np.array([family(name) for name in people])
    impostors = []
    for name in np.unique(people):
        rows = np.flatnonzero(people == name)
        if len(rows) < photos:
            continue
        for _ in range(draws):
            chosen = rng.permutation(rows)[:photos]
            mean = mean_embedding(embeddings[chosen], np.ones(photos))
            impostors.append(1 - embeddings[families != family(name)] @ mean)
    ascending = np.sort(np.concatenate(impostors))
    return np.searchsorted(ascending, distances, side="right") / len(ascending)


def measure(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> Calibration:
    """Calibrate an embedder on open_val and the held-out families."""
    sets = [
        aligned_open_set("open_val", landmarker, embedder.crop_mode),
        aligned_families(landmarker, embedder.crop_mode),
    ]
    embeddings = [embedder.embed(aligned) for aligned, _ in sets]
    people = [faces.people for _, faces in sets]
    first_indices = [0, len(set(people[0].tolist()))]
    pairs = concatenate_pairs([all_pairs(*part) for part in zip(embeddings, people, first_indices)])
    data = "open_val and the held-out families"
    return calibrate(pairs, np.concatenate(embeddings), np.concatenate(people), embedder.model_id, data)


def calibrate(pairs: Pairs, embeddings: np.ndarray, people: np.ndarray, model_id: str, data: str) -> Calibration:
    """Calibration from pairs, and from the photos that mean embeddings are computed of.

    Args:
        pairs: their impostor distances choose the distances at which rates are measured.
        embeddings: (n, d), unit length; people: (n,) names.
        model_id: `Embedder.model_id`; data: description of the data.

    Raises:
        ValueError: all photos are of one person.
    """
    impostors = pairs.distances[~pairs.genuine]
    if not len(impostors):
        raise ValueError("no impostor pairs: a calibration needs photos of at least two people")
    quantiles = np.geomspace(1 / len(impostors), 1, STEPS)
    distances = np.unique(np.quantile(impostors, quantiles).astype(np.float64))
    false_match, true_match = match_rates(pairs, distances)
    most_photos = np.unique(people, return_counts=True)[1].max()
    of_means = {
        str(size): fmr_of_mean_embeddings(embeddings, people, distances, size).tolist()
        for size in MEAN_SIZES
        if size <= most_photos
    }
    return Calibration(
        model_id=model_id,
        distances=distances.tolist(),
        false_match_rates=false_match.values.tolist(),
        false_match_bounds=false_match.intervals.tolist(),
        true_match_rates=true_match.values.tolist(),
        fmr_of_means=of_means,
        pairs=len(impostors),
        data=data,
    )


def check(calibration: Calibration, embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> dict[str, Any]:
    """Compare the target FMR with the FMR found on identities that the calibration was not measured on.

    Returns:
        Target FMR -> "distance", and for "open_test" and "lfw" the match rates at that distance; on open_test with
        95 % intervals over people.
    """
    aligned, faces = aligned_open_set("open_test", landmarker, embedder.crop_mode)
    pairs = all_pairs(embedder.embed(aligned), faces.people)
    similarity, same, _ = lfw_pairs(embedder, landmarker)
    result: dict[str, Any] = {}
    for target in TARGET_FMRS:
        if target * calibration.pairs < 1:
            continue
        distance = calibration.distance_at(target)
        false_match, true_match = match_rates(pairs, np.array([distance]))
        accepted = 1 - similarity <= distance
        result[f"{target:g}"] = {
            "distance": distance,
            "open_test": {
                "false_match_rate": float(false_match.values[0]),
                "interval_95": false_match.intervals[0].tolist(),
                "true_match_rate": float(true_match.values[0]),
                "true_match_interval_95": true_match.intervals[0].tolist(),
            },
            "lfw": {
                "false_match_rate": float(accepted[~same].mean()),
                "true_match_rate": float(accepted[same].mean()),
                "impostor_pairs": int((~same).sum()),
            },
        }
    return result


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.calibration", description=__doc__)
    parser.add_argument("--embedder", help="argument of load_embedder (default: the default embedder)")
    parser.add_argument("--out", type=Path, help="folder (default: the folder of the user's own calibrations)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    options = parser.parse_args()
    landmarker = load_landmarker(device=options.device)
    embedder = load_embedder(options.embedder, options.device, runtime="auto")
    calibration = measure(embedder, landmarker)
    path = save_calibration(calibration, options.out or user_calibrations_folder())
    print(json.dumps(significant(check(calibration, embedder, landmarker)), indent=1))
    print(f"{path}: written")


if __name__ == "__main__":
    sys.exit(main())
