"""Faces and photos of an archive: tables of LanceDB in one folder or bucket, which pandas, DuckDB and pyarrow read.

`faces` has a row a face, `photos` a row a photo: how many faces were found in it, or why it could not be read. Rows are
added in large parts, first the faces of a part, then its photos; faces whose part has no photos are of a write that was
cut off.
"""

import contextlib
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import IvfPq

from facelib.embedding.similarity import unit_vectors
from facelib.io.files import digest
from facelib.io.inputs import ADDRESS

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FACE = [
    pa.field("photo", pa.string()),
    pa.field("face", pa.int32()),  # number in the photo, the largest first
    pa.field("box", pa.list_(pa.float32())),  # x1 y1 x2 y2
    pa.field("score", pa.float32()),
    pa.field("landmarks", pa.list_(pa.float32())),  # x and y of five points
    pa.field("landmark_confidence", pa.float32()),
    pa.field("quality", pa.float32()),
    pa.field("quality_issue", pa.string()),
    pa.field("vector", pa.list_(pa.float16())),
]
PHOTO = pa.schema(
    [
        pa.field("photo", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("error", pa.string()),
        pa.field("faces", pa.list_(pa.struct(FACE))),
    ]
)
EXACT_ROWS = 100_000  # up to which vectors are all compared with; beyond through the index
PROBES = 20  # of the index's partitions, that a search looks into
REFINED = 20  # times as many candidates of the index as are wanted are compared with exactly
UNFINISHED = "a removal that has not come to its end"  # a row of `removed` as long as there is one


class Archive:
    """The tables at a place.

    Args:
        place: folder, or the address of one in an object store.
        model_id, size: the embedder's model_id and the numbers in its vectors; needed where the tables are made.
        made: what the rows are made by, see `pipeline_id`; "" for whoever only reads.

    Raises:
        FileNotFoundError: nothing is there, and no size was given. ValueError: it holds vectors of another embedder, or
            rows that were made otherwise.
    """

    def __init__(self, place: str, model_id: str | None = None, size: int | None = None, made: str = ""):
        if size is None and not ADDRESS.match(place) and not Path(place, "faces.lance").is_dir():
            raise FileNotFoundError(f"{place}: no archive is there; python -m facelib.archive SOURCE --out makes one")
        # What others have written is seen at once.
        self.place, self.database = place, lancedb.connect(place, read_consistency_interval=timedelta(0))
        there = self.database.list_tables().tables
        if "faces" not in there:
            vector = pa.field("vector", pa.list_(pa.float16(), size))
            about = {"embedder": model_id, "pipeline_id": made}
            self.database.create_table("faces", schema=pa.schema([*FACE[:-1], vector, PART], about))
        if "photos" not in there:
            columns = [pa.field("count", pa.int32()) if field.name == "faces" else field for field in PHOTO]
            self.database.create_table("photos", schema=pa.schema([*columns, PART]))
        if "removed" not in there:
            self.database.create_table("removed", schema=pa.schema([pa.field("digest", pa.string())]))
        self.faces, self.photos, self.removed = map(self.database.open_table, ("faces", "photos", "removed"))
        if "doubt" in self.faces.schema.names:  # written by version 0.2
            self.faces.alter_columns({"path": "doubt", "rename": "quality_issue"})
        about = {name.decode(): value.decode() for name, value in (self.faces.schema.metadata or {}).items()}
        self.model_id = about.get("embedder", "")
        for words, own, others in (
            ("vectors of the embedder", self.model_id, model_id),
            ("rows by", about.get("pipeline_id", about.get("made_by")), made),
        ):
            if others and own != others:
                raise ValueError(f"{place} holds {words} {own}, not {others}: take another place")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One writer at a time, as far as the system can tell: the lock ends with the process, however that ends. For
        object stores, and on Windows, there is none. A removal that was cut off is brought to its end first.

        Raises:
            OSError: another process is writing.
        """
        folder = None if fcntl is None or ADDRESS.match(self.place) else os.open(self.place, os.O_RDONLY)
        try:
            if folder is not None:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise OSError(f"{self.place}: another process is writing there") from None
            if self.removed.count_rows(f"digest = {quoted(UNFINISHED)}"):
                self.purge()
            yield
        finally:
            if folder is not None:
                os.close(folder)

    def repair(self) -> int:
        """Take out the faces of a write that was cut off; gives their number."""
        written, whole = (set(read(table, "part")["part"].unique().to_pylist()) for table in (self.faces, self.photos))
        before = self.faces.count_rows()
        for part in written - whole:
            self.faces.delete(f"part = '{part}'")
        return before - self.faces.count_rows()

    def done(self, without_errors: bool = False) -> set[str]:
        """The photos that have a row; those whose row is an error left out, if asked for."""
        rows = read(self.photos, "photo", "error")
        return set((rows.filter(pc.equal(rows["error"], "")) if without_errors else rows)["photo"].to_pylist())

    def deleted_ids(self) -> set[str]:
        """Digests of the photos that are not to come back."""
        return set(read(self.removed, "digest")["digest"].to_pylist()) - {UNFINISHED}

    def write(self, rows: pa.Table) -> None:
        """Rows of `PHOTO`, in one part; they take the place of earlier rows that are errors."""
        part = uuid.uuid4().hex
        faces = rows["faces"].combine_chunks().flatten()
        if len(faces):
            table = pa.Table.from_struct_array(faces)
            length, flat = self.faces.schema.field("vector").type.list_size, table["vector"].combine_chunks().flatten()
            vectors = pa.FixedSizeListArray.from_arrays(flat, length)
            table = table.set_column(len(FACE) - 1, "vector", vectors)
            self.faces.add(table.append_column("part", pa.array([part] * len(table))))
        if self.photos.count_rows("error != ''"):
            for names in chunks(rows["photo"].to_pylist(), 500):
                delete(self.photos, f"photo IN ({', '.join(map(quoted, names))}) AND error != ''")
        counts = pa.array(rows["faces"].combine_chunks().value_lengths(), pa.int32())
        photos = rows.drop_columns(["faces"]).append_column("count", counts)
        self.photos.add(photos.append_column("part", pa.array([part] * len(photos))))

    def compact(self) -> None:
        """Join small files, add new rows to the index, and leave behind what the tables were an hour ago."""
        for table in self.tables():
            table.optimize(cleanup_older_than=timedelta(hours=1))

    def index(self) -> None:
        """Build the index (IVF-PQ) anew, for searches among more than `EXACT_ROWS`."""
        size = self.faces.schema.field("vector").type.list_size
        part = next(numbers for numbers in (8, 5, 4, 3, 2, 1) if size % numbers == 0)
        # Learning from a quarter of the vectors in a fifth of the rounds takes a fraction of the time.
        quick = dict(max_iterations=10, sample_rate=64)
        self.faces.create_index("vector", config=IvfPq("cosine", num_sub_vectors=size // part, **quick))

    def nearest(self, vector: np.ndarray, k: int = 10, exact: bool | None = None) -> list[dict]:
        """The faces nearest to a vector (d,): their columns but the vector, cosine `distance`, and `person` where they
        have been sorted.

        Args:
            exact: compare with all of them; None: up to `EXACT_ROWS`, or where there is no index.
        """
        search = self._search(unit_vectors(vector), k, exact)
        rows = search.select([*(field.name for field in FACE[:-1]), "_distance"]).to_list()
        persons = {}
        if rows and (people := self.people()):
            where = f"photo IN ({', '.join({quoted(row['photo']) for row in rows})})"
            found = people.search().where(where).limit(max(1, people.count_rows(where))).to_list()
            persons = {(row["photo"], row["face"]): row["person"] for row in found}
        return [
            {**row, "distance": row.pop("_distance"), "person": persons.get((row["photo"], row["face"]), "")}
            for row in rows
        ]

    def _search(self, query: object, k: int, exact: bool | None) -> lancedb.query.LanceVectorQueryBuilder:
        if exact is None:
            exact = self.faces.count_rows() <= EXACT_ROWS or not self.faces.list_indices()
        search = self.faces.search(query, "vector").distance_type("cosine").limit(k)
        if exact:
            return search.bypass_vector_index()
        return search.nprobes(PROBES).refine_factor(REFINED)

    def people(self) -> lancedb.table.Table | None:
        """Which person each face is, once they have been sorted."""
        if "people" not in self.database.list_tables().tables:
            return None
        return self.database.open_table("people")

    def tables(self) -> list[lancedb.table.Table]:
        """Those with rows of photos."""
        return [table for table in (self.faces, self.photos, self.people()) if table is not None]

    def remove(self, conditions: Iterable[str], tables: list[lancedb.table.Table], photos: Iterable[str] = ()) -> int:
        """Take the rows of some SQL conditions out of some of the tables, their index and their older versions; gives
        the number of faces.

        It may be killed anywhere: the next command that writes brings it to its end, as far as it had come; the same
        removal again does the rest. `photos`: names that are not to come back, noted by their digests.
        """
        before = self.faces.count_rows()
        self.removed.add([{"digest": text} for text in (UNFINISHED, *map(digest, photos))])
        for where in conditions:
            for table in tables:
                delete(table, where)
        deleted_ids = before - self.faces.count_rows()
        self.purge()
        return deleted_ids

    def purge(self) -> None:
        """Rewrite files without the rows that were removed, and drop older versions that have them. Whoever is reading
        meanwhile has to open the archive again."""
        indexed = bool(self.faces.list_indices())
        for table in self.tables():
            # LanceDB's own way leaves a removed row in its file until a tenth of the file is gone.
            table.to_lance().optimize.compact_files(materialize_deletions=True, materialize_deletions_threshold=0.0)
            table.checkout_latest()
        if indexed:
            self.index()
        for table in self.tables():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that older versions go is what is wanted
                table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
        delete(self.removed, f"digest = {quoted(UNFINISHED)}")


PART = pa.field("part", pa.string())


def read(table: lancedb.table.Table, *columns: str) -> pa.Table:
    """Some columns of a table, all rows."""
    return table.search().select(list(columns)).limit(max(1, table.count_rows())).to_arrow()


def delete(table: lancedb.table.Table, where: str) -> None:
    """The rows of a condition. One that none meets would be kept in the table's history, names and all."""
    if table.count_rows(where):
        table.delete(where)


def quoted(text: str) -> str:
    """As SQL takes it."""
    return "'" + text.replace("'", "''") + "'"


def chunks(items: list, size: int) -> Iterable[list]:
    """Parts of a list."""
    return (items[start : start + size] for start in range(0, len(items), size))
