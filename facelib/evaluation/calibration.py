"""Error rates of an embedder by score: `python -m facelib.evaluation.calibration [--embedder NAME]`.

The cohort is made of faces of faces_groups, the rates are measured on other faces of it, on open_val, on the held-out
families and on held-out people of faces_world, and both are saved where `load_calibration` finds them. `check` then
compares the target FMR with the FMR found on open_test and LFW.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.aligned_faces import aligned_families, aligned_open_set
from facelib.datasets.groups import group_faces, world_faces
from facelib.datasets.splits import GROUPS, WORLD, family
from facelib.embedding.embedder import load_embedder
from facelib.evaluation.track_calibration import add_track_rates, open_val_tracks
from facelib.evaluation.verification import lfw_embeddings, lfw_pairs
from facelib.io.records import significant
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import save_calibration, user_calibrations_folder
from facelib.recognition.cohort import Cohort, make_cohort
from facelib.recognition.match_rates import MeasuredFaces, calibrate, match_rate_intervals, match_rates, split_pairs
from facelib.settings import data_folder, one_line_errors
from facelib.types import NamedEmbedder

TARGET_FMRS = (0.01, 0.001)


def embedder_cohort(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> Cohort | None:
    """A cohort of the embedder, of the faces of faces_groups that are for cohorts; None where the set is not there."""
    if not (data_folder() / GROUPS).is_dir():
        return None
    faces = group_faces("cohort", landmarker, embedder.crop_mode)
    return make_cohort(embedder.model_id, embedder.embed(faces.aligned))


def open_set_collection(embedder: NamedEmbedder, landmarker: HourglassLandmarker, split: str) -> MeasuredFaces:
    """The photos of "open_val" or "open_test"."""
    aligned, faces = aligned_open_set(split, landmarker, embedder.crop_mode)
    return MeasuredFaces(split, embedder.embed(aligned), faces.people)


def families_collection(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> MeasuredFaces:
    """The photos of the held-out families."""
    aligned, faces = aligned_families(landmarker, embedder.crop_mode)
    families = np.array([family(person) for person in faces.people])
    return MeasuredFaces("families", embedder.embed(aligned), faces.people, families=families)


def group_collections(embedder: NamedEmbedder, landmarker: HourglassLandmarker, part: str) -> list[MeasuredFaces]:
    """The photos of a part of faces_groups, a collection for each source."""
    labelled = group_faces(part, landmarker, embedder.crop_mode)
    embeddings, sources = embedder.embed(labelled.aligned), np.asarray(labelled.faces.sources)
    return [
        MeasuredFaces(source, embeddings[rows], labelled.faces.people[rows], labelled.groups[rows])
        for source in np.unique(sources).tolist()
        for rows in [np.flatnonzero(sources == source)]
    ]


def measure(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> Calibration:
    """Calibrate an embedder on people that no training saw, with a cohort of others; sets that are not there are
    skipped, and the calibration's `data` names the others."""
    collections = [open_set_collection(embedder, landmarker, "open_val"), families_collection(embedder, landmarker)]
    data = ["open_val", "the held-out families"]
    if (data_folder() / WORLD).is_dir():
        world = world_faces("val", landmarker, embedder.crop_mode)
        collections.append(MeasuredFaces("faces_world", embedder.embed(world.aligned), world.faces.people))
        data.append("held-out people of faces_world")
    if (data_folder() / GROUPS).is_dir():
        groups = group_collections(embedder, landmarker, "calibration")
        collections += groups
        data.append(f"{sum(len(faces.people) for faces in groups):,} faces of faces_groups")
    cohort = embedder_cohort(embedder, landmarker)
    calibration = calibrate(embedder.model_id, collections, cohort, ", ".join(data))
    return add_track_rates(calibration, open_val_tracks(embedder, landmarker))


def check(calibration: Calibration, embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> dict[str, Any]:
    """Compare the target FMR with the FMR found on identities that the calibration was not measured on.

    Returns:
        Target FMR -> "score", and for "open_test" and "lfw" the match rates at that score; on open_test with 95 %
        intervals over people.
    """
    genuine, impostors = split_pairs(open_set_collection(embedder, landmarker, "open_test"), calibration.cohort)
    lfw_scores, same, _ = lfw_pairs(lfw_embeddings(embedder, landmarker), calibration.cohort)
    result: dict[str, Any] = {}
    for target in TARGET_FMRS:
        if target < calibration.lowest_rate:
            continue
        score = np.array([calibration.score_at(target)])
        accepted = lfw_scores >= score
        result[f"{target:g}"] = {
            "score": float(score[0]),
            "open_test": {
                "false_match_rate": float(match_rates(impostors["open_test"], score)[0]),
                "interval_95": match_rate_intervals(impostors["open_test"], score)[0].tolist(),
                "true_match_rate": float(match_rates(genuine, score)[0]),
                "true_match_interval_95": match_rate_intervals(genuine, score)[0].tolist(),
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
