"""What `facelib video` has found in each clip so far: a file for each, written after every minute of the clip, so that
a run that was ended goes on from there."""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facelib.cli.results import TRACKS_FOLDER
from facelib.io.files import atomic_write, file_state, files_key
from facelib.types import Face
from facelib.video.analysis import CutDetector
from facelib.video.pictures import numbered_files
from facelib.video.tracks import Track, face_rank, is_reliable, join_pieces

FACES_FOLDER = "faces"
NO_PICTURE = np.zeros((0, 0, 3), np.uint8)  # in place of an aligned face that is in a file
TEXTS = ("model_id", "quality_issue", "alignment")  # fields of Face
ARRAYS = ("box", "landmarks", "embedding", "landmark_confidence")
NUMBERS = ("score", "quality")


@dataclass
class ClipResults:
    """What was found in a clip.

    path: of the clip. name: unique among the clips, of its files.
    settings: what the results depend on beside the clip, as text.
    until: seconds, up to which the clip is done. is_done: whether it is done whole.
    frames: number of frames that were looked at.
    next_number: of the next track.
    size: (width, height) in pixels. duration: in seconds; None: unknown.
    notes: what was converted, see `Clip.notes`. problem: see `Clip.problem`.
    pieces: of tracks, see `join_pieces`; their `face.aligned` is in a file.
    going_on: numbers of the tracks that may go on after `until`.
    cuts: at `until`, see `CutDetector`.
    """

    path: Path
    name: str
    settings: str
    until: float = -1.0
    is_done: bool = False
    frames: int = 0
    next_number: int = 1
    size: tuple[int, int] = (0, 0)
    duration: float | None = None
    notes: list[str] = field(default_factory=list)
    problem: str = ""
    pieces: list[Track] = field(default_factory=list)
    going_on: list[int] = field(default_factory=list)
    cuts: CutDetector = field(default_factory=CutDetector)

    def tracks(self) -> list[Track]:
        """The tracks that are reliable, by number; without pictures."""
        pieces: dict[int, list[Track]] = {}
        for piece in self.pieces:
            pieces.setdefault(piece.number, []).append(piece)
        joined = [join_pieces(pieces[number]) for number in sorted(pieces)]
        return [track for track in joined if is_reliable(track)]

    def open_pieces(self) -> list[Track]:
        """The last pieces of the tracks that may go on."""
        last = {piece.number: piece for piece in self.pieces}
        return [last[number] for number in self.going_on]


def face_file(out: Path, results: ClipResults, number: int) -> Path:
    """Picture of the best face of a track."""
    return out / FACES_FOLDER / f"{results.name}_track{number}.png"


def remove_faces(out: Path, name: str) -> None:
    """Remove the pictures of the tracks of a clip."""
    for file in (out / FACES_FOLDER).glob("*.png"):
        if file.stem.rpartition("_track")[0] == name:
            file.unlink()


def add_pieces(out: Path, results: ClipResults, pieces: Iterable[Track]) -> None:
    """Add pieces of tracks, and write the picture of each that has the best face of its track so far."""
    for piece in pieces:
        earlier = [face_rank(other.face) for other in results.pieces if other.number == piece.number]
        if face_rank(piece.face) > max(earlier, default=(False, -1.0)):
            with atomic_write(face_file(out, results, piece.number)) as path:
                Image.fromarray(piece.face.aligned).save(path)
        results.pieces.append(replace(piece, face=replace(piece.face, aligned=NO_PICTURE)))


def save(out: Path, results: ClipResults) -> None:
    """Write the results of a clip.

    Raises:
        OSError: they cannot be written.
    """
    faces = [piece.face for piece in results.pieces]
    state = {name: getattr(results, name) for name in _STATE} | {"clip": _clip_state(results.path)}
    columns: dict[str, Any] = {
        "state": json.dumps(state),
        "numbers": [piece.number for piece in results.pieces],
        "lengths": [len(piece.times) for piece in results.pieces],
        "times": np.concatenate([np.zeros(0), *(piece.times for piece in results.pieces)]),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(piece.boxes for piece in results.pieces)]),
        "best_times": [piece.best_time for piece in results.pieces],
        "photos": [piece.photos for piece in results.pieces],
        "frame_before": np.zeros(0) if results.cuts.before is None else results.cuts.before,
        "usual_difference": results.cuts.usual,
    }
    columns |= {name: np.array([getattr(face, name) for face in faces], str) for name in TEXTS}
    columns |= {name: np.array([getattr(face, name) for face in faces], np.float32) for name in (*ARRAYS, *NUMBERS)}
    with atomic_write(_file(out, results)) as path, open(path, "wb") as file:
        np.savez(file, **columns)


_STATE = ("settings", "until", "is_done", "frames", "next_number", "size", "duration", "notes", "problem", "going_on")


def resume(out: Path, path: Path, name: str, settings: str) -> ClipResults:
    """What earlier runs have found in a clip; nothing where the clip, the settings or the file are others, or a file is
    missing or damaged."""
    new = ClipResults(path, name, settings)
    try:
        with np.load(_file(out, new)) as saved:
            columns = {column: saved[column] for column in saved.files}
        state = json.loads(str(columns["state"]))
        if state.pop("clip") != _clip_state(path) or state["settings"] != settings:
            return new
        cuts = CutDetector(columns["frame_before"] if columns["frame_before"].size else None)
        cuts.usual = float(columns["usual_difference"])
        found = replace(new, **{key: state[key] for key in _STATE}, pieces=_pieces(columns), cuts=cuts)
        found.size = (int(found.size[0]), int(found.size[1]))
        found.open_pieces()
        for number in {piece.number for piece in found.pieces}:
            with Image.open(face_file(out, found, number)) as picture:
                picture.load()
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, SyntaxError, zipfile.BadZipFile):
        return new  # a SyntaxError is Pillow's, of a damaged PNG
    return found


def _clip_state(path: Path) -> list[str | int]:
    """What changes with the content of a clip, or of the files of a sequence."""
    files = [Path(file) for _, file in numbered_files(path)] if not path.exists() else []
    return [*file_state(path), files_key(files)] if files else [*file_state(path)]


def _pieces(columns: dict[str, np.ndarray]) -> list[Track]:
    ends = np.cumsum(columns["lengths"]).astype(int)[:-1]
    times, boxes = np.split(columns["times"], ends), np.split(columns["boxes"], ends)
    return [
        Track(
            int(number),
            times[i],
            boxes[i],
            _face(columns, i),
            float(columns["best_times"][i]),
            int(columns["photos"][i]),
        )
        for i, number in enumerate(columns["numbers"])
    ]


def _face(columns: dict[str, np.ndarray], i: int) -> Face:
    values: dict[str, Any] = {name: columns[name][i] for name in ARRAYS}
    values |= {name: float(columns[name][i]) for name in NUMBERS} | {name: str(columns[name][i]) for name in TEXTS}
    return Face(aligned=NO_PICTURE, **values)


def _file(out: Path, results: ClipResults) -> Path:
    return out / TRACKS_FOLDER / f"{results.name}.npz"
