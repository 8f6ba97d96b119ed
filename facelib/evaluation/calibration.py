"""Error rates of an embedder by score: `python -m facelib.evaluation.calibration [--embedder NAME]`.

The cohort is made of faces of faces_groups, the rates are measured on other faces of it, on open_val, on the held-out
families and on held-out people of faces_world, and both are saved where `load_calibration` finds them. `check` then
compares the target FMR with the FMR found on open_test and LFW. Sets that are not there are left out, except open_val.
"""

import argparse
import json
import sys
from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.aligned_faces import aligned_families, aligned_open_set
from facelib.datasets.groups import group_faces, world_faces
from facelib.datasets.splits import FAMILIES, GROUPS, OPEN_SET, WORLD, family
from facelib.embedding.embedder import load_embedder
from facelib.evaluation.sets import LFW, available_sets
from facelib.evaluation.track_calibration import add_track_rates, open_val_tracks
from facelib.evaluation.verification import lfw_embeddings, lfw_pairs
from facelib.io.records import significant
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import save_calibration, user_calibrations_folder
from facelib.recognition.cohort import Cohort, make_cohort
from facelib.recognition.match_rates import MeasuredFaces, calibrate, match_rate_intervals, match_rates, split_pairs
from facelib.settings import one_line_errors
from facelib.types import NamedEmbedder

TARGET_FMRS = (0.01, 0.001)
# Set -> its words in `Calibration.data`.
DATA = {
    OPEN_SET: "open_val",
    FAMILIES: "the held-out families",
    WORLD: "held-out people of faces_world",
    GROUPS: "faces of faces_groups",
}


def embedder_cohort(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> Cohort:
    """A cohort of the embedder, of the faces of faces_groups that are for cohorts."""
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


def measure(embedder: NamedEmbedder, landmarker: HourglassLandmarker, sets: Set[str] | None = None) -> Calibration:
    """Calibrate an embedder on people that no training saw, with a cohort of others.

    Args:
        sets: of `DATA`, those that are used, among them open_val's; None: those that are there. The calibration's
            `data` names them. Without faces_groups there is no cohort, and scores are cosines.
    """
    sets = available_sets() if sets is None else sets
    collections, data = [open_set_collection(embedder, landmarker, "open_val")], [DATA[OPEN_SET]]
    if FAMILIES in sets:
        collections.append(families_collection(embedder, landmarker))
        data.append(DATA[FAMILIES])
    if WORLD in sets:
        world = world_faces("val", landmarker, embedder.crop_mode)
        collections.append(MeasuredFaces("faces_world", embedder.embed(world.aligned), world.faces.people))
        data.append(DATA[WORLD])
    if GROUPS in sets:
        groups = group_collections(embedder, landmarker, "calibration")
        collections += groups
        data.append(f"{sum(len(faces.people) for faces in groups):,} {DATA[GROUPS]}")
    cohort = embedder_cohort(embedder, landmarker) if GROUPS in sets else None
    calibration = calibrate(embedder.model_id, collections, cohort, ", ".join(data))
    return add_track_rates(calibration, open_val_tracks(embedder, landmarker))


def sets_of(calibration: Calibration) -> set[str]:
    """The sets that `measure` measured a calibration on."""
    return {name for name, words in DATA.items() if words in calibration.data}


def check(
    calibration: Calibration, embedder: NamedEmbedder, landmarker: HourglassLandmarker, sets: Set[str] | None = None
) -> dict[str, Any]:
    """Compare the target FMR with the FMR found on identities that the calibration was not measured on.

    Args:
        sets: those that are used, of open_test's and LFW; None: those that are there.

    Returns:
        Target FMR -> "score", and for "open_test" and "lfw" the match rates at that score; on open_test with 95 %
        intervals over people.
    """
    sets = available_sets() if sets is None else sets
    targets = [target for target in TARGET_FMRS if target >= calibration.lowest_rate]
    result: dict[str, Any] = {f"{target:g}": {"score": float(calibration.score_at(target))} for target in targets}
    if OPEN_SET in sets:
        genuine, impostors = split_pairs(open_set_collection(embedder, landmarker, "open_test"), calibration.cohort)
        for row in result.values():
            score = np.array([row["score"]])
            row["open_test"] = {
                "false_match_rate": float(match_rates(impostors["open_test"], score)[0]),
                "interval_95": match_rate_intervals(impostors["open_test"], score)[0].tolist(),
                "true_match_rate": float(match_rates(genuine, score)[0]),
                "true_match_interval_95": match_rate_intervals(genuine, score)[0].tolist(),
            }
    if LFW in sets:
        scores, same, _ = lfw_pairs(lfw_embeddings(embedder, landmarker), calibration.cohort)
        for row in result.values():
            accepted = scores >= row["score"]
            row["lfw"] = {
                "false_match_rate": float(accepted[~same].mean()),
                "true_match_rate": float(accepted[same].mean()),
                "impostor_pairs": int((~same).sum()),
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
