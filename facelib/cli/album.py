"""Faces of an album sorted by person, and the table people.csv, in which people are named, merged and split.

What the table says of a face, as it was written or as somebody has changed it, is kept by the next run, by photo and
place in it. Only faces that the table does not know are assigned to a person, an existing or a new one.
"""

import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.detection.nms import box_iou
from facelib.io.files import as_text, atomic_write, printable
from facelib.recognition.clustering import cluster_faces

PEOPLE_FILE = "people.csv"
COLUMNS = ("photo", "face", "person", "distance", "quality", "box")
UNNAMED = "Person"  # people without a name are called "Person 7"
LOW_QUALITY = "?"  # in place of a person: the face has a quality issue
SAME_BOX_IOU = 0.5  # above this IoU two boxes of a photo are one face


@dataclass
class AlbumFace:
    """A face of the album.

    photo: absolute path.
    face: number in the photo.
    embedding: (d,) of unit length.
    quality: 0 to 1.
    quality_issue: see `Face.quality_issue`.
    aligned: file name of the aligned face, in the folder of the album.
    annotated: file name of the annotated photo, in the folder of the album.
    box: x1 y1 x2 y2 in pixels of the photo.
    person: name, "Person 7" or `LOW_QUALITY`; "" before it is assigned.
    distance: cosine distance to the mean of the person's embeddings; 0 before it is measured.
    """

    photo: str
    face: int
    embedding: np.ndarray
    quality: float
    quality_issue: str
    aligned: str
    annotated: str
    box: tuple[float, ...] = ()
    person: str = ""
    distance: float = 0.0


@dataclass(frozen=True)
class TableRow:
    """A row of people.csv.

    photo, face, person, box: see `AlbumFace`; box is () where the table has none.
    cells: column -> text, as they are in the table.
    """

    photo: str
    face: int
    person: str
    box: tuple[float, ...]
    cells: dict[str, str]


def read_people(folder: Path) -> list[TableRow]:
    """Read the table of a folder; empty where there is none.

    Raises:
        ValueError: the table lacks columns, or a row is malformed.
    """
    path = folder / PEOPLE_FILE
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            text = file.read()
        rows = csv.DictReader(io.StringIO(text), dialect=csv.Sniffer().sniff(text[:2000], ",;\t"))
        return [
            TableRow(row["photo"], int(row["face"]), row["person"].strip(), _parse_box(row.get("box") or ""), row)
            for row in list(rows)
            if row["person"].strip()
        ]
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{printable(path)} is no table of people ({error}): expected the columns {', '.join(COLUMNS)}; repair it, "
            "or move it away to sort all faces again"
        ) from None


def _parse_box(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.replace(",", ".").split()))


def person_in_table(face: AlbumFace, rows: Sequence[TableRow]) -> str:
    """The person of a face according to the rows of its photo, "" where no row is about it.

    Rows match by box, or by the number of the face where a row has no box.
    """
    for row in rows:
        if len(row.box) == 4 and len(face.box) == 4:
            if box_iou(np.array([row.box]), np.array([face.box]))[0, 0] > SAME_BOX_IOU:
                return row.person
        elif row.face == face.face:
            return row.person
    return ""


def assign_people(faces: Sequence[AlbumFace], table: Sequence[TableRow], distance: float) -> None:
    """Assign a person to every face.

    Faces in the table keep their person. The others are clustered; a cluster joins the nearest person of the table
    who is in none of its photos, if that person is near enough, and is a new person otherwise.

    Args:
        distance: cosine, up to which the faces of one person lie apart on average.
    """
    rows: dict[str, list[TableRow]] = {}
    for row in table:
        rows.setdefault(row.photo, []).append(row)
    for face in faces:
        person = person_in_table(face, rows.get(as_text(face.photo), ()))
        face.person = person or (LOW_QUALITY if face.quality_issue else "")
    unassigned = [face for face in faces if not face.person]
    if not unassigned:
        return
    known = _KnownPeople.of(faces)
    used = {*known.names, *(row.person for row in table)}
    new_names = (name for number in range(1, 10**9) if (name := f"{UNNAMED} {number}") not in used)
    for cluster in _clusters(unassigned, distance):
        name = known.nearest(cluster, distance) or next(new_names)
        for face in cluster:
            face.person = name


@dataclass(frozen=True)
class _KnownPeople:
    """People of the table: names, mean embeddings (p, d), and the photos of each person."""

    names: list[str]
    means: np.ndarray
    photos: list[set[str]]

    @classmethod
    def of(cls, faces: Sequence[AlbumFace]) -> "_KnownPeople":
        people: dict[str, list[AlbumFace]] = {}
        for face in faces:
            if face.person not in ("", LOW_QUALITY):
                people.setdefault(face.person, []).append(face)
        names = sorted(people)
        means = np.array([np.mean([face.embedding for face in people[name]], 0) for name in names])
        return cls(names, means, [{face.photo for face in people[name]} for name in names])

    def nearest(self, cluster: Sequence[AlbumFace], limit: float) -> str:
        """The nearest person below the mean distance `limit` who is in no photo of the cluster, else ""."""
        if not self.names:
            return ""
        # Means are not normalised: so this is the mean of all distances between the faces of both sides.
        distances = 1 - self.means @ np.mean([face.embedding for face in cluster], 0)
        photos = {face.photo for face in cluster}
        distances[[bool(photos & own) for own in self.photos]] = np.inf
        return self.names[int(distances.argmin())] if distances.min() < limit else ""


def _clusters(faces: Sequence[AlbumFace], distance: float) -> Iterator[list[AlbumFace]]:
    """Faces grouped by person, the largest group first."""
    embeddings = np.stack([face.embedding for face in faces])
    groups = cluster_faces(embeddings, distance, np.array([face.photo for face in faces]))
    for group in range(groups.max() + 1):
        yield [face for face, number in zip(faces, groups) if number == group]


def measure_distances(faces: Sequence[AlbumFace]) -> None:
    """Fill in the distance of each face to the mean of its person's embeddings."""
    for _, members in by_person(faces):
        mean = np.mean([face.embedding for face in members], axis=0)
        for face in members:
            face.distance = float(max(0.0, 1 - face.embedding @ mean / np.linalg.norm(mean)))


def is_named(person: str) -> bool:
    """Whether somebody has given the person a name."""
    is_numbered = person.startswith(f"{UNNAMED} ") and person[len(UNNAMED) + 1 :].isdecimal()
    return person != LOW_QUALITY and not is_numbered


def by_person(faces: Sequence[AlbumFace]) -> list[tuple[str, list[AlbumFace]]]:
    """People and their faces: people with most faces first, faces of low quality last; the faces nearest to the mean
    of their person first."""
    people: dict[str, list[AlbumFace]] = {}
    for face in faces:
        people.setdefault(face.person, []).append(face)
    rows = [(name, sorted(members, key=lambda face: face.distance)) for name, members in people.items()]
    return sorted(rows, key=lambda row: (row[0] == LOW_QUALITY, -len(row[1]), row[0]))


def write_people(faces: Sequence[AlbumFace], path: Path, other_rows: Sequence[TableRow] = ()) -> None:
    """Write the table; the one that it replaces is kept beside it (.bak).

    Args:
        other_rows: rows of photos that were not processed in this run.
    """
    if path.exists():
        shutil.copyfile(path, path.with_name(path.name + ".bak"))
    with atomic_write(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for person, members in by_person(faces):
            for face in members:
                box = " ".join(f"{value:.0f}" for value in face.box)
                cells = (as_text(face.photo), face.face, person, f"{face.distance:.3f}", f"{face.quality:.3f}", box)
                writer.writerow(dict(zip(COLUMNS, cells)))
        writer.writerows(row.cells for row in other_rows)
