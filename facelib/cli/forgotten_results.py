"""What results folders and albums hold of the photos of a folder: found, and removed.

Only files that facelib has written are removed, and of tables only the rows of these photos.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facelib.cli.album_folders import FOLDERS, MARKER, Written, read_written, record_written, remove_written
from facelib.cli.album_page import PAGE
from facelib.cli.album_state import STATE_FILE
from facelib.cli.album_table import PEOPLE_FILE, backups, read_table, table_bytes
from facelib.cli.forgotten_video import clips_of, forget_clips
from facelib.cli.results import MATRIX_FILE, TRACKS_FOLDER, is_results
from facelib.cli.saved_results import EMBEDDINGS_FILE, FACES_FILE, PART_FILE, Rows, pictures_of, read_results
from facelib.cli.video_results import FACES_FOLDER
from facelib.io.files import as_text, atomic_write
from facelib.server.store import STORE_FILE, AlbumStore


@dataclass
class ForgottenResults:
    """What a results folder holds of the photos of a folder.

    folder: of the results.
    photos: of the folder that is forgotten, with their records and embeddings.
    others: the other photos in the results.
    tables: tables of people with rows of these photos -> number of those rows.
    copies: photos in the folders of people.
    clips: names of clips of the folder, see `clips_of`.
    """

    folder: Path
    photos: Rows = field(default_factory=dict)
    others: Rows = field(default_factory=dict)
    tables: dict[Path, int] = field(default_factory=dict)
    copies: list[Written] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.photos or self.tables or self.copies or self.clips)

    @property
    def faces(self) -> int:
        """Number of faces of these photos."""
        return sum(len(record["faces"]) for record, _ in self.photos.values())

    def embeddings(self) -> list[np.ndarray]:
        """Of each photo its embeddings (n, d)."""
        return [rows for _, rows in self.photos.values() if len(rows)]


def is_below(photo: str, folder: Path) -> bool:
    """Whether a path lies below a folder, as it is written or with links resolved."""
    roots = {os.path.join(os.path.abspath(folder), ""), os.path.join(os.path.realpath(folder), "")}
    return any(photo.startswith((root, as_text(root))) for root in roots)


def results_near(folder: Path) -> list[Path]:
    """Results folders in a folder of photos, beside it, and in the working folder."""
    places = [Path(path) for path, _, _ in os.walk(folder)]
    for parent in (folder.resolve().parent, Path.cwd()):
        with contextlib.suppress(OSError):
            places += [Path(entry.path) for entry in os.scandir(parent) if entry.is_dir()]
    found = {os.path.realpath(place): place for place in places if is_results(place)}
    return [found[path] for path in sorted(found)]


def find_forgotten(results: Path, folder: Path) -> ForgottenResults:
    """What a results folder holds of the photos of `folder`."""
    found = ForgottenResults(results)
    for photo, row in read_results(results).items():
        own = is_below(str(row[0].get("path") or os.path.abspath(photo)), folder)
        (found.photos if own else found.others)[photo] = row
    for path in _tables(results):
        with contextlib.suppress(ValueError):  # no table of people: the user's own
            rows = sum(is_below(row.photo, folder) for row in read_table(path).rows)
            found.tables |= {path: rows} if rows else {}
    found.copies = [row for row in read_written(results / FOLDERS) if is_below(row.photo, folder)]
    found.clips = [name for name, clip in clips_of(results).items() if is_below(clip, folder)]
    return found


def _tables(results: Path) -> list[Path]:
    return [
        path for path in (results / PEOPLE_FILE, *backups(results), *results.glob("people.new*.csv")) if path.exists()
    ]


def forget_results(found: ForgottenResults, folder: Path) -> list[str]:
    """Remove what `find_forgotten` has found; returns what the user should know."""
    results = found.folder
    notes = forget_clips(results, found.clips, lambda clip: is_below(clip, folder)) if found.clips else []
    hashes = {str(record.get("sha256")) for record, _ in found.photos.values()}
    for path in found.tables:
        hashes |= _forget_rows(path, folder)
    _forget_state(results / STATE_FILE, hashes)
    _forget_steps(results / STORE_FILE, hashes)
    _forget_copies(found, folder)
    _unlink(results / name for record, _ in found.photos.values() for name in pictures_of(record))
    had_page = (results / PAGE).exists()
    _unlink(results / name for name in (MATRIX_FILE, PAGE))
    if found.others:
        _write_tables(results, found.others)
        _unlink([results / PART_FILE])
        note = f"{results / PAGE} showed other photos too: run album again to write it without them"
        return [*notes, note] if had_page else notes
    _unlink(results / name for name in (PART_FILE, FACES_FILE, EMBEDDINGS_FILE))
    for emptied in (results / TRACKS_FOLDER, results / FACES_FOLDER, results):
        with contextlib.suppress(OSError):
            emptied.rmdir()
    left = sorted(path.name for path in results.iterdir()) if results.exists() else []
    return [*notes, f"{results} stays, with {', '.join(left[:5])}"] if left else notes


def _write_tables(results: Path, rows: Rows) -> None:
    """faces.json and embeddings.npz with these photos alone, as `Results` writes them."""
    records = [record for record, _ in rows.values()]
    photos = [(as_text(photo), number) for photo, (_, faces) in rows.items() for number in range(len(faces))]
    embeddings = [row for _, faces in rows.values() for row in faces]
    with atomic_write(results / EMBEDDINGS_FILE) as path, open(path, "wb") as file:
        np.savez(
            file,
            embeddings=np.stack(embeddings) if embeddings else np.zeros((0, 0), np.float32),
            photo=np.array([photo for photo, _ in photos], dtype=str),
            face=np.array([number for _, number in photos], dtype=int),
            pipeline_id=np.array(str(records[0].get("pipeline_id"))),
        )
    with atomic_write(results / FACES_FILE) as path:
        path.write_text(json.dumps(records, indent=1) + "\n")


def _forget_rows(path: Path, folder: Path) -> set[str]:
    """Remove the rows of the photos from a table, or the table where no other row is left; the photos' hashes."""
    table = read_table(path)
    gone = [row for row in table.rows if is_below(row.photo, folder)]
    kept = [row for row in table.rows if not is_below(row.photo, folder)]
    if kept:
        with atomic_write(path) as new:
            new.write_bytes(table_bytes(kept, table.own_columns))
    else:
        path.unlink()
    return {row.sha256 for row in gone}


def _forget_state(path: Path, hashes: set[str]) -> None:
    """Remove the faces of photos with these hashes from people.npz; the file, if damaged or nothing is left."""
    if not path.exists():
        return
    try:
        with np.load(path) as saved:
            columns = {name: saved[name] for name in saved.files}
        keep = np.array([key.partition(" ")[0] not in hashes for key in columns["key"].tolist()], bool)
    except Exception:  # numpy and zipfile raise many kinds for a damaged file
        keep = np.zeros(0, bool)
    if not keep.any():
        path.unlink()
        return
    rows = ("key", "person", "taken_back", "embeddings")
    with atomic_write(path) as new, open(new, "wb") as file:
        np.savez(file, **{name: values[keep] if name in rows else values for name, values in columns.items()})


def _forget_steps(path: Path, hashes: set[str]) -> None:
    """Remove the faces of photos with these hashes from people.sqlite; the file, if damaged or nothing is left."""
    if not path.exists():
        return
    is_empty = True
    with contextlib.suppress(ValueError), contextlib.closing(AlbumStore(path)) as store:
        store.forget(hashes)
        is_empty = not store.faces()
    if is_empty:
        path.unlink()


def _forget_copies(found: ForgottenResults, folder: Path) -> None:
    """Remove the copies of the photos in the folders of people, where they are as they were written."""
    target = found.folder / FOLDERS
    for row in found.copies:
        if row.is_unchanged(target):
            remove_written(row, target)
    others = [row for row in read_written(target) if not is_below(row.photo, folder)]
    if others:
        record_written(target, others)
    elif found.copies:
        _unlink([target / MARKER])
        with contextlib.suppress(OSError):  # it holds files of the user
            target.rmdir()


def _unlink(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
