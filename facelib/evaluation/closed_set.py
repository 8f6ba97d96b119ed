"""Embedders on held-out photos of people whom the training has seen: `python -m facelib.evaluation closed_set`.

Trainings measure the closed set by their own logits; class vectors are not shipped, so of shipped weights it is
measured by class centres: a photo gets the name of the nearest mean vector of some of a person's training photos.
"""

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import align_photos, cache_file
from facelib.datasets.face_list import load_faces
from facelib.datasets.splits import sample_per_person, training_list
from facelib.embedding.embedder import NetworkEmbedder
from facelib.metrics import top_k_accuracy

CENTRE_PHOTOS = 5  # of a person's training photos, of which a centre is the mean


def closed_set_rows(
    embedders: dict[str, NetworkEmbedder], sets: list[str], landmarker: HourglassLandmarker
) -> list[dict]:
    """For each embedder: "networks", what it is called; "top1", "top5", and of how many photos and people.

    Args:
        sets: what they were trained on; the photos of the split "test" are named.
    """
    listed = training_list({name: load_faces(name) for name in sets})
    train = listed.splits == "train"
    few = np.flatnonzero(train)[sample_per_person(listed.select(train), CENTRE_PHOTOS)]
    chosen = listed.select(np.union1d(few, np.flatnonzero(listed.splits == "test")))
    rows = []
    for name, embedder in embedders.items():
        cache = cache_file("closed_set", embedder.crop_mode)
        aligned, faces = align_photos(chosen, landmarker, method=embedder.crop_mode, cache=cache)
        names, labels = np.unique(faces.people, return_inverse=True)
        train, test = (np.flatnonzero(faces.splits == split) for split in ("train", "test"))
        vectors = embedder.embed(aligned[train])
        centres = np.zeros((len(names), vectors.shape[1]), np.float32)
        np.add.at(centres, labels[train], vectors)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
        cosines = embedder.embed(aligned[test]) @ centres.T
        ranks = {f"top{k}": top_k_accuracy(cosines, labels[test], k) for k in (1, 5)}
        rows.append({"networks": name, **ranks, "photos": len(test), "people": len(names)})
    return rows
