"""Error rates by group of people: `python -m facelib.evaluation fairness`.

Groups are the labels of the collections: origin, sex and age as annotators guessed them from the photo (in UTKFace
checking the guesses of a network), not what people say of themselves. Origins are coarse, and each collection draws
their borders differently. That is enough to find people for whom a network fails; it says nothing about one person.

Impostor pairs are two people of one group in one collection, so they share camera and origin of photos as well.
Collections without names may hold a person twice. Pairs that every embedder finds as similar as its more similar
genuine pairs are probably one person: rates are given without the second of the two, and with all.

What the data cannot tell: how rates depend on the years between two photos. Families in the Wild has photos from
babyhood to old age and no ages; the collections with ages have one photo of each person.
"""

import contextlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.groups import world_faces
from facelib.embedding.embedder import load_embedder
from facelib.embedding.insightface import PACKAGES
from facelib.evaluation import calibration as calibrations
from facelib.evaluation.calibration import TARGET_FMRS, families_collection, group_collections, open_set_collection
from facelib.evaluation.sets import FAMILIES, WORLD
from facelib.evaluation.verification import rates_with_intervals, relatives_metrics, threshold_score
from facelib.group_metrics import threshold_at
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.recognition.match_rates import (
    DUPLICATE_QUANTILE,
    MeasuredFaces,
    Pairs,
    match_rate_intervals,
    match_rates,
    split_pairs,
    without_duplicates,
)
from facelib.settings import data_folder
from facelib.types import CalibrationMissingError, NamedEmbedder

EMBEDDERS = ("default", "arcface", "triplet", "dlib", "buffalo_sc", "buffalo_l", "antelopev2")
WHITE_ADULTS = ("white men", "white women")
WHITE_FMR = 0.001  # of white adults, at the threshold where embedders are compared
WORLD_GROUPS = {  # origin in faces_world -> group with enough people
    "east asian": "East and South-East Asian",
    "southeast asian": "East and South-East Asian",
    "indian": "South Asian",
    "black": "Black and North African",
    "north african": "Black and North African",
}


@dataclass(frozen=True)
class Measured:
    """An embedder's faces of the test split of faces_groups.

    calibration: of the embedder.
    collections: name -> faces.
    genuine_score: from which two photos may show one person, a quantile of the genuine scores of open_val.
    """

    calibration: Calibration
    collections: dict[str, MeasuredFaces]
    genuine_score: float


def load_embedders(device: str | None = None) -> dict[str, NamedEmbedder]:
    """Those of `EMBEDDERS` that can be loaded without a download; a line says why one cannot."""
    embedders: dict[str, NamedEmbedder] = {}
    for name in EMBEDDERS:
        if name in PACKAGES and not _has_file(name):
            print(f"{name} is skipped: {PACKAGES[name]} is not here", flush=True)
            continue
        try:
            embedders[name] = load_embedder(name, device)
        except RuntimeError as error:  # the package with dlib's weights, or PyTorch, is missing
            print(f"{name} is skipped: {error}", flush=True)
    return embedders


def _has_file(package: str) -> bool:
    """Whether insightface's recognition model is where `find_or_download` looks for it."""
    roots = (data_folder(), Path("~/.insightface").expanduser())
    return any((root / "models" / package / PACKAGES[package]).is_file() for root in roots)


def measure(
    embedders: Mapping[str, NamedEmbedder], landmarker: HourglassLandmarker, sets: Set[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Error rates by group of some embedders, on faces_groups.

    Args:
        sets: those that are used; figures of faces_world and of the held-out families are left out without them.

    Returns:
        figures: "embedders": name -> "cohort", "scores" (target FMR -> score of the product), "faces_world" (see
        `world_rates`) and "families" (see `relatives_metrics`). "duplicates": collection -> group -> number of pairs
        that are probably one person.
        rows: see `group_rows`, with "embedder" and "collection".
    """
    measured, figures = {}, {}
    for name, embedder in embedders.items():
        measured[name] = _measure_groups(embedder, landmarker, sets)
        figures[name] = _other_figures(embedder, landmarker, measured[name].calibration, sets)
        print(f"{name}: measured", flush=True)
    rows, duplicates = [], {}
    for collection in next(iter(measured.values())).collections:
        people, duplicates[collection] = people_twice(collection, list(measured.values()))
        for name, each in measured.items():
            found = group_rows(each.collections[collection], each.calibration, people)
            rows += [{"embedder": name, "collection": collection} | row for row in found]
    return {"embedders": figures, "duplicates": duplicates}, rows


def _measure_groups(embedder: NamedEmbedder, landmarker: HourglassLandmarker, sets: Set[str]) -> Measured:
    calibration = None
    with contextlib.suppress(CalibrationMissingError):
        calibration = load_calibration(embedder.model_id)
    calibration = calibration or calibrations.measure(embedder, landmarker, sets)
    collections = {faces.name: faces for faces in group_collections(embedder, landmarker, "test")}
    genuine, _ = split_pairs(open_set_collection(embedder, landmarker, "open_val"), calibration.cohort)
    return Measured(calibration, collections, float(np.quantile(genuine.scores, DUPLICATE_QUANTILE)))


def _other_figures(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration, sets: Set[str]
) -> dict[str, Any]:
    """The figures of one embedder in `measure`."""
    figures: dict[str, Any] = {
        "cohort": calibration.cohort.id if calibration.cohort else "",
        "scores": product_scores(calibration),
    }
    if WORLD in sets:
        figures["faces_world"] = world_rates(embedder, landmarker, calibration)
    if FAMILIES in sets:
        families = families_collection(embedder, landmarker)
        offsets = score_offsets(families.embeddings, calibration.cohort)
        threshold = threshold_score(calibration)
        figures["families"] = relatives_metrics(families.embeddings, families.people, threshold, offsets)
    return figures


def product_scores(calibration: Calibration) -> dict[str, float]:
    """Target FMR -> score at which the product decides by it."""
    return {f"{rate:g}": calibration.score_at(max(rate, calibration.lowest_rate)) for rate in TARGET_FMRS}


def people_twice(collection: str, measured: list[Measured]) -> tuple[np.ndarray, dict[str, int]]:
    """Who is probably in a collection a second time, under another ID.

    Args:
        measured: embedders. Two photos of one group are probably of one person where all of them say so: a false match
            of a single one, which is to be measured, is no reason to leave somebody out.

    Returns:
        IDs of the people to leave out, and group -> number of such pairs.
    """
    scores = [split_pairs(each.collections[collection], each.calibration.cohort)[1] for each in measured]
    names = np.unique(measured[0].collections[collection].people)
    people, counts = [], {}
    for group, pairs in scores[0].items():
        above = np.min([of[group].scores - each.genuine_score for of, each in zip(scores, measured)], axis=0)
        kept = without_duplicates(Pairs(above, pairs.first, pairs.second), 0.0)
        counts[group] = int((above > 0).sum())
        people += [names[np.setdiff1d(np.r_[pairs.first, pairs.second], np.r_[kept.first, kept.second])]]
    return np.concatenate(people), counts


def group_rows(faces: MeasuredFaces, calibration: Calibration, twice: np.ndarray) -> list[dict[str, Any]]:
    """False match rates of each group of one collection.

    Args:
        twice: IDs of people who are probably in the collection a second time.

    Returns:
        For each group "group", "people" and "pairs" (counts without `twice`), and rates with their 95 % intervals over
        people ("..._low", "..._high"): "fmr_<target>" at the product's scores, "fmr_<target>_all" the same with all
        people; "score_white" and "cosine_white" at the score, and the cosine, at which white adults have `WHITE_FMR`.
    """
    without = faces_of(faces, ~np.isin(faces.people, twice))
    targets = product_scores(calibration)
    everyone, scores, cosines = (
        _impostors(each, cohort)
        for each, cohort in ((faces, calibration.cohort), (without, calibration.cohort), (without, None))
    )
    at_targets = {f"fmr_{target}": score for target, score in targets.items()}
    rows = []
    for group, pairs in scores.items():
        rates = rates_at(pairs, at_targets | {"score_white": _white_threshold(scores)})
        rates |= rates_at(everyone[group], {f"{name}_all": score for name, score in at_targets.items()})
        rates |= rates_at(cosines[group], {"cosine_white": _white_threshold(cosines)})
        people = len(np.unique(np.r_[pairs.first, pairs.second]))
        rows.append({"group": group, "people": people, "pairs": len(pairs.scores)} | rates)
    return rows


def faces_of(faces: MeasuredFaces, kept: np.ndarray) -> MeasuredFaces:
    """The faces of a mask (n,)."""
    groups = None if faces.groups is None else faces.groups[kept]
    return replace(faces, embeddings=faces.embeddings[kept], people=faces.people[kept], groups=groups)


def _impostors(faces: MeasuredFaces, cohort: Cohort | None) -> dict[str, Pairs]:
    return {group: pairs for group, pairs in split_pairs(faces, cohort)[1].items() if len(pairs.scores)}


def _white_threshold(pairs: Mapping[str, Pairs]) -> float:
    """The lowest score at which white adults have `WHITE_FMR` on average."""
    return threshold_at([pairs[group].scores for group in WHITE_ADULTS], WHITE_FMR)


def rates_at(pairs: Pairs, thresholds: Mapping[str, float]) -> dict[str, float]:
    """Share of pairs with at least each threshold: NAME -> rate, and its 95 % interval NAME_low, NAME_high."""
    names = sorted(thresholds, key=lambda name: thresholds[name])
    scores = np.array([thresholds[name] for name in names])
    result: dict[str, float] = {}
    for name, rate, (low, high) in zip(names, match_rates(pairs, scores), match_rate_intervals(pairs, scores)):
        result |= {name: float(rate), f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def world_rates(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration
) -> dict[str, dict[str, Any]]:
    """Verification within each group of the public figures of faces_world (test).

    Returns:
        Group -> "people" and "photos" (counts); "fmr" and "tpr" at the product's score for FMR 0.001, the same for all
        groups, with intervals as in `rates_at`; "score" and "cosine": TPR at the group's own FPRs, see
        `rates_with_intervals`.
    """
    world = world_faces("test", landmarker, embedder.crop_mode)
    embeddings, people = embedder.embed(world.aligned), world.faces.people
    groups = np.array([WORLD_GROUPS[name.rsplit(" ", 1)[0]] for name in world.groups.tolist()])  # without the sex
    threshold = threshold_score(calibration)
    result: dict[str, dict[str, Any]] = {}
    for group in np.unique(groups).tolist():
        rows = groups == group
        genuine, impostors = split_pairs(MeasuredFaces(group, embeddings[rows], people[rows]), calibration.cohort)
        offsets = score_offsets(embeddings[rows], calibration.cohort)
        result[group] = {
            "people": len(np.unique(people[rows])),
            "photos": int(rows.sum()),
            **rates_at(genuine, {"tpr": threshold}),
            **rates_at(impostors[group], {"fmr": threshold}),
            "score": rates_with_intervals(embeddings[rows], people[rows], offsets),
            "cosine": rates_with_intervals(embeddings[rows], people[rows]),
        }
    return result
