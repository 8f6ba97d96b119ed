"""Closed-set accuracy on held-out photos of the training identities: `python -m facelib.evaluation closed_set`.

Trainings measure it with their own logits. Class weights are not shipped, so the shipped networks are measured by class
centres: a photo is assigned to the identity whose mean embedding, of a few training photos, is the nearest.
"""

from collections.abc import Mapping

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import align_photos, cache_file
from facelib.datasets.face_list import load_faces
from facelib.datasets.splits import sample_per_person, training_list
from facelib.embedding.similarity import group_sums
from facelib.metrics import top_k_accuracy
from facelib.types import NamedEmbedder

CENTRE_PHOTOS = 5  # training photos per class centre


def closed_set_rows(
    embedders: Mapping[str, NamedEmbedder], sets: list[str], landmarker: HourglassLandmarker
) -> list[dict]:
    """Closed-set accuracy of each embedder.

    Args:
        embedders: label -> embedder.
        sets: names of the training sets, whose photos of the split "test" are classified.

    Returns:
        For each embedder "networks" (its label), "top1", "top5", "photos" and "people" (counts).
    """
    listed = training_list({name: load_faces(name) for name in sets})
    train = listed.splits == "train"
    centre_photos = np.flatnonzero(train)[sample_per_person(listed.select(train), CENTRE_PHOTOS)]
    chosen = listed.select(np.union1d(centre_photos, np.flatnonzero(listed.splits == "test")))
    rows = []
    for label, embedder in embedders.items():
        cache = cache_file("closed_set", embedder.crop_mode)
        aligned, faces = align_photos(chosen, landmarker, method=embedder.crop_mode, cache=cache)
        people, classes = np.unique(faces.people, return_inverse=True)
        train, test = (np.flatnonzero(faces.splits == split) for split in ("train", "test"))
        centres = class_centres(embedder.embed(aligned[train]), classes[train], len(people))
        cosines = embedder.embed(aligned[test]) @ centres.T
        accuracy = {f"top{k}": top_k_accuracy(cosines, classes[test], k) for k in (1, 5)}
        rows.append({"networks": label, **accuracy, "photos": len(test), "people": len(people)})
    return rows


def class_centres(embeddings: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Sum of the embeddings (n, d) of each of `count` classes, scaled to unit length: (count, d) float32."""
    centres = group_sums(embeddings, classes, count)
    return centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
