"""`facelib compare`: whether two photos show one person."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facelib.cli.arguments import check_calibrated, threshold_advice
from facelib.cli.console import Console, ExitCode, count
from facelib.cli.options import (
    PATH,
    RATE,
    DecisionOptions,
    PipelineOptions,
    command,
    decision_options,
    gathered,
    pipeline_options,
)
from facelib.settings import DIFFERENT

if TYPE_CHECKING:
    from facelib.pipeline import FacePipeline
    from facelib.recognition.calibration import Calibration, Decision
    from facelib.types import Face

CODES = {"same": ExitCode.YES, "different": ExitCode.NO, "unsure": ExitCode.UNSURE}
EXIT_CODES = {0: "same person", 1: "different people", 3: "unsure"}


@dataclass(frozen=True)
class Comparison:
    """What is known of two faces.

    verdict: "same", "different" or "unsure".
    distance: cosine, 0 to 2.
    score: higher is more alike, see `Calibration`; without a calibration the cosine.
    false_match_rate: share of impostor pairs that are as close; None without a calibration.
    true_match_rate: share of genuine pairs that are as close; None where it was not measured.
    reason: why the verdict is "unsure", or "".
    false_match_interval: 95 % interval of `false_match_rate` over people; None without a calibration.
    group_rates: group of people -> its false match rate, highest first; None without a calibration.
    lowest_rate: the lowest false match rate that is known; None without a calibration.
    """

    verdict: str
    distance: float
    score: float
    false_match_rate: float | None = None
    true_match_rate: float | None = None
    reason: str = ""
    false_match_interval: tuple[float, float] | None = None
    group_rates: dict[str, float] | None = None
    lowest_rate: float | None = None


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, and what is said of it.

    first, second: photos.
    different: false match rate from which they are two people.
    explain: whether the false match rate of every group of people is printed.
    """

    first: Path
    second: Path
    different: float
    explain: bool


@command("compare", EXIT_CODES)
@click.argument("first", metavar="PHOTO", type=PATH)
@click.argument("second", metavar="PHOTO", type=PATH)
@pipeline_options
@decision_options("pass as one person")
@click.option(
    "--different", type=RATE, default=DIFFERENT, metavar="RATE", help="False match rate from which they are two people."
)
@click.option(
    "--explain", is_flag=True, show_default=False, help="Also print the false match rate of every group of people."
)
@gathered(CompareOptions, "options")
def compare(options: CompareOptions, networks: PipelineOptions, decision: DecisionOptions, console: Console) -> int:
    """Check whether two photos show the same person. The largest face of each photo is compared.

    The false match rate is that of the group of people in which it is highest.
    """
    from facelib.cli.runs import make_pipeline, tell_without_cohort
    from facelib.io.images import read_image

    photos = (options.first, options.second)
    images = [read_image(photo) for photo in photos]  # unreadable photos are errors before networks are loaded
    check_calibrated(networks, decision)
    pipeline = make_pipeline(networks)
    tell_without_cohort(pipeline, console)
    faces = [pipeline(image) for image in images]
    for photo, found in zip(photos, faces):
        if not found:
            raise ValueError(f"{photo}: no face found")
    comparison = compare_faces(pipeline, (faces[0][0], faces[1][0]), decision, options.different)
    counts = [
        {"photo": str(photo), "faces": len(found), "compared": 0, "box": found[0].box.round(1).tolist()}
        for photo, found in zip(photos, faces)
    ]
    lines = [f"{photo}: {_compared_face(len(found))}" for photo, found in zip(photos, faces)]
    value = asdict(comparison) | {"photos": counts}
    if options.explain:
        lines += _group_lines(comparison)
    else:
        del value["group_rates"]
    console.answer(value, _sentence(comparison), *lines)
    return CODES[comparison.verdict]


def compare_faces(
    pipeline: "FacePipeline", pair: "tuple[Face, Face]", decision: DecisionOptions, different: float
) -> Comparison:
    """Decide by the threshold or, without one, by the false match rates that separate "same" and "different".

    Raises:
        CalibrationMissingError: there is no threshold, and the embedder has no calibration.
        ValueError: there is no threshold, and the target false match rate is below what was measured.
    """
    from facelib.embedding.similarity import cosine_distance
    from facelib.types import CalibrationMissingError

    fmr = decision.target_fmr
    try:
        with threshold_advice():
            if decision.threshold is None:
                pipeline.calibration.score_at(fmr)  # raises where no score is known to have this rate
            decided = pipeline.compare(*pair, fmr, max(fmr, different))
    except CalibrationMissingError:
        if decision.threshold is None:
            raise
        distance = float(cosine_distance(pair[0].embedding, pair[1].embedding))
        comparison = Comparison("unsure", distance, 1 - distance)
    else:
        comparison = _with_rates(decided, pipeline.calibration)
    return comparison if decision.threshold is None else _by_threshold(comparison, pair, decision.threshold)


def _with_rates(decided: "Decision", calibration: "Calibration") -> Comparison:
    """A decision with all rates that the calibration knows."""
    measured = not math.isnan(decided.true_match_rate) and decided.score <= calibration.scores[-1]
    rates = {
        "true_match_rate": decided.true_match_rate if measured else None,
        "false_match_interval": calibration.false_match_interval(decided.score),
        "group_rates": calibration.group_rates(decided.score),
        "lowest_rate": calibration.lowest_rate,
    }
    return Comparison(**asdict(decided) | rates)


def _by_threshold(comparison: Comparison, pair: "tuple[Face, Face]", threshold: float) -> Comparison:
    """The comparison with the verdict of a threshold; faces of low quality stay unsure."""
    issues = [
        f"the {which} face is {face.quality_issue}"
        for which, face in zip(("first", "second"), pair)
        if face.quality_issue
    ]
    verdict = "same" if comparison.score >= threshold else "different"
    return replace(comparison, verdict="unsure" if issues else verdict, reason=" and ".join(issues))


def _sentence(comparison: Comparison) -> str:
    text = f"{comparison.verdict}: score {comparison.score:.3f}, distance {comparison.distance:.3f}"
    if comparison.false_match_rate is not None and comparison.false_match_interval:
        low, high = comparison.false_match_interval
        text += f"; false match rate {_rate(comparison.false_match_rate, comparison.lowest_rate)}"
        is_lowest = comparison.false_match_rate == comparison.lowest_rate
        if not is_lowest:
            text += f" (95 % interval {low:.2g} to {high:.2g})"
        if len(comparison.group_rates or ()) > 1:
            text += " in every group of people" if is_lowest else " in the group of people where it is highest"
    if comparison.true_match_rate is not None:
        text += f", {comparison.true_match_rate:.0%} of genuine pairs are as close"
    return text + (f" ({comparison.reason})" if comparison.reason else "")


def _group_lines(comparison: Comparison) -> list[str]:
    """The false match rate of each group, highest first."""
    if comparison.group_rates is None:
        return ["no false match rates: this embedder has no calibration"]
    return [f"{group}: {_rate(rate, comparison.lowest_rate)}" for group, rate in comparison.group_rates.items()]


def _rate(rate: float, lowest: float | None) -> str:
    return f"at most {rate:.2g}" if rate == lowest else f"{rate:.2g}"


def _compared_face(faces: int) -> str:
    return "1 face" if faces == 1 else f"{count(faces, 'face')}, the largest is compared"
