"""Faces of an album sorted by person.

Names of the table people.csv, and what somebody has changed there, are kept. Faces that the table does not know are
assigned to a person, one who is there or a new one; people without a name whom nobody has touched are sorted anew with
them. Two faces of one photo are two people, unless the table says otherwise.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from facelib.cli.album_table import TableRow, box_text
from facelib.embedding.similarity import mean_embedding
from facelib.io.files import as_text
from facelib.recognition.clustering import MergeScores, cluster_faces
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.recognition.names import LOW_QUALITY, UNNAMED, is_named, natural_key, person_number


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
    sha256: hash of the photo's content.
    person: name, "Person 7" or `LOW_QUALITY`; "" before it is assigned.
    offset: what it takes from its scores, see `score_offsets`.
    distance: cosine distance to the mean of the person's embeddings; 0 before it is measured.
    score: with that mean; 0 before it is measured.
    in_table: whether the person is what the table says.
    before: the person before the face was sorted anew.
    taken_back: names that somebody has taken from the face, which it gets no more.
    own: cells of the user's own columns.
    """

    photo: str
    face: int
    embedding: np.ndarray
    quality: float
    quality_issue: str
    aligned: str
    annotated: str
    box: tuple[float, ...] = ()
    sha256: str = ""
    person: str = ""
    offset: float = 0.0
    distance: float = 0.0
    score: float = 0.0
    in_table: bool = False
    before: str = ""
    taken_back: Set[str] = frozenset()
    own: tuple[str, ...] = ()


Clusters = dict[str, list[AlbumFace]]  # person -> faces


def assign_people(
    faces: Sequence[AlbumFace], scores: MergeScores, used: Set[str] = frozenset(), highest: int = 0
) -> int:
    """Assign a person to every face that has none: a person who is there, or a new one.

    They are clustered together with the people who are there, none of whom are merged with each other. Nobody is in a
    photo twice. Faces whose name was taken back come last, so that those they are like can still be that person.

    Args:
        scores: from which two groups of faces are one person's.
        used: people of the table.
        highest: of all numbers that people have had; new people get higher ones.

    Returns:
        The highest number now.
    """
    for face in faces:
        if not face.person and face.quality_issue:
            face.person = LOW_QUALITY
    numbers = [person_number(person) or 0 for person in {*used, *(face.person for face in faces)}]
    highest = max([highest, *numbers])
    for taken_back in (False, True):
        people: Clusters = {}
        for face in faces:
            if face.person not in ("", LOW_QUALITY):
                people.setdefault(face.person, []).append(face)
        new = [face for face in faces if not face.person and bool(face.taken_back) == taken_back]
        if new:
            highest = _assign(new, people, scores, highest)
    return highest


def sort_anew(faces: Sequence[AlbumFace], edited: Set[str]) -> bool:
    """Where there are new faces, take the person from all faces whose person has no name and is not `edited`.

    So photos that come later are sorted as they would have been all at once. Returns whether there are new faces.
    """
    if not any(not face.person and not face.quality_issue for face in faces):
        return False
    for face in faces:
        if face.person not in ("", LOW_QUALITY) and not is_named(face.person) and face.person not in edited:
            face.before, face.person, face.in_table = face.person, "", False
    return True


def _assign(new: Sequence[AlbumFace], people: Clusters, scores: MergeScores, highest: int) -> int:
    """Assign new faces to people, or to new people with higher numbers than the one given; the highest number now."""
    names = sorted(people)
    items = [*(people[name] for name in names), *([face] for face in new)]
    found = cluster_faces(
        np.stack([np.mean([face.embedding for face in item], 0) for item in items]),
        scores,
        np.array([*names, *(f"in {face.photo}" for face in new)]),
        weights=np.array([len(item) for item in items]),
        offsets=np.array([np.mean([face.offset for face in item]) for item in items]),
        apart=_apart(new, people),
    )
    person_of = dict(zip(found.tolist(), names))
    groups: dict[int, list[AlbumFace]] = {}
    new_people: list[list[AlbumFace]] = []
    for face, group in zip(new, found[len(names) :].tolist()):
        groups.setdefault(group, []).append(face)
    for group in sorted(groups):
        parts = list(_once_per_photo(groups[group]))
        if group in person_of:  # only one part can be the person
            name = person_of[group]
            parts.sort(key=lambda part: -_mean_scores([part], [people[name]])[0, 0])
            _name(parts.pop(0), name)
        new_people += parts
    claims = [Counter(face.before for face in part if face.before) for part in new_people]
    ordered = sorted((-count, place, name) for place, own in enumerate(claims) for name, count in own.items())
    taken: set[str] = set(names)
    for _, place, name in ordered:  # a person stays with the group that has most of the faces
        if name not in taken and not new_people[place][0].person:
            _name(new_people[place], name)
            taken.add(name)
    for part in new_people:
        if not part[0].person:
            highest += 1
            _name(part, f"{UNNAMED} {highest}")
    return highest


def _name(faces: Sequence[AlbumFace], person: str) -> None:
    for face in faces:
        face.person = person


def _apart(new: Sequence[AlbumFace], people: Clusters) -> list[set[Hashable]]:
    """`apart` of `cluster_faces` for people and new faces: people who are there are not merged, nor with a face of a
    photo that they are in, nor with one that their name was taken from."""
    names = sorted(people)
    places = {name: place for place, name in enumerate(names)}
    in_photo: dict[str, set[str]] = {}
    for name in names:
        for face in people[name]:
            in_photo.setdefault(face.photo, set()).add(name)
    apart: list[set[Hashable]] = [set() for _ in [*names, *new]]
    for place in places.values():
        apart[place].add("known")
    for number, face in enumerate(new, len(names)):
        for name in in_photo.get(face.photo, set()) | (face.taken_back & people.keys()):
            for place in (places[name], number):
                apart[place].add((name, number))
    return apart


def _mean_scores(rows: Sequence[Sequence[AlbumFace]], columns: Sequence[Sequence[AlbumFace]]) -> np.ndarray:
    """(n, m) mean of all scores between the faces of each of the rows and those of each of the columns."""
    # Means are not normalised: so their product is the mean of all cosines.
    row_means, column_means = (
        np.stack([np.mean([face.embedding for face in cluster], 0) for cluster in side]) for side in (rows, columns)
    )
    row_offsets, column_offsets = (
        np.array([np.mean([face.offset for face in cluster]) for cluster in side]) for side in (rows, columns)
    )
    return row_means @ column_means.T - row_offsets[:, None] - column_offsets


def _once_per_photo(cluster: list[AlbumFace]) -> Iterator[list[AlbumFace]]:
    """Part a cluster in which a photo has several faces, as of twins: `cluster_faces` only makes that unlikely.

    The faces of the photo that has most start one part each; those of the other photos go to the nearest parts.
    """
    photos: dict[str, list[AlbumFace]] = {}
    for face in cluster:
        photos.setdefault(face.photo, []).append(face)
    if len(photos) == len(cluster):
        yield cluster
        return
    from scipy.optimize import linear_sum_assignment

    ordered = sorted(photos.values(), key=len, reverse=True)
    parts = [[face] for face in ordered[0]]
    for members in ordered[1:]:
        scores = _mean_scores([[face] for face in members], parts)
        for face, part in zip(*linear_sum_assignment(scores, maximize=True)):
            parts[part].append(members[face])
    yield from sorted(parts, key=len, reverse=True)


def measure_distances(faces: Sequence[AlbumFace], cohort: Cohort | None = None, condition: float = 0.0) -> None:
    """Fill in the distance of each face to the mean of its person's embeddings, and its score with that.

    condition: of the album, of which half is in the offset of each face already.
    """
    for _, members in by_person(faces):
        mean = mean_embedding(np.stack([face.embedding for face in members]), np.ones(len(members)))
        offset = float(score_offsets(mean[None], cohort)[0]) + condition / 2
        for face in members:
            cosine = float(face.embedding @ mean)
            face.distance, face.score = max(0.0, 1 - cosine), cosine - face.offset - offset


def by_person(faces: Sequence[AlbumFace]) -> list[tuple[str, list[AlbumFace]]]:
    """People and their faces: people with most faces first, faces of low quality last; the faces with the highest
    score with their person first."""
    people: dict[str, list[AlbumFace]] = {}
    for face in faces:
        people.setdefault(face.person, []).append(face)
    rows = [(name, sorted(members, key=lambda face: -face.score)) for name, members in people.items()]
    return sorted(rows, key=lambda row: (row[0] == LOW_QUALITY, -len(row[1]), natural_key(row[0])))


def table_rows(faces: Sequence[AlbumFace]) -> list[TableRow]:
    """The rows of people.csv about the faces."""
    return [_table_row(face) for _, members in by_person(faces) for face in members]


def _table_row(face: AlbumFace) -> TableRow:
    cells = {
        "photo": as_text(face.photo),
        "face": str(face.face),
        "distance": f"{face.distance:.3f}",
        "quality": f"{face.quality:.3f}",
        "box": box_text(face.box),
        "sha256": face.sha256,
        "score": f"{face.score:.3f}",
        "matched": "yes",
    }
    return TableRow(cells["photo"], face.face, face.person, face.box, cells, face.own)
