"""`facelib blur`: copies of photos and clips in which faces cannot be recognised."""

import functools
from dataclasses import dataclass
from pathlib import Path

import click

from facelib.cli.arguments import check_calibrated, check_gallery
from facelib.cli.console import Console, ExitCode
from facelib.cli.options import (
    PATH,
    DecisionOptions,
    PipelineOptions,
    command,
    decision_options,
    gathered,
    pipeline_options,
)
from facelib.settings import TINY_FACE

EXIT_CODES = {0: "done", 1: "done, but some files could not be read, or not to their end"}


@dataclass(frozen=True)
class BlurOptions:
    """What is copied, whose faces are hidden, and how.

    files: photos, clips, and folders of them.
    out: folder of the copies.
    names: people who stay visible.
    gallery: file by which they are identified; None: nobody stays visible.
    style: see `Hiding`.
    keep_audio: whether clips keep their sound.
    force: whether files of others in `out` may be replaced.
    """

    files: tuple[Path, ...]
    out: Path
    names: tuple[str, ...]
    gallery: Path | None
    style: str
    keep_audio: bool
    force: bool


@command("blur", EXIT_CODES)
@click.argument("files", nargs=-1, required=True, metavar="PHOTO|CLIP...", type=PATH)
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Folder for the copies, made if missing.")
@click.option("--except", "names", multiple=True, metavar="NAME", help="Who of the gallery stays visible; repeatable.")
@click.option("--gallery", type=PATH, metavar="FILE", help="Gallery by which --except identifies people.")
@click.option(
    "--style",
    type=click.Choice(["blur", "pixels", "box"]),
    default="blur",
    help="What hides a face. Only a box of one colour leaves nothing to restore.",
)
@click.option("--keep-audio", is_flag=True, show_default=False, help="Keep the sound of clips: voices identify too.")
@click.option("--force", is_flag=True, show_default=False, help="Replace files in FOLDER that facelib has not written.")
@functools.partial(pipeline_options, smallest_face=TINY_FACE)
@decision_options("stay visible, taken for somebody named by --except")
@gathered(BlurOptions, "options")
def blur(options: BlurOptions, networks: PipelineOptions, decision: DecisionOptions, console: Console) -> int:
    """Hide faces in photos and clips.

    Writes a copy of each file in which all faces are hidden, or all but those of the people named by --except. The
    originals are never changed. Rather too much is hidden: the detector's threshold is lower than elsewhere, faces are
    searched for down to 16 pixels (--smallest-face), and areas are larger than faces. In clips a
    face stays hidden in frames in which it was not found, and half a second before and after.

    \b
    Look at the copies before you share them: no detector finds every face.

    Who is named by --except stays visible only where the face is surely theirs. Copies keep no metadata (place, time,
    camera, names, preview pictures), and clips no sound. They are readable as your umask has it, because they are
    made to be shared. After an interruption the same command resumes.
    """
    from facelib.cli import runs
    from facelib.cli.blur_files import check_targets, list_sources
    from facelib.cli.blur_run import line_of, make_blurring, visible_people
    from facelib.io.files import prepare_folder
    from facelib.video.blur import Hiding

    if bool(options.names) != bool(options.gallery):
        raise click.UsageError("--except and --gallery go together: who stays visible, and by which gallery")
    sources = list_sources(options.files, options.out, console)
    if options.gallery:
        check_gallery(options.gallery, new=False)
        check_calibrated(networks, decision)
    prepare_folder(options.out)
    if not options.force:
        check_targets(sources)
    pipeline = runs.make_pipeline(networks) if options.gallery else None
    model_id = pipeline.model_id if pipeline else ""
    records = []
    with visible_people(options.names, options.gallery, model_id, decision) as visible:
        blurring = make_blurring(networks, pipeline, visible, Hiding(options.style), options.keep_audio)
        for source in console.progress(sources, "file"):
            records.append(blurring.run(source, console))
            console.answer(records[-1], *filter(None, [line_of(records[-1])]))
    failed = sum("error" in record for record in records)
    if failed == len(records):
        return ExitCode.ERROR
    return ExitCode.NO if failed or any("problem" in record for record in records) else ExitCode.YES
