"""What an actor of the archive does: it holds one pipeline and turns batches of photos into rows."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from facelib.archive.source import content_at
from facelib.archive.table import PHOTO
from facelib.io.files import digest, printable
from facelib.io.inputs import ADDRESS
from facelib.pipeline import FacePipeline
from facelib.types import Faces

MAX_CRASHES = 2  # of processes over a photo that is alone, from which it is left out


class Worker:
    """(photo, content) -> rows of `PHOTO`, each with its faces.

    A batch that is worked on is noted in the folder `in_progress_dir`. Where a photo takes the whole process with it, Ray starts
    another and gives it the batch again; it finds the note, takes that batch photo by photo, each with a note of its
    own, and a photo over which processes ended `MAX_CRASHES` times becomes an error row. (Once may have been a kill.)

    Args:
        settings: arguments of `FacePipeline.from_pretrained`. made: what the rows must be made by, see `pipeline_id`.
        marks: a folder that all workers see.
        known: names of photos that have their rows, and digests of those that are not to come back; or Ray's reference
            to both.
    """

    def __init__(
        self, settings: dict[str, Any], made: str, in_progress_dir: str, threads: int, known: object = (set(), set())
    ):
        limit_threads(threads)
        self.seen, self.deleted_ids = ray.get(known) if isinstance(known, ray.ObjectRef) else known
        self.pipeline = FacePipeline.from_pretrained(**settings)
        if (own := self.pipeline.pipeline_id) != made:
            raise ValueError(f"this machine makes rows by {own}, the archive has them by {made}: install the same")
        self.in_progress_dir = Path(in_progress_dir)
        self.in_progress_dir.mkdir(parents=True, exist_ok=True)

    def __call__(self, table: pa.Table) -> pa.Table:
        names = table["photo"].to_pylist()
        new = [i for i, name in enumerate(names) if name not in self.seen and digest(name) not in self.deleted_ids]
        names, contents = [names[i] for i in new], table["content"].take(pa.array(new, pa.int64())).to_pylist()
        if not names:
            return pa.Table.from_pylist([], PHOTO)
        mark = self.in_progress_dir / digest("\n".join(names))
        if mark.exists():
            rows = [self.alone(*one) for one in zip(names, contents)]
        else:
            mark.touch()
            rows = self.rows(names, contents)
        mark.unlink(missing_ok=True)
        return pa.Table.from_pylist(rows, PHOTO)

    def alone(self, name: str, content: bytes | None) -> dict[str, Any]:
        """One photo of a batch in which something ended the process."""
        mark = self.in_progress_dir / digest(name)
        ended = mark.stat().st_size if mark.exists() else 0
        if ended >= MAX_CRASHES:
            return row_of(name, None, Faces(error=RuntimeError("the process that looked at it ended, more than once")))
        with open(mark, "ab") as file:
            file.write(b".")
        (row,) = self.rows([name], [content])
        mark.unlink(missing_ok=True)
        return row

    def rows(self, names: list[str], contents: list[bytes | None]) -> list[dict[str, Any]]:
        """Rows of photos, those with an error too."""
        photos = [fetched(name) if content is None else content or b"\0" for name, content in zip(names, contents)]
        found = self.pipeline.stream([photo for photo in photos if not isinstance(photo, OSError)], len(photos))
        rows = []
        for name, photo in zip(names, photos):
            image, faces = (None, Faces(error=photo)) if isinstance(photo, OSError) else next(found)
            rows.append(row_of(name, image, faces))
        return rows


def fetched(name: str) -> str | bytes | OSError:
    """A path as it is; what an address leads to, or why nothing came."""
    if not ADDRESS.match(name):
        return name
    try:
        return content_at(name) or b"\0"
    except (OSError, ValueError) as error:
        return OSError(f"{printable(name)}: cannot be fetched ({error})")


def limit_threads(threads: int) -> None:
    """How many threads this process computes with; Ray sets OMP_NUM_THREADS to 1 unless told otherwise."""
    import cv2
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def row_of(name: str, image: np.ndarray | None, faces: Faces) -> dict[str, Any]:
    """What the archive keeps of a photo."""
    height, width = image.shape[:2] if image is not None else (0, 0)
    error = str(faces.error) if faces.error else ""
    named = not error or error.startswith(printable(name)[:300])  # bytes do not know their name
    return {
        "photo": name,
        "width": width,
        "height": height,
        "error": error if named else f"{printable(name)}: {error}",
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
                "vector": face.embedding.astype(np.float16),
            }
            for number, face in enumerate(faces)
        ],
    }
