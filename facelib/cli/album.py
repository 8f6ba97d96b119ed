"""Faces of an album sorted by person.

What the table people.csv says of a face, as it was written or as somebody has changed it, is kept. Only faces that the
table does not know are assigned to a person, an existing or a new one. Two faces of one photo are two people, unless
the table says otherwise.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from facelib.cli.album_table import TableRow, box_text
from facelib.embedding.similarity import mean_embedding
from facelib.io.files import as_text
from facelib.recognition.clustering import cluster_faces
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.recognition.names import LOW_QUALITY, UNNAMED, natural_key, person_number


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
    taken_back: Set[str] = frozenset()
    own: tuple[str, ...] = ()


def assign_people(faces: Sequence[AlbumFace], score: float, used: Set[str] = frozenset(), highest: int = 0) -> int:
    """Assign a person to every face that has none.

    They are clustered; a cluster joins the person with the highest mean score who is in none of its photos, if that
    score is high enough, and is a new person otherwise.

    Args:
        score: mean score of two groups of faces, above which they are one person's.
        used: people of the table.
        highest: of all numbers that people have had; new people get higher ones.

    Returns:
        The highest number now.
    """
    for face in faces:
        if not face.person and face.quality_issue:
            face.person = LOW_QUALITY
    known = _KnownPeople.of(faces)
    numbers = [person_number(person) or 0 for person in {*known.names, *used}]
    highest = max([highest, *numbers])
    for name, cluster in zip(*_nearest_people(known, list(_clusters(faces, score)), score)):
        if not name:
            highest += 1
            name = f"{UNNAMED} {highest}"
        for face in cluster:
            face.person = name
    return highest


Clusters = list[list[AlbumFace]]


@dataclass(frozen=True)
class _KnownPeople:
    """People who have faces: names, faces, and the photos of each person."""

    names: list[str]
    faces: Clusters
    photos: list[set[str]]

    @classmethod
    def of(cls, faces: Sequence[AlbumFace]) -> "_KnownPeople":
        people: dict[str, list[AlbumFace]] = {}
        for face in faces:
            if face.person not in ("", LOW_QUALITY):
                people.setdefault(face.person, []).append(face)
        names = sorted(people)
        return cls(names, [people[name] for name in names], [{face.photo for face in people[name]} for name in names])


def _nearest_people(known: _KnownPeople, clusters: Clusters, limit: float) -> tuple[list[str], Clusters]:
    """For each cluster the known person above the mean score `limit`, or "": the highest scores first, and nobody twice
    in a photo."""
    joined = [""] * len(clusters)
    if not known.names or not clusters:
        return joined, clusters
    scores = _mean_scores(clusters, known.faces)
    places = np.argwhere(scores > limit)
    for number, person in places[np.argsort(-scores[scores > limit], kind="stable")].tolist():
        photos = {face.photo for face in clusters[number]}
        taken_back = any(known.names[person] in face.taken_back for face in clusters[number])
        if not joined[number] and not taken_back and not photos & known.photos[person]:
            joined[number] = known.names[person]
            known.photos[person].update(photos)
    return joined, clusters


def _mean_scores(rows: Clusters, columns: Clusters) -> np.ndarray:
    """(n, m) mean of all scores between the faces of each of the rows and those of each of the columns."""
    # Means are not normalised: so their product is the mean of all cosines.
    row_means, column_means = (
        np.stack([np.mean([face.embedding for face in cluster], 0) for cluster in side]) for side in (rows, columns)
    )
    row_offsets, column_offsets = (
        np.array([np.mean([face.offset for face in cluster]) for cluster in side]) for side in (rows, columns)
    )
    return row_means @ column_means.T - row_offsets[:, None] - column_offsets


def _clusters(faces: Sequence[AlbumFace], score: float) -> Iterator[list[AlbumFace]]:
    """Faces without a person, grouped by person, the largest group first.

    Faces whose name was taken back are apart, so that the others they are like can still join that person.
    """
    for taken_back in (False, True):
        group = [face for face in faces if not face.person and bool(face.taken_back) == taken_back]
        if group:
            yield from _cluster(group, score)


def _cluster(faces: Sequence[AlbumFace], score: float) -> Iterator[list[AlbumFace]]:
    embeddings, offsets = np.stack([face.embedding for face in faces]), np.array([face.offset for face in faces])
    groups = cluster_faces(embeddings, score, np.array([face.photo for face in faces]), offsets=offsets)
    for group in range(groups.max() + 1):
        yield from _once_per_photo([face for face, number in zip(faces, groups) if number == group])


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
