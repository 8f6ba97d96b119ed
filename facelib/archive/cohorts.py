"""The column `cohort_similarity` of the table `faces`: which cohort it was computed with, and computing it anew.

The metadata of the table holds the ID of the cohort, "" where the embedder has none. Tables of version 0.2 and earlier
have neither.
"""

import contextlib

import lance
import lancedb
import numpy as np
import pyarrow as pa

from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.cohort import Cohort
from facelib.types import CalibrationMissingError, ModelMismatchError

COLUMN = "cohort_similarity"
METADATA = "cohort"


def embedder_cohort(model_id: str) -> Cohort | None:
    """The cohort of an embedder's calibration; None where it has none, or no calibration."""
    with contextlib.suppress(CalibrationMissingError):
        return load_calibration(model_id).cohort
    return None


def cohort_metadata(cohort: Cohort | None) -> dict[str, str]:
    """Metadata of a table whose column is computed with a cohort."""
    return {METADATA: cohort.id if cohort else ""}


def check_cohort(faces: lancedb.table.Table, cohort: Cohort | None, location: str) -> None:
    """Check that the column was computed with a cohort.

    Args:
        faces: the table, of the archive at `location`.

    Raises:
        ModelMismatchError: with another one, or there is no such column.
    """
    stored = (faces.schema.metadata or {}).get(METADATA.encode())
    if stored is None or stored.decode() != cohort_metadata(cohort)[METADATA]:
        state = "missing: an earlier version made the archive" if stored is None else "of another cohort"
        raise ModelMismatchError(
            f"{location}: the column {COLUMN}, which scores need, is {state}. `python -m facelib.archive.upgrade "
            f"{location}` computes it"
        )


def compute_similarities(faces: lancedb.table.Table, cohort: Cohort | None) -> None:
    """Compute the column from the embeddings in the table. If this is interrupted, `check_cohort` tells."""

    @lance.batch_udf(output_schema=pa.schema([pa.field(COLUMN, pa.float32())]))
    def similarities(batch: pa.RecordBatch) -> pa.RecordBatch:
        values = np.zeros(len(batch), np.float32)
        if cohort:
            values = cohort.similarity(batch["vector"].flatten().to_numpy().reshape(len(batch), -1))
        return pa.RecordBatch.from_arrays([pa.array(values)], [COLUMN])

    table = faces.to_lance()
    table.update_schema_metadata({METADATA: None})
    if COLUMN in table.schema.names:
        table.drop_columns([COLUMN])
    table.add_columns(similarities, read_columns=["vector"])
    table.update_schema_metadata(cohort_metadata(cohort))
    faces.checkout_latest()
