"""The folders that a search goes through: their photos, and the faces of these, known already or computed and kept."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facelib.cli.arguments import PhotoList, list_photos
from facelib.cli.console import Console, count
from facelib.cli.forgotten_results import results_near
from facelib.cli.known_faces import KnownFaces, PhotoFaces, SearchCache
from facelib.cli.results import is_results
from facelib.cli.runs import process_photos
from facelib.cli.saved_results import read_results

if TYPE_CHECKING:
    from facelib.pipeline import FacePipeline


@dataclass(frozen=True)
class SearchedFolder:
    """A folder that is searched.

    folder: of photos, or of results.
    photos: that it holds, or that the results are of.
    results: folders that may know faces of these photos.
    """

    folder: Path
    photos: PhotoList
    results: list[Path]


def list_folders(
    folders: Sequence[Path], given: PhotoList, copy_to: Path | None, console: Console
) -> list[SearchedFolder]:
    """The folders with their photos, each photo once, without the photos of the person that are given.

    Raises:
        ValueError: there is no photo in a folder, or copies would be made among the photos.
    """
    seen = {os.path.realpath(photo) for photo in given.paths}
    searched = []
    for folder in folders:
        if copy_to and os.path.realpath(copy_to) == os.path.realpath(folder):
            raise ValueError(f"{folder} is searched and gets the copies: give another folder to --copy-to")
        found = _photos_of_results(folder, console) if is_results(folder) else list_photos([folder], console, copy_to)
        new = [photo for photo in found.paths if os.path.realpath(photo) not in seen]
        seen |= {os.path.realpath(photo) for photo in new}
        results = [folder] if is_results(folder) else results_near(folder)
        searched.append(SearchedFolder(folder, PhotoList(new, found.missing), results))
    return searched


def _photos_of_results(folder: Path, console: Console) -> PhotoList:
    """The photos that results are of, as far as they are still there."""
    photos = [Path(record["path"]) for record, _ in read_results(folder).values() if record.get("path")]
    if not photos:
        raise ValueError(f"{folder}: results without photos, as those of clips: give a folder of photos")
    there = [photo for photo in photos if photo.is_file()]
    if len(there) < len(photos):
        console.notice(f"{folder}: {count(len(photos) - len(there), 'photo')} that it knows are no longer there")
    if not there:
        raise ValueError(f"{folder}: the photos of these results are no longer there: give the folder that holds them")
    return PhotoList(there)


def search_faces(
    searched: SearchedFolder, pipeline: "FacePipeline", any_detector: bool, batch_size: int, console: Console
) -> tuple[list[PhotoFaces], bool]:
    """The faces of all photos of a folder, and whether some photos could not be read.

    Args:
        any_detector: whether faces count that another detector has found.
    """
    cache = SearchCache(searched.folder, pipeline, searched.photos.paths)
    detector = None if any_detector else pipeline.detector_name
    known = KnownFaces([*searched.results, cache.folder], pipeline.pipeline_id, detector)
    found = {photo: known.find(photo) for photo in searched.photos.paths}
    pending = [photo for photo, faces in found.items() if faces is None]
    if len(pending) < len(found):
        total = count(len(found), "photo")
        console.notice(f"{searched.folder}: the faces of {len(found) - len(pending):,} of {total} are known")
    failed = bool(searched.photos.missing)
    photos = PhotoList(pending, searched.photos.missing)
    for photo, faces in process_photos(pipeline, photos, batch_size, console) if pending else ():
        failed |= faces.error is not None
        found[photo] = None if faces.error else cache.add(photo, faces)
    if cache.error:
        console.notice(f"{searched.folder}: the faces are not kept for the next search ({cache.error})")
    elif pending:
        console.notice(f"{searched.folder}: its faces are kept in {cache.folder}; facelib forget removes them")
    return [faces for faces in found.values() if faces], failed
