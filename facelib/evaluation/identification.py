"""Open-set identification, clustering and quality: `python -m facelib.evaluation identification`."""

from collections.abc import Sequence, Set
from functools import partial
from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import align_photos, aligned_open_set, aligned_set
from facelib.datasets.face_list import FaceList
from facelib.datasets.label_conventions import find_with_confidence
from facelib.datasets.sources import load_orl
from facelib.embedding.similarity import mean_embedding, unit_vectors
from facelib.evaluation.calibration import TARGET_FMRS
from facelib.evaluation.sets import LFW, OPEN_SET
from facelib.landmark_metrics import head_turn
from facelib.metrics import bcubed, pair_similarities
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import cluster_faces, clustering_fmr, merge_scores
from facelib.recognition.cohort import score_offsets
from facelib.recognition.condition import measure_condition
from facelib.recognition.quality import face_quality, lighting, sharpness
from facelib.types import NamedEmbedder

ENROLLED_PHOTOS = (1, 3, 5)  # photos per enrolled person
FPIRS = (0.1, 0.01, 0.001)  # false positive identification rates: share of non-mated probes that get a name
DRAWS = 10  # random choices of the enrolled people and their photos
CLUSTERING_FMRS = (0.0002, 0.0005, 0.001, 0.002, 0.005)  # of two single faces
KEPT_SHARES = (1, 0.95, 0.9, 0.8, 0.7)  # of the faces, by quality


def identification(embeddings: np.ndarray, people: np.ndarray, photos: int, calibration: Calibration) -> dict[str, Any]:
    """Open-set identification with half of the people enrolled, averaged over `DRAWS` random draws.

    Args:
        embeddings: (n, d), unit length; people: (n,) names.
        photos: enrolled photos per person.
        calibration: makes scores, and converts them to FMR.

    Returns:
        "rank_1": share of mated probes whose nearest enrolled person is the right one. "dir_<FPIR>": detection and
        identification rate, the share that is also above the threshold of that FPIR. "nearest_photo_...": the
        same with the nearest photo of a person instead of the mean embedding. "fpir_<target>": FPIR found when the
        gallery decides by the calibration, lower than it is on people that the calibration was measured on (open_val).
        "enrolled": number of people.
    """
    rows = [_identify(embeddings, people, photos, calibration, seed) for seed in range(DRAWS)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    deviation = float(np.std([row["dir_0.01"] for row in rows]))
    return means | {"dir_0.01_deviation": deviation, "enrolled": len(np.unique(people)) // 2}


def _identify(
    embeddings: np.ndarray, people: np.ndarray, photos: int, calibration: Calibration, seed: int
) -> dict[str, float]:
    """One draw of `identification`."""
    rng, names = np.random.default_rng(seed), np.unique(people)
    enrolled = rng.permutation(names)[: len(names) // 2]
    gallery = [rng.permutation(np.flatnonzero(people == name))[:photos] for name in enrolled]
    probes = np.setdiff1d(np.arange(len(embeddings)), np.concatenate(gallery))
    index = {name: number for number, name in enumerate(enrolled)}
    truth = np.array([index.get(name, -1) for name in people[probes]])
    means = np.stack([mean_embedding(embeddings[rows], np.ones(len(rows))) for rows in gallery])
    to_mean = calibration.score_matrix(embeddings[probes], means)
    to_photos = calibration.score_matrix(embeddings[probes], embeddings[np.concatenate(gallery)])
    ends = np.cumsum([len(rows) for rows in gallery])[:-1]
    to_nearest = np.stack([part.max(1) for part in np.split(to_photos, ends, axis=1)], 1)
    result = _identification_rates(to_mean, truth)
    result |= {f"nearest_photo_{key}": value for key, value in _identification_rates(to_nearest, truth).items()}
    highest = to_mean[truth < 0].max(1)
    fmr = np.array([calibration.extrapolated_fmr(float(score), photos) for score in highest])
    expected = 1 - (1 - fmr) ** len(enrolled)  # FPIR of a gallery of this size
    return result | {f"fpir_{target:g}": float((expected <= target).mean()) for target in FPIRS}


def _identification_rates(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Rank-1 and DIR at each FPIR of probes x enrolled scores (m, k); truth (m,): index, -1 if not enrolled."""
    best, correct = scores.max(1), scores.argmax(1) == truth
    rates = {"rank_1": float(correct[truth >= 0].mean())}
    for fpir in FPIRS:
        threshold = np.quantile(best[truth < 0], 1 - fpir)
        rates[f"dir_{fpir:g}"] = float((correct & (best > threshold))[truth >= 0].mean())
    return rates


def clustering_metrics(
    embeddings: np.ndarray, people: np.ndarray, calibration: Calibration, fmrs: Sequence[float] = ()
) -> dict:
    """Clustering by person as an album does, at each target FMR of two faces and at the album's: FMR -> `bcubed`
    metrics, "groups" and "people" (counts), and "default", whether it is the album's."""
    result = {}
    default = clustering_fmr(len(embeddings))
    for fmr in sorted({*fmrs, default}):
        scores = merge_scores(calibration, len(embeddings), fmr)
        condition = measure_condition(embeddings, scores, np.arange(len(embeddings)), calibration.cohort) or 0.0
        offsets = score_offsets(embeddings, calibration.cohort) + condition / 2
        groups = cluster_faces(embeddings, scores, offsets=offsets)
        counts = {"groups": int(groups.max()) + 1, "people": len(set(people)), "default": fmr == default}
        result[f"{fmr:g}"] = bcubed(people, groups) | counts
    return result


def condition_metrics(embeddings: np.ndarray, people: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """What the faces of a collection share, and how many impostor pairs pass without and with it.

    Returns:
        "condition" (`measure_condition`), and for each target FMR "fmr_<target>" and "fmr_<target>_without": FMR found
        where the condition is taken from the scores, and where it is not.
    """
    scores = merge_scores(calibration, len(embeddings))
    condition = measure_condition(embeddings, scores, np.arange(len(embeddings)), calibration.cohort) or 0.0
    offsets = score_offsets(embeddings, calibration.cohort)
    _, impostor = pair_similarities(embeddings, people, offsets=offsets)
    result = {"condition": condition}
    for target in TARGET_FMRS:
        limit = calibration.score_at(target)
        result[f"fmr_{target:g}_without"] = float((impostor >= limit).mean())
        result[f"fmr_{target:g}"] = float((impostor - condition >= limit).mean())
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


def rejection_curve(
    embeddings: np.ndarray,
    people: np.ndarray,
    quality: np.ndarray,
    threshold: float,
    shares: Sequence[float],
    offsets: np.ndarray | None = None,
) -> dict[str, float]:
    """Error-against-rejection curve of a face quality: false non-match rate when only the best faces are kept.

    Args:
        embeddings: (n, d).
        people: (n,) person of each.
        quality: (n,); the curve falls if it predicts errors.
        threshold: a genuine pair with a lower similarity is a false non-match.
        shares: shares of the faces that are kept, those of the highest quality.
        offsets: (n,); None: similarities are cosines.

    Returns:
        Share, as text -> false non-match rate, NaN without a genuine pair.
    """
    unit = unit_vectors(embeddings)
    person = np.unique(people, return_inverse=True)[1]
    i, j = np.triu_indices(len(unit), 1)
    same = person[i] == person[j]
    i, j = i[same], j[same]
    taken = np.zeros(len(unit), np.float32) if offsets is None else offsets
    missed = (unit[i] * unit[j]).sum(1) - taken[i] - taken[j] < threshold
    order = np.argsort(-np.asarray(quality), kind="stable")
    result = {}
    for share in shares:
        kept = np.zeros(len(unit), bool)
        kept[order[: round(share * len(unit))]] = True
        pairs = kept[i] & kept[j]
        result[f"{share:g}"] = float(missed[pairs].mean()) if pairs.any() else float("nan")
    return result


def identification_metrics(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration, sets: Set[str]
) -> dict[str, Any]:
    """All identification metrics of an embedder on some of the sets open_val and open_test, and LFW; and on ORL.

    Returns:
        "identification": split -> enrolled photos -> `identification`. "clustering": split -> FMR ->
        `clustering_metrics`, at several FMRs on open_val and open_test, at the default on LFW and ORL. "condition":
        open_test, LFW and ORL -> `condition_metrics`. "rejection": split -> quality measure -> `rejection_curve` of
        the genuine pairs missed at FMR 0.001.
    """
    metrics: dict[str, Any] = {"identification": {}, "clustering": {}, "rejection": {}, "condition": {}}
    for split in ("open_val", "open_test") if OPEN_SET in sets else ():
        aligned, faces = aligned_open_set(split, landmarker, embedder.crop_mode)
        embeddings = embedder.embed(aligned)
        metrics["identification"][split] = {
            str(photos): identification(embeddings, faces.people, photos, calibration) for photos in ENROLLED_PHOTOS
        }
        metrics["clustering"][split] = clustering_metrics(embeddings, faces.people, calibration, CLUSTERING_FMRS)
        offsets, threshold = score_offsets(embeddings, calibration.cohort), calibration.score_at(0.001)
        metrics["rejection"][split] = {
            name: rejection_curve(embeddings, faces.people, values, threshold, KEPT_SHARES, offsets)
            for name, values in quality_measures(aligned, faces, landmarker).items()
        }
        if split == "open_test":
            metrics["condition"][split] = condition_metrics(embeddings, faces.people, calibration)
    loaders = {"orl": partial(align_photos, load_orl(), method=embedder.crop_mode)}
    if LFW in sets:
        loaders["lfw"] = partial(aligned_set, LFW, method=embedder.crop_mode)
    for name, load in loaders.items():
        aligned, faces = load(landmarker=landmarker)
        embeddings = embedder.embed(aligned)
        metrics["clustering"][name] = clustering_metrics(embeddings, faces.people, calibration)
        metrics["condition"][name] = condition_metrics(embeddings, faces.people, calibration)
    return metrics
