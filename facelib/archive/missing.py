"""Photos of an archive whose files are gone: moved ones keep their people, deleted ones are removed."""

import os
from collections.abc import Iterator

import numpy as np

from facelib.archive.schema import photo_conditions, sql_string
from facelib.archive.table import Archive
from facelib.io.files import printable

SAME_FACE = 1e-3  # cosine distance up to which faces in two files are of the same content: float16 and other threads
SAME_BOX = 1.0  # pixels by which their boxes may differ
EXAMPLES = 5  # photos that a message names


def remove_missing(archive: Archive, source: str) -> Iterator[str]:
    """Remove the photos whose files are no longer in a folder; yields messages for the user.

    The people of a photo that was moved or renamed go over to the new file, which is recognised by its faces. The
    photos are not remembered as removed: a file that comes back is processed again.

    Args:
        source: of the run; other sources than a folder are left as they are. Where none of its photos is there, as
            with a drive that is not mounted, nothing is removed.
    """
    if not os.path.isdir(source):
        return
    folder = os.path.join(os.path.abspath(source), "")
    below = sorted(name for name in archive.processed() if name.startswith(folder))
    missing = [name for name in below if not os.path.lexists(name)]
    if not missing:
        return
    if len(missing) == len(below):
        yield f"none of the {len(below):,} photos of {printable(source)} is there any more: the archive keeps them"
        return
    moved = 0
    lost: list[str] = []
    for photo in missing:
        new = _moved_to(archive, photo, folder)
        if new:
            moved += 1
            _carry_people(archive, photo, new)
        else:
            lost += _given_names(archive, photo)
    archive.remove(photo_conditions(missing), archive.tables())
    names = ", ".join(map(printable, missing[:EXAMPLES])) + (", ..." if len(missing) > EXAMPLES else "")
    yield f"{len(missing):,} photos are no longer there, {moved:,} of them moved; removed from the archive: {names}"
    if lost:
        yield f"with them went faces that you had named: {', '.join(sorted(set(lost)))}"


def _moved_to(archive: Archive, photo: str, folder: str) -> str:
    """A photo with the same faces in the same places whose file exists; "" where there is none.

    A photo with faces in the table `people` is not taken: it is a copy that has people of its own.
    """
    faces = _faces_of(archive, photo)
    if not faces:
        return ""
    near = archive.nearest_by_distance(np.asarray(faces[0]["vector"], np.float32), 10)
    for row in near:
        candidate = row["photo"]
        is_new = candidate != photo and row["distance"] < SAME_FACE and not _people_of(archive, candidate)
        if is_new and candidate.startswith(folder) and os.path.lexists(candidate):
            others = _faces_of(archive, candidate)
            if len(others) == len(faces) and all(map(_is_same, faces, others)):
                return candidate
    return ""


def _is_same(face: dict, other: dict) -> bool:
    distance = 1 - np.dot(np.asarray(face["vector"], np.float32), np.asarray(other["vector"], np.float32))
    return distance < SAME_FACE and np.allclose(face["box"], other["box"], atol=SAME_BOX)


def _faces_of(archive: Archive, photo: str) -> list[dict]:
    """Rows of the table `faces` of a photo, in the order of their numbers."""
    condition = f"photo = {sql_string(photo)}"
    rows = archive.faces.search().where(condition).limit(archive.faces.count_rows(condition) or 1).to_list()
    return sorted(rows, key=lambda row: row["face"])


def _people_of(archive: Archive, photo: str) -> int:
    """Number of rows of the table `people` of a photo."""
    people = archive.people()
    return people.count_rows(f"photo = {sql_string(photo)}") if people is not None else 0


def _carry_people(archive: Archive, old: str, new: str) -> None:
    """Give the rows of the table `people` of one photo to another one."""
    if _people_of(archive, old):
        archive.people().update(where=f"photo = {sql_string(old)}", values={"photo": new})


def _given_names(archive: Archive, photo: str) -> list[str]:
    """Names that a user gave to faces of a photo."""
    if (people := archive.people()) is None:
        return []
    condition = f"photo = {sql_string(photo)} AND given"
    rows = people.search().where(condition).limit(people.count_rows(condition) or 1).to_list()
    return [row["person"] for row in rows]
