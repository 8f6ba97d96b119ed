"""Embedders on people whom no training has seen: `python -m facelib.evaluation embedder`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from facelib.alignment.align import METHODS, SIZE
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import aligned_families, aligned_open_set, aligned_set, cut_faces
from facelib.datasets.face_list import FaceList, load_faces
from facelib.datasets.sources import load_lfw_pairs
from facelib.datasets.splits import family, open_set_faces
from facelib.embedding.dlib import CHIP_TO_ALIGNED
from facelib.embedding.embedder import NetworkEmbedder
from facelib.metrics import (
    FPRS,
    TURNS,
    bootstrap_identification_rate,
    bootstrap_summary,
    head_turn,
    identification_rate,
    lfw_accuracy,
    measurable_fprs,
    pair_similarities,
    rank_1,
    tpr_at_fprs,
    verification_summary,
)

COURSE_FPRS = (0.5, 0.2, 0.1, 0.05)


def _smaller(face: np.ndarray) -> np.ndarray:
    pixels = 4 if len(face) == SIZE else 4 / CHIP_TO_ALIGNED[0, 0]  # of what is cut, to one pixel of what is left
    side = round(len(face) / pixels)
    return cv2.resize(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), face.shape[1::-1])


def _compressed(face: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)


CORRUPTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # aligned face -> the same, worse
    "grey": lambda face: cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2),
    "28 pixels wide": _smaller,
    "a third of the light": lambda face: face // 3,
    "JPEG of quality 10": _compressed,
}


def alignment_metrics(embedder: NetworkEmbedder, landmarker: HourglassLandmarker) -> dict[str, dict[str, float]]:
    """TPR on open_val for faces cut by the box alone, aligned by the eyes, by all five points, and by the
    detector's five."""
    unseen = open_set_faces("open_val")
    metrics = {}
    for how in ("box", *METHODS, "detector"):
        cut, kept = cut_faces(unseen, how, landmarker)
        metrics[how] = tpr_at_fprs(embedder.embed(cut), kept.people)
    return metrics


def open_set_embeddings(
    embedder: NetworkEmbedder, landmarker: HourglassLandmarker, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and people (n,) of "open_val" or "open_test"."""
    aligned, faces = aligned_open_set(split, landmarker, embedder.crop_mode)
    return embedder.embed(aligned), faces.people


def open_set_metrics(vectors: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    """Identification Rate, AUC, EER and rank-1 over all pairs, with intervals over people; and "distractors",
    the rate where half of the people are query and the others distractors."""
    fprs = measurable_fprs(people, (*COURSE_FPRS, *FPRS[1:]))
    rows = identification_rate(vectors, people, fprs=fprs)
    for row, interval in zip(rows, bootstrap_identification_rate(vectors, people, fprs)):
        row["interval_95"] = interval
    summary = verification_summary(*pair_similarities(vectors, people))
    query = np.isin(people, np.unique(people)[::2])
    pairs = len(pair_similarities(vectors[query], people[query], vectors[~query])[1])
    fprs = [fpr for fpr in fprs if fpr * pairs >= 1]
    with_distractors = identification_rate(vectors[query], people[query], vectors[~query], fprs)
    return {
        "identification_rate": rows,
        "distractors": {f"{row['fpr']:g}": row["tpr"] for row in with_distractors},
        "people": len(set(people)),
        "auc": summary["auc"],
        "eer": summary["eer"],
        "rank_1": float(rank_1(vectors, people).mean()),
        "interval_95": bootstrap_summary(vectors, people),
    }


def robustness_metrics(
    embedder: NetworkEmbedder, aligned: np.ndarray, faces: FaceList, threshold: float
) -> dict[str, dict[str, float]]:
    """Share above the threshold (cosine) of the pairs of one person, "tpr", and of two people, "fpr": as the
    photos are, where one of the two is corrupted, and by the head that is turned further (where the faces have
    a detector's points)."""
    first, second = np.triu_indices(len(aligned), 1)
    same = faces.people[first] == faces.people[second]

    def shares(above: np.ndarray, part: np.ndarray | bool = True) -> dict[str, float]:
        genuine, impostor = above[same & part], above[~same & part]
        return {"tpr": float(genuine.mean()), "fpr": float(impostor.mean()), "genuine_pairs": len(genuine)}

    vectors = embedder.embed(aligned)
    above = (vectors @ vectors.T)[first, second] > threshold
    metrics = {"as they are": shares(above)}
    for name, corrupt in CORRUPTIONS.items():
        corrupted = embedder.embed(np.stack([corrupt(face) for face in aligned]))
        metrics[name] = shares((vectors @ corrupted.T)[first, second] > threshold)
    if faces.points is not None:
        turn = np.abs(head_turn(faces.points))
        turn = np.maximum(turn[first], turn[second])
        metrics |= {
            name: shares(above, part)
            for name, (low, high) in TURNS.items()
            if (part := (turn >= low) & (turn < high))[same].any()
        }
    return metrics


def relatives_metrics(embedder: NetworkEmbedder, landmarker: HourglassLandmarker, threshold: float) -> dict[str, float]:
    """Of the held-out families, the share of pairs above the threshold (cosine): photos of one person, of
    relatives, and of people of two families."""
    aligned, faces = aligned_families(landmarker, embedder.crop_mode)
    vectors, families = embedder.embed(aligned), np.array([family(person) for person in faces.people])
    i, j = np.triu_indices(len(vectors), 1)
    above = (vectors @ vectors.T)[i, j] > threshold
    same, related = faces.people[i] == faces.people[j], families[i] == families[j]
    kinds = {"same_person": same, "relatives": related & ~same, "impostors": ~related}
    metrics = {name: float(above[kind].mean()) for name, kind in kinds.items()}
    return metrics | {"people": len(set(faces.people)), "families": len(set(families))}


def families_rates(embedder: NetworkEmbedder, landmarker: HourglassLandmarker) -> dict[str, float]:
    """FPR -> TPR of the held-out families, relatives among the impostors."""
    aligned, faces = aligned_families(landmarker, embedder.crop_mode)
    return tpr_at_fprs(embedder.embed(aligned), faces.people)


def choice_rows(embedders: dict[str, NetworkEmbedder], landmarker: HourglassLandmarker) -> list[dict[str, Any]]:
    """What the choice of the pipeline's embedder rests on: rates of some on open_val and on the held-out families:
    "embedder", "open_val_0.1", ..., "families_0.0001"."""
    rows = []
    for name, embedder in embedders.items():
        row: dict[str, Any] = {"embedder": name}
        for key, load in {"open_val": partial(aligned_open_set, "open_val"), "families": aligned_families}.items():
            aligned, faces = load(landmarker, embedder.crop_mode)
            row |= {f"{key}_{fpr}": rate for fpr, rate in tpr_at_fprs(embedder.embed(aligned), faces.people).items()}
        rows.append(row)
    return rows


def lfw_pairs(embedder: NetworkEmbedder, landmarker: HourglassLandmarker) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine, whether of one person, and fold of the 6,000 pairs of LFW View 2."""
    aligned, kept = aligned_set("lfw", landmarker, embedder.crop_mode)
    if len(kept) != len(load_faces("lfw")):
        raise ValueError("some photos of LFW could not be read: prepare them again, View 2 needs them all")
    vectors = embedder.embed(aligned)
    first, second, same, fold = load_lfw_pairs()
    return (vectors[first] * vectors[second]).sum(1), same, fold


def lfw_metrics(embedder: NetworkEmbedder, landmarker: HourglassLandmarker) -> dict[str, float]:
    """LFW View 2: mean accuracy, its standard error, and TPR at FPR 0.001 over the 6,000 pairs."""
    similarity, same, fold = lfw_pairs(embedder, landmarker)
    accuracy, error = lfw_accuracy(similarity, same, fold)
    threshold = np.sort(similarity[~same])[::-1][int(0.001 * (~same).sum())]
    tpr = float((similarity[same] > threshold).mean())
    return {"accuracy": accuracy, "standard_error": error, "tpr_at_fpr_0.001": tpr}


def embedder_metrics(embedder: NetworkEmbedder, landmarker: HourglassLandmarker, threshold: float) -> dict[str, Any]:
    """Everything that is measured of an embedder; `threshold` (cosine): for robustness and relatives."""
    vectors, people = open_set_embeddings(embedder, landmarker, "open_val")
    aligned, faces = aligned_open_set("open_test", landmarker, embedder.crop_mode)
    metrics = {
        "open_val": identification_rate(vectors, people, fprs=measurable_fprs(people)),
        "open_test": open_set_metrics(embedder.embed(aligned), faces.people),
        "lfw": lfw_metrics(embedder, landmarker),
        "robustness": robustness_metrics(embedder, aligned, faces, threshold),
        "relatives": relatives_metrics(embedder, landmarker, threshold),
        "families": families_rates(embedder, landmarker),
    }
    return metrics | ({"alignment": alignment_metrics(embedder, landmarker)} if embedder.crop_mode in METHODS else {})
