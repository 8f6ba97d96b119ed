"""The runs of `facelib video`: each clip in segments that are saved, names, annotated clips and the page."""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facelib.cli.album_state import face_key, read_state
from facelib.cli.album_table import PEOPLE_FILE, read_people
from facelib.cli.blur_files import comment_of
from facelib.cli.console import Console, count
from facelib.cli.identification import open_gallery
from facelib.cli.options import DecisionOptions
from facelib.cli.results import DISK_ERRORS, TRACKS_FOLDER, is_results
from facelib.cli.video_page import PAGE, ShownClip, ShownPerson, write_video_page
from facelib.cli.video_people import APPEARANCES_FILE, LINES_FILE, TRACKS_FILE, Person, ShownTrack
from facelib.cli.video_results import FACES_FOLDER, ClipResults, add_pieces, face_file, remove_faces, resume, save
from facelib.io.files import prepare_folder, printable, unique_names
from facelib.recognition.gallery import Gallery
from facelib.recognition.names import is_named
from facelib.types import VideoError
from facelib.video.analysis import VideoPipeline
from facelib.video.annotation import annotate_frame
from facelib.video.reader import Clip
from facelib.video.search import search_clips
from facelib.video.writer import ClipWriter

if TYPE_CHECKING:
    from facelib.cli.video import VideoOptions

SEGMENT_SECONDS = 60.0  # of a clip, after which its results are saved
RESULT_FILES = (TRACKS_FILE, APPEARANCES_FILE, LINES_FILE, PAGE)
ANNOTATED = "faces marked by facelib"  # comment of annotated clips, by which they are known again


def prepare(out: Path) -> None:
    """Make the folder of the results.

    Raises:
        FileExistsError: it holds files with the names of results, and no results. OSError: it cannot be written.
    """
    prepare_folder(out)
    taken = [name for name in (*RESULT_FILES, FACES_FOLDER) if os.path.lexists(out / name)]
    if taken and not (out / TRACKS_FOLDER).is_dir():
        raise FileExistsError(f"{out} holds {taken[0]}, which no run of this command wrote: give another --out")
    for name in (FACES_FOLDER, TRACKS_FOLDER):
        (out / name).mkdir(exist_ok=True)


def list_clips(given: Sequence[Path], out: Path, console: Console) -> list[Path]:
    """Clips that are named, or lie in folders that are named, but for those that earlier runs have annotated; `out` is
    not searched.

    Raises:
        ValueError: there is none.
    """
    found = search_clips(given, lambda folder: is_results(folder, out))
    for line in found.summary():
        console.notice(line)
    clips = [path for path in found.photos if path.stem[-10:] != "_annotated" or comment_of(path) != ANNOTATED]
    if len(clips) < len(found.photos):
        console.notice(f"{count(len(found.photos) - len(clips), 'clip')} that this command has annotated: skipped")
    if not clips:
        raise ValueError(f"no clips in {', '.join(map(str, given))}")
    return clips


def annotated_file(out: Path, name: str) -> Path:
    """The annotated copy of a clip, by the name of its results."""
    return out / f"{name}_annotated.mp4"


def check_annotated(out: Path, clips: Sequence[Path]) -> None:
    """Check that no file of the user would be replaced by an annotated clip.

    Raises:
        FileExistsError: it would.
    """
    for name in unique_names(clips):
        target = annotated_file(out, name)
        if os.path.lexists(target) and comment_of(target) != ANNOTATED:
            raise FileExistsError(f"{printable(target)} exists, and facelib has not written it: give another --out")


def process(
    pipeline: VideoPipeline, clips: Sequence[Path], options: "VideoOptions", console: Console
) -> list[ClipResults]:
    """The results of each clip; those that cannot be read are reported, and have a `problem`.

    Raises:
        OSError: the results cannot be written.
    """
    networks = f"{pipeline.pipeline_id} {pipeline.detector_name} {pipeline.detector_input}"
    settings = f"{networks} {options.every} {options.start} {options.end}"
    found = []
    for clip, name in zip(clips, unique_names(clips)):
        results = resume(options.out, clip, name, settings)
        if not results.frames:  # what is there is of a run with other settings, or of another clip of that name
            remove_faces(options.out, name)
            if comment_of(annotated_file(options.out, name)) == ANNOTATED:
                annotated_file(options.out, name).unlink()
        if not results.is_done:
            try:
                _process_clip(pipeline, results, options, console)
            except (VideoError, OSError) as error:
                if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                    raise
                results.problem = str(error)
        if results.is_done and not results.frames:
            results.problem = "no frame of this part was looked at: give --every 1, or a longer part"
        if results.problem:
            console.error(_of_clip(clip, results.problem))
        for note in results.notes:
            console.notice(_of_clip(clip, note))
        if results.frames and results.is_done and not results.pieces:
            console.notice(f"{printable(clip)}: no face found in {count(results.frames, 'frame')}")
        found.append(results)
    return found


def _of_clip(clip: Path, text: str) -> str:
    """A remark that names its clip."""
    return text if printable(clip) in text else f"{printable(clip)}: {text}"


def _process_clip(pipeline: VideoPipeline, results: ClipResults, options: "VideoOptions", console: Console) -> None:
    """Go on with a clip where its results end. Segments are saved whole, so that a run that goes on finds the same as
    one that was not interrupted. Once something could not be read, nothing is saved until the end: only a run from
    there on finds the same again, and says what is wrong."""
    last_time = None if results.until < 0 else results.until
    tracker = pipeline.make_tracker(results.open_pieces(), results.next_number, last_time)
    with Clip(results.path, options.every, options.start, options.end, after=last_time) as clip:
        results.size, results.duration, results.notes = clip.size, clip.duration, clip.notes
        bar = console.progress(range(max(2, int(clip.duration or 0))), "s")
        saved, time = max(results.until, options.start or 0.0), results.until

        def save_segment() -> None:
            pieces, going_on = tracker.close_pieces()
            add_pieces(options.out, results, pieces)
            results.going_on = [piece.number for piece in going_on]
            results.until, results.next_number = time, tracker.next_number
            if results.is_done or not clip.is_damaged:
                save(options.out, results)

        try:
            for frame, _, ended in pipeline.follow(clip, tracker, results.cuts):
                add_pieces(options.out, results, ended)
                results.frames, time = results.frames + 1, frame.time
                if int(time) > bar.n:
                    bar.update(int(time) - bar.n)
                if time - saved >= SEGMENT_SECONDS:
                    save_segment()
                    saved = time
            results.is_done, results.problem, results.notes = True, clip.problem, clip.notes
        except Exception:
            if time > results.until:
                save_segment()
            raise
        finally:
            bar.close()
        save_segment()


@contextlib.contextmanager
def name_source(
    options: "VideoOptions", pipeline: VideoPipeline, decision: DecisionOptions
) -> Iterator[Gallery | None]:
    """A context with the gallery that gives names: the one of the options, or one made from the people of the album.

    Raises:
        ValueError: the folder is no album, or one of other networks.
    """
    if options.gallery:
        with open_gallery(options.gallery, pipeline.model_id, decision) as gallery:
            yield gallery
    elif options.album:
        with (
            tempfile.TemporaryDirectory() as folder,
            open_gallery(Path(folder) / "album", pipeline.model_id, decision) as gallery,
        ):
            _enrol_album(options.album, pipeline.pipeline_id, gallery)
            yield gallery
    else:
        yield None


def _enrol_album(album: Path, pipeline_id: str, gallery: Gallery) -> None:
    rows = read_people(album).rows
    if not rows:
        raise ValueError(f"{album} holds no album: {PEOPLE_FILE} is missing or empty; facelib album makes one")
    faces = read_state(album, pipeline_id).faces
    for row in filter(lambda row: is_named(row.person), rows):
        known = faces.get(face_key(row.sha256, row.box))
        if known and known.embedding is not None:
            gallery.enrol(row.person, known.embedding)
    if not gallery.people():
        raise ValueError(
            f"{album} has nobody with a name, or was made with other networks: name people in {PEOPLE_FILE}, and run "
            "facelib album again with the same options"
        )


def write_page(out: Path, clips: Sequence[ClipResults], people: Sequence[Person], unknown: str = "") -> Path:
    """Write video.html, with a row for each person.

    Args:
        unknown: a line on tracks that are nobody's; "" where there are none.
    """
    rows = []
    for person in people:
        best = person.best()
        with Image.open(face_file(out, clips[best.clip], best.track.number)) as picture:
            face = np.asarray(picture.convert("RGB"))
        rows.append(
            ShownPerson(person.name, face, person.appearances(), person.note, (best.clip, best.track.best_time))
        )
    titles = Counter(clip.path.name for clip in clips)
    shown_clips = [
        ShownClip(str(clip.path) if titles[clip.path.name] > 1 else clip.path.name, clip.path.absolute(), clip.duration)
        for clip in clips
    ]
    remarks = [_of_clip(clip.path, line) for clip in clips for line in (clip.problem, *clip.notes) if line]
    if unknown:
        remarks.append(unknown)
    return write_video_page(rows, shown_clips, out, remarks)


def write_annotated(options: "VideoOptions", clips: Sequence[ClipResults], shown: Sequence[ShownTrack]) -> None:
    """Write a copy of each clip, or of the part of it that was read, with boxes and names."""
    for number, results in enumerate(clips):
        own = [one for one in shown if one.clip == number]
        names = {one.track.number: one.person or "?" for one in own}
        if not results.frames:
            continue
        with (
            Clip(results.path, 1, options.start, options.end) as clip,
            ClipWriter(
                annotated_file(options.out, results.name), clip.size, clip.frame_rate, comment=ANNOTATED
            ) as writer,
        ):
            for frame in clip:
                image = annotate_frame(frame.image, frame.time, [one.track for one in own], names)
                writer.write(image, frame.time - (options.start or 0.0))
