"""`facelib find`: which photos of a folder show a person."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facelib.cli.arguments import check_calibrated, list_photos
from facelib.cli.console import Console, ExitCode, count
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

if TYPE_CHECKING:
    from facelib.cli.find_matches import Match

# Of the whole search. Chosen on open_val, 1,284 photos of 60 people: by one photo half of a person's photos are found,
# by three 83 %, and somebody else in 3 % and 17 % of the searches. 0.001, the default of identify, finds 2 % at most.
SEARCH_FMR = 0.3


@dataclass(frozen=True)
class FindOptions:
    """Who is looked for, and where.

    paths: photos of the person, and folders.
    copy_to: folder that gets copies of the photos that are found; None: none does.
    batch_size: photos that go through the networks together.
    """

    paths: tuple[Path, ...]
    copy_to: Path | None
    batch_size: int


@command("find", {0: "the person was found", 1: "the person was not, or some photos could not be read"})
@click.argument("paths", nargs=-1, required=True, metavar="PERSON.jpg... FOLDER...", type=PATH)
@click.option("--copy-to", type=PATH, metavar="DIR", help="Copy the photos that are found there; no file is replaced.")
@batch_size_option
@pipeline_options
@decision_options("are found anywhere in the folders", SEARCH_FMR)
@gathered(FindOptions, "options")
def find(options: FindOptions, networks: PipelineOptions, decision: DecisionOptions, console: Console) -> int:
    """Find the photos that show a person.

    PERSON.jpg is a photo of the person; several count together. FOLDER is searched with all folders in it; it may also
    be an album, or a folder of results. Prints the photos that show the person, the most similar first, each with its
    score, and how often somebody else would have such a score with any face of the whole search.

    Faces that detect or album have found are not computed again, others are kept for the next search. After an
    interruption the same command resumes. Unreadable photos are reported and skipped.
    """
    given, folders = split_paths(options.paths)
    from facelib.cli.find_copies import copy_photos
    from facelib.cli.find_folders import list_folders, search_faces
    from facelib.cli.find_matches import find_matches, read_person
    from facelib.cli.identification import usable_calibration
    from facelib.cli.runs import make_pipeline, tell_without_cohort

    photos = list_photos(given, console)
    searched = list_folders(folders, photos, options.copy_to, console)
    check_calibrated(networks, decision)
    pipeline = make_pipeline(networks)
    tell_without_cohort(pipeline, console)
    calibration = usable_calibration(pipeline.model_id, decision)
    person = read_person(pipeline, photos, calibration, options.batch_size, console)
    failed, faces = person.failed, []
    for folder in searched:
        found, unreadable = search_faces(folder, pipeline, networks.detector == "auto", options.batch_size, console)
        faces += found
        failed |= unreadable
    matches = find_matches(person, faces, calibration, decision)
    lines = [_sentence(match) for match in matches]
    value = {"found": [_as_json(match) for match in matches], "photos": len(faces)}
    if options.copy_to and matches:
        copied, problems = copy_photos([Path(match.photo) for match in matches], options.copy_to)
        lines.append(f"{count(copied, 'photo')} copied to {options.copy_to}")
        value["copied"] = copied
        failed |= bool(problems)
        for problem in problems:
            console.error(problem)
    console.answer(value, *lines, f"found in {count(len(matches), 'photo')} of {len(faces):,}")
    return ExitCode.YES if matches and not failed else ExitCode.NO


def split_paths(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The photos of the person, and the folders to search: the arguments that are folders.

    Raises:
        UsageError: there are none of one kind.
    """
    folders = [path for path in paths if os.path.isdir(path.expanduser())]
    photos = [path for path in paths if path not in folders]
    if not folders and len(paths) > 1 and not os.path.lexists(paths[-1]):
        raise click.UsageError(f"{paths[-1]}: no such folder; the last argument is the folder that is searched")
    if not folders:
        raise click.UsageError("which folder is to be searched? Give it after the photos of the person")
    if not photos:
        raise click.UsageError(
            f"which photos show the person? {', '.join(map(str, folders))}: all arguments are folders. Give photos "
            f"first, for example {folders[0] / '*.jpg'}"
        )
    return photos, folders


def _sentence(match: "Match") -> str:
    rate = "" if math.isnan(match.false_match_rate) else f", FMR of the search {match.false_match_rate:.2g}"
    unsure = f", unsure: the face is {match.reason}" if match.reason else ""
    return f"{match.photo} face {match.face}: score {match.score:.3f}{rate}{unsure}"


def _as_json(match: "Match") -> dict[str, object]:
    rate = match.false_match_rate
    return asdict(match) | {"score": round(match.score, 4), "false_match_rate": None if math.isnan(rate) else rate}
