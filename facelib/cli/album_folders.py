"""A folder for each person of an album, with copies of the photos or links to them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from facelib.cli.album import LOW_QUALITY, AlbumFace, by_person
from facelib.io.files import printable, unique_names

FOLDERS = "people"
MARKER = ".made-by-facelib-album"  # a file in FOLDERS: an album made the folder and may replace it


def write_folders(faces: Sequence[AlbumFace], target: Path, links: bool) -> None:
    """Write one folder for each person; those of an earlier run are replaced.

    Args:
        links: symbolic links instead of copies.

    Raises:
        FileExistsError: `target` was not made by an album. OSError: it cannot be written.
    """
    if target.exists():
        if not (target / MARKER).exists():
            raise FileExistsError(f"{printable(target)} is a folder of yours: move it away, or give another --out")
        shutil.rmtree(target)
    target.mkdir()
    (target / MARKER).touch()
    people = [(person, members) for person, members in by_person(faces) if person != LOW_QUALITY]
    # unique_names takes files: the suffix keeps a dot in a name from being taken for one.
    names = unique_names([Path(f"{_safe_name(person)}.x") for person, _ in people])
    for name, (_, members) in zip(names, people):
        _write_folder(target / name, members, links)


def _safe_name(person: str) -> str:
    """A name that every file system accepts."""
    characters = "".join(c if c.isalnum() or c in " -_." else "_" for c in person)
    return characters.strip(" .") or "_"


def _write_folder(folder: Path, faces: Sequence[AlbumFace], links: bool) -> None:
    folder.mkdir()
    photos = [Path(photo) for photo in dict.fromkeys(face.photo for face in faces)]
    for photo, stem in zip(photos, unique_names(photos)):
        copy = folder / f"{stem}{photo.suffix}"
        if links:
            copy.symlink_to(photo.resolve())
        else:
            shutil.copy2(photo, copy)
