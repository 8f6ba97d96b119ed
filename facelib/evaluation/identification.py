"""Open-set identification, clustering and quality: `python -m facelib.evaluation identification`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import aligned_open_set, aligned_set
from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import find_with_confidence
from facelib.embedding.similarity import mean_embedding
from facelib.landmark_metrics import head_turn
from facelib.metrics import bcubed, rejection_curve
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import cluster_faces, clustering_fmr
from facelib.recognition.quality import face_quality, lighting, sharpness
from facelib.types import NamedEmbedder

ENROLLED_PHOTOS = (1, 3, 5)  # photos per enrolled person
FPIRS = (0.1, 0.01, 0.001)  # false positive identification rates: share of non-mated probes that get a name
DRAWS = 10  # random choices of the enrolled people and their photos
CLUSTERING_FMRS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)  # tried on open_val, where the default was chosen
KEPT_SHARES = (1, 0.95, 0.9, 0.8, 0.7)  # of the faces, by quality


def identification(
    embeddings: np.ndarray, people: np.ndarray, photos: int, calibration: Calibration | None = None
) -> dict[str, Any]:
    """Open-set identification with half of the people enrolled, averaged over `DRAWS` random draws.

    Args:
        embeddings: (n, d), unit length; people: (n,) names.
        photos: enrolled photos per person.
        calibration: converts distances to FMR; without it no FPIR is measured.

    Returns:
        "rank_1": share of mated probes whose nearest enrolled person is the right one. "dir_<FPIR>": detection and
        identification rate, the share that is also closer than the threshold of that FPIR. "nearest_photo_...": the
        same with the nearest photo of a person instead of the mean embedding. "fpir_<target>": FPIR found when the
        gallery decides by the calibration. "enrolled": number of people.
    """
    rows = [_identify(embeddings, people, photos, calibration, seed) for seed in range(DRAWS)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    deviation = float(np.std([row["dir_0.01"] for row in rows]))
    return means | {"dir_0.01_deviation": deviation, "enrolled": len(np.unique(people)) // 2}


def _identify(
    embeddings: np.ndarray, people: np.ndarray, photos: int, calibration: Calibration | None, seed: int
) -> dict[str, float]:
    """One draw of `identification`."""
    rng, names = np.random.default_rng(seed), np.unique(people)
    enrolled = rng.permutation(names)[: len(names) // 2]
    gallery = [rng.permutation(np.flatnonzero(people == name))[:photos] for name in enrolled]
    probes = np.setdiff1d(np.arange(len(embeddings)), np.concatenate(gallery))
    index = {name: number for number, name in enumerate(enrolled)}
    truth = np.array([index.get(name, -1) for name in people[probes]])
    means = np.stack([mean_embedding(embeddings[rows], np.ones(len(rows))) for rows in gallery])
    to_mean = embeddings[probes] @ means.T
    to_nearest = np.stack([(embeddings[probes] @ embeddings[rows].T).max(1) for rows in gallery], 1)
    result = _identification_rates(to_mean, truth)
    result |= {f"nearest_photo_{key}": value for key, value in _identification_rates(to_nearest, truth).items()}
    if calibration:
        closest = 1 - to_mean[truth < 0].max(1)
        fmr = np.array([calibration.false_match_rate(float(distance), photos) for distance in closest])
        expected = 1 - (1 - fmr) ** len(enrolled)  # FPIR of a gallery of this size
        result |= {f"fpir_{target:g}": float((expected <= target).mean()) for target in FPIRS}
    return result


def _identification_rates(cosines: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Rank-1 and DIR at each FPIR of probes x enrolled cosines (m, k); truth (m,): index, -1 if not enrolled."""
    best, correct = cosines.max(1), cosines.argmax(1) == truth
    rates = {"rank_1": float(correct[truth >= 0].mean())}
    for fpir in FPIRS:
        threshold = np.quantile(best[truth < 0], 1 - fpir)
        rates[f"dir_{fpir:g}"] = float((correct & (best > threshold))[truth >= 0].mean())
    return rates


def clustering_metrics(
    embeddings: np.ndarray, people: np.ndarray, calibration: Calibration, fmrs: Sequence[float]
) -> dict:
    """Clustering by person at the distance of each FMR: FMR -> `bcubed` metrics, "groups" and "people" (counts)."""
    result = {}
    for fmr in fmrs:
        groups = cluster_faces(embeddings, calibration.distance_at(fmr))
        result[f"{fmr:g}"] = bcubed(people, groups) | {"groups": int(groups.max()) + 1, "people": len(set(people))}
    return result


def quality_measures(aligned: np.ndarray, faces: FaceList, landmarker: HourglassLandmarker) -> dict[str, np.ndarray]:
    """Candidate quality measures that may predict missed matches, higher is better: name -> (n,) float."""
    points, confidence = find_with_confidence(landmarker, faces)
    measures = {
        "quality": [face_quality(face, of_landmarks) for face, of_landmarks in zip(aligned, confidence)],
        "sharpness": [sharpness(face) for face in aligned],
        "contrast": [lighting(face) for face in aligned],
        "landmark confidence, minimum": confidence.min(1),
        "landmark confidence, mean": confidence.mean(1),
        "inter-ocular distance, pixels": np.linalg.norm(points[:, 1] - points[:, 0], axis=1),
        "frontal pose": -np.abs(head_turn(points)),
    }
    return {name: np.asarray(values, float) for name, values in measures.items()}


def identification_metrics(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration
) -> dict[str, Any]:
    """All identification metrics of an embedder.

    Returns:
        "identification": split -> enrolled photos -> `identification`. "clustering": split -> FMR ->
        `clustering_metrics`, at several FMRs on open_val, at the default on open_test and LFW. "rejection": split ->
        quality measure -> `rejection_curve` of the genuine pairs missed at FMR 0.001.
    """
    threshold = 1 - calibration.distance_at(0.001)
    metrics: dict[str, Any] = {"identification": {}, "clustering": {}, "rejection": {}}
    for split in ("open_val", "open_test"):
        aligned, faces = aligned_open_set(split, landmarker, embedder.crop_mode)
        embeddings = embedder.embed(aligned)
        used = calibration if split == "open_test" else None  # it was measured on open_val
        metrics["identification"][split] = {
            str(photos): identification(embeddings, faces.people, photos, used) for photos in ENROLLED_PHOTOS
        }
        fmrs = CLUSTERING_FMRS if split == "open_val" else (clustering_fmr(len(embeddings)),)
        metrics["clustering"][split] = clustering_metrics(embeddings, faces.people, calibration, fmrs)
        metrics["rejection"][split] = {
            name: rejection_curve(embeddings, faces.people, values, threshold, KEPT_SHARES)
            for name, values in quality_measures(aligned, faces, landmarker).items()
        }
    aligned, faces = aligned_set("lfw", landmarker, embedder.crop_mode)
    fmrs = (clustering_fmr(len(aligned)),)
    metrics["clustering"]["lfw"] = clustering_metrics(embedder.embed(aligned), faces.people, calibration, fmrs)
    return metrics
