"""The results folder of a run: pictures and rows, written photo by photo, so that an interruption loses nothing.

During a run every finished photo adds a line to `faces.part.jsonl`. At the end, or when the run is interrupted, the
lines become `faces.json` and `embeddings.npz`, and the file is removed. The next run in the same folder resumes from
all three, whatever ended the last one.
"""

import contextlib
import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from facelib.cli.saved_results import (
    EMBEDDINGS_FILE,
    FACES_FILE,
    PART_FILE,
    RESULT_PICTURE,
    Rows,
    face_values,
    has_table,
    is_whole,
    pictures_of,
    read_results,
    to_line,
)
from facelib.io.files import as_text, atomic_write, file_hash, file_state, printable, unique_names
from facelib.io.lock import lock_folder
from facelib.recognition.cohort import Cohort
from facelib.render import marked_photo
from facelib.types import Face, Faces

MATRIX_FILE = "distances.png"
TRACKS_FOLDER = "facelib_tracks"  # of the results of `facelib video`
RESULT_FILES = (FACES_FILE, EMBEDDINGS_FILE, MATRIX_FILE, "album.html")
# After one of these no photo's results can be written; any other error concerns one photo.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def is_results(folder: Path, out: Path | None = None) -> bool:
    """Whether a folder is `out`, or holds results of a run rather than photos or clips."""
    if out is not None and os.path.realpath(folder) == os.path.realpath(out):
        return True
    # False for a file that may not be examined.
    part, faces, embeddings = (os.path.isfile(folder / name) for name in (PART_FILE, FACES_FILE, EMBEDDINGS_FILE))
    return part or (faces and embeddings) or os.path.isdir(folder / TRACKS_FOLDER)


@dataclass
class Results:
    """The results folder of one run.

    folder: has to exist.
    pipeline_id: what embeddings depend on (alignment, weights); rows of another pipeline_id are computed again.
    detector: name of the detector.
    photos: in the order of the tables.
    any_detector: whether rows of another detector are kept, because what "auto" chooses may change with the network
        from one run to the next.
    cohort: by which scores are normalised; None: they are cosines.
    records: photo -> its record in faces.json.
    embeddings: photo -> (n, d) float32.
    removed: number of records that an earlier run wrote for something else.
    names: photo -> name of its files.
    states: photo -> its `file_state` before anything was read: a photo that changes during the run is processed again
        by the next one.
    part_file: `faces.part.jsonl`, open while the run lasts.
    """

    folder: Path
    pipeline_id: str
    detector: str
    photos: list[Path]
    any_detector: bool = False
    cohort: Cohort | None = None
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    embeddings: dict[str, np.ndarray] = field(default_factory=dict)
    removed: int = 0
    names: dict[str, str] = field(init=False)
    states: dict[str, tuple[str, int, int]] = field(init=False)
    part_file: BinaryIO = field(init=False)
    _locks: contextlib.ExitStack = field(init=False, default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.names = dict(zip(map(str, self.photos), unique_names(self.photos)))
        self.states = {str(photo): file_state(photo) for photo in self.photos}

    def resume(self) -> "Results":
        """Take over what the folder holds of these photos, and return itself.

        A photo is done when path, size and time of the file are those of its record, and the record and its pictures
        are whole. Cohort similarities of an earlier version, or another cohort, are replaced. What an earlier run wrote
        for anything else is removed, and counted in `removed`.

        Raises:
            FileExistsError: the folder holds no results, but files with names of results: they are the user's.
            OSError: the folder cannot be written to, or another run is writing there.
        """
        self._check_names()
        self._locks.enter_context(lock_folder(self.folder))
        old = read_results(self.folder)
        self._add_hashes(old)
        for photo in map(str, self.photos):
            if photo in old and self._is_done(old[photo][0], photo) and is_whole(*old[photo], self.folder):
                self.records[photo], self.embeddings[photo] = old[photo]
                self._set_cohort_similarity(*old[photo])
        kept = {name for record in self.records.values() for name in pictures_of(record)}
        for name in {name for record, _ in old.values() for name in pictures_of(record)} - kept:
            (self.folder / name).unlink(missing_ok=True)
        stale = set(old) - set(self.records)
        self.removed = sum("error" not in old[photo][0] for photo in stale)
        with atomic_write(self.folder / PART_FILE) as path:
            lines = [to_line(record, self.embeddings[photo]) for photo, record in self.records.items()]
            path.write_bytes(b"".join(lines))
        self.part_file = open(self.folder / PART_FILE, "ab")  # noqa: SIM115, open while the run lasts
        if stale and (self.folder / FACES_FILE).exists():
            self._write_tables()
        (self.folder / MATRIX_FILE).unlink(missing_ok=True)
        return self

    def _check_names(self) -> None:
        """Raise FileExistsError where the first run in a folder would replace a file."""
        if is_results(self.folder) or has_table(self.folder):
            return
        for name in sorted(os.listdir(self.folder)):
            picture = RESULT_PICTURE.fullmatch(name)
            would_be_written = name in RESULT_FILES or (
                picture and name.removesuffix(picture[1]) in self.names.values()
            )
            if would_be_written and (self.folder / name).is_file():
                raise FileExistsError(
                    f"{self.folder} has {printable(name)}, which is not from facelib and would be replaced: "
                    "give another folder"
                )

    def _add_hashes(self, old: Rows) -> None:
        """Hash the photos whose records were written before there were hashes."""
        for photo, (record, _) in old.items():
            if photo in self.states and "sha256" not in record and self._is_done(record, photo):
                with contextlib.suppress(OSError):
                    record["sha256"] = file_hash(photo)

    def _is_done(self, record: dict[str, Any], photo: str) -> bool:
        return (
            "error" not in record
            and record.get("pipeline_id") == self.pipeline_id
            and (self.any_detector or record.get("detector") == self.detector)
            and (record.get("path"), record.get("bytes"), record.get("modified")) == self.states[photo]
            and record.get("name") == self.names[photo]
        )

    def _set_cohort_similarity(self, record: dict[str, Any], embeddings: np.ndarray) -> None:
        """Give each face of a record its `Face.cohort_similarity`, where there is a cohort."""
        for face in record["faces"]:
            face.pop("cohort_similarity", None)
        if self.cohort and record["faces"]:
            for face, similarity in zip(record["faces"], self.cohort.similarity(embeddings).tolist()):
                face["cohort_similarity"] = round(similarity, 4)

    def pending(self) -> list[Path]:
        """The photos that have no results yet."""
        return [photo for photo in self.photos if str(photo) not in self.records]

    def add(self, photo: Path, image: np.ndarray | None, faces: Faces) -> dict[str, Any]:
        """Write the results of one photo and return its record.

        Where its pictures cannot be written for a reason that concerns this photo alone, the record has that error.

        Raises:
            OSError: the disk is full or failing; what was added before is kept.
        """
        name = self.names[str(photo)]
        path, size, modified = self.states[str(photo)]
        record: dict[str, Any] = {"photo": str(photo), "name": name}
        record |= {"detector": self.detector, "pipeline_id": self.pipeline_id}
        record |= {"path": path, "bytes": size, "modified": modified}
        if image is not None and faces.error is None:
            try:
                record["sha256"] = file_hash(photo)
                record |= self._write_pictures(name, image, faces)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                    raise
                record |= {"error": f"{printable(photo)}: its results cannot be written ({error})", "faces": []}
        else:
            is_named = printable(photo)[:300] in str(faces.error)
            prefix = "" if is_named else f"{printable(photo)}: "
            record |= {"error": f"{prefix}{faces.error}", "faces": []}
        embeddings = np.array([face.embedding for face in faces] if record["faces"] else [], np.float32)
        self._set_cohort_similarity(record, embeddings)
        self.part_file.write(to_line(record, embeddings))
        self.part_file.flush()
        self.records[str(photo)] = record
        self.embeddings[str(photo)] = embeddings
        return record

    def close(self) -> None:
        """Turn the lines of the run into faces.json and embeddings.npz.

        Raises:
            OSError: they cannot be written; then the lines stay, for the next run.
        """
        try:
            with contextlib.suppress(OSError):  # what a full disk left in the buffer
                self.part_file.close()
            self._write_tables()
            (self.folder / PART_FILE).unlink()
        finally:
            self._locks.close()

    def _write_tables(self) -> None:
        rows = self.rows()
        embeddings = [row for record in self.ordered() for row in self.embeddings[record["photo"]]]
        with atomic_write(self.folder / EMBEDDINGS_FILE) as path, open(path, "wb") as file:
            np.savez(
                file,
                embeddings=np.stack(embeddings) if embeddings else np.zeros((0, 0), np.float32),
                photo=np.array([as_text(photo) for photo, _ in rows], dtype=str),
                face=np.array([number for _, number in rows], dtype=int),
                pipeline_id=np.array(self.pipeline_id),
            )
        with atomic_write(self.folder / FACES_FILE) as path:
            path.write_text(json.dumps(self.ordered(), indent=1) + "\n")

    def ordered(self) -> list[dict[str, Any]]:
        """The records so far, in the order of the photos."""
        return [self.records[str(photo)] for photo in self.photos if str(photo) in self.records]

    def rows(self) -> list[tuple[str, int]]:
        """(photo, number) of every face, in the order of the embeddings."""
        return [(record["photo"], number) for record in self.ordered() for number in range(len(record["faces"]))]

    def _write_pictures(self, name: str, image: np.ndarray, faces: Faces) -> dict[str, Any]:
        annotated = f"{name}_annotated.jpg"
        with atomic_write(self.folder / annotated) as path:
            Image.fromarray(marked_photo(image, faces)).save(path, quality=90)
        written: dict[str, Any] = {"annotated": annotated}
        if faces.min_detectable_face:
            written["min_detectable_face"] = round(faces.min_detectable_face, 1)
        written["faces"] = [self._write_face(name, number, face) for number, face in enumerate(faces)]
        return written

    def _write_face(self, name: str, number: int, face: Face) -> dict[str, Any]:
        file = f"{name}_face{number}.png"
        with atomic_write(self.folder / file) as path:
            Image.fromarray(face.aligned).save(path, compress_level=1)
        return face_values(face) | {"aligned": file}
