"""A folder for each person of an album, with copies of the photos or links to them.

A list beside them says what the album has written. Only files that are on it, and as they were written, are ever
replaced or removed; and a copy whose photo is gone is kept, since it may be the last one.
"""

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from facelib.cli.album import AlbumFace, by_person
from facelib.io.files import atomic_write, file_hash, printable, unique_names
from facelib.recognition.names import LOW_QUALITY, safe_folder_name

FOLDERS = "people"
MARKER = ".made-by-facelib-album"  # a file in FOLDERS: an album made the folder; lists the files that it wrote


@dataclass(frozen=True)
class Written:
    """A file that an album has written, or is about to.

    file: relative to the folder.
    photo: absolute path of the photo.
    sha256: hash of the copy; "" for a link.
    """

    file: str
    photo: str
    sha256: str

    def is_unchanged(self, folder: Path) -> bool:
        """Whether the file is there as it was written."""
        path = folder / self.file
        if path.is_symlink():
            return not self.sha256 and os.readlink(path) == self.photo
        return bool(self.sha256) and path.is_file() and file_hash(path) == self.sha256

    def is_dispensable(self) -> bool:
        """Whether it is a link, or a copy of a photo that is still there."""
        return not self.sha256 or os.path.lexists(self.photo)


def write_folders(faces: Sequence[AlbumFace], target: Path, links: bool) -> list[str]:
    """Write one folder for each person, then remove what earlier runs wrote and this one does not.

    Args:
        links: symbolic links instead of copies.

    Returns:
        A line for each photo that could not be copied, and one for copies that are kept though no person has them.

    Raises:
        FileExistsError: `target` was not made by an album. OSError: it cannot be written.
    """
    if target.exists() and not (target / MARKER).exists():
        raise FileExistsError(f"{printable(target)} is a folder of yours: move it away, or give another --out")
    target.mkdir(exist_ok=True)
    before = read_written(target)
    unchanged = {row.file: row for row in before if row.is_unchanged(target)}
    now = list(_wanted(faces, target, links, unchanged))
    record_written(target, [*before, *now])  # before the files: after a kill they are known as ours
    lines = []
    for wanted in now:
        try:
            if unchanged.get(wanted.file) != wanted:
                _write(wanted, target)
        except (FileNotFoundError, PermissionError) as error:
            lines.append(f"not copied: {error}")
    files = {wanted.file for wanted in now}
    kept = []
    for row in unchanged.values():
        if row.file not in files and row.is_dispensable():
            remove_written(row, target)
        elif row.file not in files:
            kept.append(row)
    if kept:
        lines.append(f"{FOLDERS}/{kept[0].file} is kept, like all copies whose photos are gone ({len(kept):,})")
    record_written(target, [*now, *kept])
    return lines


def read_written(target: Path) -> list[Written]:
    """What earlier runs wrote; nothing where the list is missing, damaged, or of a version that kept none."""
    try:
        return [Written(**row) for row in json.loads((target / MARKER).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def record_written(target: Path, written: Iterable[Written]) -> None:
    with atomic_write(target / MARKER) as path:
        path.write_text(json.dumps([asdict(row) for row in dict.fromkeys(written)], indent=0) + "\n")


def _wanted(faces: Sequence[AlbumFace], target: Path, links: bool, ours: Mapping[str, Written]) -> Iterator[Written]:
    """The files of all people, under names that no file of the user's has.

    Args:
        ours: by name, the files that an album has written, as they were written.
    """
    people = [(person, members) for person, members in by_person(faces) if person != LOW_QUALITY]
    # unique_names takes files: the suffix keeps a dot in a name from being taken for one.
    names = unique_names([Path(f"{safe_folder_name(person)}.x") for person, _ in people])
    used: set[str] = set()
    for name, (_, members) in zip(names, people):
        hashes = {face.photo: "" if links else face.sha256 for face in members}
        for photo, stem in zip(hashes, unique_names(map(Path, hashes))):
            source = os.path.realpath(photo) if links else photo
            for number in itertools.count(1):
                end = "" if number == 1 else f"-{number}"
                wanted = Written(f"{name}/{stem}{end}{Path(photo).suffix}", source, hashes[photo])
                if wanted.file in used:
                    continue
                old = ours.get(wanted.file)
                is_free = old == wanted or old.is_dispensable() if old else not os.path.lexists(target / wanted.file)
                if is_free:
                    yield wanted
                    break
                if wanted.is_unchanged(target):  # the user's own copy will do
                    break
            used.add(wanted.file)


def _write(wanted: Written, target: Path) -> None:
    path = target / wanted.file
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as new:
        if wanted.sha256:
            shutil.copy2(wanted.photo, new)
        else:
            new.symlink_to(wanted.photo)


def remove_written(row: Written, target: Path) -> None:
    (target / row.file).unlink()
    with contextlib.suppress(OSError):  # the folder holds other files
        (target / row.file).parent.rmdir()
