"""`facelib forget`: remove what was derived from a folder of photos."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facelib.cli.arguments import check_gallery
from facelib.cli.console import Console, ExitCode, count
from facelib.cli.options import PATH, PipelineOptions, command, pipeline_options
from facelib.io.files import private_files
from facelib.settings import own_caches, search_cache

if TYPE_CHECKING:
    import numpy as np

    from facelib.cli.forgotten_results import ForgottenResults
    from facelib.recognition.gallery import Gallery


@command("forget", {0: "done, or there is nothing", 1: "not removed, because the answer was no"})
@click.argument("folder", metavar="FOLDER", type=PATH)
@click.option(
    "--album", "albums", type=PATH, multiple=True, metavar="FOLDER", help="An album, or results, elsewhere; repeatable."
)
@click.option(
    "--gallery",
    "galleries",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Loses the faces of the photos; repeatable.",
)
@click.option("--yes", is_flag=True, show_default=False, help="Do not ask.")
@pipeline_options
@private_files()
def forget(
    folder: Path,
    albums: tuple[Path, ...],
    galleries: tuple[Path, ...],
    yes: bool,
    networks: PipelineOptions,
    console: Console,
) -> int:
    """Remove what facelib has derived from the photos of a folder.

    That is: their faces in results and albums that lie in FOLDER, beside it or in the working folder, or are named
    with --album; the faces that a training or a search has kept; the calibration that was measured on them; and their
    embeddings in the galleries that are named. The photos themselves stay, with the sidecars beside them, as do files
    of yours among the results. FOLDER may be gone already.

    Archives: python -m facelib.archive.people ARCHIVE --remove-photo PHOTO.
    """
    from facelib.cli.forgotten_results import find_forgotten, forget_results, results_near
    from facelib.recognition.calibration_files import own_calibrations

    for gallery in galleries:
        check_gallery(gallery, new=False)
    searches = sorted(search_cache(folder).parent.glob("*"))
    places = {place.resolve(): place for place in (*results_near(folder), *albums, *searches)}
    found = [results for place in places.values() if (results := find_forgotten(place, folder))]
    caches = own_caches(folder)
    calibrations = own_calibrations(folder)
    embeddings = [rows for results in found for rows in results.embeddings()]
    if galleries:
        embeddings += _embed_photos(folder, networks, console)
        if not embeddings:
            console.notice(f"neither photos nor results of {folder} are left: remove people by name, with remove")
    plan = _plan(found, caches, galleries) + [f"calibration {file}" for file in calibrations]
    if not plan:
        console.answer({"forgotten": []}, f"nothing was found that is derived from {folder}")
        return ExitCode.YES
    if not yes and not _is_confirmed(plan, console):
        return ExitCode.NO
    for results in found:
        for line in forget_results(results, folder):
            console.notice(line)
    for file in (*caches, *calibrations):
        file.unlink(missing_ok=True)
    done = [line for line in plan if not line.startswith("gallery ")]
    done += [_forget_in_gallery(gallery, embeddings) for gallery in galleries]
    console.answer({"forgotten": done}, *(f"removed: {line}" for line in done))
    return ExitCode.YES


def _plan(found: Sequence["ForgottenResults"], caches: Sequence[Path], galleries: Sequence[Path]) -> list[str]:
    """A line for each thing that will be removed."""
    plan = []
    for results in found:
        rows = f", {count(sum(results.tables.values()), 'row')} of its tables" if results.tables else ""
        copies = f", {count(len(results.copies), 'copied photo')}" if results.copies else ""
        clips = f", tracks in {count(len(results.clips), 'clip')}" if results.clips else ""
        faces = f"{count(results.faces, 'face')} of {count(len(results.photos), 'photo')}"
        plan.append(f"results {results.folder}: {faces}{rows}{copies}{clips}")
    plan += [f"cached faces {cache}" for cache in caches]
    return plan + [f"gallery {gallery}: the faces of these photos" for gallery in galleries]


def _is_confirmed(plan: Sequence[str], console: Console) -> bool:
    if console.json or sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked; it would remove: " + "; ".join(plan))
    for line in plan:
        click.echo(line, err=True)
    return click.confirm("Remove this?", err=True)


def _embed_photos(folder: Path, networks: PipelineOptions, console: Console) -> "list[np.ndarray]":
    """Embeddings (n, d) of all photos that are still in the folder, by which a gallery knows them."""
    import numpy as np

    from facelib.cli.arguments import PhotoList
    from facelib.cli.results import is_results
    from facelib.cli.runs import make_pipeline, process_photos
    from facelib.io.photo_search import search_photos

    photos = PhotoList(search_photos(folder, is_results).photos) if folder.is_dir() else PhotoList([])
    if not photos.paths:
        return []
    found = process_photos(make_pipeline(networks), photos, 8, console)
    return [np.stack([face.embedding for face in faces]) for _, faces in found if faces]


def _forget_in_gallery(path: Path, embeddings: "Sequence[np.ndarray]") -> str:
    """Remove from a gallery the photos with these embeddings; a line that says how many."""
    import numpy as np

    from facelib.recognition.gallery import Gallery
    from facelib.recognition.gallery_faces import move_faces

    with Gallery(path, any_embedder=True) as gallery:
        same = [rows for rows in embeddings if rows.shape[1] == _dimensions(gallery)]
        removed = {}
        for name in gallery.people() if same else ():
            if number := move_faces(gallery, name, np.concatenate(same), None):
                removed[name] = number
    people = ", ".join(f"{name} {number}" for name, number in removed.items())
    return f"gallery {path}: {count(sum(removed.values()), 'face')}" + (f" ({people})" if people else "")


def _dimensions(gallery: "Gallery") -> int:
    """Of the gallery's embeddings; 0 for an empty one."""
    return next((rows.shape[1] for rows in gallery.export()["people"].values()), 0)
