"""What the pipeline makes of vectors: naming, sorting and quality, `python -m facelib.evaluation who`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import aligned_open_set, aligned_set
from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import find_with_confidence
from facelib.embedding.embedder import NetworkEmbedder
from facelib.embedding.similarity import mean_embedding
from facelib.metrics import bcubed, head_turn, rejection_curve
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import cluster_faces, clustering_fmr
from facelib.recognition.quality import face_quality, lighting, sharpness

ENROLLED = (1, 3, 5)  # photos of each known person
FPIRS = (0.1, 0.01, 0.001)  # of faces of unknown people that are given a name
DRAWS = 10  # of who is known, and by which photos
RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)  # at which faces are sorted, for the choice on open_val
KEPT = (1, 0.95, 0.9, 0.8, 0.7)  # shares of the faces that are kept


def identification(
    vectors: np.ndarray, people: np.ndarray, photos: int, calibration: Calibration | None = None
) -> dict[str, Any]:
    """Half of the people are known by `photos` photos each, the other half is not; averages over `DRAWS` draws.

    Returns:
        "rank_1": of the other photos of known people, the share whose nearest person is the right one. "dir": false
        alarm rate -> share that is nearest to the right person and nearer than the threshold of that rate, which lets
        so many photos of unknown people be given a name. "nearest_photo": the same where the nearest photo counts, not
        the mean of a person's. "fpir_...": target rate -> found, for a gallery that decides by the calibration.
    """
    rows = []
    for draw in range(DRAWS):
        rng, names = np.random.default_rng(draw), np.unique(people)
        known = rng.permutation(names)[: len(names) // 2]
        enrolled = [rng.permutation(np.flatnonzero(people == name))[:photos] for name in known]
        probes = np.setdiff1d(np.arange(len(vectors)), np.concatenate(enrolled))
        place = {name: number for number, name in enumerate(known)}
        truth = np.array([place.get(name, -1) for name in people[probes]])
        means = np.stack([mean_embedding(vectors[own], np.ones(len(own))) for own in enrolled])
        cosines = vectors[probes] @ means.T
        row = _rates(cosines, truth)
        nearest = np.stack([(vectors[probes] @ vectors[own].T).max(1) for own in enrolled], 1)
        row |= {f"nearest_photo_{key}": value for key, value in _rates(nearest, truth).items()}
        if calibration:
            closest = 1 - cosines[truth < 0].max(1)
            found = np.array([calibration.false_match_rate(float(d), photos) for d in closest])
            alarm = 1 - (1 - found) ** len(known)
            row |= {f"fpir_{target:g}": float((alarm <= target).mean()) for target in FPIRS}
        rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {
        "dir_0.01_deviation": float(np.std([row["dir_0.01"] for row in rows])),
        "known": len(known),
    }


def _rates(cosines: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    best, right = cosines.max(1), cosines.argmax(1) == truth
    rates = {"rank_1": float(right[truth >= 0].mean())}
    for alarm in FPIRS:
        threshold = np.quantile(best[truth < 0], 1 - alarm)
        rates[f"dir_{alarm:g}"] = float((right & (best > threshold))[truth >= 0].mean())
    return rates


def sorting(vectors: np.ndarray, people: np.ndarray, calibration: Calibration, rates: Sequence[float]) -> dict:
    """Rate at which faces are sorted -> `bcubed`, and how many "groups" came of how many "people"."""
    result = {}
    for rate in rates:
        groups = cluster_faces(vectors, calibration.distance_at(rate))
        result[f"{rate:g}"] = bcubed(people, groups) | {"groups": int(groups.max()) + 1, "people": len(set(people))}
    return result


def quality_measures(aligned: np.ndarray, faces: FaceList, landmarker: HourglassLandmarker) -> dict[str, np.ndarray]:
    """What may foretell that a face is not found again, higher is better: for each face (n,)."""
    points, confidence = find_with_confidence(landmarker, faces)
    found = {
        "quality": [face_quality(face, sure) for face, sure in zip(aligned, confidence)],
        "sharpness": [sharpness(face) for face in aligned],
        "contrast": [lighting(face) for face in aligned],
        "landmark confidence, least": confidence.min(1),
        "landmark confidence, mean": confidence.mean(1),
        "eyes apart, pixels": np.linalg.norm(points[:, 1] - points[:, 0], axis=1),
        "little turned": -np.abs(head_turn(points)),
    }
    return {name: np.asarray(values, float) for name, values in found.items()}


def identification_metrics(
    embedder: NetworkEmbedder, landmarker: HourglassLandmarker, calibration: Calibration
) -> dict[str, Any]:
    """Everything: "identification" by photos enrolled, on open_test; "sorting" of open_val (for the choice of the
    rate), open_test and LFW; "rejection": sign -> `rejection_curve` on open_val and open_test."""
    threshold = 1 - calibration.distance_at(0.001)
    metrics: dict[str, Any] = {"identification": {}, "sorting": {}, "rejection": {}}
    for split in ("open_val", "open_test"):
        aligned, faces = aligned_open_set(split, landmarker, embedder.crop_mode)
        vectors = embedder.embed(aligned)
        given = calibration if split == "open_test" else None
        metrics["identification"][split] = {
            str(photos): identification(vectors, faces.people, photos, given) for photos in ENROLLED
        }
        rates = RATES if split == "open_val" else (clustering_fmr(len(vectors)),)
        metrics["sorting"][split] = sorting(vectors, faces.people, calibration, rates)
        metrics["rejection"][split] = {
            sign: rejection_curve(vectors, faces.people, values, threshold, KEPT)
            for sign, values in quality_measures(aligned, faces, landmarker).items()
        }
    aligned, faces = aligned_set("lfw", landmarker, embedder.crop_mode)
    rates = (clustering_fmr(len(aligned)),)
    metrics["sorting"]["lfw"] = sorting(embedder.embed(aligned), faces.people, calibration, rates)
    return metrics
