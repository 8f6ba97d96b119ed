"""A person by one photo or several, and the photos of others that show the same person."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facelib.cli.arguments import PhotoList
from facelib.cli.console import Console
from facelib.cli.identification import NOT_MEASURED
from facelib.cli.known_faces import PhotoFaces
from facelib.cli.options import DecisionOptions
from facelib.cli.runs import process_photos
from facelib.embedding.similarity import mean_embedding
from facelib.pipeline import FacePipeline
from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import score_offsets
from facelib.recognition.enrolment import find_enrolment_issue
from facelib.recognition.gallery_store import EnrolledPeople

PERSON = "the person"


@dataclass(frozen=True)
class Person:
    """Whom a search looks for.

    embedding: (d,) mean of the photos' embeddings, weighted by quality, of unit length.
    photos: their number.
    failed: whether some photos could not be used.
    """

    embedding: np.ndarray
    photos: int
    failed: bool


@dataclass(frozen=True)
class Match:
    """A photo that shows the person.

    photo: its path. face: number of the face in it. box: x1 y1 x2 y2 in pixels.
    score: of the face with the person, see `Calibration`.
    false_match_rate: share of impostors of whom some face of the whole search has such a score; NaN where the embedder
        has no calibration.
    reason: why it is not sure, "too blurred"; else "".
    """

    photo: str
    face: int
    box: list[float]
    score: float
    false_match_rate: float
    reason: str


def read_person(
    pipeline: FacePipeline, photos: PhotoList, calibration: Calibration, batch_size: int, console: Console
) -> Person:
    """Make one embedding of all photos of a person, of the largest face of each.

    Photos with several faces, of low quality, and those that seem to show somebody else, are named.

    Raises:
        ValueError: none of them shows a face.
    """
    found, failed = {}, False
    for photo, faces in process_photos(pipeline, photos, batch_size, console):
        failed |= not faces
        if not faces:
            if not faces.error:
                console.error(f"{photo}: no face found")
            continue
        if len(faces) > 1:
            console.notice(
                f"{photo}: {len(faces)} faces, the largest is taken for the person: crop it, if that is wrong"
            )
        if faces[0].quality_issue:
            console.notice(f"{photo}: the face is {faces[0].quality_issue}")
        found[photo] = faces[0]
    if not found:
        raise ValueError("no photo of the person shows a face: give another one")
    embeddings = np.stack([face.embedding for face in found.values()])
    mean = mean_embedding(embeddings, np.array([face.quality for face in found.values()]))
    person = EnrolledPeople([PERSON], np.zeros(len(found), int), embeddings, np.array([len(found)]), mean[None])
    measured = calibration if calibration.data != NOT_MEASURED else None
    for photo, embedding in zip(found, embeddings):
        if issue := find_enrolment_issue(person, PERSON, embedding, measured):
            console.notice(f"{photo}: {issue}; if it is somebody else, search without it")
    return Person(mean, len(found), failed)


def find_matches(
    person: Person, searched: Sequence[PhotoFaces], calibration: Calibration, decision: DecisionOptions
) -> list[Match]:
    """The photos that show a person, each with the face that has the highest score, the highest scores first.

    A photo matches by the target false match rate of the whole search or, where one is given, by the threshold. Faces
    with a quality issue match nobody for sure: a photo that has only such ones has a `reason`.
    """
    shown = [photo for photo in searched if photo.boxes]
    if not shown:
        return []
    embeddings = np.concatenate([photo.embeddings for photo in shown])
    offset = float(score_offsets(person.embedding[None], calibration.cohort)[0])
    scores = embeddings @ person.embedding - score_offsets(embeddings, calibration.cohort) - offset
    ends = np.cumsum([len(photo.boxes) for photo in shown])[:-1]
    matches = []
    for photo, own in zip(shown, np.split(scores, ends)):
        ordered = sorted(range(len(own)), key=lambda face: (bool(photo.issues[face]), -own[face]))
        rows = [_match(photo, face, float(own[face]), len(scores), person, calibration) for face in ordered]
        matches += [row for row in rows if _is_match(row, decision)][:1]
    return sorted(matches, key=lambda row: -row.score)


def _match(photo: PhotoFaces, face: int, score: float, faces: int, person: Person, calibration: Calibration) -> Match:
    rate = math.nan
    if calibration.data != NOT_MEASURED:
        rate = search_fmr(calibration.extrapolated_fmr(score, person.photos), faces)
    return Match(str(photo.photo), face, photo.boxes[face], score, rate, photo.issues[face])


def search_fmr(rate: float, faces: int) -> float:
    """How often an impostor has a match somewhere among so many faces, where one face matches with this rate."""
    return float(-np.expm1(faces * np.log1p(-min(rate, 1 - 1e-12))))


def _is_match(match: Match, decision: DecisionOptions) -> bool:
    if decision.threshold is not None:
        return match.score >= decision.threshold
    return match.false_match_rate <= decision.target_fmr
