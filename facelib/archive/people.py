"""The faces of an archive sorted by person, named and removed: `python -m facelib.archive.people TABLE`.

Each face is tied to those of its nearest faces that are within a distance; in this graph communities are found (Leiden,
Traag et al. 2019), so that one wrong tie does not make two people one. Of many faces none is compared with all.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import igraph
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import BTree
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances

from facelib.archive.table import EXACT_ROWS, Archive, chunks, quoted, read
from facelib.clustering import sort_by_person, sorting_rate
from facelib.decisions import Calibration, load_calibration
from facelib.embedding import unit_vectors
from facelib.files import digest
from facelib.settings import one_line_errors

NEIGHBOURS = 16  # of each face
TOGETHER = 256  # faces whose neighbours are looked for at a time
SHARE = 0.1  # see `tie_rate`
RESOLUTION = 0.005  # of Leiden's constant Potts model: mean weight of the ties that hold a community together
COMPARED = 30_000  # faces up to which each is compared with all
CELL, LOOKED_AT = 1000, 8  # beyond: faces of a cell, about; cells in which a face's neighbours are looked for
LEARNED = 100_000  # faces from which the cells are made
MANY, STRANGERS = 10, 0.01  # see `with_left_over`
LARGE = 6  # faces of a community that may be a part of somebody with many photos
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


def tie_rate(faces: int) -> float:
    """Share of the pairs of strangers that are as near as two faces that are tied: a tenth of the album's, because one
    tie says less than the mean of many distances. Chosen, with `RESOLUTION`, on open_val and the held-out families, and
    on 10,000 and 50,000 faces made up from them (`facelib.evaluation.archive`)."""
    return SHARE * sorting_rate(faces)


def sort_people(archive: Archive, rate: float | None = None) -> int:
    """Give every face a person, in the table `people`; gives the number of persons. `rate`: None: see `tie_rate`.

    A name that somebody has given stays, and goes to the others of its community; of several names in one community the
    most frequent one does. A number stays with the community that has most of the faces that had it.
    """
    with archive.writing():
        faces, before = faces_of(archive), persons_of(archive)
        sure = np.flatnonzero(~faces.doubtful)
        calibration, own = load_calibration(archive.key), (faces.vectors[sure], faces.photos[sure])
        groups = communities(own[0], calibration.distance_at(rate or tie_rate(len(sure))), own[1])
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
    table = read(archive.faces, "photo", "face", "doubt", "vector")
    size = archive.faces.schema.field("vector").type.list_size
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, size)
    photos = table["photo"].combine_chunks().dictionary_encode().indices.to_numpy()
    doubtful = pc.not_equal(table["doubt"], "").to_numpy()
    names, numbers = table["photo"].to_pylist(), table["face"].to_pylist()
    return FaceRows(vectors, names, photos, numbers, doubtful)


def communities(
    vectors: np.ndarray, distance: float, photos: np.ndarray | None = None, compared: int = COMPARED
) -> np.ndarray:
    """(n,) numbers of the communities of n vectors (n, d) of length 1, whose ties are pairs of neighbours within a
    cosine distance.

    With ties to `NEIGHBOURS` alone, a community can have some hundred faces before Leiden parts it. So large ones are
    joined again, by the mean distance between all their faces.

    Args:
        photos: (n,) number of each vector's; two faces of one photo are not tied. None: all of different ones.
        compared: up to how many vectors each is compared with all.
    """
    if len(vectors) == 0:
        return np.zeros(0, int)
    photo = np.arange(len(vectors)) if photos is None else photos
    ties, weights = [], []
    for rows, numbers, apart in by_comparing(vectors) if len(vectors) <= compared else by_cells(vectors):
        close = (apart < distance) & (photo[numbers] != photo[rows][:, None])
        ties.append(np.stack([np.broadcast_to(rows[:, None], numbers.shape)[close], numbers[close]], 1))
        weights.append(1 - apart[close] / distance)
    graph = igraph.Graph(len(vectors), np.concatenate(ties))
    graph.es["weight"] = np.concatenate(weights)
    graph.simplify(combine_edges="max")
    found = graph.community_leiden("CPM", weights="weight", resolution=RESOLUTION, n_iterations=4)
    groups = np.array(found.membership)
    large, means = means_of(vectors, groups, LARGE)
    if len(large):
        weights = np.bincount(groups)[large]
        place = np.arange(groups.max() + 1)
        place[large] = len(place) + sort_by_person(means, distance, weights=weights)
        groups = place[groups]
    return np.unique(groups, return_inverse=True)[1]


def means_of(vectors: np.ndarray, groups: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """The groups (g,) with so many vectors at least, and the means (g, d) of each."""
    sizes = np.bincount(groups)
    large = np.flatnonzero(sizes >= least)
    means, place = np.zeros((len(large), vectors.shape[1]), np.float32), np.full(len(sizes), -1)
    place[large] = np.arange(len(large))
    for rows in np.array_split(np.flatnonzero(place[groups] >= 0), max(1, len(vectors) // 100_000)):
        np.add.at(means, place[groups[rows]], vectors[rows].astype(np.float32))
    return large, means / sizes[large][:, None]


def with_left_over(
    vectors: np.ndarray, groups: np.ndarray, calibration: Calibration, photos: np.ndarray | None = None
) -> np.ndarray:
    """Groups in which faces of small ones have gone to the large one whose mean is nearest (`MANY` faces or more), as
    far as one in a hundred strangers (`STRANGERS`) at most would come so near to any; but not two of one photo.

    Args: see `communities`.
    """
    large, means = means_of(vectors, groups, MANY)
    if not len(large):
        return groups
    means, distances = unit_vectors(means), np.linspace(0, 1, 1001)
    rates = np.array([calibration.expected_rate(distance, MANY) for distance in distances])
    limit = distances[np.searchsorted(rates, STRANGERS / len(large))]
    photo, result = np.arange(len(vectors)) if photos is None else photos, groups.copy()
    small = np.flatnonzero(np.bincount(groups)[groups] < MANY)
    for rows in np.array_split(small, -(-len(small) // TOGETHER) or 1):
        apart = 1 - vectors[rows].astype(np.float32) @ means.T
        near = apart.min(axis=1, initial=2) < limit
        result[rows[near]] = large[apart[near].argmin(axis=1)]
    pairs = np.stack([photo, result], 1)  # those that were there come first
    order = np.argsort(result != groups, kind="stable")
    first = order[np.unique(pairs[order], axis=0, return_index=True)[1]]
    again = np.setdiff1d(np.flatnonzero(result != groups), first)
    result[again] = groups[again]
    return np.unique(result, return_inverse=True)[1]


Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]  # (m,) numbers of vectors, (m, k) of their nearest, distances


def by_comparing(vectors: np.ndarray) -> Iterator[Neighbours]:
    """The nearest of each vector, itself among them, by comparing with all."""
    every = np.arange(len(vectors))
    return nearest_of(vectors, every, every)


def by_cells(vectors: np.ndarray) -> Iterator[Neighbours]:
    """As `by_comparing`, but only with the vectors of those cells whose centres are nearest to that of its own cell.
    (Asked a million times, LanceDB's index would take more than an hour: it is made for one question at a time.)"""
    few = np.random.default_rng(0).permutation(len(vectors))[:LEARNED]
    means = MiniBatchKMeans(-(-len(vectors) // CELL), random_state=0, n_init=1, batch_size=4096)
    means.fit(vectors[few].astype(np.float32))
    parts = np.array_split(np.arange(len(vectors)), -(-len(vectors) // LEARNED))
    cells = np.concatenate([means.predict(vectors[part].astype(np.float32)) for part in parts])
    order = np.argsort(cells, kind="stable")
    members = np.split(order, np.searchsorted(cells[order], np.arange(1, len(means.cluster_centers_))))
    near = pairwise_distances(means.cluster_centers_).argsort(axis=1)[:, :LOOKED_AT]
    for cell, own in enumerate(members):
        if len(own):
            yield from nearest_of(vectors, own, np.concatenate([members[other] for other in near[cell]]))


def nearest_of(vectors: np.ndarray, rows: np.ndarray, others: np.ndarray) -> Iterator[Neighbours]:
    """Of some vectors the nearest among others."""
    theirs, k = vectors[others].astype(np.float32), min(NEIGHBOURS + 1, len(others))
    for part in np.array_split(rows, -(-len(rows) // TOGETHER)):
        apart = 1 - vectors[part].astype(np.float32) @ theirs.T
        nearest = np.argpartition(apart, k - 1, axis=1)[:, :k]
        yield part, others[nearest], np.take_along_axis(apart, nearest, 1)


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
        gone = archive.gone()  # asked for again, perhaps because the first time was cut off
        if missing := sorted(name for name in set(photos) - archive.done() if digest(name) not in gone):
            raise ValueError(f"{missing[0]}: {archive.place} has no photo of that name")
        each = [quoted(name) for name in sorted(set(photos))]
        where = [f"photo IN ({', '.join(part)})" for part in chunks(each, 500)]
        return archive.remove(where, archive.tables(), [name for name in photos if digest(name) not in gone])


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
        print(f"{sort_people(archive, options.rate):,} people; `people` in {options.table} says whose face is whose")


if __name__ == "__main__":
    sys.exit(main())
