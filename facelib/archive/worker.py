"""What a worker process of the archive does: it holds one pipeline and turns batches of photos into rows."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import ray

from facelib.archive.schema import PHOTO_SCHEMA
from facelib.archive.source import NO_PATH
from facelib.archive.stores import read_address
from facelib.io.files import digest, printable
from facelib.io.inputs import ADDRESS
from facelib.pipeline import FacePipeline
from facelib.types import Faces, ModelMismatchError

MAX_CRASHES = 2  # crashes while a photo was processed alone, after which it is skipped; the first may have been a kill


@dataclass(frozen=True)
class KnownPhotos:
    """Photos that workers skip."""

    processed: set[str] = field(default_factory=set)  # names of photos that have a row
    deleted_ids: set[str] = field(default_factory=set)  # digests of the names of removed photos

    def __contains__(self, name: str) -> bool:
        return name in self.processed or digest(name) in self.deleted_ids


class Worker:
    """Turns tables of (photo, content) into rows of `PHOTO_SCHEMA`, for `ray.data.Dataset.map_batches`.

    A batch in progress is marked by a file in `in_progress_dir`. Where a photo crashes the process, Ray starts another
    one and gives it the same batch. It finds the mark and processes the batch photo by photo, each with a mark of its
    own. A photo whose mark counts `MAX_CRASHES` becomes an error row.

    Args:
        settings: arguments of `FacePipeline.from_pretrained`.
        rows_id: `rows_id_of` the pipeline of the machine that writes; that of this machine must have the same.
        in_progress_dir: a folder that all workers see.
        threads: number of threads of this process.
        known: photos to skip, or Ray's reference to them.

    Raises:
        ModelMismatchError: the pipeline of this machine would make other rows, see `rows_id_of`.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        rows_id: str,
        in_progress_dir: str,
        threads: int,
        known: KnownPhotos | ray.ObjectRef | None = None,
    ):
        limit_threads(threads)
        self.known = ray.get(known) if isinstance(known, ray.ObjectRef) else known or KnownPhotos()
        self.pipeline = FacePipeline.from_pretrained(**settings)
        if (own_id := rows_id_of(self.pipeline)) != rows_id:
            raise ModelMismatchError(
                f"the pipeline of this machine is {own_id}, the archive's is {rows_id}: install the same version, "
                "networks and calibrations on all machines"
            )
        self.in_progress_dir = Path(in_progress_dir)
        self.in_progress_dir.mkdir(parents=True, exist_ok=True)

    def __call__(self, table: pa.Table) -> pa.Table:
        names = table["photo"].to_pylist()
        new = [i for i, name in enumerate(names) if name not in self.known]
        if not new:
            return pa.Table.from_pylist([], PHOTO_SCHEMA)
        names = [names[i] for i in new]
        contents = table["content"].take(pa.array(new, pa.int64())).to_pylist()
        mark = self.in_progress_dir / digest("\n".join(names))
        if mark.exists():  # a process crashed over this batch
            rows = [self.process_alone(name, content) for name, content in zip(names, contents)]
        else:
            mark.touch()
            rows = self.process_batch(names, contents)
        mark.unlink(missing_ok=True)
        return pa.Table.from_pylist(rows, PHOTO_SCHEMA)

    def process_alone(self, name: str, content: bytes | None) -> dict[str, Any]:
        """The row of one photo of a batch over which a process crashed. The size of its mark counts the crashes."""
        mark = self.in_progress_dir / digest(name)
        crashes = mark.stat().st_size if mark.exists() else 0
        if crashes >= MAX_CRASHES:
            error = RuntimeError("the process crashed more than once while it processed this photo")
            return row_of(name, None, Faces(error=error))
        with open(mark, "ab") as file:
            file.write(b".")
        (row,) = self.process_batch([name], [content])
        mark.unlink(missing_ok=True)
        return row

    def process_batch(self, names: list[str], contents: list[bytes | None]) -> list[dict[str, Any]]:
        """Rows of photos, in order; unreadable photos become error rows."""
        # Empty content becomes one invalid byte, so that it is reported like any other damaged photo.
        photos = [fetch(name) if content is None else content or b"\0" for name, content in zip(names, contents)]
        results = self.pipeline.stream([photo for photo in photos if not isinstance(photo, OSError)], len(photos))
        rows = []
        for name, photo in zip(names, photos):
            image, faces = (None, Faces(error=photo)) if isinstance(photo, OSError) else next(results)
            rows.append(row_of(name, image, faces))
        return rows


def rows_id_of(pipeline: FacePipeline) -> str:
    """What the rows of a pipeline depend on: its `pipeline_id`, and the cohort of its embedder."""
    return f"{pipeline.pipeline_id} {pipeline.cohort.id if pipeline.cohort else 'without a cohort'}"


def fetch(name: str) -> str | bytes | OSError:
    """A path unchanged; the bytes at an address, or the error why they could not be read."""
    if name.startswith(NO_PATH):
        return OSError(f"{printable(name)}: the row has neither a path nor bytes")
    if not ADDRESS.match(name):
        return name
    try:
        return read_address(name) or b"\0"
    except (OSError, ValueError) as error:
        return OSError(f"{printable(name)}: cannot be fetched ({error})")


def limit_threads(threads: int) -> None:
    """Set the number of threads that this process computes with.

    Ray sets OMP_NUM_THREADS to 1 by default. ONNX Runtime sessions and PyTorch take their number from it when they are
    made; a PyTorch that is loaded already has to be told.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    cv2.setNumThreads(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def row_of(name: str, image: np.ndarray | None, faces: Faces) -> dict[str, Any]:
    """The row of `PHOTO_SCHEMA` of one photo.

    Args:
        image: RGB uint8 (H, W, 3), or None where the photo could not be read.
    """
    height, width = image.shape[:2] if image is not None else (0, 0)
    error = str(faces.error) if faces.error else ""
    if error and not error.startswith(printable(name)[:300]):  # of a photo given as bytes
        error = f"{printable(name)}: {error}"
    return {
        "photo": name,
        "width": width,
        "height": height,
        "error": error,
        "faces": [
            {
                "photo": name,
                "face": number,
                "box": face.box.tolist(),
                "score": float(face.score),
                "landmarks": face.landmarks.ravel().tolist(),
                "landmark_confidence": float(face.landmark_confidence.mean()),
                "quality": float(face.quality),
                "quality_issue": face.quality_issue,
                "cohort_similarity": face.cohort_similarity or 0.0,
                "vector": face.embedding.astype(np.float16),
            }
            for number, face in enumerate(faces)
        ],
    }
