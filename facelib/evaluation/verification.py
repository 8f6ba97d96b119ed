"""Verification by embedders on identities not seen in training: `python -m facelib.evaluation default`.

Most figures are those of the embeddings themselves, by cosine. Keys that end in "_scores" hold them as the product
decides, by normalised score.
"""

from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import Any

import cv2
import numpy as np

from facelib.alignment.align import METHODS, SIZE
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.bootstrap_intervals import bootstrap_identification_rate, bootstrap_summary
from facelib.datasets.aligned_faces import aligned_families, aligned_open_set, aligned_set, crop_faces
from facelib.datasets.face_list import FaceList, load_faces
from facelib.datasets.sources import load_lfw_pairs
from facelib.datasets.splits import FAMILIES, OPEN_SET, family, open_set_faces
from facelib.embedding.dlib_chips import CHIP_TO_ALIGNED
from facelib.evaluation.sets import LFW
from facelib.landmark_metrics import TURNS, head_turn
from facelib.metrics import (
    FPRS,
    identification_rate,
    lfw_accuracy,
    measurable_fprs,
    pair_similarities,
    rank_1,
    tpr_at_fprs,
    verification_summary,
)
from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.types import NamedEmbedder

THRESHOLD_FMR = 0.001  # of the score at which robustness and relatives are measured, and of that in the manifest
COURSE_FPRS = (0.5, 0.2, 0.1, 0.05)  # the assignment asks for these


def _downscale(face: np.ndarray) -> np.ndarray:
    """Shrink to 28 pixels per 112-pixel aligned face, and resize back; dlib's chips cover a larger area."""
    factor = 4 if len(face) == SIZE else 4 / CHIP_TO_ALIGNED[0, 0]
    side = round(len(face) / factor)
    return cv2.resize(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), face.shape[1::-1])


def _compress(face: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)


CORRUPTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # name -> function of one aligned face
    "grey": lambda face: cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2),
    "28 pixels wide": _downscale,
    "a third of the brightness": lambda face: face // 3,
    "JPEG of quality 10": _compress,
}


def alignment_metrics(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> dict[str, dict[str, float]]:
    """TPR at each FPR on open_val by alignment: "box" (none), each of `METHODS`, and "detector" (by landmarks
    of the set, where it has them)."""
    faces = open_set_faces("open_val")
    metrics = {}
    for alignment in ("box", *METHODS, *(["detector"] if faces.points is not None else [])):
        aligned, kept = crop_faces(faces, alignment, landmarker)
        metrics[alignment] = tpr_at_fprs(embedder.embed(aligned), kept.people)
    return metrics


def threshold_score(calibration: Calibration) -> float:
    """The score with an FMR of `THRESHOLD_FMR`, or of the lowest that the calibration's pairs can bear."""
    return calibration.score_at(max(THRESHOLD_FMR, calibration.lowest_rate))


def open_set_metrics(embeddings: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    """Verification metrics over all pairs, with 95 % bootstrap intervals over people.

    Args:
        embeddings: (n, d), unit length; people: (n,) names.

    Returns:
        "identification_rate" (TPR at each FPR), "auc", "eer", "rank_1", "interval_95" of these three, "people"
        (count), and "distractors": FPR -> TPR where half of the people are the query and the others distractors.
    """
    summary = verification_summary(*pair_similarities(embeddings, people))
    return {
        "identification_rate": rates_with_intervals(embeddings, people),
        "distractors": _rates_with_distractors(embeddings, people, _fprs(people)),
        "people": len(set(people)),
        "auc": summary["auc"],
        "eer": summary["eer"],
        "rank_1": float(rank_1(embeddings, people).mean()),
        "interval_95": bootstrap_summary(embeddings, people),
    }


def rates_with_intervals(
    embeddings: np.ndarray, people: np.ndarray, offsets: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """The rows of `identification_rate` at `COURSE_FPRS` and lower rates, with "interval_95" over people."""
    fprs = _fprs(people)
    rows = identification_rate(embeddings, people, fprs=fprs, offsets=offsets)
    intervals = bootstrap_identification_rate(embeddings, people, fprs, offsets=offsets)
    return [row | {"interval_95": interval} for row, interval in zip(rows, intervals)]


def _fprs(people: np.ndarray) -> list[float]:
    return measurable_fprs(people, (*COURSE_FPRS, *FPRS[1:]))


def _rates_with_distractors(embeddings: np.ndarray, people: np.ndarray, fprs: list[float]) -> dict[str, float]:
    """FPR -> TPR with every second person in the query and the others as distractors."""
    in_query = np.isin(people, np.unique(people)[::2])
    query, distractors = embeddings[in_query], embeddings[~in_query]
    impostor_pairs = len(pair_similarities(query, people[in_query], distractors)[1])
    measurable = [fpr for fpr in fprs if fpr * impostor_pairs >= 1]
    rows = identification_rate(query, people[in_query], distractors, measurable)
    return {f"{row['fpr']:g}": row["tpr"] for row in rows}


def robustness_metrics(
    embedder: NamedEmbedder, aligned: np.ndarray, faces: FaceList, threshold: float, cohort: Cohort | None = None
) -> dict[str, dict[str, float]]:
    """Share of pairs accepted at a threshold, by image corruption and by head pose.

    Args:
        aligned: (n, 112, 112, 3) uint8; faces: their n people, and landmarks where they have them.
        threshold: score from which on a pair is accepted.
        cohort: by which scores are normalised.

    Returns:
        Condition -> "tpr" (of genuine pairs), "fpr" (of impostor pairs) and "genuine_pairs" (count). Conditions:
        "unmodified", each of `CORRUPTIONS` applied to one of the two photos, and each range of `TURNS`, by the
        face of the pair whose head is turned further.
    """
    first, second = np.triu_indices(len(aligned), 1)
    same = faces.people[first] == faces.people[second]

    def shares(accepted: np.ndarray, part: np.ndarray | bool = True) -> dict[str, float]:
        genuine, impostor = accepted[same & part], accepted[~same & part]
        return {"tpr": float(genuine.mean()), "fpr": float(impostor.mean()), "genuine_pairs": len(genuine)}

    def accept(others: np.ndarray) -> np.ndarray:
        taken = score_offsets(embeddings, cohort)[first] + score_offsets(others, cohort)[second]
        return (embeddings @ others.T)[first, second] - taken >= threshold

    embeddings = embedder.embed(aligned)
    accepted = accept(embeddings)
    metrics = {"unmodified": shares(accepted)}
    for name, corrupt in CORRUPTIONS.items():
        metrics[name] = shares(accept(embedder.embed(np.stack([corrupt(face) for face in aligned]))))
    if faces.points is not None:
        turn = np.abs(head_turn(faces.points))
        turn = np.maximum(turn[first], turn[second])
        for name, (low, high) in TURNS.items():
            part = (turn >= low) & (turn < high)
            if part[same].any():
                metrics[name] = shares(accepted, part)
    return metrics


def relatives_metrics(
    embeddings: np.ndarray, people: np.ndarray, threshold: float, offsets: np.ndarray | None = None
) -> dict[str, float]:
    """Share of pairs of the held-out families accepted at a threshold.

    Args:
        embeddings: (n, d), unit length; people: (n,) names.
        threshold: score from which on a pair is accepted; offsets: (n,), see `facelib.metrics`.

    Returns:
        "same_person" (genuine pairs), "relatives", "impostors" (people of two families), "people" and "families"
        (counts).
    """
    families = np.array([family(person) for person in people])
    i, j = np.triu_indices(len(embeddings), 1)
    taken = np.zeros(len(embeddings)) if offsets is None else offsets
    accepted = (embeddings @ embeddings.T)[i, j] - taken[i] - taken[j] >= threshold
    same_person = people[i] == people[j]
    same_family = families[i] == families[j]
    kinds = {"same_person": same_person, "relatives": same_family & ~same_person, "impostors": ~same_family}
    metrics = {name: float(accepted[kind].mean()) for name, kind in kinds.items()}
    return metrics | {"people": len(set(people)), "families": len(set(families))}


def choice_rows(embedders: Mapping[str, NamedEmbedder], landmarker: HourglassLandmarker) -> list[dict[str, Any]]:
    """The figures by which the embedders of the manifest are chosen.

    Returns:
        For each candidate "embedder" (its label), and its TPR at each FPR on open_val and on the held-out families:
        "open_val_0.1", ..., "families_0.0001".
    """
    loaders: dict[str, Callable] = {"open_val": partial(aligned_open_set, "open_val"), "families": aligned_families}
    rows = []
    for label, embedder in embedders.items():
        row: dict[str, Any] = {"embedder": label}
        for key, load in loaders.items():
            aligned, faces = load(landmarker, embedder.crop_mode)
            row |= {f"{key}_{fpr}": tpr for fpr, tpr in tpr_at_fprs(embedder.embed(aligned), faces.people).items()}
        rows.append(row)
    return rows


def lfw_embeddings(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> np.ndarray:
    """Embeddings (n, d) of all photos of LFW View 2.

    Raises:
        ValueError: photos of LFW are missing or unreadable.
    """
    aligned, kept = aligned_set("lfw", landmarker, embedder.crop_mode)
    if len(kept) != len(load_faces("lfw")):
        raise ValueError(
            "LFW: some photos are unreadable, but View 2 needs all of them; run `python -m facelib.datasets lfw` again"
        )
    return embedder.embed(aligned)


def lfw_pairs(embeddings: np.ndarray, cohort: Cohort | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, whether genuine, and fold of the 6,000 pairs of LFW View 2: three arrays (6000,).

    Args:
        embeddings: of `lfw_embeddings`. cohort: None: scores are cosines.
    """
    first, second, same, fold = load_lfw_pairs()
    offsets = score_offsets(embeddings, cohort)
    return (embeddings[first] * embeddings[second]).sum(1) - offsets[first] - offsets[second], same, fold


def lfw_metrics(embeddings: np.ndarray, cohort: Cohort | None = None) -> dict[str, float]:
    """LFW View 2: mean accuracy over ten folds, its standard error, and TPR at FPR 0.001 over all 6,000 pairs, see
    `lfw_pairs`."""
    scores, same, fold = lfw_pairs(embeddings, cohort)
    accuracy, error = lfw_accuracy(scores, same, fold)
    threshold = np.sort(scores[~same])[::-1][int(0.001 * (~same).sum())]
    return {
        "accuracy": accuracy,
        "standard_error": error,
        "tpr_at_fpr_0.001": float((scores[same] > threshold).mean()),
    }


def embedder_metrics(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration | None, sets: Set[str]
) -> dict[str, Any]:
    """All metrics of an embedder on some of the sets open_val and open_test, LFW, and held-out families.

    Args:
        calibration: robustness and relatives are measured at its `threshold_score`; None: these and figures of scores
            are left out.
    """
    metrics: dict[str, Any] = {}
    if OPEN_SET in sets:
        metrics |= _open_set_part(embedder, landmarker, calibration)
    if LFW in sets:
        lfw = lfw_embeddings(embedder, landmarker)
        metrics["lfw"] = lfw_metrics(lfw)
        if calibration:
            metrics["lfw_scores"] = lfw_metrics(lfw, calibration.cohort)
    if FAMILIES in sets:
        metrics |= _families_part(embedder, landmarker, calibration)
    return metrics


def _open_set_part(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration | None
) -> dict[str, Any]:
    aligned, faces = aligned_open_set("open_val", landmarker, embedder.crop_mode)
    metrics: dict[str, Any] = {
        "open_val": identification_rate(embedder.embed(aligned), faces.people, fprs=measurable_fprs(faces.people))
    }
    aligned, faces = aligned_open_set("open_test", landmarker, embedder.crop_mode)
    embeddings = embedder.embed(aligned)
    metrics["open_test"] = open_set_metrics(embeddings, faces.people)
    if calibration:
        cohort, threshold = calibration.cohort, threshold_score(calibration)
        metrics["open_test_scores"] = rates_with_intervals(embeddings, faces.people, score_offsets(embeddings, cohort))
        metrics["robustness"] = robustness_metrics(embedder, aligned, faces, threshold, cohort)
    if embedder.crop_mode in METHODS:
        metrics["alignment"] = alignment_metrics(embedder, landmarker)
    return metrics


def _families_part(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration | None
) -> dict[str, Any]:
    aligned, faces = aligned_families(landmarker, embedder.crop_mode)
    embeddings = embedder.embed(aligned)
    metrics: dict[str, Any] = {"families": tpr_at_fprs(embeddings, faces.people)}
    if calibration:
        offsets = score_offsets(embeddings, calibration.cohort)
        metrics["relatives"] = relatives_metrics(embeddings, faces.people, threshold_score(calibration), offsets)
        metrics["families_scores"] = tpr_at_fprs(embeddings, faces.people, offsets)
    return metrics
