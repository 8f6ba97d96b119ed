"""What results of `facelib video` hold of the clips of a folder: found, and removed."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from facelib.cli.results import TRACKS_FOLDER
from facelib.cli.video_page import PAGE
from facelib.cli.video_people import APPEARANCES_FILE, LINES_FILE, TRACKS_FILE
from facelib.cli.video_results import remove_faces
from facelib.io.files import atomic_write


def clips_of(results: Path) -> dict[str, str]:
    """Name of each clip in a folder of results -> its path; a damaged file has none, and counts as the path ""."""
    found = {}
    for file in sorted((results / TRACKS_FOLDER).glob("*.npz")):
        try:
            with np.load(file) as saved:
                found[file.stem] = str(json.loads(str(saved["state"]))["clip"][0])
        except Exception:  # numpy and zipfile raise many kinds for a damaged file
            found[file.stem] = ""
    return found


def forget_clips(results: Path, names: Iterable[str], is_gone: Callable[[str], bool]) -> list[str]:
    """Remove what the results hold of clips, and the rows of these clips and of those for whose path `is_gone` is true;
    returns what the user should know."""
    names = set(names)
    paths = _written_paths(results / TRACKS_FILE, names)

    def is_row_gone(path: str) -> bool:
        return path in paths or is_gone(path)

    for name in names:
        for file in (results / TRACKS_FOLDER / f"{name}.npz", results / f"{name}_annotated.mp4"):
            file.unlink(missing_ok=True)
        remove_faces(results, name)
    rows = [_forget_rows(results / table, is_row_gone) for table in (TRACKS_FILE, APPEARANCES_FILE)]
    lines = results / LINES_FILE
    if lines.exists():
        kept = [line for line in lines.read_text("utf-8").splitlines() if not is_row_gone(json.loads(line)["clip"])]
        _write(lines, "".join(f"{line}\n" for line in kept).encode())
    (results / PAGE).unlink(missing_ok=True)
    if any(rows):
        return [f"{results / PAGE} showed other clips too: run video again to write it without them"]
    for table in (TRACKS_FILE, APPEARANCES_FILE, LINES_FILE):
        (results / table).unlink(missing_ok=True)
    return []


def _written_paths(tracks: Path, names: set[str]) -> set[str]:
    """The paths of clips as the tables have them: they may be relative to a folder that is not known here."""
    if not tracks.exists():
        return set()
    rows = csv.DictReader(io.StringIO(tracks.read_text("utf-8-sig"), newline=""))
    return {row["clip"].lstrip("'") for row in rows if Path(row["face"]).stem.rpartition("_track")[0] in names}


def _forget_rows(file: Path, is_gone: Callable[[str], bool]) -> int:
    """Remove rows from a table; the number of those that stay."""
    if not file.exists():
        return 0
    header, *rows = csv.reader(io.StringIO(file.read_text("utf-8-sig"), newline=""))
    kept = [row for row in rows if not is_gone(row[0].lstrip("'"))]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *kept])
    _write(file, text.getvalue().encode("utf-8-sig"))
    return len(kept)


def _write(file: Path, content: bytes) -> None:
    with atomic_write(file) as path:
        path.write_bytes(content)
