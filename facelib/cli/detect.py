"""`facelib detect`: find, align and embed every face, into a folder of results."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facelib.cli.arguments import list_photos, threshold_advice
from facelib.cli.console import Console
from facelib.cli.options import (
    PATH,
    DecisionOptions,
    PipelineOptions,
    batch_size_option,
    command,
    decision_options,
    gathered,
    pipeline_options,
)
from facelib.cli.privacy import shared_option

if TYPE_CHECKING:
    from facelib.pipeline import FacePipeline

EXIT_CODES = {0: "done", 1: "done, but some photos could not be read"}


@dataclass(frozen=True)
class DetectOptions:
    """What is processed, and where results go.

    photos: photos, and folders of photos.
    sample: whether the sample photo is processed too.
    out: folder of the results.
    batch_size: photos that go through the networks together.
    """

    photos: tuple[Path, ...]
    sample: bool
    out: Path
    batch_size: int


@command("detect", EXIT_CODES)
@click.argument("photos", nargs=-1, metavar="PHOTO...", type=PATH)
@click.option("--sample", is_flag=True, show_default=False, help="Use the sample photo of six people.")
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Folder for the results, made if missing.")
@batch_size_option
@shared_option
@pipeline_options
@decision_options("are marked 'same?' in the table")
@gathered(DetectOptions, "options")
def detect(options: DetectOptions, networks: PipelineOptions, decision: DecisionOptions, console: Console) -> int:
    """Find, align and embed all faces.

    Writes annotated photos, aligned faces, faces.json, embeddings.npz and a picture of all distances to a folder.
    After an interruption the same command resumes. Unreadable photos are reported and skipped.
    """
    if not options.photos and not options.sample:
        raise click.UsageError("give photos or folders, or --sample")
    # Imported here, so that --help and wrong arguments answer at once.
    from facelib.cli.runs import exit_code, make_pipeline, process, report, resume_results, tell_without_cohort
    from facelib.io.files import prepare_folder
    from facelib.io.sample import sample_photo

    given = [*options.photos, *([sample_photo()] if options.sample else [])]
    photos = list_photos(given, console, options.out)
    prepare_folder(options.out)
    pipeline = make_pipeline(networks)
    tell_without_cohort(pipeline, console)
    threshold = marking_threshold(pipeline, decision, console)
    results = resume_results(options.out, pipeline, photos, networks)
    if stopped := process(pipeline, results, photos, options.batch_size, console):
        return stopped
    report(results, threshold, console)
    return exit_code(results)


def marking_threshold(pipeline: "FacePipeline", decision: DecisionOptions, console: Console) -> float | None:
    """The score from which on pairs are marked; None, with a notice, for an embedder without a calibration.

    Raises:
        ValueError: the target false match rate lies below what was measured.
    """
    from facelib.types import CalibrationMissingError

    if decision.threshold is not None:
        return decision.threshold
    try:
        with threshold_advice():
            return pipeline.calibration.score_at(decision.target_fmr)
    except CalibrationMissingError as error:
        console.notice(f"no pair is marked: {error}")
        return None
