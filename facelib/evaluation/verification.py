"""Verification by embedders on identities not seen in training: `python -m facelib.evaluation default`."""

from collections.abc import Callable, Mapping
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
from facelib.datasets.splits import family, open_set_faces
from facelib.embedding.dlib_chips import CHIP_TO_ALIGNED
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
from facelib.types import NamedEmbedder

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
    """TPR at each FPR on open_val by alignment: "box" (none), each of `METHODS`, and "detector" (its landmarks)."""
    faces = open_set_faces("open_val")
    metrics = {}
    for alignment in ("box", *METHODS, "detector"):
        aligned, kept = crop_faces(faces, alignment, landmarker)
        metrics[alignment] = tpr_at_fprs(embedder.embed(aligned), kept.people)
    return metrics


def open_set_embeddings(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and people (n,) of the split "open_val" or "open_test"."""
    aligned, faces = aligned_open_set(split, landmarker, embedder.crop_mode)
    return embedder.embed(aligned), faces.people


def open_set_metrics(embeddings: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    """Verification metrics over all pairs, with 95 % bootstrap intervals over people.

    Args:
        embeddings: (n, d), unit length; people: (n,) names.

    Returns:
        "identification_rate" (TPR at each FPR), "auc", "eer", "rank_1", "interval_95" of these three, "people"
        (count), and "distractors": FPR -> TPR where half of the people are the query and the others distractors.
    """
    fprs = measurable_fprs(people, (*COURSE_FPRS, *FPRS[1:]))
    rows = identification_rate(embeddings, people, fprs=fprs)
    for row, interval in zip(rows, bootstrap_identification_rate(embeddings, people, fprs)):
        row["interval_95"] = interval  # type: ignore[assignment]
    summary = verification_summary(*pair_similarities(embeddings, people))
    return {
        "identification_rate": rows,
        "distractors": _rates_with_distractors(embeddings, people, fprs),
        "people": len(set(people)),
        "auc": summary["auc"],
        "eer": summary["eer"],
        "rank_1": float(rank_1(embeddings, people).mean()),
        "interval_95": bootstrap_summary(embeddings, people),
    }


def _rates_with_distractors(embeddings: np.ndarray, people: np.ndarray, fprs: list[float]) -> dict[str, float]:
    """FPR -> TPR with every second person in the query and the others as distractors."""
    in_query = np.isin(people, np.unique(people)[::2])
    query, distractors = embeddings[in_query], embeddings[~in_query]
    impostor_pairs = len(pair_similarities(query, people[in_query], distractors)[1])
    measurable = [fpr for fpr in fprs if fpr * impostor_pairs >= 1]
    rows = identification_rate(query, people[in_query], distractors, measurable)
    return {f"{row['fpr']:g}": row["tpr"] for row in rows}


def robustness_metrics(
    embedder: NamedEmbedder, aligned: np.ndarray, faces: FaceList, threshold: float
) -> dict[str, dict[str, float]]:
    """Share of pairs accepted at a threshold, by image corruption and by head pose.

    Args:
        aligned: (n, 112, 112, 3) uint8; faces: their n people, and landmarks where they have them.
        threshold: cosine similarity above which a pair is accepted.

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

    embeddings = embedder.embed(aligned)
    accepted = (embeddings @ embeddings.T)[first, second] > threshold
    metrics = {"unmodified": shares(accepted)}
    for name, corrupt in CORRUPTIONS.items():
        corrupted = embedder.embed(np.stack([corrupt(face) for face in aligned]))
        metrics[name] = shares((embeddings @ corrupted.T)[first, second] > threshold)
    if faces.points is not None:
        turn = np.abs(head_turn(faces.points))
        turn = np.maximum(turn[first], turn[second])
        for name, (low, high) in TURNS.items():
            part = (turn >= low) & (turn < high)
            if part[same].any():
                metrics[name] = shares(accepted, part)
    return metrics


def relatives_metrics(embedder: NamedEmbedder, landmarker: HourglassLandmarker, threshold: float) -> dict[str, float]:
    """Share of pairs of the held-out families accepted at a threshold (cosine similarity).

    Returns:
        "same_person" (genuine pairs), "relatives", "impostors" (people of two families), "people" and "families"
        (counts).
    """
    aligned, faces = aligned_families(landmarker, embedder.crop_mode)
    embeddings = embedder.embed(aligned)
    families = np.array([family(person) for person in faces.people])
    i, j = np.triu_indices(len(embeddings), 1)
    accepted = (embeddings @ embeddings.T)[i, j] > threshold
    same_person = faces.people[i] == faces.people[j]
    same_family = families[i] == families[j]
    kinds = {"same_person": same_person, "relatives": same_family & ~same_person, "impostors": ~same_family}
    metrics = {name: float(accepted[kind].mean()) for name, kind in kinds.items()}
    return metrics | {"people": len(set(faces.people)), "families": len(set(families))}


def families_rates(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> dict[str, float]:
    """FPR -> TPR on the held-out families, with relatives among the impostors."""
    aligned, faces = aligned_families(landmarker, embedder.crop_mode)
    return tpr_at_fprs(embedder.embed(aligned), faces.people)


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


def lfw_pairs(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine similarity, whether genuine, and fold of the 6,000 pairs of LFW View 2: three arrays (6000,).

    Raises:
        ValueError: photos of LFW are missing or unreadable.
    """
    aligned, kept = aligned_set("lfw", landmarker, embedder.crop_mode)
    if len(kept) != len(load_faces("lfw")):
        raise ValueError(
            "LFW: some photos are unreadable, but View 2 needs all of them; run `python -m facelib.datasets lfw` again"
        )
    embeddings = embedder.embed(aligned)
    first, second, same, fold = load_lfw_pairs()
    return (embeddings[first] * embeddings[second]).sum(1), same, fold


def lfw_metrics(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> dict[str, float]:
    """LFW View 2: mean accuracy over ten folds, its standard error, and TPR at FPR 0.001 over all 6,000 pairs."""
    similarity, same, fold = lfw_pairs(embedder, landmarker)
    accuracy, error = lfw_accuracy(similarity, same, fold)
    threshold = np.sort(similarity[~same])[::-1][int(0.001 * (~same).sum())]
    tpr = float((similarity[same] > threshold).mean())
    return {"accuracy": accuracy, "standard_error": error, "tpr_at_fpr_0.001": tpr}


def embedder_metrics(embedder: NamedEmbedder, landmarker: HourglassLandmarker, threshold: float) -> dict[str, Any]:
    """All metrics of an embedder; `threshold` (cosine similarity) is for robustness and relatives."""
    embeddings, people = open_set_embeddings(embedder, landmarker, "open_val")
    aligned, faces = aligned_open_set("open_test", landmarker, embedder.crop_mode)
    metrics = {
        "open_val": identification_rate(embeddings, people, fprs=measurable_fprs(people)),
        "open_test": open_set_metrics(embedder.embed(aligned), faces.people),
        "lfw": lfw_metrics(embedder, landmarker),
        "robustness": robustness_metrics(embedder, aligned, faces, threshold),
        "relatives": relatives_metrics(embedder, landmarker, threshold),
        "families": families_rates(embedder, landmarker),
    }
    if embedder.crop_mode in METHODS:
        metrics["alignment"] = alignment_metrics(embedder, landmarker)
    return metrics
