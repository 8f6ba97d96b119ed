"""Names in the table `people` of an archive: given to a person or to one face, and taken back.

Two faces of one photo are two people: no name is given to a second face of a photo.
"""

import os
import re

import lancedb

from facelib.archive.schema import photo_conditions, read_columns, sql_string
from facelib.archive.table import Archive
from facelib.io.inputs import ADDRESS
from facelib.recognition.names import normalise_name

UNNAMED = "Person"  # people without a name are "Person 1", "Person 2", ...
LAST_NUMBER = "last_number"  # in the metadata of the table: the highest number so far, so that none is given twice
LOW_QUALITY = "?"  # person of the faces with a quality issue, which are not clustered


def rename_person(archive: Archive, old: str, new: str) -> int:
    """Rename a person; changes only the rows of that person, and returns their number.

    Faces in photos that show somebody of the new name already keep the old one.

    Raises:
        ValueError: there is no person of the old name, or the new name is refused, see `_checked`; or no face can
            have it.
    """
    old, new = _stored(archive, old), _checked(new)
    if old == LOW_QUALITY:
        raise ValueError(f"{old!r} is reserved for faces of low quality: name them one by one, with --name-face")
    with archive.write_lock():
        people = people_table(archive)
        found = _rows(people, f"person = {sql_string(old)}")
        if not found:
            raise ValueError(f"{old!r}: no face of {archive.location} has this name")
        taken = {row["photo"] for row in _rows(people, f"person = {sql_string(new)}")} if new != old else set()
        photos = sorted({row["photo"] for row in found} - taken)
        if not photos:
            raise ValueError(
                f"{new} is in all photos of {old}: two faces of one photo are two people; take a name back with "
                "--unname, or name single faces with --name-face"
            )
        for condition in photo_conditions(photos):
            people.update(where=f"{condition} AND person = {sql_string(old)}", values={"person": new, "given": True})
    return sum(row["photo"] not in taken for row in found)


def name_face(archive: Archive, photo: str, face: int, name: str) -> str:
    """Name one face; other faces of its person keep theirs. Returns the person that it was before.

    Args:
        face: index in the photo, as in the tables and in the results of a search.

    Raises:
        ValueError: there is no such face, another face of the photo has the name, or it is refused, see `_checked`.
    """
    name = _checked(name)
    with archive.write_lock():
        people = people_table(archive)
        if not people.count_rows(f"photo = {sql_string(photo)}") and not ADDRESS.match(photo):
            photo = os.path.abspath(photo)
        rows = {row["face"]: row["person"] for row in _rows(people, f"photo = {sql_string(photo)}")}
        if face not in rows:
            known = ", ".join(map(str, sorted(rows))) or "none"
            raise ValueError(f"{photo}: no face {face} in the table `people` of {archive.location}; faces: {known}")
        others = [number for number, person in rows.items() if person == name and number != face]
        if others:
            raise ValueError(
                f"face {others[0]} of {photo} is called {name} already: two faces of one photo are two people"
            )
        condition = f"photo = {sql_string(photo)} AND face = {face}"
        people.update(where=condition, values={"person": name, "given": True})
    return rows[face]


def unname_person(archive: Archive, person: str) -> tuple[int, str]:
    """Take a name back: its faces become a person without a name, and are sorted anew by the next clustering.

    Returns:
        The number of faces, and the "Person 7" that they are until then.

    Raises:
        ValueError: there is no person of this name.
    """
    person = _stored(archive, person)
    with archive.write_lock():
        people = people_table(archive)
        condition = f"person = {sql_string(person)}"
        count = people.count_rows(condition)
        if not count or person == LOW_QUALITY:
            raise ValueError(f"{person!r}: no face of {archive.location} has this name")
        free = f"{UNNAMED} {last_number(archive) + 1}"
        people.update(where=condition, values={"person": free, "given": False})
    return count, free


def people_table(archive: Archive) -> lancedb.table.Table:
    """The table `people`.

    Raises:
        ValueError: faces have not been clustered.
    """
    if (people := archive.people()) is None:
        raise ValueError(
            f"{archive.location}: faces have not been clustered, run `python -m facelib.archive.people "
            f"{archive.location}` first"
        )
    return people


def number_of(person: str) -> int:
    """7 for "Person 7", 0 for a name."""
    match = re.fullmatch(rf"{UNNAMED} (\d+)", person)
    return int(match[1]) if match else 0


def last_number(archive: Archive) -> int:
    """The highest number that a person of the archive has had, as far as the table `people` knows."""
    if (people := archive.people()) is None:
        return 0
    stored = int((people.schema.metadata or {}).get(LAST_NUMBER.encode(), b"0"))
    return max([stored, *map(number_of, read_columns(people, "person")["person"].unique().to_pylist())])


def _checked(name: str) -> str:
    """A new name as it is stored, see `normalise_name`.

    Raises:
        ValueError: it is reserved, or refused by `normalise_name`.
    """
    name = normalise_name(name)
    if name == LOW_QUALITY:
        raise ValueError(f"{name!r} is reserved for faces of low quality: use another name")
    if number_of(name):
        raise ValueError(f"{name!r} is reserved for people without a name: use another name, or --unname")
    return name


def _stored(archive: Archive, name: str) -> str:
    """A person's name in the form that the table has: as it is given, or else normalised."""
    people = people_table(archive)
    return name if people.count_rows(f"person = {sql_string(name)}") else normalise_name(name)


def _rows(people: lancedb.table.Table, condition: str) -> list[dict]:
    return people.search().where(condition).limit(people.count_rows(condition) or 1).to_list()
