"""From the results of a run to an album: faces sorted by person, named by a gallery, and written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facelib.cli.album import (
    LOW_QUALITY,
    PEOPLE_FILE,
    AlbumFace,
    TableRow,
    assign_people,
    by_person,
    is_named,
    measure_distances,
    write_people,
)
from facelib.cli.album_folders import FOLDERS, write_folders
from facelib.cli.album_page import write_page
from facelib.cli.identification import identify_faces
from facelib.cli.options import DecisionOptions
from facelib.cli.results import Results
from facelib.io.files import as_text
from facelib.recognition.gallery import Gallery


@dataclass(frozen=True)
class Album:
    """What was made.

    faces: number of faces.
    people: number of people.
    page: path of the page.
    """

    faces: int
    people: int
    page: Path


def make_album(
    results: Results,
    table: Sequence[TableRow],
    distance: float,
    folders: str | None = None,
    gallery: Gallery | None = None,
    decision: DecisionOptions | None = None,
) -> Album:
    """Write page, table and folders.

    Args:
        table: rows of people.csv, see `read_people`.
        distance: cosine, up to which the faces of one person lie apart on average.
        folders: "copies" or "links" of the photos, one folder for each person; None: no folders.
        gallery: gives names, and gets the people who have one; None: no gallery.
        decision: when a face is somebody of the gallery; None: the defaults.

    Raises:
        OSError: they cannot be written.
    """
    faces = _album_faces(results)
    assign_people(faces, table, distance)
    if gallery:
        name_by_gallery(faces, gallery, decision or DecisionOptions())
    measure_distances(faces)
    processed = {as_text(record["path"]) for record in results.ordered() if "error" not in record}
    write_people(faces, results.folder / PEOPLE_FILE, [row for row in table if row.photo not in processed])
    page = write_page(faces, results.folder)
    if folders:
        write_folders(faces, results.folder / FOLDERS, folders == "links")
    if gallery:
        enrol_named(faces, gallery)
    return Album(len(faces), len({face.person for face in faces} - {LOW_QUALITY}), page)


def _album_faces(results: Results) -> list[AlbumFace]:
    return [
        AlbumFace(
            photo=record["path"],
            face=number,
            embedding=embedding,
            quality=face["quality"],
            quality_issue=face["quality_issue"],
            aligned=face["aligned"],
            annotated=record["annotated"],
            box=tuple(face["box"]),
        )
        for record in results.ordered()
        for number, (face, embedding) in enumerate(zip(record["faces"], results.embeddings[record["photo"]]))
    ]


def name_by_gallery(faces: Sequence[AlbumFace], gallery: Gallery, decision: DecisionOptions) -> None:
    """Give people without a name the one that the gallery has for most of their faces."""
    for person, members in by_person(faces):
        if is_named(person) or person == LOW_QUALITY:
            continue
        answers = identify_faces(gallery, [face.embedding for face in members], decision)
        names = [answer.name for answer in answers if answer.name]
        if not names:
            continue
        most_frequent = max(set(names), key=names.count)
        if 2 * names.count(most_frequent) > len(members):
            for face in members:
                face.person = most_frequent


def enrol_named(faces: Sequence[AlbumFace], gallery: Gallery) -> None:
    """Enrol the people who have a name and are not in the gallery, by their faces without a quality issue."""
    enrolled = gallery.people()
    for person, members in by_person(faces):
        usable = [face for face in members if not face.quality_issue]
        if is_named(person) and person not in enrolled and usable:
            gallery.enrol(person, [face.embedding for face in usable], [face.quality for face in usable])
