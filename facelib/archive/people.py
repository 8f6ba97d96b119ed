"""The faces of an archive sorted by person, named and removed: `python -m facelib.archive.people TABLE`."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import BTree

from facelib.archive.communities import communities, link_fmr, with_left_over
from facelib.archive.table import EXACT_ROWS, Archive, chunks, quoted, read
from facelib.io.files import digest
from facelib.recognition.calibration import load_calibration
from facelib.settings import one_line_errors

UNNAMED, DOUBTFUL = "Person", "?"  # "Person 7"; of whom too little is seen


@dataclass(frozen=True)
class Row:
    """A row of the table `people`: whose face it is, and whether somebody has given that name."""

    person: str
    given: bool


@dataclass(frozen=True)
class FaceRows:
    """All faces of an archive: vectors (n, d) float16 of length 1, name and number of the photo and number of the face
    in it, and whether it shows too little."""

    vectors: np.ndarray
    names: list[str]
    photos: np.ndarray
    numbers: list[int]
    doubtful: np.ndarray

    @property
    def keys(self) -> list[tuple[str, int]]:
        """(photo, number) of each."""
        return list(zip(self.names, self.numbers))


def cluster_people(archive: Archive, rate: float | None = None) -> int:
    """Give every face a person, in the table `people`; gives the number of persons. `rate`: None: see `link_fmr`.

    A name that somebody has given stays, and goes to the others of its community; of several names in one community the
    most frequent one does. A number stays with the community that has most of the faces that had it.
    """
    with archive.writing():
        faces, before = faces_of(archive), persons_of(archive)
        sure = np.flatnonzero(~faces.doubtful)
        calibration, own = load_calibration(archive.model_id), (faces.vectors[sure], faces.photos[sure])
        groups = communities(own[0], calibration.distance_at(rate or link_fmr(len(sure))), own[1])
        groups = with_left_over(own[0], groups, calibration, own[1])
        keys, rows = faces.keys, [Row(DOUBTFUL, False)] * len(faces.names)
        for i in np.flatnonzero(faces.doubtful):
            if (row := before.get(keys[i])) and row.given:
                rows[i] = row
        for i, row in zip(sure, named(groups, [before.get(keys[i]) for i in sure])):
            rows[i] = row
        table = pa.table(
            {
                "photo": pa.array(faces.names, pa.string()),
                "face": pa.array(faces.numbers, pa.int32()),
                "person": pa.array([row.person for row in rows], pa.string()),
                "given": pa.array([row.given for row in rows], pa.bool_()),
            }
        )
        archive.database.create_table("people", table, mode="overwrite")
        if len(rows) > EXACT_ROWS:
            archive.people().create_index("photo", config=BTree())  # for `nearest`, which asks whose its rows are
    return len({row.person for row in rows} - {DOUBTFUL})


def faces_of(archive: Archive) -> FaceRows:
    """Read from the table."""
    table = read(archive.faces, "photo", "face", "quality_issue", "vector")
    size = archive.faces.schema.field("vector").type.list_size
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, size)
    photos = table["photo"].combine_chunks().dictionary_encode().indices.to_numpy()
    doubtful = pc.not_equal(table["quality_issue"], "").to_numpy()
    names, numbers = table["photo"].to_pylist(), table["face"].to_pylist()
    return FaceRows(vectors, names, photos, numbers, doubtful)


def named(groups: np.ndarray, before: Sequence[Row | None]) -> list[Row]:
    """(n,) rows: what is given stays, the others get the most frequent given name of their group, else the number that
    most of them had, else one that is free."""
    given: dict[int, Counter] = {}
    numbered: dict[int, Counter] = {}
    for group, row in zip(groups.tolist(), before):
        if row and row.person != DOUBTFUL:
            (given if row.given else numbered).setdefault(group, Counter())[row.person] += 1
    names = {group: counts.most_common(1)[0][0] for group, counts in given.items()}
    wanted = [(count, group, name) for group, counts in numbered.items() for name, count in counts.items()]
    taken = set(names.values())
    for _, group, name in sorted(wanted, key=lambda one: (-one[0], one[1:])):
        if group not in names and name not in taken:
            names[group] = name
            taken.add(name)
    free = (name for n in range(1, len(groups) + len(taken) + 2) if (name := f"{UNNAMED} {n}") not in taken)
    sizes = np.bincount(groups)
    for group in np.argsort(-sizes, kind="stable").tolist():
        if group not in names:
            names[group] = next(free)
    return [row if row and row.given else Row(names[group], False) for group, row in zip(groups.tolist(), before)]


def persons_of(archive: Archive) -> dict[tuple[str, int], Row]:
    """(photo, face) -> its row, as it was sorted and named; empty before."""
    if (people := archive.people()) is None:
        return {}
    table = read(people, "photo", "face", "person", "given")
    rows = map(Row, table["person"].to_pylist(), table["given"].to_pylist())
    return dict(zip(zip(table["photo"].to_pylist(), table["face"].to_pylist()), rows))


def name_person(archive: Archive, old: str, new: str) -> int:
    """Another name for a person; touches the person's rows alone, and gives their number.

    Raises:
        ValueError: nobody is called so, or the new name is none.
    """
    if not new.strip() or DOUBTFUL in (old, new):
        raise ValueError(f"a person needs a name, and {DOUBTFUL!r} is none: too little is seen of those faces")
    with archive.writing():
        people = archive.people()
        if people is None or not (count := people.count_rows(f"person = {quoted(old)}")):
            raise ValueError(f"{old!r}: no face of {archive.place} is called so")
        people.update(where=f"person = {quoted(old)}", values={"person": new, "given": True})
    return count


def remove_person(archive: Archive, person: str) -> int:
    """Take the faces of a person out of the archive, see `Archive.forget`; gives their number. Faces that came after
    the last sorting are nobody's yet.

    Raises:
        ValueError: nobody is called so.
    """
    with archive.writing():
        if (people := archive.people()) is None:
            raise ValueError(f"{archive.place}: its faces have not been sorted by person yet")
        rows = people.search().where(f"person = {quoted(person)}").limit(people.count_rows() or 1).to_list()
        if not rows or person == DOUBTFUL:
            raise ValueError(f"{person!r}: no face of {archive.place} is called so")
        each = [f"(photo = {quoted(row['photo'])} AND face = {row['face']})" for row in rows]
        return archive.remove((" OR ".join(part) for part in chunks(each, 200)), [archive.faces, people])


def remove_photos(archive: Archive, photos: Sequence[str]) -> int:
    """Take photos with their faces out of the archive; they do not come back. Gives the number of faces.

    Raises:
        ValueError: a photo that is not there.
    """
    with archive.writing():
        deleted_ids = archive.deleted_ids()  # asked for again, perhaps because the first time was cut off
        if missing := sorted(name for name in set(photos) - archive.done() if digest(name) not in deleted_ids):
            raise ValueError(f"{missing[0]}: {archive.place} has no photo of that name")
        each = [quoted(name) for name in sorted(set(photos))]
        where = [f"photo IN ({', '.join(part)})" for part in chunks(each, 500)]
        return archive.remove(where, archive.tables(), [name for name in photos if digest(name) not in deleted_ids])


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.archive.people", description=__doc__)
    parser.add_argument("table")
    parser.add_argument("--name", nargs=2, metavar=("OLD", "NEW"), help="name a person instead")
    parser.add_argument("--remove", metavar="PERSON", help="take a person out of the archive instead")
    parser.add_argument("--remove-photo", nargs="+", metavar="PHOTO", help="take photos out of the archive instead")
    parser.add_argument("--rate", type=float, help="of pairs of strangers within the distance of a tie")
    options = parser.parse_args()
    archive = Archive(options.table)
    if options.name:
        print(f"{name_person(archive, *options.name)} faces are now called {options.name[1]}")
    elif options.remove:
        unsorted = archive.faces.count_rows() - (archive.people().count_rows() if archive.people() else 0)
        print(f"{remove_person(archive, options.remove)} faces of {options.remove} are gone")
        if unsorted > 0:
            print(f"{unsorted:,} faces have come since the last sorting, and may be {options.remove}'s too: sort first")
    elif options.remove_photo:
        print(f"{remove_photos(archive, options.remove_photo)} faces of {len(options.remove_photo)} photos are gone")
    else:
        print(f"{cluster_people(archive, options.rate):,} people; `people` in {options.table} says whose face is whose")


if __name__ == "__main__":
    sys.exit(main())
