"""Strangers in one photo share its light and its camera: how much nearer are they?"""

from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import CROP_MODES
from facelib.embedding.embedder import NetworkEmbedder
from facelib.evaluation.detection import load_photo_faces
from facelib.io.images import read_image
from facelib.recognition.calibration import Calibration
from facelib.settings import LISTS, data_folder

TARGET_FMRS = (0.01, 0.001)


def same_photo_metrics(
    embedder: NetworkEmbedder, landmarker: HourglassLandmarker, calibration: Calibration
) -> dict[str, Any]:
    """Distances between the faces of each whole photo of <FACELIB_DATA>/photos, checked by eye: two faces of one photo
    are two people, but in the photos of `data/one_person_photos.txt`, which are collages of one.

    Returns:
        "pairs" of strangers; promised false positive rate -> the rate that was found among them; "distance_at_0.01":
        what one in a hundred of them is nearer than; "collage_pairs" of one person, and the share of them that is found
        at each promised rate.
    """
    collages = (LISTS / "one_person_photos.txt").read_text().split()
    files = {file.name: file for file in (data_folder() / "photos").rglob("*.jpg")}
    distances: dict[bool, list[float]] = {False: [], True: []}
    for photo, (boxes, sure) in load_photo_faces().items():
        image = read_image(files[photo])
        landmarks = landmarker.predict([image], [boxes[sure]])[0]
        vectors = embedder.embed(CROP_MODES[embedder.crop_mode](image, landmarks))
        i, j = np.triu_indices(len(vectors), 1)
        distances[photo in collages] += (1 - (vectors @ vectors.T)[i, j]).tolist()
    impostors, same = np.array(distances[False]), np.array(distances[True])
    close = {target: calibration.distance_at(target) for target in TARGET_FMRS}
    return {
        "pairs": len(impostors),
        **{f"{target:g}": float((impostors <= distance).mean()) for target, distance in close.items()},
        "distance_at_0.01": float(np.quantile(impostors, 0.01)),
        "collage_pairs": len(same),
        **{f"collage_{target:g}": float((same <= distance).mean()) for target, distance in close.items()},
    }
