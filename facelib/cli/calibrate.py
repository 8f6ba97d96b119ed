"""`facelib calibrate`: measure the error rates of an embedder on a folder of one's own photos."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelib.cli.calibration_people import (
    embed_people,
    impostor_pairs,
    list_people,
    measured_faces,
    people_for,
    read_groups,
)
from facelib.cli.console import Console, ExitCode, count
from facelib.cli.options import PATH, PipelineOptions, batch_size_option, command, gathered, pipeline_options
from facelib.io.files import digest, private_files
from facelib.settings import SAME, own_cache_name

if TYPE_CHECKING:
    import numpy as np

    from facelib.recognition.calibration import Calibration
    from facelib.recognition.cohort import Cohort

COHORT_PEOPLE = 200  # from whom on a half can be spared for a cohort
TARGETS = [10.0**-digits for digits in range(1, 9)]


@dataclass(frozen=True)
class CalibrateOptions:
    """What is measured.

    photos: folder of people, a sub-folder for each, or of photos of different people.
    groups: table of the group of each person; None: everybody is in one group.
    new_cohort: whether a cohort is made also where the embedder has one.
    reset: whether the calibration of one's own is removed instead.
    """

    photos: Path | None
    groups: Path | None
    new_cohort: bool
    reset: bool


@command("calibrate", {0: "measured and saved, or removed", 1: "measured and saved; some photos could not be used"})
@click.option(
    "--photos",
    type=PATH,
    metavar="FOLDER",
    help="A folder for each person; or photos alone, of which each shows somebody else.",
)
@click.option(
    "--groups",
    type=PATH,
    metavar="CSV",
    help="Columns person (name of the folder; of photos alone, of the file) and group: rates by group.",
)
@click.option("--new-cohort", is_flag=True, show_default=False, help="Make a new cohort, of half of the people.")
@click.option("--reset", is_flag=True, show_default=False, help="Print the calibration that you measured; remove it.")
@pipeline_options
@batch_size_option
@private_files()
@gathered(CalibrateOptions, "wanted")
def calibrate(wanted: CalibrateOptions, networks: PipelineOptions, batch_size: int, console: Console) -> int:
    """Measure what a score of an embedder means, on photos of your own.

    The people must be in no training set of the embedder, and like those whom it will be used on. Their largest faces
    are compared with each other: how often are two people taken for one, and two photos of one person for two people?
    The rates are saved for later commands; no photo and no embedding is. Without folders of people there are no pairs
    of photos of one person: true match rates stay unknown, and somebody who is there twice is not noticed.

    A cohort is a set of impostors, kept as means of at least three people; scores take from a similarity how near both
    faces are to them, so that one threshold is right for everybody. The shipped embedders have one. For another
    embedder, or with --new-cohort, it is made of half of the people, where there are at least 200.
    """
    from facelib.cli.runs import make_pipeline
    from facelib.recognition import match_rates
    from facelib.recognition.calibration_files import save_calibration, user_calibrations_folder

    if wanted.reset:
        return _reset(networks, console)
    if not wanted.photos:
        raise click.UsageError("--photos FOLDER is needed, or --reset")
    folder = wanted.photos.expanduser()
    found = list_people(folder, console)
    groups = read_groups(wanted.groups) if wanted.groups else {}
    pipeline = make_pipeline(networks)
    people, embeddings = embed_people(pipeline, found, batch_size, console)
    cohort, is_measured = _cohort(pipeline.model_id, people, embeddings, wanted.new_cohort, console)
    faces = measured_faces(people[is_measured], embeddings[is_measured], groups, console)
    number = len(set(faces.people.tolist()))
    data = f"{count(len(faces.people), 'photo')} of {number:,} people of {own_cache_name(folder)}"
    calibration = match_rates.calibrate(pipeline.model_id, [faces], cohort, data)
    path = save_calibration(calibration, user_calibrations_folder())
    pairs = impostor_pairs(faces.people, faces.groups)
    answer = {"calibration": str(path), "people": number, "photos": len(faces.people), "impostor_pairs": pairs}
    lines = _table(calibration) + [f"measured on {data}: {pairs:,} impostor pairs", *_limits(calibration)]
    lines.append(f"saved: {path}. It comes before a shipped one; `facelib calibrate --reset` removes it")
    console.answer(answer | _rates(calibration), *lines)
    return ExitCode.YES if len(people) == len(found) else ExitCode.NO


def _cohort(
    model_id: str, people: "np.ndarray", embeddings: "np.ndarray", is_new: bool, console: Console
) -> "tuple[Cohort | None, np.ndarray]":
    """The cohort of the shipped calibration, or a new one, or None; and which photos (n,) bool are measured."""
    import numpy as np

    from facelib.io.records import RESULTS
    from facelib.recognition.calibration_files import load_calibration
    from facelib.recognition.cohort import make_cohort
    from facelib.types import CalibrationMissingError

    everybody = np.ones(len(people), bool)
    try:
        shipped = None if is_new else load_calibration(model_id, [RESULTS]).cohort
    except CalibrationMissingError:
        shipped = None
    if shipped:
        return shipped, everybody
    names = sorted(set(people.tolist()), key=digest)
    if len(names) < COHORT_PEOPLE:
        console.notice(f"no cohort: one needs {COHORT_PEOPLE} people, there are {len(names)}; the score is the cosine")
        return None, everybody
    in_cohort = np.isin(people, names[: len(names) // 2])
    first = np.unique(people[in_cohort], return_index=True)[1]  # one photo of each, so that a centre is nobody's
    cohort = make_cohort(model_id, embeddings[in_cohort][first])
    console.notice(f"{len(first)} of {len(names)} people make the cohort, the others are measured")
    return cohort, ~in_cohort


def _rates(calibration: "Calibration") -> dict[str, Any]:
    """What is known at each target false match rate that the pairs can bear, as JSON can hold it."""
    rows = []
    for target in TARGETS:
        if target < calibration.lowest_rate:
            break
        score = calibration.score_at(target)
        row = {"target_fmr": target, "score": score, "false_match_interval": calibration.false_match_interval(score)}
        row["true_match_rate"] = calibration.true_match_rate(score) if calibration.true_match_rates else None
        rows.append(row | {"group_fmrs": calibration.group_rates(score)})
    cohort = calibration.cohort.id if calibration.cohort else None
    return {
        "embedder": calibration.model_id,
        "cohort": cohort,
        "lowest_rate": calibration.lowest_rate,
        "rates": rows,
    }


def _table(calibration: "Calibration") -> list[str]:
    """A line for each target false match rate."""
    worst = f"  {'highest in':20}" if calibration.group_fmrs else ""
    lines = [f"{'target FMR':>10} {'score':>8} {'95 % interval of the FMR':>26} {'true match rate':>16}{worst}"]
    for row in _rates(calibration)["rates"]:
        low, high = row["false_match_interval"]
        tmr = "unknown" if row["true_match_rate"] is None else f"{row['true_match_rate']:.1%}"
        worst = f"  {next(iter(row['group_fmrs']))}" if calibration.group_fmrs else ""
        interval = f"{low:.2g} to {high:.2g}"
        lines.append(f"{row['target_fmr']:>10g} {row['score']:>8.3f} {interval:>26} {tmr:>16}{worst}")
    return lines


def _limits(calibration: "Calibration") -> list[str]:
    """What the photos did not tell."""
    from facelib.recognition.match_rates import MIN_MATCHES

    lowest = calibration.lowest_rate
    target = next(target for target in TARGETS if target < lowest)
    needed = people_for(MIN_MATCHES / target)
    lines = [f"rates below {lowest:.2g} are not known: {target:g} needs {needed:,} people with one photo of each"]
    if lowest > SAME:
        known = min(target for target in TARGETS if target >= lowest)
        lines.append(f"commands use the rate {SAME:g} unless told otherwise: give them --fmr {known:g} or higher")
    if not calibration.true_match_rates:
        lines.append("nobody has two photos: true match rates are unknown, and nobody who is there twice was noticed")
    return lines


def _reset(networks: PipelineOptions, console: Console) -> int:
    """Print and remove the user's calibration of an embedder."""
    from facelib.embedding.embedder import load_embedder
    from facelib.recognition.calibration_files import load_calibration, remove_own_calibration, user_calibrations_folder
    from facelib.runtime.manifest import default_model_id, named_embedders
    from facelib.types import CalibrationMissingError

    name, folder = networks.embedder or "default", user_calibrations_folder()
    is_shipped = name in named_embedders()
    model_id = default_model_id(name=name) if is_shipped else load_embedder(name, networks.device).model_id
    try:
        calibration = load_calibration(model_id, [folder])
    except CalibrationMissingError:
        console.answer({"removed": []}, f"there is no calibration of your own of {model_id}")
        return ExitCode.YES
    except ValueError as error:  # damaged
        answer, lines = {}, [str(error)]
    else:
        answer, lines = _rates(calibration), [*_table(calibration), f"measured on {calibration.data}"]
    removed = [str(path) for path in remove_own_calibration(model_id)]
    console.answer({"removed": removed} | answer, *lines, *(f"removed: {path}" for path in removed))
    return ExitCode.YES
