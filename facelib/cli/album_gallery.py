"""An album and a gallery: names come from the gallery, people with a name go there, and the table corrects it."""

from collections.abc import Sequence, Set

import numpy as np

from facelib.cli.album import AlbumFace, by_person
from facelib.cli.console import count
from facelib.cli.identification import identify_faces
from facelib.cli.options import DecisionOptions
from facelib.recognition.gallery import Gallery
from facelib.recognition.gallery_faces import move_faces
from facelib.recognition.gallery_store import DUPLICATE_DISTANCE
from facelib.recognition.names import LOW_QUALITY, is_named


def correct_gallery(faces: Sequence[AlbumFace], gallery: Gallery) -> list[str]:
    """Give the photos in a gallery the names that the table has for them; those whose name was taken back are removed.

    Photos that are not of this album stay as they are.

    Args:
        faces: with the people of the table.

    Returns:
        A line for each correction.
    """
    lines: list[str] = []
    if not faces:
        return lines
    known = np.stack([face.embedding for face in faces])
    for name, embeddings in gallery.export()["people"].items():
        for person, wrong in _corrections(name, embeddings, faces, known).items():
            if photos := move_faces(gallery, name, np.stack(wrong), person or None):
                photo = count(photos, "photo")
                done = f"{photo} of {name} to {person}" if person else f"removed {photo} of {name}"
                lines.append(f"corrected in the gallery as in the table: {done}")
    return lines


def _corrections(
    name: str, embeddings: np.ndarray, faces: Sequence[AlbumFace], known: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """Name of the table, "" for one that was taken back -> embeddings (d,) of the faces that the gallery has as
    somebody else, `name`."""
    found: dict[str, list[np.ndarray]] = {}
    for embedding in embeddings:
        same = [faces[place] for place in np.flatnonzero(1 - known @ embedding <= DUPLICATE_DISTANCE).tolist()]
        named = [face.person for face in same if face.in_table and is_named(face.person)]
        if named and name not in named:
            found.setdefault(named[0], []).append(embedding)
        elif not named and any(name in face.taken_back for face in same):
            found.setdefault("", []).append(embedding)
    return found


def left_in_gallery(before: Set[str], now: Set[str], gallery: Gallery) -> list[str]:
    """A line for each person whose name is no longer in the table, and still in the gallery.

    Args:
        before: people of the table that the last run has written. now: those of today's.
    """
    return [
        f"{name} is no longer in the table, and still in the gallery, by {count(photos, 'other photo')}"
        for name, photos in gallery.people().items()
        if is_named(name) and name in before - now
    ]


def name_by_gallery(faces: Sequence[AlbumFace], gallery: Gallery, decision: DecisionOptions) -> None:
    """Give people without a name the one that the gallery has for most of their faces.

    Nobody gets into a photo twice: the faces with the highest scores come first.
    """
    photos = {person: {face.photo for face in members} for person, members in by_person(faces)}
    found = []
    for person, members in by_person(faces):
        if is_named(person) or person == LOW_QUALITY:
            continue
        answers = identify_faces(gallery, [face.embedding for face in members], decision)
        names = [answer.name for answer in answers if answer.name]
        name = max(sorted(set(names)), key=names.count, default="")
        if 2 * names.count(name) > len(members) and not any(name in face.taken_back for face in members):
            found.append((-float(np.mean([answer.score for answer in answers])), name, members))
    for _, name, members in sorted(found, key=lambda row: row[:2]):
        own = {face.photo for face in members}
        if not own & photos.setdefault(name, set()):
            photos[name] |= own
            for face in members:
                face.person = name


def enrol_named(faces: Sequence[AlbumFace], gallery: Gallery) -> None:
    """Enrol the people who have a name and are not in the gallery, by their faces without a quality issue."""
    enrolled = gallery.people()
    for person, members in by_person(faces):
        usable = [face for face in members if not face.quality_issue]
        if is_named(person) and person not in enrolled and usable:
            gallery.enrol(person, [face.embedding for face in usable], [face.quality for face in usable])
