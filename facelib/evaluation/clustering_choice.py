"""How the scores from which groups of faces merge were chosen: `python -m facelib.evaluation.clustering_choice`.

Each row is a choice: the target FMR of two single faces, how many times higher that of two large groups is, and how
fast the score falls between them. The choice is the row with the highest F0.5, in which precision counts more, in the
mean over open_val, the held-out families and both shipped embedders. Other sets for choosing are checks: parts of
open_val, held-out people of faces_world, and all of them among impostors with one photo each (faces_groups, calibration
part).
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.groups import group_faces, world_faces
from facelib.embedding.embedder import load_embedder
from facelib.evaluation.calibration import families_collection, open_set_collection
from facelib.io.records import RESULTS, write_table
from facelib.metrics import bcubed
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.clustering import cluster_faces, clustering_fmr, merge_scores
from facelib.recognition.cohort import score_offsets
from facelib.recognition.condition import measure_condition
from facelib.settings import one_line_errors
from facelib.types import NamedEmbedder

SINGLE_FMRS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005)  # of up to FULL_RATE_FACES faces
RATIOS = (1.0, 5.0, 10.0, 15.0, 30.0)
EXPONENTS = (1.0, 2.0)
CHOSEN_ON = ("open_val", "families")
PHOTOS_OF_FEW = (1, 1, 1, 2, 2, 3, 4, 6)  # of a person in the set "few", drawn from these
IMPOSTORS = {"few": 1500, "mixed": 3000}  # with one photo each
Faces = tuple[np.ndarray, np.ndarray]  # embeddings (n, d), and the person (n,) of each


def choosing_sets(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> dict[str, list[Faces]]:
    """The sets, each as one or several draws."""
    rng = np.random.default_rng(0)
    world, groups = (
        faces(part, landmarker, embedder.crop_mode)
        for faces, part in ((world_faces, "val"), (group_faces, "calibration"))
    )
    found = [open_set_collection(embedder, landmarker, "open_val"), families_collection(embedder, landmarker)]
    several = [(each.embeddings, each.people) for each in found]
    several.append((embedder.embed(world.aligned), world.faces.people))
    embeddings, people = (np.concatenate(parts) for parts in zip(*several))
    impostors = embedder.embed(groups.aligned)
    val_embeddings, val_people = several[0]
    return {
        **{name: [faces] for name, faces in zip((*CHOSEN_ON, "world"), several)},
        "15 people": [_some(several[0], rng.choice(np.unique(val_people), 15, replace=False)) for _ in range(3)],
        "one photo each": [
            (val_embeddings[rows], val_people[rows]) for rows in (_photos(val_people, lambda: 1, rng) for _ in range(5))
        ],
        "few": [_with_impostors(embeddings, people, impostors, "few", rng)],
        "mixed": [_with_impostors(embeddings, people, impostors, "mixed", rng)],
    }


def _some(faces: Faces, people: np.ndarray) -> Faces:
    rows = np.isin(faces[1], people)
    return faces[0][rows], faces[1][rows]


def _photos(people: np.ndarray, count: Callable[[], int], rng: np.random.Generator) -> np.ndarray:
    """Rows of a random number of photos of each person."""
    return np.concatenate([rng.permutation(np.flatnonzero(people == each))[: count()] for each in np.unique(people)])


def _with_impostors(
    embeddings: np.ndarray, people: np.ndarray, impostors: np.ndarray, name: str, rng: np.random.Generator
) -> Faces:
    """People with few photos, or all of them, among many with one."""
    all_rows = np.arange(len(people))
    rows = _photos(people, lambda: int(rng.choice(PHOTOS_OF_FEW)), rng) if name == "few" else all_rows
    others = rng.permutation(impostors)[: IMPOSTORS[name]]
    names = [*people[rows], *(f"impostor {number}" for number in range(len(others)))]
    return np.concatenate([embeddings[rows], others]), np.array(names)


def choice_rows(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> Iterator[dict[str, Any]]:
    """BCubed precision and recall on each set, and the means of F0.5 and F over `CHOSEN_ON`, for each choice."""
    calibration, sets = load_calibration(embedder.model_id), choosing_sets(embedder, landmarker)
    draws = [(name, faces, _offsets(faces[0], calibration)) for name, draws in sets.items() for faces in draws]
    for single in SINGLE_FMRS:
        for ratio in RATIOS:
            for exponent in EXPONENTS if ratio > 1 else EXPONENTS[:1]:
                found: dict[str, list[dict[str, float]]] = {}
                for name, (embeddings, people), offsets in draws:
                    fmr = single * clustering_fmr(len(people)) / clustering_fmr(0)
                    scores = replace(merge_scores(calibration, len(people), fmr, ratio), exponent=exponent)
                    groups = cluster_faces(embeddings, scores, offsets=offsets)
                    found.setdefault(name, []).append(bcubed(people, groups))
                means = {
                    name: {key: float(np.mean([row[key] for row in rows])) for key in ("precision", "recall")}
                    for name, rows in found.items()
                }
                row: dict[str, Any] = {"single_fmr": single, "ratio": ratio, "exponent": exponent}
                for beta in (0.5, 1.0):
                    row[f"f{beta:g}"] = float(np.mean([_f(**means[name], beta=beta) for name in CHOSEN_ON]))
                yield row | {f"{name}_{key}": value for name, each in means.items() for key, value in each.items()}


def _offsets(embeddings: np.ndarray, calibration: Calibration) -> np.ndarray:
    scores = merge_scores(calibration, len(embeddings))
    condition = measure_condition(embeddings, scores, np.arange(len(embeddings)), calibration.cohort) or 0.0
    return score_offsets(embeddings, calibration.cohort) + condition / 2


def _f(precision: float, recall: float, beta: float) -> float:
    """F measure; a `beta` below 1 lets precision count more."""
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.clustering_choice", description=__doc__)
    parser.add_argument("--embedders", nargs="+", default=["default", "arcface"], help="arguments of load_embedder")
    parser.add_argument("--out", type=Path, default=RESULTS / "clustering_choice.csv", help="CSV file")
    options = parser.parse_args()
    landmarker = load_landmarker()
    rows = [
        {"embedder": name} | row for name in options.embedders for row in choice_rows(load_embedder(name), landmarker)
    ]
    write_table(options.out, rows)


if __name__ == "__main__":
    sys.exit(main())
