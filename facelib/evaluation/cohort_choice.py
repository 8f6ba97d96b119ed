"""How the cohort of score normalisation was chosen: `python -m facelib.evaluation.cohort_choice [--embedder NAME]`.

Each row is a cohort: its number of k-means centres, nearest centres (K) and weight (w; 0: the cosine). The sets are
those for choosing: open_val, the held-out families, held-out people of faces_world, and for false matches the
calibration part of faces_groups.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.groups import group_faces, world_faces
from facelib.embedding.embedder import load_embedder
from facelib.evaluation.calibration import families_collection, group_collections, open_set_collection
from facelib.io.records import RESULTS, write_table
from facelib.metrics import measurable_fprs, tpr_at_fprs
from facelib.recognition import match_rates
from facelib.recognition.cohort import Cohort, make_cohort, score_offsets
from facelib.recognition.match_rates import MeasuredFaces, Pairs, split_pairs, without_duplicates
from facelib.settings import one_line_errors
from facelib.types import NamedEmbedder

CENTRES = (256, 1024)
NEIGHBOURS = (3, 5, 10)
WEIGHTS = (0.5, 0.75, 0.9, 1.0)
GROUP_FMR = 0.001  # of the worst group, at the score where all sets are measured


def choice_rows(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> Iterator[dict[str, Any]]:
    """The figures of each cohort, see `cohort_row`."""
    world = world_faces("val", landmarker, embedder.crop_mode)
    sets = {
        "open_val": open_set_collection(embedder, landmarker, "open_val"),
        "families": families_collection(embedder, landmarker),
        "world": MeasuredFaces("world", embedder.embed(world.aligned), world.faces.people),
    }
    groups = group_collections(embedder, landmarker, "calibration")
    impostors = embedder.embed(group_faces("cohort", landmarker, embedder.crop_mode).aligned)
    yield {"centres": "", "neighbours": "", "weight": 0.0} | cohort_row(None, sets, groups)
    for centres in CENTRES:
        cohort = make_cohort(embedder.model_id, impostors, centres)
        for neighbours in NEIGHBOURS:
            for weight in WEIGHTS:
                tried = replace(cohort, neighbours=neighbours, weight=weight)
                row = {"centres": len(cohort.centres), "neighbours": neighbours, "weight": weight}
                yield row | cohort_row(tried, sets, groups)


def cohort_row(cohort: Cohort | None, sets: dict[str, MeasuredFaces], groups: list[MeasuredFaces]) -> dict[str, float]:
    """For each of the sets "NAME_<FPR>": TPR at its own FPR, and "NAME_worst_group": TPR at the score where the worst
    group has `GROUP_FMR`."""
    genuine = {name: split_pairs(faces, cohort)[0].scores for name, faces in sets.items()}
    impostors: dict[str, list[Pairs]] = {}
    for faces in groups:
        for group, pairs in split_pairs(faces, cohort)[1].items():
            impostors.setdefault(group, []).append(pairs)
    joined = [Pairs.join(parts) for parts in impostors.values() if sum(len(part.scores) for part in parts)]
    if cohort:  # as in `calibrate`
        highest = float(np.quantile(genuine["open_val"], match_rates.DUPLICATE_QUANTILE))
        joined = [without_duplicates(pairs, highest) for pairs in joined]
    sizes = [len(np.unique(np.r_[pairs.first, pairs.second])) for pairs in joined]
    large = [pairs for pairs, size in zip(joined, sizes) if size >= match_rates.MIN_PEOPLE] or joined
    threshold = max(float(np.quantile(pairs.scores, 1 - GROUP_FMR)) for pairs in large)
    row: dict[str, float] = {}
    for name, faces in sets.items():
        tpr = tpr_at_fprs(faces.embeddings, faces.people, score_offsets(faces.embeddings, cohort))
        row |= {f"{name}_{fpr:g}": tpr[f"{fpr:g}"] for fpr in measurable_fprs(faces.people, (0.01, 0.001))}
        row[f"{name}_worst_group"] = float((genuine[name] >= threshold).mean())
    return row


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.cohort_choice", description=__doc__)
    parser.add_argument("--embedder", help="argument of load_embedder (default: the default embedder)")
    parser.add_argument("--out", type=Path, default=RESULTS / "cohort_choice.csv", help="CSV file")
    options = parser.parse_args()
    embedder = load_embedder(options.embedder)
    rows = [{"embedder": embedder.model_id} | row for row in choice_rows(embedder, load_landmarker())]
    write_table(options.out, rows)


if __name__ == "__main__":
    sys.exit(main())
