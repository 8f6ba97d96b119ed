"""Cluster the faces of an archive by person, name and remove people: `python -m facelib.archive.people ARCHIVE`."""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import BTree

from facelib.archive.naming import (
    LAST_NUMBER,
    LOW_QUALITY,
    UNNAMED,
    last_number,
    name_face,
    number_of,
    people_table,
    rename_person,
    unname_person,
)
from facelib.archive.neighbours import cluster_archive
from facelib.archive.schema import photo_conditions, read_columns, sql_string
from facelib.archive.table import EXACT_ROWS, Archive
from facelib.io.files import digest, private_files
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.clustering import merge_scores
from facelib.recognition.condition import measure_condition
from facelib.settings import one_line_errors

CONDITION = "condition"  # in the metadata of the table
FACES_PER_CONDITION = 200  # faces that are deleted by one SQL condition


@dataclass(frozen=True)
class PersonLabel:
    """The person of a face, as in the table `people`."""

    person: str  # name, "Person 7", or `LOW_QUALITY`
    given: bool  # whether a user gave the name


@dataclass(frozen=True)
class FaceRows:
    """n faces of an archive, in columns."""

    embeddings: np.ndarray  # (n, d) float16, unit length
    photos: list[str]  # name of the photo of each face
    photo_indices: np.ndarray  # (n,) int, equal for the faces of one photo
    face_indices: list[int]  # index of each face in its photo
    cohort_similarities: np.ndarray  # (n,) float32, see `Cohort.similarity`
    low_quality: np.ndarray  # (n,) bool, whether the face has a quality issue

    @property
    def keys(self) -> list[tuple[str, int]]:
        """(photo, index of the face in it) of each face."""
        return list(zip(self.photos, self.face_indices))


def cluster_people(archive: Archive, fmr: float | None = None) -> int:
    """Cluster all faces by person, and write the table `people`.

    A name that a user gave stays, and spreads to the other faces of its group; where a group has several, the most
    frequent one spreads. "Person 7" stays with the group that has most of the faces that had it before.

    Args:
        fmr: target FMR of two single faces, see `merge_scores`; None: by their number.

    Returns:
        The number of people.

    Raises:
        ModelMismatchError: see `Archive.check_cohort`.
    """
    archive.check_cohort()
    with archive.write_lock():
        faces, before = read_faces(archive), read_people(archive)
        clustered = np.flatnonzero(~faces.low_quality)
        embeddings, photos = faces.embeddings[clustered], faces.photo_indices[clustered]
        calibration = load_calibration(archive.model_id)
        weight = archive.cohort.weight / 2 if archive.cohort else 0.0
        scores = merge_scores(calibration, len(clustered), fmr)
        condition = measure_condition(embeddings, scores, photos, archive.cohort) or 0.0
        offsets = weight * faces.cohort_similarities[clustered] + condition / 2
        groups = cluster_archive(embeddings, scores, photos, offsets)
        keys = faces.keys
        labels = [PersonLabel(LOW_QUALITY, False)] * len(keys)
        for i in np.flatnonzero(faces.low_quality):
            if (label := before.get(keys[i])) and label.given:
                labels[i] = label
        last = last_number(archive)
        named = assign_names(groups, [before.get(keys[i]) for i in clustered], photos, last)
        for i, label in zip(clustered, named):
            labels[i] = label
        _write_people(archive, faces, labels, last, condition)
    return len({label.person for label in labels} - {LOW_QUALITY})


def _write_people(
    archive: Archive, faces: FaceRows, labels: list[PersonLabel], last: int = 0, condition: float = 0.0
) -> None:
    """Write the table `people`.

    Args:
        last: the highest number that its people have had so far.
        condition: what was taken from all scores, see `measure_condition`; kept in the table's metadata.
    """
    last = max([last, *(number_of(label.person) for label in labels)])
    table = pa.table(
        {
            "photo": pa.array(faces.photos, pa.string()),
            "face": pa.array(faces.face_indices, pa.int32()),
            "person": pa.array([label.person for label in labels], pa.string()),
            "given": pa.array([label.given for label in labels], pa.bool_()),
        }
    ).replace_schema_metadata({LAST_NUMBER: str(last), CONDITION: f"{condition:.4f}"})
    archive.database.create_table("people", table, mode="overwrite")
    if len(labels) > EXACT_ROWS:
        archive.people().create_index("photo", config=BTree())  # for `Archive.nearest`, which looks photos up


def read_faces(archive: Archive) -> FaceRows:
    """All faces of an archive, with their embeddings in memory."""
    table = read_columns(archive.faces, "photo", "face", "quality_issue", "cohort_similarity", "vector")
    dim = archive.faces.schema.field("vector").type.list_size
    return FaceRows(
        embeddings=table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dim),
        photos=table["photo"].to_pylist(),
        photo_indices=table["photo"].combine_chunks().dictionary_encode().indices.to_numpy(),
        face_indices=table["face"].to_pylist(),
        cohort_similarities=table["cohort_similarity"].to_numpy(),
        low_quality=pc.not_equal(table["quality_issue"], "").to_numpy(),
    )


def read_people(archive: Archive) -> dict[tuple[str, int], PersonLabel]:
    """(photo, index of the face in it) -> its person; empty before faces were clustered."""
    if (people := archive.people()) is None:
        return {}
    table = read_columns(people, "photo", "face", "person", "given")
    labels = map(PersonLabel, table["person"].to_pylist(), table["given"].to_pylist())
    return dict(zip(zip(table["photo"].to_pylist(), table["face"].to_pylist()), labels))


def assign_names(
    groups: np.ndarray, before: Sequence[PersonLabel | None], photos: np.ndarray, last: int = 0
) -> list[PersonLabel]:
    """Labels of n faces after clustering.

    A face keeps the name that a user gave it. Other faces get the most frequent given name of their group, else the
    "Person 7" that most faces of the group had before, else the next free one, large groups first. Two faces of one
    photo get two names, unless a user gave both the same.

    Args:
        groups: (n,) int, group of each face. before: (n,) label of each face before, None for a new face.
        photos: (n,) int, equal for the faces of one photo. last: number up to which none is given again.
    """
    given: dict[int, Counter] = {}
    generated: dict[int, Counter] = {}
    for group, label in zip(groups.tolist(), before):
        if label and label.person != LOW_QUALITY:
            counters = given if label.given else generated
            counters.setdefault(group, Counter())[label.person] += 1
    names = {group: counts.most_common(1)[0][0] for group, counts in given.items()}
    taken = set(names.values())
    claims = [(-count, group, name) for group, counts in generated.items() for name, count in counts.items()]
    for _, group, name in sorted(claims):
        if group not in names and name not in taken:
            names[group] = name
            taken.add(name)
    taken |= {label.person for label in before if label}
    free = (name for n in itertools.count(last + 1) if (name := f"{UNNAMED} {n}") not in taken)
    for group in np.argsort(-np.bincount(groups), kind="stable").tolist():
        if group not in names:
            names[group] = next(free)
    labels = [
        label if label and label.given else PersonLabel(names[group], False)
        for group, label in zip(groups.tolist(), before)
    ]
    used = {(photo, label.person) for photo, label in zip(photos.tolist(), labels) if label.given}
    second: dict[int, str] = {}  # group -> the name of its faces in photos whose other face has the group's name
    for i, (photo, group) in enumerate(zip(photos.tolist(), groups.tolist())):
        if labels[i].given:
            continue
        if (photo, labels[i].person) in used:
            labels[i] = PersonLabel(second.setdefault(group, "") or next(free), False)
            second[group] = labels[i].person
        used.add((photo, labels[i].person))
    return labels


def remove_person(archive: Archive, person: str) -> int:
    """Delete the faces of a person, see `Archive.remove`; returns their number. Faces that were added after the last
    clustering belong to nobody yet, and stay.

    Raises:
        ValueError: there is no person of this name, or faces have not been clustered.
    """
    with archive.write_lock():
        people = people_table(archive)
        rows = people.search().where(f"person = {sql_string(person)}").limit(people.count_rows() or 1).to_list()
        if not rows or person == LOW_QUALITY:
            raise ValueError(f"{person!r}: no face of {archive.location} has this name")
        faces = [f"(photo = {sql_string(row['photo'])} AND face = {row['face']})" for row in rows]
        starts = range(0, len(faces), FACES_PER_CONDITION)
        conditions = (" OR ".join(faces[start : start + FACES_PER_CONDITION]) for start in starts)
        return archive.remove(conditions, [archive.faces, people])


def remove_photos(archive: Archive, photos: Sequence[str]) -> int:
    """Delete photos with their faces; they are not added again. Returns the number of faces.

    Raises:
        ValueError: a photo is not in the archive.
    """
    with archive.write_lock():
        # Photos that are removed already are accepted: an earlier removal may have been interrupted.
        removed = archive.deleted_ids()
        missing = sorted(name for name in set(photos) - archive.processed() if digest(name) not in removed)
        if missing:
            raise ValueError(f"{missing[0]}: {archive.location} has no photo of this name")
        new = [name for name in photos if digest(name) not in removed]
        return archive.remove(photo_conditions(sorted(set(photos))), archive.tables(), new)


@one_line_errors
@private_files()  # embeddings are biometric data
def main() -> None:
    options = parse_arguments()
    archive = Archive(options.archive)
    if options.name:
        print(f"{rename_person(archive, *options.name)} faces renamed to {options.name[1]}")
    elif options.name_face:
        photo, face, name = options.name_face
        before = name_face(archive, photo, int(face), name)
        print(f"face {face} of {photo}: {name}, before {before}")
    elif options.unname:
        number, person = unname_person(archive, options.unname)
        print(f"{number} faces of {options.unname} are {person} until the next clustering, which sorts them anew")
    elif options.remove:
        _remove(archive, options.remove)
    elif options.remove_photo:
        print(f"{remove_photos(archive, options.remove_photo)} faces of {len(options.remove_photo)} photos deleted")
    else:
        print(f"{cluster_people(archive, options.fmr):,} people, in the table `people` of {options.archive}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m facelib.archive.people", description=__doc__)
    parser.add_argument("archive", help="folder or address of the archive")
    changes = parser.add_mutually_exclusive_group()  # each of them without clustering
    changes.add_argument("--name", nargs=2, metavar=("OLD", "NEW"), help="rename a person")
    changes.add_argument(
        "--name-face", nargs=3, metavar=("PHOTO", "FACE", "NAME"), help="name one face, by its number in the photo"
    )
    changes.add_argument("--unname", metavar="PERSON", help="take a name back; the next clustering sorts the faces")
    changes.add_argument("--remove", metavar="PERSON", help="delete a person's faces")
    changes.add_argument("--remove-photo", nargs="+", metavar="PHOTO", help="delete photos; they are not added again")
    parser.add_argument("--fmr", type=float, help="target false match rate of two faces; default: by their number")
    parser.add_argument("--rate", type=float, dest="fmr", help=argparse.SUPPRESS)  # the option's name in version 0.2
    options = parser.parse_args()
    if options.name_face and not options.name_face[1].isdecimal():
        parser.error(f"--name-face: {options.name_face[1]!r} is not the number of a face")
    return options


def _remove(archive: Archive, person: str) -> None:
    people = archive.people()
    unclustered = archive.faces.count_rows() - (people.count_rows() if people is not None else 0)
    print(f"{remove_person(archive, person)} faces of {person} deleted")
    if unclustered > 0:
        print(
            f"{unclustered:,} faces were added after the last clustering, and may show {person} too: "
            "cluster again, then remove again"
        )


if __name__ == "__main__":
    sys.exit(main())
