"""Which face of a photo is that of its person, where a photo of one's own shows several people."""

import warnings
from pathlib import Path

import numpy as np

from facelib.alignment.align import align_faces
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList
from facelib.detection.detector import FaceDetector
from facelib.embedding.embedder import load_embedder
from facelib.io.images import read_image
from facelib.types import Embedder

NO_BOX = np.zeros((0, 4), np.float32)


def choose_faces(faces: FaceList, detector: FaceDetector, landmarker: HourglassLandmarker) -> list[np.ndarray]:
    """The box of one face of each photo: of several, the one that the person's other photos agree on.

    That is the face whose embedding is nearest, on average, to the nearest face of each other photo of the person.
    Where there is no other photo, it is the largest. A warning says how many photos show several faces.

    Returns:
        (1, 4) float32 for each photo, (0, 4) where it cannot be read or shows no face.
    """
    found = [_detect(file, detector) for file in faces.files]
    several = [i for i, boxes in enumerate(found) if len(boxes) > 1]
    chosen = [0] * len(found)
    embedder = load_embedder(device="cpu") if several else None
    for person in sorted({str(faces.people[i]) for i in several}):
        own = [i for i in np.flatnonzero(faces.people == person).tolist() if len(found[i])]
        embeddings = [_embed(read_image(faces.files[i]), found[i], landmarker, embedder) for i in own]
        for i, choice in zip(own, agreeing_faces(embeddings)):
            chosen[i] = choice
    if several:
        smaller = sum(choice > 0 for choice in chosen)
        warnings.warn(
            f"{len(several)} of {len(faces)} photos show several faces: the one is taken that the person's other "
            f"photos agree on, in {smaller} of them not the largest",
            stacklevel=2,
        )
    return [boxes[choice : choice + 1] for boxes, choice in zip(found, chosen)]


def agreeing_faces(embeddings: list[np.ndarray]) -> list[int]:
    """The index of the face in each of n photos of one person that the other photos agree on.

    Args:
        embeddings: of each photo its faces (k, d), of unit length, the largest first.
    """
    choices = []
    for i, candidates in enumerate(embeddings):
        nearest = [(candidates @ other.T).max(axis=1) for j, other in enumerate(embeddings) if j != i]
        choices.append(int(np.mean(nearest, axis=0).argmax()) if nearest else 0)
    return choices


def _detect(file: Path, detector: FaceDetector) -> np.ndarray:
    try:
        return detector.detect(read_image(file))[0]
    except (ValueError, OSError):  # reported where the photo is processed
        return NO_BOX


def _embed(image: np.ndarray, boxes: np.ndarray, landmarker: HourglassLandmarker, embedder: Embedder) -> np.ndarray:
    return embedder.embed(align_faces(image, landmarker.predict([image], [boxes])[0]))
