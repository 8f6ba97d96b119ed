"""`facelib enrol | identify | remove | people | backup`: people in a gallery file."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facelib.cli.arguments import check_calibrated, check_gallery, list_photos
from facelib.cli.console import Console, ExitCode, count
from facelib.cli.options import (
    PATH,
    DecisionOptions,
    PipelineOptions,
    batch_size_option,
    command,
    decision_options,
    gallery_option,
    photo_arguments,
    pipeline_options,
)

if TYPE_CHECKING:
    from facelib.recognition.gallery import Identification


@command("enrol", {0: "done", 1: "some photos could not be read, or show no face"})
@click.argument("name", metavar="NAME")
@photo_arguments
@gallery_option
@pipeline_options
@batch_size_option
def enrol(
    name: str, photos: tuple[Path, ...], gallery: Path, networks: PipelineOptions, batch_size: int, console: Console
) -> int:
    """Add photos of a person to a gallery.

    The largest face of each photo is enrolled. Photos that are enrolled already are not added again. Unreadable photos
    are reported and skipped. Photos that are nearer to somebody else, or far from the person's others, are named.
    """
    from facelib.cli.runs import make_pipeline, process_photos
    from facelib.recognition.gallery import Gallery
    from facelib.recognition.names import normalise_name

    name = normalise_name(name)
    found = list_photos(photos, console)
    check_gallery(gallery, new=True)
    pipeline = make_pipeline(networks)
    failed = False
    taken = {}
    with Gallery(gallery, pipeline.model_id) as enrolled:
        for photo, faces in process_photos(pipeline, found, batch_size, console):
            if not faces:
                failed = True
                if not faces.error:
                    console.error(f"{photo}: no face found")
                continue
            if len(faces) > 1:
                console.notice(f"{photo}: {len(faces)} faces, the largest is taken")
            if faces[0].quality_issue:
                console.notice(f"{photo}: the face is {faces[0].quality_issue}")
            enrolled.enrol(name, faces[0])  # photo by photo: an interruption loses nothing
            taken[photo] = faces[0].embedding
        for photo, embedding in taken.items():
            if issue := enrolled.enrolment_issue(name, embedding):
                console.notice(f"{photo}: {issue}; if it is somebody else, remove {name} and enrol the right photos")
        number = enrolled.people().get(name, 0)
    console.answer({"name": name, "photos": number}, f"{name}: {count(number, 'photo')} in {gallery}")
    if failed:
        return ExitCode.NO if taken else ExitCode.ERROR
    return ExitCode.YES


@command("identify", {0: "somebody was identified", 1: "nobody was, or some photos could not be read"})
@photo_arguments
@gallery_option
@pipeline_options
@decision_options("are identified as somebody of the gallery")
@batch_size_option
def identify(
    photos: tuple[Path, ...],
    gallery: Path,
    networks: PipelineOptions,
    decision: DecisionOptions,
    batch_size: int,
    console: Console,
) -> int:
    """Identify people in photos against a gallery.

    Prints one line for each face, and for each photo without a face. Unreadable photos are reported and skipped.
    """
    from facelib.cli.identification import identify_faces, is_measured, open_gallery
    from facelib.cli.runs import make_pipeline, process_photos, tell_without_cohort

    found = list_photos(photos, console)
    check_gallery(gallery, new=False)
    check_calibrated(networks, decision)
    pipeline = make_pipeline(networks)
    tell_without_cohort(pipeline, console)
    anybody, failed = False, False
    with open_gallery(gallery, pipeline.model_id, decision) as enrolled:
        for photo, faces in process_photos(pipeline, found, batch_size, console):
            failed |= faces.error is not None
            if not faces and not faces.error:
                row = {"photo": str(photo), "face": None, "name": None, "reason": "no face found"}
                console.answer(row, f"{photo.name}: no face found")
            for number, (face, answer) in enumerate(zip(faces, identify_faces(enrolled, faces, decision))):
                row = {"photo": str(photo), "face": number, "box": face.box.round(1).tolist()} | asdict(answer)
                if not is_measured(enrolled):
                    row["false_match_rate"] = None
                if math.isinf(answer.score):  # nobody is enrolled; JSON has no infinity
                    row["score"] = None
                console.answer(row, f"{photo.name} face {number}: {_sentence(answer)}")
                anybody |= answer.name is not None
    return ExitCode.YES if anybody and not failed else ExitCode.NO


def _sentence(answer: "Identification") -> str:
    name = answer.name or (f"unsure, {answer.reason}" if answer.reason else "unknown")
    nearest = ", ".join(f"{other} {distance:.3f}" for other, distance in answer.nearest)
    score = f", score {answer.score:.3f}" if nearest else ""
    return f"{name}{score} (nearest: {nearest or 'nobody'})"


@command("remove", {0: "removed"})
@click.argument("name", metavar="NAME")
@gallery_option
def remove(name: str, gallery: Path, console: Console) -> int:
    """Remove a person from a gallery.

    No embedding of the person stays in the file.
    """
    from facelib.recognition.gallery import Gallery

    check_gallery(gallery, new=False)
    with Gallery(gallery, any_embedder=True) as enrolled:
        enrolled.remove(name)
    console.answer({"removed": name}, f"{name} is removed: no embedding is left in {gallery}")
    return ExitCode.YES


@command("people", {0: "done"})
@gallery_option
def people(gallery: Path, console: Console) -> int:
    """List the people of a gallery, with the number of photos of each."""
    from facelib.recognition.gallery import Gallery

    check_gallery(gallery, new=False)
    with Gallery(gallery, any_embedder=True) as enrolled:
        photos = enrolled.people()
    lines = [f"{name}: {number}" for name, number in photos.items()]
    console.answer(photos, *(lines or ["nobody"]))
    return ExitCode.YES


@command("backup", {0: "written"})
@gallery_option
@click.option("--out", type=PATH, required=True, metavar="FILE", help="File to write, which must not exist.")
def backup(gallery: Path, out: Path, console: Console) -> int:
    """Copy a gallery to another file, also while other programs use it.

    The copy is a gallery like the original. To go back to it, copy it over the original while no program uses that.
    """
    from facelib.recognition.gallery import Gallery

    check_gallery(gallery, new=False)
    with Gallery(gallery, any_embedder=True) as enrolled:
        number = len(enrolled.people())
        enrolled.backup(out)
    console.answer({"backup": str(out), "people": number}, f"{out}: a copy with {number} people")
    return ExitCode.YES
