"""Faces and photos of an archive: LanceDB tables in one folder or bucket, which pandas, DuckDB and pyarrow read too.

`faces` has one row for each face, `photos` one for each photo: the number of faces found, or why it could not be read.
Rows are written in large parts, first the faces of a part, then its photos. So faces whose part has no photos belong to
a write that was interrupted, and `Archive.repair` deletes them.
"""

import contextlib
import functools
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

from facelib.archive.cohorts import check_cohort, cohort_metadata, embedder_cohort
from facelib.archive.schema import (
    FACE_FIELDS,
    REMOVED_SCHEMA,
    delete_rows,
    faces_schema,
    photo_conditions,
    photos_schema,
    read_columns,
    sql_string,
)
from facelib.embedding.similarity import unit_vectors
from facelib.io.files import digest
from facelib.io.inputs import ADDRESS
from facelib.io.lock import lock_folder
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.types import ModelMismatchError

MAIN_TABLES = {"faces", "photos"}
EXACT_ROWS = 100_000  # faces up to which a search compares all of them; above, it uses the index
PROBED_PARTITIONS = 20  # partitions of the index that a search reads
REFINE_FACTOR = 5  # a search compares exactly this many times as many candidates of the index as are asked for
MIN_CANDIDATES, CANDIDATES = 50, 4  # a search takes so many nearest faces, and so many times k, and sorts them by score
KEPT_VERSIONS = timedelta(hours=1)  # age up to which `compact` keeps older versions of the tables
# A row of the table `removed` as long as a removal is unfinished. Stored in archives: do not change the text.
UNFINISHED_REMOVAL = "a removal that has not come to its end"


class Archive:
    """The tables of an archive, created where they do not exist.

    Args:
        location: folder, or the address of a folder in an object store.
        model_id: of the embedder, see `Embedder`; needed to create the tables, None: not checked.
        dim: dimensions of its embeddings; needed to create the tables.
        pipeline_id: of the pipeline that makes the rows, see `FacePipeline.pipeline_id`; "": not checked.

    Raises:
        FileNotFoundError: there is no archive, and no `dim` was given.
        ValueError: the table `faces` or `photos` is missing, and the other one is in use.
        ModelMismatchError: the archive holds embeddings of another embedder, or rows of another pipeline.
    """

    def __init__(self, location: str, model_id: str | None = None, dim: int | None = None, pipeline_id: str = ""):
        is_folder = not ADDRESS.match(location)
        if dim is None and is_folder and not any(Path(location, f"{name}.lance").is_dir() for name in MAIN_TABLES):
            raise FileNotFoundError(
                f"{location}: no archive is there; `python -m facelib.archive SOURCE --out {location}` makes one"
            )
        self.location = location
        if is_folder and not os.path.isdir(location):
            os.makedirs(location, mode=0o700)  # embeddings are biometric data
        # The interval of 0 shows what other processes have written at once.
        self.database = lancedb.connect(location, read_consistency_interval=timedelta(0))
        self._create_tables(model_id, dim, pipeline_id)
        self.faces = self.database.open_table("faces")
        self.photos = self.database.open_table("photos")
        self.removed = self.database.open_table("removed")
        if "doubt" in self.faces.schema.names:  # the column's name in archives of version 0.2
            self.faces.alter_columns({"path": "doubt", "rename": "quality_issue"})
        self.model_id = self._check_metadata(model_id, pipeline_id)

    def _create_tables(self, model_id: str | None, dim: int | None, pipeline_id: str) -> None:
        existing = self.database.list_tables().tables
        self._check_complete(existing)
        if "faces" not in existing:
            metadata = {"embedder": model_id, "pipeline_id": pipeline_id}
            schema = faces_schema(dim, metadata | cohort_metadata(embedder_cohort(model_id)))
            self.database.create_table("faces", schema=schema)
        if "photos" not in existing:
            self.database.create_table("photos", schema=photos_schema())
        if "removed" not in existing:
            self.database.create_table("removed", schema=REMOVED_SCHEMA)

    def _check_complete(self, existing: list[str]) -> None:
        """Refuse an archive that has lost one of its two main tables: `repair` would empty the other one.

        Raises:
            ValueError: one of them is missing, and the other one is in use.
        """
        lost = MAIN_TABLES - set(existing)
        if len(lost) == 1 and self.database.open_table(*(MAIN_TABLES - lost)).count_rows():
            raise ValueError(
                f"{self.location}: the table {lost.pop()} is missing: restore it from a copy, or make the archive anew "
                "in another folder; the other tables are kept as they are"
            )

    def _check_metadata(self, model_id: str | None, pipeline_id: str) -> str:
        """The `model_id` that the table `faces` was created with.

        Raises:
            ModelMismatchError: it, or the `pipeline_id`, is not the given one.
        """
        metadata = {name.decode(): value.decode() for name, value in (self.faces.schema.metadata or {}).items()}
        stored_model = metadata.get("embedder", "")
        stored_pipeline = metadata.get("pipeline_id", metadata.get("made_by"))  # made_by: of version 0.2
        if model_id and model_id != stored_model:
            raise ModelMismatchError(
                f"{self.location} holds embeddings of the embedder {stored_model}, not of {model_id}: use that "
                "embedder, or give another folder"
            )
        if pipeline_id and pipeline_id != stored_pipeline:
            raise ModelMismatchError(
                f"{self.location} holds rows of the pipeline {stored_pipeline}, not of {pipeline_id}: use the same "
                "version, networks and detector, or give another folder"
            )
        return stored_model

    @functools.cached_property
    def cohort(self) -> Cohort | None:
        """The cohort of the embedder; None: it has none, and scores are cosines."""
        return embedder_cohort(self.model_id)

    def check_cohort(self) -> None:
        """Check that the column `cohort_similarity` is of this cohort, see `facelib.archive.cohorts.check_cohort`."""
        check_cohort(self.faces, self.cohort, self.location)

    @contextlib.contextmanager
    def write_lock(self) -> Iterator[None]:
        """Allow one writer at a time, see `lock_folder`, and finish a removal that was interrupted."""
        with lock_folder(self.location):
            if self.removed.count_rows(f"digest = {sql_string(UNFINISHED_REMOVAL)}"):
                self.purge()
            yield

    def repair(self) -> int:
        """Delete the faces of a write that was interrupted; returns their number."""
        parts_of_faces = set(read_columns(self.faces, "part")["part"].unique().to_pylist())
        parts_of_photos = set(read_columns(self.photos, "part")["part"].unique().to_pylist())
        before = self.faces.count_rows()
        for part in parts_of_faces - parts_of_photos:
            self.faces.delete(f"part = '{part}'")
        return before - self.faces.count_rows()

    def processed(self, without_errors: bool = False) -> set[str]:
        """Names of the photos that have a row; with `without_errors` only of those that could be read."""
        rows = read_columns(self.photos, "photo", "error")
        if without_errors:
            rows = rows.filter(pc.equal(rows["error"], ""))
        return set(rows["photo"].to_pylist())

    def deleted_ids(self) -> set[str]:
        """Digests of the names of removed photos, which are not added again."""
        return set(read_columns(self.removed, "digest")["digest"].to_pylist()) - {UNFINISHED_REMOVAL}

    def write(self, rows: pa.Table) -> None:
        """Add rows of `PHOTO_SCHEMA` as one part; they replace earlier rows of the same photos that are errors."""
        part = uuid.uuid4().hex
        faces = rows["faces"].combine_chunks().flatten()
        if len(faces):
            table = pa.Table.from_struct_array(faces)
            dim = self.faces.schema.field("vector").type.list_size
            values = table["vector"].combine_chunks().flatten()
            table = table.set_column(len(FACE_FIELDS) - 1, "vector", pa.FixedSizeListArray.from_arrays(values, dim))
            self.faces.add(table.append_column("part", pa.array([part] * len(table))))
        if self.photos.count_rows("error != ''"):
            for condition in photo_conditions(rows["photo"].to_pylist()):
                delete_rows(self.photos, f"{condition} AND error != ''")
        counts = pa.array(rows["faces"].combine_chunks().value_lengths(), pa.int32())
        photos = rows.drop_columns(["faces"]).append_column("count", counts)
        self.photos.add(photos.append_column("part", pa.array([part] * len(photos))))

    def compact(self) -> None:
        """Merge small files, add new rows to the index, and delete versions older than `KEPT_VERSIONS`."""
        for table in self.tables():
            table.optimize(cleanup_older_than=KEPT_VERSIONS)

    def build_index(self) -> None:
        """Build the index (IVF-PQ) for searches among more than `EXACT_ROWS` faces; replaces an earlier one."""
        dim = self.faces.schema.field("vector").type.list_size
        subvector = next(size for size in (8, 5, 4, 3, 2, 1) if dim % size == 0)
        # A quarter of LanceDB's sample and a fifth of its iterations take a fraction of the time.
        config = IvfPq("cosine", num_sub_vectors=dim // subvector, max_iterations=10, sample_rate=64)
        self.faces.create_index("vector", config=config)

    def nearest(self, embedding: np.ndarray, k: int = 10, exact: bool | None = None) -> list[dict]:
        """The faces with the highest scores with an embedding (d,), the highest first.

        They are chosen among the nearest by distance, see `MIN_CANDIDATES`.

        Args:
            exact: see `nearest_by_distance`.

        Returns:
            The columns of the table `faces` without the embedding, but `score` is that with the embedding (see
            `Calibration.score_matrix`), not the detector's; `distance` (cosine, 0 to 2); and `person`, "" where the
            face has not been clustered.

        Raises:
            ModelMismatchError: see `check_cohort`.
        """
        self.check_cohort()
        rows = self.nearest_by_distance(embedding, max(MIN_CANDIDATES, CANDIDATES * k), exact)
        own = float(score_offsets(unit_vectors(embedding)[None], self.cohort)[0])
        weight = self.cohort.weight / 2 if self.cohort else 0.0
        for row in rows:
            row["score"] = 1 - row["distance"] - own - weight * row["cohort_similarity"]
        rows = sorted(rows, key=lambda row: -row["score"])[:k]
        persons = {}
        if (people := self.people()) is not None:
            for condition in photo_conditions(sorted({row["photo"] for row in rows})):
                count = people.count_rows(condition)
                found = people.search().where(condition).limit(max(1, count)).to_list()
                persons.update({(row["photo"], row["face"]): row["person"] for row in found})
        for row in rows:
            row["person"] = persons.get((row["photo"], row["face"]), "")
        return rows

    def nearest_by_distance(self, embedding: np.ndarray, k: int, exact: bool | None = None) -> list[dict]:
        """The faces nearest to an embedding (d,), nearest first: the columns of the table `faces` without the
        embedding, and `distance` (cosine, 0 to 2).

        Args:
            exact: compare all faces; None: up to `EXACT_ROWS`, or where there is no index.
        """
        if exact is None:
            exact = self.faces.count_rows() <= EXACT_ROWS or not self.faces.list_indices()
        search = self.faces.search(unit_vectors(embedding), "vector").distance_type("cosine").limit(k)
        if exact:
            search = search.bypass_vector_index()
        else:
            search = search.nprobes(PROBED_PARTITIONS).refine_factor(REFINE_FACTOR)
        columns = [name for name in self.faces.schema.names if name not in ("vector", "part")]
        rows = search.select([*columns, "_distance"]).to_list()
        for row in rows:
            row["distance"] = max(row.pop("_distance"), 0.0)  # rounding must not make it negative
        return rows

    def people(self) -> lancedb.table.Table | None:
        """The table `people`, the person of each face; None before faces were clustered."""
        if "people" not in self.database.list_tables().tables:
            return None
        return self.database.open_table("people")

    def tables(self) -> list[lancedb.table.Table]:
        """The tables whose rows belong to photos: all but `removed`."""
        return [table for table in (self.faces, self.photos, self.people()) if table is not None]

    def remove(self, conditions: Iterable[str], tables: list[lancedb.table.Table], photos: Iterable[str] = ()) -> int:
        """Delete rows from some of the tables, from their index and from their older versions.

        If this is interrupted, the next command that writes purges what was deleted until then; repeating the removal
        deletes the rest.

        Args:
            conditions: SQL conditions; rows that meet one of them are deleted.
            photos: names of photos that are not to be added again; digests of them are stored.

        Returns:
            The number of faces that were deleted.
        """
        before = self.faces.count_rows()
        self.removed.add([{"digest": text} for text in (UNFINISHED_REMOVAL, *map(digest, photos))])
        for condition in conditions:
            for table in tables:
                delete_rows(table, condition)
        deleted = before - self.faces.count_rows()
        self.purge()
        return deleted

    def purge(self) -> None:
        """Rewrite the files without deleted rows, and delete all older versions of the tables.

        A process that is reading meanwhile has to open the archive again.
        """
        indexed = bool(self.faces.list_indices())
        for table in self.tables():
            # By default LanceDB keeps a deleted row in its file until a tenth of the file is deleted.
            table.to_lance().optimize.compact_files(materialize_deletions=True, materialize_deletions_threshold=0.0)
            table.checkout_latest()
        if indexed:
            self.build_index()
        for table in self.tables():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # LanceDB warns that unverified files are deleted, as they should be
                table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
        delete_rows(self.removed, f"digest = {sql_string(UNFINISHED_REMOVAL)}")
