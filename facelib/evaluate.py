"""Measure the shipped weights on the full-size test sets and write the figures into the manifest:
`python -m facelib.evaluate`."""

import argparse
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facelib.alignment import METHODS
from facelib.checkpoints import MODELS, data_folder, read_manifest, write_manifest
from facelib.datasets import FaceList, load_faces, load_landmark_list, load_lfw_pairs
from facelib.embedding import SIDE_BY_SIDE, Embedder, SideBySide, load_embedder, load_side_by_side
from facelib.face_data import cut_faces, family, family_faces
from facelib.label_offsets import label_offsets, move_points
from facelib.landmarks import Landmarker, load_landmarker
from facelib.metrics import (
    FPRS,
    bootstrap_identification_rate,
    bootstrap_summary,
    head_turn,
    identification_rate,
    landmark_errors,
    lfw_accuracy,
    pair_similarities,
    rank_1,
    rates_of,
    verification_summary,
)
from facelib.preparation import align_photos
from facelib.train_landmarks import evaluate_landmarks

HOURGLASS = "hourglass_keypoints.pt"
COURSE_FPRS = (0.5, 0.2, 0.1, 0.05)
TURNS = {"frontal": (0, 0.15), "turned": (0.15, 0.35), "far turned": (0.35, np.inf)}  # of |head_turn|


def _smaller(face: np.ndarray) -> np.ndarray:
    return cv2.resize(cv2.resize(face, (28, 28), interpolation=cv2.INTER_AREA), (112, 112))


def _compressed(face: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)


SPOILED: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # aligned face -> the same, worse
    "grey": lambda face: cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2),
    "28 pixels wide": _smaller,
    "a third of the light": lambda face: face // 3,
    "JPEG of quality 10": _compressed,
}


def landmark_figures(landmarker: Landmarker, flipped: Landmarker) -> dict[str, dict[str, Any]]:
    """For each landmark test set: "nme", "above_10", "per_point", "faces", "by_turn", and "nme_flip"
    of `flipped`, the same network with flip averaging.

    Of sets with validation faces also "label_offsets" (5, 2), measured on those, and "nme_offset" and
    "nme_flip_offset": when the points found are moved by them, so without what the label sets disagree about.
    """
    faces = load_landmark_list()
    test, val = faces.where(faces.splits == "test"), faces.where(faces.splits == "val")
    results, with_flip = evaluate_landmarks(landmarker, test), evaluate_landmarks(flipped, test)
    figures = {}
    for name, result in results.items():
        figures[name] = {key: result[key] for key in ("nme", "above_10", "per_point", "faces")}
        figures[name]["nme_flip"] = with_flip[name]["nme"]
        if name in val.sets:
            offsets = label_offsets(flipped, val.where(val.sets == name))
            labels = test.where(test.sets == name).points
            figures[name]["label_offsets"] = offsets.round(4).tolist()
            for key, found in (("nme_offset", result["found"]), ("nme_flip_offset", with_flip[name]["found"])):
                figures[name][key] = float(landmark_errors(move_points(found, offsets), labels).mean())
        turn = np.abs(head_turn(test.where(test.sets == name).points))
        figures[name]["by_turn"] = {
            label: {"nme": float(result["errors"][part].mean()), "faces": int(part.sum())}
            for label, (low, high) in TURNS.items()
            if (part := (turn >= low) & (turn < high)).any()
        }
    return figures


def alignment_figures(embedder: Embedder | SideBySide, landmarker: Landmarker) -> dict[str, dict[str, float]]:
    """TPR on open_val for faces cut by the box alone, aligned by the eyes, by all five points, and by the
    detector's five."""
    unseen = load_faces("faces_unseen")
    unseen = unseen.where(unseen.splits == "open_val")
    figures = {}
    for how in ("box", *METHODS, "detector"):
        cut, kept = cut_faces(unseen, how, landmarker)
        figures[how] = rates_of(embedder.embed(cut), kept.people)
    return figures


def open_set_faces(landmarker: Landmarker, split: str) -> tuple[np.ndarray, FaceList]:
    """Aligned faces (n, 112, 112, 3) of "open_val" or "open_test", and who they are."""
    faces = load_faces("faces_unseen")
    cache = data_folder() / "cache" / f"{split}.npy"
    return align_photos(faces.where(faces.splits == split), landmarker, cache=cache)


def open_set_embeddings(
    embedder: Embedder | SideBySide, landmarker: Landmarker, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and people (n,) of "open_val" or "open_test"."""
    aligned, faces = open_set_faces(landmarker, split)
    return embedder.embed(aligned), faces.people


def open_set_figures(vectors: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    """Identification Rate, AUC, EER and rank-1 over all pairs, with intervals over people; and "distractors",
    the rate where half of the people are query and the others distractors."""
    fprs = (*COURSE_FPRS, *FPRS[1:])
    rows = identification_rate(vectors, people, fprs=fprs)
    for row, interval in zip(rows, bootstrap_identification_rate(vectors, people, fprs)):
        row["interval_95"] = interval
    summary = verification_summary(*pair_similarities(vectors, people))
    query = np.isin(people, np.unique(people)[::2])
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


def robustness_figures(
    embedder: Embedder | SideBySide, aligned: np.ndarray, faces: FaceList, threshold: float
) -> dict[str, dict[str, float]]:
    """Share above the threshold (cosine) of the pairs of one person, "tpr", and of two people, "fpr": as the
    photos are, where one of the two is spoiled, and by the head that is turned further (where the faces have
    a detector's points)."""
    first, second = np.triu_indices(len(aligned), 1)
    same = faces.people[first] == faces.people[second]

    def shares(above: np.ndarray, part: np.ndarray | bool = True) -> dict[str, float]:
        genuine, impostor = above[same & part], above[~same & part]
        return {"tpr": float(genuine.mean()), "fpr": float(impostor.mean()), "genuine_pairs": len(genuine)}

    vectors = embedder.embed(aligned)
    above = (vectors @ vectors.T)[first, second] > threshold
    figures = {"as they are": shares(above)}
    for name, spoil in SPOILED.items():
        spoiled = embedder.embed(np.stack([spoil(face) for face in aligned]))
        figures[name] = shares((vectors @ spoiled.T)[first, second] > threshold)
    if faces.points is not None:
        turn = np.abs(head_turn(faces.points))
        turn = np.maximum(turn[first], turn[second])
        figures |= {
            name: shares(above, part)
            for name, (low, high) in TURNS.items()
            if (part := (turn >= low) & (turn < high))[same].any()
        }
    return figures


def relatives_figures(embedder: Embedder | SideBySide, landmarker: Landmarker, threshold: float) -> dict[str, float]:
    """Of the held-out families, the share of pairs above the threshold (cosine): photos of one person, of
    relatives, and of people of two families."""
    aligned, faces = family_faces(landmarker)
    vectors, families = embedder.embed(aligned), np.array([family(person) for person in faces.people])
    i, j = np.triu_indices(len(vectors), 1)
    above = (vectors @ vectors.T)[i, j] > threshold
    same, related = faces.people[i] == faces.people[j], families[i] == families[j]
    kinds = {"same_person": same, "relatives": related & ~same, "strangers": ~related}
    figures = {name: float(above[kind].mean()) for name, kind in kinds.items()}
    return figures | {"people": len(set(faces.people)), "families": len(set(families))}


def choice_figures(embedders: dict[str, Embedder], landmarker: Landmarker) -> dict[str, dict[str, dict[str, float]]]:
    """What the choice of the pipeline's embedder rests on: each of the networks alone and every selection of them
    side by side, on open_val and on the held-out families.

    Returns:
        "name + name" -> {"open_val": FPR -> TPR, "families": FPR -> TPR}.
    """
    sets = {"open_val": open_set_faces(landmarker, "open_val"), "families": family_faces(landmarker)}
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for key, (aligned, faces) in sets.items():
        vectors = {name: embedder.embed(aligned) for name, embedder in embedders.items()}
        for count in range(1, len(vectors) + 1):
            for names in combinations(vectors, count):
                together = np.concatenate([vectors[name] for name in names], axis=1) / count**0.5
                figures.setdefault(" + ".join(names), {})[key] = rates_of(together, faces.people)
    return figures


def lfw_figures(embedder: Embedder | SideBySide, landmarker: Landmarker) -> dict[str, float]:
    """LFW View 2: mean accuracy, its standard error, and TPR at FPR 0.001 over the 6,000 pairs."""
    faces = load_faces("lfw")
    aligned, kept = align_photos(faces, landmarker, cache=data_folder() / "cache" / "lfw.npy")
    if len(kept) != len(faces):
        raise ValueError("some photos of LFW could not be read: prepare them again, View 2 needs them all")
    vectors = embedder.embed(aligned)
    first, second, same, fold = load_lfw_pairs()
    similarity = (vectors[first] * vectors[second]).sum(1)
    accuracy, error = lfw_accuracy(similarity, same, fold)
    threshold = np.sort(similarity[~same])[::-1][int(0.001 * (~same).sum())]
    tpr = float((similarity[same] > threshold).mean())
    return {"accuracy": accuracy, "standard_error": error, "tpr_at_fpr_0.001": tpr}


def embedder_entry(embedder: Embedder | SideBySide, landmarker: Landmarker) -> dict[str, Any]:
    """Threshold and figures of an embedder, for the manifest."""
    val = identification_rate(*open_set_embeddings(embedder, landmarker, "open_val"))
    threshold = next(row["threshold"] for row in val if row["fpr"] == 0.001)
    aligned, faces = open_set_faces(landmarker, "open_test")
    return {
        "threshold": {"cosine_distance": 1 - threshold, "chosen": "FPR 0.001 on open_val"},
        "figures": {
            "open_val": val,
            "open_test": open_set_figures(embedder.embed(aligned), faces.people),
            "lfw": lfw_figures(embedder, landmarker),
            "alignment": alignment_figures(embedder, landmarker),
            "robustness": robustness_figures(embedder, aligned, faces, threshold),
            "relatives": relatives_figures(embedder, landmarker, threshold),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the weights and their manifest")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="files of the manifest, your own too; embedder: the two networks side by side that the pipeline uses; "
        "default: all",
    )
    options = parser.parse_args()
    manifest = read_manifest(options.models)
    networks = [name for name, e in manifest.items() if e.get("architecture", "").endswith("EmbeddingNetwork")]
    known = [HOURGLASS] * (HOURGLASS in manifest) + networks
    known += ["embedder"] * all(name in networks for name in SIDE_BY_SIDE)
    if unknown := [name for name in options.only or [] if name not in known]:
        parser.error(
            f"--only {' '.join(unknown)}: {options.models / 'manifest.json'} has {', '.join(known) or 'nothing'}"
        )
    own = options.models / HOURGLASS
    landmarks = own if own.exists() else MODELS / HOURGLASS
    landmarker = load_landmarker(landmarks, options.device)
    found: dict[str, dict[str, Any]] = {}
    for name in options.only or known:
        if name == HOURGLASS:
            flipped = load_landmarker(landmarks, options.device, flip=True)
            found[name] = {"figures": landmark_figures(landmarker, flipped)}
        else:
            together = list(SIDE_BY_SIDE) if name == "embedder" else [name]
            embedder = load_side_by_side([options.models / file for file in together], options.device)
            found[name] = embedder_entry(embedder, landmarker)
            if name == "embedder":
                every = {file: load_embedder(options.models / file, options.device) for file in networks}
                found[name] |= {"files": together, "choice": choice_figures(every, landmarker)}
    manifest = read_manifest(options.models)  # again: a training may have ended since
    for name, entry in found.items():
        entry["figures"] = {
            **manifest.get(name, {}).get("figures", {}),
            **entry["figures"],
            "command": "python -m facelib.evaluate",
        }
        manifest.setdefault(name, {}).update(entry)
        print(name, json.dumps(entry, indent=1))
    write_manifest(manifest, options.models)


if __name__ == "__main__":
    main()
