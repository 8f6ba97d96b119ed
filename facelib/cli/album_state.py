"""What an album remembers of its faces beside the table: embeddings, names as written, names that were taken back.

By it a face is found again in a photo that was renamed, cropped or saved anew, and a correction is told from a name
that was there before. Without the file an album still works, by path and hash of the photos.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from facelib.cli.album_table import PeopleTable, TableRow, backups, box_text, read_table
from facelib.io.files import atomic_write
from facelib.recognition.names import person_number

STATE_FILE = "people.npz"
# In which spreadsheets of other countries save a table, with "?" for what a code page lacks.
CODE_PAGES = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "cp932", "cp936", "cp949", "cp950")


@dataclass(frozen=True)
class KnownFace:
    """A face of an earlier run.

    person: as the table had it last.
    taken_back: names that were taken from the face, which it gets no more.
    embedding: (d,) of unit length; None: of other weights, or damaged.
    """

    person: str
    taken_back: frozenset[str]
    embedding: np.ndarray | None


@dataclass(frozen=True)
class AlbumState:
    """The content of people.npz.

    faces: `face_key` -> face.
    highest_number: of all "Person 7" that were ever given in this folder.
    condition: what the faces share takes from every score, see `measure_condition`; None: not measured yet.
    edited: people without a name whose faces somebody has moved: they are not sorted anew.
    """

    faces: Mapping[str, KnownFace] = field(default_factory=dict)
    highest_number: int = 0
    condition: float | None = None
    edited: frozenset[str] = frozenset()


def face_key(sha256: str, box: Sequence[float]) -> str:
    """A face, by the content of its photo and its place in it."""
    return f"{sha256} {box_text(box)}"


def unique_keys(faces: Sequence[tuple[str, Sequence[float], str]]) -> list[str]:
    """A key for each face, given by hash and box as for `face_key`, and path; those of copies of a photo are numbered
    in the order of their paths."""
    numbers: dict[str, int] = {}
    keys = [face_key(sha256, box) for sha256, box, _ in faces]
    for place in sorted(range(len(faces)), key=lambda place: faces[place][2]):
        numbers[keys[place]] = number = numbers.get(keys[place], 0) + 1
        keys[place] += f" {number}" if number > 1 else ""
    return keys


def read_state(folder: Path, pipeline_id: str) -> AlbumState:
    """Read the state of a folder; empty where the file is missing or damaged, without embeddings where they were made
    by another pipeline_id."""
    try:
        with np.load(folder / STATE_FILE) as saved:
            names = ("key", "person", "taken_back", "embeddings", "pipeline_id", "highest_number")
            keys, people, taken_back, embeddings, saved_id, highest = (saved[name] for name in names)
            condition = float(saved["condition"]) if "condition" in saved else math.nan  # not in those of 0.2
            edited = saved.get("edited", people)  # where it is not known, it may be anybody
        taken = [frozenset(filter(None, text.split("\n"))) for text in taken_back.tolist()]
        usable = (np.abs(np.linalg.norm(embeddings, axis=1) - 1) < 0.1) & (str(saved_id) == pipeline_id)
        rows = zip(
            people.tolist(), taken, (row if good else None for row, good in zip(embeddings, usable)), strict=True
        )
        faces = {key: KnownFace(*row) for key, row in zip(keys.tolist(), rows, strict=True)}
        measured = math.isfinite(condition) and str(saved_id) == pipeline_id
        return AlbumState(faces, int(highest), condition if measured else None, frozenset(edited.tolist()))
    except Exception:  # numpy and zipfile raise many kinds for a damaged file
        return AlbumState({}, _highest_number(folder))


def _highest_number(folder: Path) -> int:
    """Of the people in the tables that were replaced."""
    numbers = [0]
    for path in backups(folder):
        try:
            numbers += [person_number(row.person) or 0 for row in read_table(path).rows]
        except ValueError:
            continue
    return max(numbers)


def write_state(folder: Path, state: AlbumState, pipeline_id: str) -> None:
    """Write people.npz."""
    faces = list(state.faces.values())
    unknown = np.zeros(
        max((len(face.embedding) for face in faces if face.embedding is not None), default=1), np.float32
    )
    embeddings = [unknown if face.embedding is None else face.embedding for face in faces]
    with atomic_write(folder / STATE_FILE) as path, open(path, "wb") as file:
        np.savez(
            file,
            key=np.array(list(state.faces), dtype=str),
            person=np.array([face.person for face in faces], dtype=str),
            taken_back=np.array(["\n".join(sorted(face.taken_back)) for face in faces], dtype=str),
            embeddings=np.stack(embeddings) if faces else unknown[None][:0],
            pipeline_id=np.array(pipeline_id),
            highest_number=np.array(state.highest_number),
            condition=np.array(math.nan if state.condition is None else state.condition),
            edited=np.array(sorted(state.edited), dtype=str),
        )
        file.flush()
        os.fsync(file.fileno())  # what is only here outlasts a power cut


def edited_people(rows: Sequence[TableRow], state: AlbumState) -> frozenset[str]:
    """The people of whom somebody has moved a face, in the table now or earlier: from them or to them."""
    edited = set(state.edited)
    for row in rows:
        known = state.faces.get(face_key(row.sha256, row.box))
        if known is None or known.person != row.person:
            edited |= {row.person} if known is None else {row.person, known.person}
    return frozenset(edited)


def with_lost_characters(table: PeopleTable, state: AlbumState) -> list[TableRow]:
    """The rows of a table, with the characters that a code page has replaced by others."""
    if not table.is_lossy:
        return table.rows
    return [_with_lost_characters(row, state.faces.get(face_key(row.sha256, row.box))) for row in table.rows]


def _with_lost_characters(row: TableRow, known: KnownFace | None) -> TableRow:
    if known is None or row.person not in _lossy_forms(known.person):
        return row
    return replace(row, person=known.person)


def _lossy_forms(name: str) -> Iterable[str]:
    return (name.encode(page, "replace").decode("cp1252", "replace") for page in CODE_PAGES)
