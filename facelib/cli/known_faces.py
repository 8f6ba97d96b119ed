"""Faces of photos without computing them again: from results and albums, and from what earlier searches have kept."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facelib.cli.saved_results import (
    EMBEDDINGS_FILE,
    FACES_FILE,
    PART_FILE,
    Rows,
    face_values,
    has_numbers,
    read_results,
    to_line,
)
from facelib.io.files import atomic_write, file_hash, file_state, private_files
from facelib.settings import search_cache
from facelib.types import Faces

if TYPE_CHECKING:
    from facelib.pipeline import FacePipeline


@dataclass(frozen=True)
class PhotoFaces:
    """The faces of a photo.

    embeddings: (n, d) of unit length.
    boxes: of each x1 y1 x2 y2 in pixels of the photo.
    issues: of each `Face.quality_issue`.
    """

    photo: Path
    embeddings: np.ndarray
    boxes: list[list[float]]
    issues: list[str]


class KnownFaces:
    """Faces that earlier runs have found, of photos that have not changed since.

    A photo is known by path, size and time of its file; one that was moved or copied by its content.

    Args:
        folders: of results, albums and earlier searches.
        pipeline_id: of the pipeline; what another one has found does not count.
        detector: its detector, by which the faces must have been found; None: by any.
    """

    def __init__(self, folders: Iterable[Path], pipeline_id: str, detector: str | None):
        self.by_path: Rows = {}
        self.by_size: dict[int, list[tuple[dict[str, Any], np.ndarray]]] = {}
        for folder in folders:
            for record, embeddings in read_results(folder).values():
                is_ours = record.get("pipeline_id") == pipeline_id and detector in (None, record.get("detector"))
                if is_ours and "error" not in record and has_numbers(record, embeddings):
                    self.by_path[str(record.get("path"))] = record, embeddings
                    self.by_size.setdefault(record.get("bytes", -1), []).append((record, embeddings))

    def find(self, photo: Path) -> PhotoFaces | None:
        """The faces of a photo; None where they are not known."""
        path, size, modified = file_state(photo)
        row = self.by_path.get(path)
        if row is None or (row[0].get("bytes"), row[0].get("modified")) != (size, modified):
            same_size = self.by_size.get(size, [])
            with contextlib.suppress(OSError):
                sha256 = file_hash(photo) if same_size else ""
                row = next((row for row in same_size if row[0]["sha256"] == sha256), None)
        return _photo_faces(photo, *row) if row else None


def _photo_faces(photo: Path, record: dict[str, Any], embeddings: np.ndarray) -> PhotoFaces:
    faces = record["faces"]
    return PhotoFaces(photo, embeddings, [face["box"] for face in faces], [face["quality_issue"] for face in faces])


class SearchCache:
    """A private file that keeps the faces of a folder's photos for the next search.

    Every photo is kept when it is done: a search that is interrupted loses nothing. Where the file cannot be written,
    nothing is kept, and `error` says why.

    Args:
        folder: that is searched.
        photos: in it. What the file holds of others, or of these before they changed, is removed.
    """

    def __init__(self, folder: Path, pipeline: "FacePipeline", photos: Iterable[Path]):
        self.folder, self.pipeline, self.error = search_cache(folder), pipeline, ""
        self.file = self.folder / PART_FILE
        self.states = {str(photo): file_state(photo) for photo in photos}  # before they are read
        rows = read_results(self.folder)
        current = [row for row in rows.values() if self._is_current(row[0])]
        if len(current) < len(rows):
            with self._writing():
                with atomic_write(self.file) as path:
                    path.write_bytes(b"".join(to_line(*row) for row in current))
                for name in (FACES_FILE, EMBEDDINGS_FILE):  # which `forget` leaves
                    (self.folder / name).unlink(missing_ok=True)

    def _is_current(self, record: dict[str, Any]) -> bool:
        state = record.get("path"), record.get("bytes"), record.get("modified")
        return self.states.get(str(record.get("photo"))) == state

    def add(self, photo: Path, faces: Faces) -> PhotoFaces:
        """Keep the faces of a photo, and return them."""
        path, size, modified = self.states[str(photo)]
        record = {"photo": str(photo), "path": path, "bytes": size, "modified": modified}
        record |= {"pipeline_id": self.pipeline.pipeline_id, "detector": self.pipeline.detector_name}
        record |= {"faces": [face_values(face) for face in faces]}
        embeddings = np.array([face.embedding for face in faces], np.float32)
        with self._writing():
            record["sha256"] = file_hash(photo)
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.file, "ab", buffering=0) as file:
                file.write(to_line(record, embeddings))
        return _photo_faces(photo, record, embeddings)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What is written belongs to the user alone; errors are noted."""
        try:
            with private_files():
                yield
        except OSError as error:
            self.error = self.error or str(error)
