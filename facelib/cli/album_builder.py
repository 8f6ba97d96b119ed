"""From the results of a run to an album: faces sorted by person, named by a gallery, and written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facelib.cli.album import AlbumFace, assign_people, measure_distances, sort_anew, table_rows
from facelib.cli.album_folders import FOLDERS, write_folders
from facelib.cli.album_gallery import correct_gallery, enrol_named, left_in_gallery, name_by_gallery
from facelib.cli.album_matching import match_rows, unmatched_people
from facelib.cli.album_metadata import take_over_names, write_sidecars
from facelib.cli.album_page import write_page
from facelib.cli.album_state import (
    AlbumState,
    KnownFace,
    edited_people,
    face_key,
    read_state,
    unique_keys,
    with_lost_characters,
    write_state,
)
from facelib.cli.album_table import PEOPLE_FILE, PeopleTable, TableRow, read_people, write_table
from facelib.cli.console import count
from facelib.cli.options import DecisionOptions
from facelib.cli.results import Results
from facelib.io.files import as_text
from facelib.recognition.clustering import MergeScores
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.recognition.condition import measure_condition
from facelib.recognition.gallery import Gallery
from facelib.recognition.names import LOW_QUALITY, natural_key
from facelib.server.store import faces_apart, mark_all_written, pending_people

MAX_PEOPLE_TOLD = 5


@dataclass(frozen=True)
class Album:
    """What was made.

    faces: number of faces.
    people: number of people.
    page: path of the page.
    notices: what somebody who keeps names in the table should know.
    """

    faces: int
    people: int
    page: Path
    notices: list[str]


def make_album(
    results: Results,
    scores: MergeScores,
    folders: str | None = None,
    gallery: Gallery | None = None,
    decision: DecisionOptions | None = None,
    write_xmp: bool = False,
) -> Album:
    """Write page, table and folders.

    Args:
        scores: from which two groups of faces are one person's.
        folders: "copies" or "links" of the photos, one folder for each person; None: no folders.
        gallery: gives names, and gets the people who have one; None: no gallery.
        decision: when a face is somebody of the gallery; None: the defaults.
        write_xmp: also write names to the sidecars of the photos.

    Raises:
        ValueError: people.csv is no table of people. OSError: the album cannot be written.
    """
    folder = results.folder
    faces = album_faces(results)
    table = read_people(folder)  # now, so that what was edited during the run counts
    state = with_condition(read_state(folder, results.pipeline_id), faces, scores, results.cohort)
    rows = with_lost_characters(table, state)
    processed = {as_text(record["path"]) for record in results.ordered() if "error" not in record}
    notices = _lossy_notice(table, rows)
    rows = with_pending(rows, folder)
    state = replace(state, edited=edited_people(rows, state) | people_apart(rows, folder))
    others = match_rows(faces, rows, processed, state, scores)
    if sort_anew(faces, state.edited):
        state = with_condition(replace(state, condition=None), faces, scores, results.cohort)
    notices += unmatched_people(others)
    if gallery:
        notices += correct_gallery(faces, gallery)
    notices += take_over_names(faces)
    unassigned = [face for face in faces if not face.person]
    highest = assign_people(faces, scores, {row.person for row in rows}, state.highest_number)
    notices += _sorted_anew(unassigned)
    if gallery:
        name_by_gallery(faces, gallery, decision or DecisionOptions())
    measure_distances(faces, results.cohort, state.condition or 0.0)
    new_rows = [*table_rows(faces), *others]
    notices += write_names(folder, table, new_rows, new_state(state, faces, rows, highest), results.pipeline_id)
    mark_all_written(folder)
    page = write_page(faces, folder)
    if folders:
        notices += write_folders(faces, folder / FOLDERS, folders == "links")
    if write_xmp:
        notices += write_sidecars(faces)
    if gallery:
        enrol_named(faces, gallery)
        before = {face.person for face in state.faces.values()}
        notices += left_in_gallery(before, {row.person for row in new_rows}, gallery)
    people = {face.person for face in faces} - {LOW_QUALITY}
    return Album(len(faces), len(people), page, list(dict.fromkeys(notices)))


def album_faces(results: Results) -> list[AlbumFace]:
    """The faces of results, without people."""
    faces = [
        AlbumFace(
            photo=record["path"],
            face=number,
            embedding=embedding,
            quality=face["quality"],
            quality_issue=face["quality_issue"],
            aligned=face["aligned"],
            annotated=record["annotated"],
            box=tuple(face["box"]),
            sha256=record["sha256"],
        )
        for record in results.ordered()
        for number, (face, embedding) in enumerate(zip(record["faces"], results.embeddings[record["photo"]]))
    ]
    return faces


def face_offsets(faces: Sequence[AlbumFace], cohort: Cohort | None) -> np.ndarray:
    """(n,) what each face takes from its scores, see `score_offsets`."""
    return score_offsets(np.stack([face.embedding for face in faces]), cohort) if faces else np.zeros(0)


def with_condition(
    state: AlbumState, faces: Sequence[AlbumFace], scores: MergeScores, cohort: Cohort | None
) -> AlbumState:
    """The state with the condition of the album, which is taken from the scores of the faces, half from each.

    It is measured where it is not known, and again where faces are sorted anew.
    """
    if state.condition is None and faces:
        embeddings, photos = np.stack([face.embedding for face in faces]), np.array([face.photo for face in faces])
        state = replace(state, condition=measure_condition(embeddings, scores, photos, cohort))
    offsets = face_offsets(faces, cohort)
    for face, offset in zip(faces, offsets.tolist()):
        face.offset = offset + (state.condition or 0.0) / 2
    return state


def _sorted_anew(faces: Sequence[AlbumFace]) -> list[str]:
    """What somebody who knows people by their numbers should be told."""
    moved = [face for face in faces if face.before and face.person != face.before]
    if not moved:
        return []
    people = sorted({face.before for face in moved}, key=natural_key)
    shown = ", ".join(people[:MAX_PEOPLE_TOLD]) + (" and others" if len(people) > MAX_PEOPLE_TOLD else "")
    return [
        f"with the new photos, {count(len(moved), 'face')} of people without a name went to somebody else: of {shown}"
    ]


def _lossy_notice(table: PeopleTable, rows: Sequence[TableRow]) -> list[str]:
    if not table.is_lossy or (rows == table.rows and (table.content or b"").isascii()):
        return []
    return [
        f"{PEOPLE_FILE} was saved in a Windows code page, which lacks most scripts. Names of the last run were "
        "restored; check those with other letters that are new, and save it as CSV UTF-8"
    ]


def new_state(state: AlbumState, faces: Sequence[AlbumFace], rows: Sequence[TableRow], highest: int) -> AlbumState:
    """The state after this run: its faces, and those of the rows of the old table, which stays where it was edited."""
    keys = [face_key(row.sha256, row.box) for row in rows]
    known = {key: state.faces[key] for key in keys if key in state.faces}
    for face in faces:
        key = face_key(face.sha256, face.box)
        known[key] = KnownFace(face.person, frozenset(face.taken_back), face.embedding)
    return replace(state, faces=known, highest_number=highest)


def with_pending(rows: Sequence[TableRow], folder: Path) -> list[TableRow]:
    """The rows of a table with what somebody did on the page of the album before that was killed.

    A row that was edited in the table since keeps the edit.
    """
    pending = pending_people(folder)
    keys = unique_keys([(row.sha256, row.box, row.photo) for row in rows])
    done = []
    for key, row in zip(keys, rows):
        before, now = pending.get(key, (None, ""))
        done.append(replace(row, person=now) if row.person == before else row)
    return done


def people_apart(rows: Sequence[TableRow], folder: Path) -> set[str]:
    """People of whom somebody has said, on the page of the album, that they are not the same."""
    apart = faces_apart(folder)
    keys = unique_keys([(row.sha256, row.box, row.photo) for row in rows]) if apart else []
    return {row.person for key, row in zip(keys, rows) if key in apart}


def write_names(
    folder: Path,
    table: PeopleTable,
    rows: Sequence[TableRow],
    state: AlbumState,
    pipeline_id: str,
    back_up: bool = True,
) -> list[str]:
    """Write table and state, in this order: killed between, no name of the new table looks as if it was taken back.

    Args:
        back_up: see `write_table`.
    """
    written = write_table(rows, table, folder, back_up)
    write_state(folder, state, pipeline_id)
    if written.name == PEOPLE_FILE:
        return []
    return [
        f"{PEOPLE_FILE} was edited while this run was writing, and stays as it is; what the run would have written is "
        f"in {written.name}. Run the same command again to bring both together"
    ]
