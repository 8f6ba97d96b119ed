"""Columns of an archive's tables, and the SQL helpers that its queries share.

To add a column of a face, add it to `FACE_FIELDS` and fill it in `facelib.archive.worker.row_of`.
"""

from collections.abc import Iterator

import lancedb
import pyarrow as pa

# In the table `faces`, one row for each face.
FACE_FIELDS = [
    pa.field("photo", pa.string()),  # path, address or name
    pa.field("face", pa.int32()),  # index in the photo, largest face first
    pa.field("box", pa.list_(pa.float32())),  # x1, y1, x2, y2 in pixels of the photo
    pa.field("score", pa.float32()),  # of the detector, 0 to 1
    pa.field("landmarks", pa.list_(pa.float32())),  # x and y of five points, in pixels of the photo
    pa.field("landmark_confidence", pa.float32()),  # mean over the five points, 0 to 1
    pa.field("quality", pa.float32()),  # 0 to 1
    pa.field("quality_issue", pa.string()),  # see `Face.quality_issue`
    pa.field("cohort_similarity", pa.float32()),  # see `Cohort.similarity`; 0 where the embedder has no cohort
    pa.field("vector", pa.list_(pa.float16())),  # embedding of unit length; in the table its size is fixed
]
# What workers return, one row for each photo with its faces. The table `photos` has their `count` instead.
PHOTO_SCHEMA = pa.schema(
    [
        pa.field("photo", pa.string()),
        pa.field("width", pa.int32()),  # pixels; 0 where the photo could not be read
        pa.field("height", pa.int32()),
        pa.field("error", pa.string()),  # why it could not be read, or ""
        pa.field("faces", pa.list_(pa.struct(FACE_FIELDS))),
    ]
)
PART = pa.field("part", pa.string())  # in `faces` and `photos`: the write that a row came with
REMOVED_SCHEMA = pa.schema([pa.field("digest", pa.string())])  # of the name of a photo, see `facelib.io.files.digest`


def faces_schema(dim: int, metadata: dict[str, str]) -> pa.Schema:
    """Schema of the table `faces` with embeddings of `dim` dimensions."""
    return pa.schema([*FACE_FIELDS[:-1], pa.field("vector", pa.list_(pa.float16(), dim)), PART], metadata)


def photos_schema() -> pa.Schema:
    """Schema of the table `photos`."""
    count = pa.field("count", pa.int32())
    return pa.schema([*(count if field.name == "faces" else field for field in PHOTO_SCHEMA), PART])


def read_columns(table: lancedb.table.Table, *columns: str) -> pa.Table:
    """Some columns of a table, all rows."""
    return table.search().select(list(columns)).limit(max(1, table.count_rows())).to_arrow()


def delete_rows(table: lancedb.table.Table, condition: str) -> None:
    """Delete the rows that meet an SQL condition.

    Without such a row nothing is run: LanceDB would keep the condition, and the names in it, in the table's history.
    """
    if table.count_rows(condition):
        table.delete(condition)


def sql_string(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def photo_conditions(photos: list[str], size: int = 500) -> Iterator[str]:
    """SQL conditions that together are met by the rows of these photos, `size` photos each."""
    for start in range(0, len(photos), size):
        yield f"photo IN ({', '.join(map(sql_string, photos[start : start + size]))})"
