"""Embedders on held-out photos of people whom the training has seen: `python -m facelib.evaluation closed_set`.

Trainings measure the closed set by their own logits; class vectors are not shipped, so of shipped weights it is
measured by class centres: a photo gets the name of the nearest mean vector of a person's training photos.
"""

from itertools import combinations

import numpy as np

from facelib.datasets.aligned import aligned_training_set
from facelib.embedding import Embedder
from facelib.landmarks import Landmarker
from facelib.metrics import top_k_accuracy


def closed_set_rows(embedders: dict[str, Embedder], sets: list[str], landmarker: Landmarker) -> list[dict]:
    """For each of the networks and every ensemble of them: "networks", "top1", "top5", and of how many photos.

    Args:
        sets: what they were trained on; the photos of the split "test" are named.
    """
    cosines = {}
    for name, embedder in embedders.items():
        aligned, faces = aligned_training_set(sets, landmarker, embedder.alignment)
        names, labels = np.unique(faces.people, return_inverse=True)
        train, test = (np.flatnonzero(faces.splits == split) for split in ("train", "test"))
        vectors = embedder.embed(aligned[train])
        centres = np.zeros((len(names), vectors.shape[1]), np.float32)
        np.add.at(centres, labels[train], vectors)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
        cosines[name] = embedder.embed(aligned[test]) @ centres.T
    rows = []
    for count in range(1, len(cosines) + 1):
        for chosen in combinations(cosines, count):
            mean = sum(cosines[name] for name in chosen)
            ranks = {f"top{k}": top_k_accuracy(mean, labels[test], k) for k in (1, 5)}
            rows.append({"networks": " + ".join(chosen), **ranks, "photos": len(test), "people": len(names)})
    return rows
