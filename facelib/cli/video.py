"""`facelib video`: who is in these clips, when, and the best picture of each."""

from dataclasses import dataclass
from pathlib import Path

import click

from facelib.cli.arguments import check_calibrated, check_gallery
from facelib.cli.console import Console, ExitCode, count
from facelib.cli.options import (
    PATH,
    DecisionOptions,
    FiniteRange,
    PipelineOptions,
    command,
    decision_options,
    gathered,
    pipeline_options,
)
from facelib.cli.privacy import shared_option

EXIT_CODES = {0: "done", 1: "done, but some clips could not be read, or not to their end"}


@dataclass(frozen=True)
class VideoOptions:
    """What is processed, and where results go.

    clips: clips, and folders of clips.
    out: folder of the results.
    every: every n-th frame is looked at; None: one in 0.12 seconds.
    start, end: seconds, of the part that is read.
    gallery, album: who gives names; None: nobody.
    annotate: whether clips with boxes and names are written too.
    """

    clips: tuple[Path, ...]
    out: Path
    every: int | None
    start: float | None
    end: float | None
    gallery: Path | None
    album: Path | None
    annotate: bool


@command("video", EXIT_CODES)
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...", type=PATH)
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Folder for the results, made if missing.")
@click.option("--gallery", type=PATH, metavar="FILE", help="Name people by this gallery.")
@click.option("--album", type=PATH, metavar="FOLDER", help="Name people by the album in this folder.")
@click.option("--every", type=click.IntRange(1), metavar="N", help="Look at every N-th frame. Default: one in 0.12 s.")
@click.option("--from", "start", type=FiniteRange(0), metavar="SECONDS", help="Read from this time on.")
@click.option("--to", "end", type=FiniteRange(0), metavar="SECONDS", help="Read up to this time.")
@click.option("--annotate", is_flag=True, show_default=False, help="Also write clips with boxes and names.")
@shared_option
@pipeline_options
@decision_options("are joined with somebody else, or get a wrong name", default=None)
@gathered(VideoOptions, "options")
def video(options: VideoOptions, networks: PipelineOptions, decision: DecisionOptions, console: Console) -> int:
    """Find who is in clips, and when.

    Follows each face through its clip and groups tracks by person, across clips too. Writes a page (video.html), the
    tables tracks.csv and appearances.csv, tracks.jsonl for programs, and the best face of each track. Clips that
    cannot be read are reported and skipped. After an interruption the same command resumes.
    """
    from facelib.cli.identification import usable_calibration
    from facelib.cli.runs import make_detector
    from facelib.cli.video_people import assign_people, write_tables
    from facelib.cli.video_run import (
        check_annotated,
        list_clips,
        name_source,
        prepare,
        process,
        write_annotated,
        write_page,
    )
    from facelib.io.lock import lock_folder
    from facelib.video.analysis import VideoPipeline

    if options.gallery and options.album:
        raise click.UsageError("give --gallery or --album, not both")
    if options.end is not None and options.end <= (options.start or 0):
        raise click.UsageError(f"--to {options.end:g}: expected a time after the start ({options.start or 0:g})")
    clips = list_clips(options.clips, options.out, console)
    if options.gallery:
        check_gallery(options.gallery, new=False)
    check_calibrated(networks, decision)
    prepare(options.out)
    if options.annotate:
        check_annotated(options.out, clips)
    detector = make_detector(networks, VideoPipeline)
    pipeline = VideoPipeline.from_pretrained(detector, networks.device, embedder=networks.embedder)
    calibration = usable_calibration(pipeline.model_id, decision)
    with lock_folder(options.out), name_source(options, pipeline, decision) as gallery:
        results = process(pipeline, clips, options, console)
        if not any(one.frames for one in results):  # what was wrong has been reported
            return ExitCode.ERROR
        shown, people = assign_people(results, calibration, decision, gallery)
        write_tables(options.out, results, shown, people)
        unknown = sum(not one.person for one in shown)
        little = f"{count(unknown, 'track')} of faces that show too little to tell who they are" if unknown else ""
        page = write_page(options.out, results, people, little)
        if options.annotate:
            write_annotated(options, results, shown)
    rows = [
        {"person": person.name, "seconds": round(person.seconds, 2), "note": person.note}
        | {"appearances": [[str(clips[one.clip]), one.first, one.last] for one in person.appearances()]}
        for person in people
    ]
    lines = [f"{person.name}: {person.seconds:.1f} s{person.note and f' ({person.note})'}" for person in people]
    if little:
        lines.append(little)
    known = "1 person" if len(people) == 1 else f"{len(people):,} people"
    read = sum(bool(one.frames) for one in results)
    console.answer(rows, *lines, f"{known} in {count(read, 'clip')}; open {page}")
    return ExitCode.NO if any(one.problem for one in results) else ExitCode.YES
