"""What earlier runs have left in a results folder, read with suspicion: a kill or a power cut may have damaged it."""

import base64
import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facelib.io.files import as_text
from facelib.types import Face

FACES_FILE = "faces.json"
EMBEDDINGS_FILE = "embeddings.npz"
PART_FILE = "faces.part.jsonl"
RESULT_PICTURE = re.compile(r".+(_annotated\.jpg|_face\d+\.png)", re.DOTALL)
JPEG_END = b"\xff\xd9"

Rows = dict[str, tuple[dict[str, Any], np.ndarray]]  # photo -> its record and embeddings


def read_results(folder: Path) -> Rows:
    """Everything usable that earlier runs have left. What is missing, damaged, or of another program is left out, and
    those photos are processed again."""
    found: Rows = {}
    with contextlib.suppress(Exception):
        records = json.loads((folder / FACES_FILE).read_text())
        with np.load(folder / EMBEDDINGS_FILE) as saved:
            photos = saved["photo"].tolist()
            all_embeddings = saved["embeddings"]
        rows: dict[str, list[int]] = {}
        for i, photo in enumerate(photos):
            rows.setdefault(photo, []).append(i)
        for record in records:
            with contextlib.suppress(Exception):
                found[record["photo"]] = record, all_embeddings[rows.get(as_text(record["photo"]), [])]
    with contextlib.suppress(OSError):
        for line in (folder / PART_FILE).read_bytes().splitlines():
            with contextlib.suppress(Exception):  # the last line, where a run was killed
                record, embeddings = _from_line(line)
                found[record["photo"]] = record, embeddings
    return found


def has_table(folder: Path) -> bool:
    """Whether a folder has faces.json or embeddings.npz of a run, rather than files of these names by somebody else."""
    with contextlib.suppress(Exception):
        if "pipeline_id" in json.loads((folder / FACES_FILE).read_text())[0]:
            return True
    with contextlib.suppress(Exception), np.load(folder / EMBEDDINGS_FILE) as saved:
        return "pipeline_id" in saved
    return False


def is_whole(record: dict[str, Any], embeddings: np.ndarray, folder: Path) -> bool:
    """Whether a record, its embeddings and its pictures are what `Results.add` writes, as they may not be after a power
    cut."""
    try:
        pictures = [record["annotated"], *(face["aligned"] for face in record["faces"])]
        if not has_numbers(record, embeddings) or pictures_of(record) != pictures:
            return False
        return all(_is_picture(folder / name) for name in pictures)
    except Exception:
        return False


def has_numbers(record: dict[str, Any], embeddings: np.ndarray) -> bool:
    """Whether a record and its embeddings are as they were written, whatever became of the pictures."""
    try:
        faces = record["faces"]
        lengths = np.linalg.norm(embeddings, axis=1)
        if len(embeddings) != len(faces) or not (np.abs(lengths - 1) < 1e-2).all():  # also refuses NaN
            return False
        numbers = [(*face["box"], *np.ravel(face["landmarks"]), face["quality"], face["score"]) for face in faces]
        if not np.isfinite(np.array(numbers, float)).all() or any(len(row) != 16 for row in numbers):
            return False
        return all(isinstance(face["quality_issue"], str) for face in faces) and len(record["sha256"]) == 64
    except Exception:
        return False


def _is_picture(path: Path) -> bool:
    """Whether a picture is whole; of an annotated photo, which takes long to decode, only the end is checked."""
    if path.suffix == ".jpg":
        return path.read_bytes()[-2:] == JPEG_END
    with Image.open(path) as picture:
        picture.load()
    return True


def pictures_of(record: dict[str, Any]) -> list[str]:
    """The picture files of a record. They may be removed, so names that no run gives to a picture are ignored."""
    try:
        names = [record.get("annotated"), *(face.get("aligned") for face in record.get("faces", []))]
    except AttributeError:
        return []
    return [
        name
        for name in names
        if isinstance(name, str) and RESULT_PICTURE.fullmatch(name) and os.path.basename(name) == name
    ]


def face_values(face: Face) -> dict[str, Any]:
    """What a record says of a face."""
    return {
        "box": face.box.round(2).tolist(),
        "score": round(face.score, 4),
        "landmarks": face.landmarks.round(2).tolist(),
        "quality": round(face.quality, 3),
        "quality_issue": face.quality_issue,
        "landmark_confidence": [round(value, 3) for value in face.landmark_confidence.tolist()],
    }


def to_line(record: dict[str, Any], embeddings: np.ndarray) -> bytes:
    """A line of `PART_FILE`."""
    encoded = base64.b64encode(embeddings.astype("<f4").tobytes()).decode()
    return json.dumps({"record": record, "embeddings": encoded}).encode() + b"\n"


def _from_line(line: bytes) -> tuple[dict[str, Any], np.ndarray]:
    row = json.loads(line)
    values = np.frombuffer(base64.b64decode(row["embeddings"]), "<f4")
    faces = len(row["record"]["faces"])
    return row["record"], values.reshape(faces, -1) if faces else np.zeros((0, 0), np.float32)
