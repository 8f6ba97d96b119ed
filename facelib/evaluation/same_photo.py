"""Impostor pairs within one photo share its lighting and camera, and are more alike: by how much?"""

from typing import Any

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import CROP_MODES
from facelib.evaluation.calibration import TARGET_FMRS
from facelib.evaluation.detection import load_photo_faces
from facelib.io.images import read_image
from facelib.recognition.calibration import Calibration
from facelib.settings import LISTS, data_folder
from facelib.types import NamedEmbedder


def same_photo_metrics(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration
) -> dict[str, Any]:
    """FMR among the faces of each photo of <FACELIB_DATA>/photos, whose faces were labelled by hand.

    Two faces of one photo are an impostor pair, except in the photos of `data/one_person_photos.txt`, which are
    collages of one person.

    Returns:
        "pairs": number of impostor pairs; target FMR -> FMR found among them; "score_at_0.01": score that accepts 1 %
        of them; "collage_pairs": number of genuine pairs; "collage_<target FMR>": share of them accepted.
    """
    scores = _scores(embedder, landmarker, calibration)
    impostor, genuine = np.array(scores["impostor"]), np.array(scores["genuine"])
    limits = {target: calibration.score_at(target) for target in TARGET_FMRS}
    return {
        "pairs": len(impostor),
        **{f"{target:g}": float((impostor >= limit).mean()) for target, limit in limits.items()},
        "score_at_0.01": float(np.quantile(impostor, 0.99)),
        "collage_pairs": len(genuine),
        **{f"collage_{target:g}": float((genuine >= limit).mean()) for target, limit in limits.items()},
    }


def _scores(
    embedder: NamedEmbedder, landmarker: HourglassLandmarker, calibration: Calibration
) -> dict[str, list[float]]:
    """Scores of all pairs within a photo, "genuine" and "impostor"."""
    collages = (LISTS / "one_person_photos.txt").read_text().split()
    files = {file.name: file for file in (data_folder() / "photos").rglob("*.jpg")}
    scores: dict[str, list[float]] = {"genuine": [], "impostor": []}
    for photo, (boxes, is_face) in load_photo_faces().items():
        image = read_image(files[photo])
        landmarks = landmarker.predict([image], [boxes[is_face]])[0]
        embeddings = embedder.embed(CROP_MODES[embedder.crop_mode](image, landmarks))
        i, j = np.triu_indices(len(embeddings), 1)
        kind = "genuine" if photo in collages else "impostor"
        scores[kind] += calibration.score_matrix(embeddings, embeddings)[i, j].tolist()
    return scores
