"""What the command line writes: pictures and rows photo by photo, so that an interruption loses nothing.

While a run goes on, every finished photo adds a line to `faces.part.jsonl`. At the end, or when the run is
interrupted, the lines become `faces.json` and `embeddings.npz`, and the file is removed. The next run in the same
folder starts from all three, whatever ended the last one.
"""

import base64
import contextlib
import errno
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from facelib.embedding.similarity import cosine_distance
from facelib.io.files import as_text, atomic_write, file_state, printable, unique_names
from facelib.render import marked_photo
from facelib.types import Face, Faces

TABLE, VECTORS, LINES, MATRIX = "faces.json", "embeddings.npz", "faces.part.jsonl", "distances.png"
OUR_PICTURES = re.compile(r"[^/\\]+(_annotated\.jpg|_face\d+\.png)")
# After one of these no photo's results can be written; any other error is that of one photo.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def is_results(folder: Path, out: Path | None = None) -> bool:
    """Whether a folder is `out`, or holds results of this module rather than photos."""
    if out is not None and os.path.realpath(folder) == os.path.realpath(out):
        return True
    there = [os.path.isfile(folder / name) for name in (LINES, TABLE, VECTORS)]  # False where it may not be known
    return there[0] or (there[1] and there[2])


def prepare_folder(folder: Path) -> None:
    """Make the folder, and try whether files can be written there, before anything is computed.

    Raises:
        OSError: they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def count(number: int, what: str) -> str:
    """ "1 face", "1,200 faces"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


@dataclass
class Results:
    """The results folder of one run.

    pipeline_id: what the vectors depend on (alignment, weights); rows made by something else are made anew.
    detector: whose faces these are; with `any_detector`, rows of another one stay, because the choice of "auto" may
    change with the network from one call to the next.
    records: photo -> what faces.json says of it; vectors: photo -> (n, d) float32.
    """

    folder: Path
    pipeline_id: str
    detector: str
    photos: list[Path]
    any_detector: bool = False
    records: dict[str, dict] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    removed: int = 0
    names: dict[str, str] = field(init=False)
    states: dict[str, tuple[str, int, int]] = field(init=False)
    lines: BinaryIO = field(init=False)

    def __post_init__(self):
        self.names = dict(zip(map(str, self.photos), unique_names(self.photos)))
        # Before anything is read: a photo that changes during the run is done again by the next.
        self.states = {str(photo): file_state(photo) for photo in self.photos}

    def resume(self) -> "Results":
        """Go on with what the folder holds of these photos; gives itself.

        A photo counts as done when path, size and time of the file are those of its row, and its pictures are
        there. What an earlier run wrote for anything else is removed, and counted in `removed`.

        Raises:
            OSError: the folder cannot be written to, or another run is writing there.
        """
        self._lock()
        old = _read(self.folder)
        for photo in map(str, self.photos):
            if photo in old and self._is_done(old[photo][0], photo):
                self.records[photo], self.vectors[photo] = old[photo]
        kept = {name for record in self.records.values() for name in _pictures(record)}
        for name in {name for record, _ in old.values() for name in _pictures(record)} - kept:
            (self.folder / name).unlink(missing_ok=True)
        self.removed = sum("error" not in old[photo][0] for photo in set(old) - set(self.records))
        with atomic_write(self.folder / LINES) as path:
            path.write_bytes(b"".join(_line(r, self.vectors[photo]) for photo, r in self.records.items()))
        self.lines = open(self.folder / LINES, "ab")  # noqa: SIM115, open as long as the run goes on
        if set(old) - set(self.records) and (self.folder / TABLE).exists():
            self._write_tables()
        (self.folder / MATRIX).unlink(missing_ok=True)
        return self

    def _lock(self) -> None:
        """One run at a time, as far as the system can tell: the lock ends with the process, however that ends."""
        if fcntl is None:
            return
        self._folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._folder)
            raise OSError(f"{self.folder}: another run is writing its results there") from None

    def _is_done(self, record: dict, photo: str) -> bool:
        return (
            "error" not in record
            and record.get("pipeline_id") == self.pipeline_id
            and (self.any_detector or record.get("detector") == self.detector)
            and (record.get("path"), record.get("bytes"), record.get("modified")) == self.states[photo]
            and record.get("name") == self.names[photo]
            and all((self.folder / name).is_file() for name in _pictures(record))
        )

    def todo(self) -> list[Path]:
        """The photos that have no results yet."""
        return [photo for photo in self.photos if str(photo) not in self.records]

    def add(self, photo: Path, image: np.ndarray | None, faces: Faces) -> dict:
        """Write what there is of one photo; gives its record.

        Where its pictures cannot be written, for a reason that is this photo's alone, that becomes its error.

        Raises:
            OSError: the disk is full or failing; what was added before is kept.
        """
        name = self.names[str(photo)]
        record = {"photo": str(photo), "name": name, "detector": self.detector, "pipeline_id": self.pipeline_id}
        record |= dict(zip(("path", "bytes", "modified"), self.states[str(photo)]))
        if faces.error is None:
            try:
                record |= self._write_pictures(name, image, faces)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                    raise
                record |= {"error": f"{printable(photo)}: its results cannot be written ({error})", "faces": []}
        else:
            named = printable(photo)[:300] in str(faces.error)
            record |= {"error": ("" if named else f"{printable(photo)}: ") + str(faces.error), "faces": []}
        vectors = np.array([face.embedding for face in faces] if record["faces"] else [], np.float32)
        self.lines.write(_line(record, vectors))
        self.lines.flush()
        self.records[str(photo)], self.vectors[str(photo)] = record, vectors
        return record

    def close(self) -> None:
        """Turn the lines into faces.json and embeddings.npz.

        Raises:
            OSError: they cannot be written; then the lines stay, for the next run.
        """
        try:
            with contextlib.suppress(OSError):  # what a full disk left in the buffer
                self.lines.close()
            self._write_tables()
            (self.folder / LINES).unlink()
        finally:
            if fcntl is not None:
                os.close(self._folder)  # and with it the lock

    def _write_tables(self) -> None:
        rows = self.rows()
        vectors = [vector for record in self.ordered() for vector in self.vectors[record["photo"]]]
        with atomic_write(self.folder / VECTORS) as path, open(path, "wb") as file:
            np.savez(
                file,
                embeddings=np.stack(vectors) if vectors else np.zeros((0, 0), np.float32),
                photo=np.array([as_text(photo) for photo, _ in rows], dtype=str),
                face=np.array([number for _, number in rows], dtype=int),
                pipeline_id=np.array(self.pipeline_id),
            )
        with atomic_write(self.folder / TABLE) as path:
            path.write_text(json.dumps(self.ordered(), indent=1) + "\n")

    def ordered(self) -> list[dict]:
        """The records so far, in the order of the photos."""
        return [self.records[str(photo)] for photo in self.photos if str(photo) in self.records]

    def rows(self) -> list[tuple[str, int]]:
        """(photo, number) of every face, in the order of the vectors."""
        return [(record["photo"], number) for record in self.ordered() for number in range(len(record["faces"]))]

    def _write_pictures(self, name: str, image: np.ndarray, faces: Faces) -> dict:
        with atomic_write(self.folder / f"{name}_annotated.jpg") as path:
            Image.fromarray(marked_photo(image, faces)).save(path, quality=90)
        written = [self._write_face(name, number, face) for number, face in enumerate(faces)]
        min_detectable_face = (
            {"min_detectable_face": round(faces.min_detectable_face, 1)} if faces.min_detectable_face else {}
        )
        return {"annotated": f"{name}_annotated.jpg", **min_detectable_face, "faces": written}

    def _write_face(self, name: str, number: int, face: Face) -> dict:
        file = f"{name}_face{number}.png"
        with atomic_write(self.folder / file) as path:
            Image.fromarray(face.aligned).save(path, compress_level=1)
        return {
            "box": face.box.round(2).tolist(),
            "score": round(face.score, 4),
            "landmarks": face.landmarks.round(2).tolist(),
            "quality": round(face.quality, 3),
            "quality_issue": face.quality_issue,
            "landmark_confidence": [round(value, 3) for value in face.landmark_confidence.tolist()],
            "aligned": file,
        }


def _read(folder: Path) -> dict[str, tuple[dict, np.ndarray]]:
    """photo -> (record, vectors) of whatever earlier runs left that can be used."""
    found: dict[str, tuple[dict, np.ndarray]] = {}
    with contextlib.suppress(Exception):  # missing, cut short, or not ours: those photos are made anew
        records = json.loads((folder / TABLE).read_text())
        with np.load(folder / VECTORS) as saved:
            photos, embeddings = saved["photo"].tolist(), saved["embeddings"]
        rows: dict[str, list[int]] = {}
        for i, photo in enumerate(photos):
            rows.setdefault(photo, []).append(i)
        for record in records:
            vectors = embeddings[rows.get(as_text(record["photo"]), [])]
            if len(vectors) == len(record["faces"]):
                found[record["photo"]] = record, vectors
    with contextlib.suppress(Exception):  # ends at the line that a run was killed over
        for line in (folder / LINES).read_bytes().splitlines():
            record, vectors = _from_line(line)
            found[record["photo"]] = record, vectors
    return found


def write_matrix(results: Results, vectors: np.ndarray, most: int) -> None:
    """distances.png: every face against every other, the first `most` of them."""
    import matplotlib.pyplot as plt

    from facelib.plots import distance_matrix

    several = len(results.ordered()) > 1
    faces, labels = [], []
    for record in results.ordered():
        for number, face in enumerate(record["faces"][: most - len(faces)]):
            with Image.open(results.folder / face["aligned"]) as picture:
                faces.append(np.asarray(picture.convert("RGB")))
            labels.append(f"{record['name'][:12]} {number}" if several else str(number))
    vectors = vectors[: len(faces)]
    shown = f"the first {len(faces)} of {count(len(results.rows()), 'face')}"
    shown = shown if len(faces) < len(results.rows()) else count(len(faces), "face")
    figure = distance_matrix(faces, cosine_distance(vectors, vectors), f"Cosine distances of {shown}", labels=labels)
    try:
        with atomic_write(results.folder / MATRIX) as path:
            figure.savefig(path, dpi=120)
    finally:
        plt.close(figure)


def _pictures(record: dict) -> list[str]:
    """The files that a record names, as far as they are called as ours are: what it names may be removed."""
    try:
        names = [record.get("annotated"), *(face.get("aligned") for face in record.get("faces", []))]
    except AttributeError:
        return []
    return [name for name in names if isinstance(name, str) and OUR_PICTURES.fullmatch(name)]


def _line(record: dict, vectors: np.ndarray) -> bytes:
    packed = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
    return json.dumps({"record": record, "vectors": packed}).encode() + b"\n"


def _from_line(line: bytes) -> tuple[dict, np.ndarray]:
    row = json.loads(line)
    vectors, count = np.frombuffer(base64.b64decode(row["vectors"]), "<f4"), len(row["record"]["faces"])
    return row["record"], vectors.reshape(count, -1) if count else np.zeros((0, 0), np.float32)
