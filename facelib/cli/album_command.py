"""`facelib album`: photos sorted by person."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facelib.cli.arguments import PhotoList, check_calibrated, check_gallery, list_photos, threshold_advice
from facelib.cli.console import Console, count
from facelib.cli.options import (
    PATH,
    DecisionOptions,
    PipelineOptions,
    batch_size_option,
    command,
    decision_options,
    gathered,
    photo_arguments,
    pipeline_options,
)
from facelib.cli.privacy import shared_option

if TYPE_CHECKING:
    from socket import socket

    from facelib.cli.results import Results
    from facelib.pipeline import FacePipeline
    from facelib.recognition.clustering import MergeScores
    from facelib.recognition.gallery import Gallery

EXIT_CODES = {0: "done", 1: "done, but some photos could not be read"}


@dataclass(frozen=True)
class AlbumOptions:
    """What an album is made of, and where it goes.

    photos: photos, and folders of photos.
    out: folder of the album.
    gallery: file that gives names and gets the people who have one; None: no gallery.
    folders: "copies" or "links" of the photos, one folder for each person; None: no folders.
    write_xmp: whether names are written to the sidecars of the photos.
    batch_size: photos that go through the networks together.
    serve: whether people work with the album on a local page then.
    port: of that page; 0: any that is free.
    """

    photos: tuple[Path, ...]
    out: Path
    gallery: Path | None
    folders: str | None
    write_xmp: bool
    batch_size: int
    serve: bool
    port: int


@command("album", EXIT_CODES)
@photo_arguments
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Folder for the album, made if missing.")
@click.option("--gallery", type=PATH, metavar="FILE", help="Read names from it, and add newly named people to it.")
@click.option("--folders", type=click.Choice(["copies", "links"]), help="Also write one folder for each person.")
@click.option(
    "--write-xmp", is_flag=True, show_default=False, help="Also write names and places of faces to photo.jpg.xmp."
)
@click.option("--serve", is_flag=True, show_default=False, help="Then name, merge and split people in your browser.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Of --serve; 0: a free one.")
@batch_size_option
@shared_option
@pipeline_options
@decision_options("are sorted together, of two single faces. Default: 0.001, less above 2,000 faces", default=None)
@gathered(AlbumOptions, "options")
def album(options: AlbumOptions, networks: PipelineOptions, decision: DecisionOptions, console: Console) -> int:
    """Sort photos by person.

    Writes one page, and a table that may be edited. To name, merge or split people, change the column person of
    people.csv and run the same command again: names and what you have changed are kept, also for photos that were
    renamed, moved or saved anew, and go to the gallery. An emptied cell takes a name back. With --serve the same is
    done on a page in your browser, which nobody but you reaches. Names that photo managers have written into the
    photos, or beside them, are taken over. After an interruption the same command resumes. Unreadable photos are
    reported and skipped.
    """
    from facelib.cli.album_table import read_people
    from facelib.io.files import prepare_folder
    from facelib.server.run import check_packages, local_port

    photos = list_photos(options.photos, console, options.out)
    if options.gallery:
        check_gallery(options.gallery, new=True)
    check_calibrated(networks, decision)
    prepare_folder(options.out)
    read_people(options.out)  # an error in the table is told before the photos are processed
    if not options.serve:
        return _run(options, photos, networks, decision, console)
    check_packages()
    with local_port(options.port) as listening:
        return _run(options, photos, networks, decision, console, listening)


def _run(
    options: AlbumOptions,
    photos: PhotoList,
    networks: PipelineOptions,
    decision: DecisionOptions,
    console: Console,
    listening: "socket | None" = None,
) -> int:
    """Process the photos, write the album, and serve it where a socket listens; the exit code."""
    from facelib.cli.identification import measured_calibration, open_gallery
    from facelib.cli.runs import exit_code, make_pipeline, process, resume_results, tell_without_cohort

    pipeline = make_pipeline(networks)
    tell_without_cohort(pipeline, console)
    if decision.threshold is None:
        with threshold_advice():
            pipeline.calibration  # noqa: B018  # an error is told before the photos are processed
    opened = open_gallery(options.gallery, pipeline.model_id, decision) if options.gallery else nullcontext()
    with opened as gallery:
        results = resume_results(options.out, pipeline, photos, networks)
        if stopped := process(pipeline, results, photos, options.batch_size, console):
            return stopped
        scores = clustering_scores(pipeline, decision, len(results.rows()))
        _make(results, scores, options, gallery, decision, console)
        if listening:
            from facelib.cli.album_serve import serve_album

            calibration = measured_calibration(pipeline.model_id, decision)
            if serve_album(results, scores, calibration, gallery, listening, console):
                _make(results, scores, options, gallery, decision, console)
    return exit_code(results)


def _make(
    results: "Results",
    scores: "MergeScores",
    options: AlbumOptions,
    gallery: "Gallery | None",
    decision: DecisionOptions,
    console: Console,
) -> None:
    """Write the album, and print what was made."""
    from facelib.cli.album_builder import make_album

    made = make_album(results, scores, options.folders, gallery, decision, options.write_xmp)
    for line in made.notices:
        console.notice(line)
    value = {"faces": made.faces, "people": made.people, "page": str(made.page)}
    console.answer(value, f"{count(made.faces, 'face')} of {made.people} people; open {made.page}")


def clustering_scores(pipeline: "FacePipeline", decision: DecisionOptions, faces: int) -> "MergeScores":
    """From which mean score on groups are one person's, among so many faces."""
    from facelib.recognition.clustering import MergeScores, merge_scores

    if decision.threshold is not None:
        return MergeScores(decision.threshold, decision.threshold)
    return merge_scores(pipeline.calibration, faces, decision.fmr)
