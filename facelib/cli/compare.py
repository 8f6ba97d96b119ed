"""`facelib compare`: whether two photos show one person."""

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
    pipeline_options,
)
from facelib.settings import DIFFERENT

if TYPE_CHECKING:
    from facelib.pipeline import FacePipeline
    from facelib.types import Face

CODES = {"same": ExitCode.YES, "different": ExitCode.NO, "unsure": ExitCode.UNSURE}
EXIT_CODES = {0: "same person", 1: "different people", 3: "unsure"}


@dataclass(frozen=True)
class Comparison:
    """What is known of two faces.

    verdict: "same", "different" or "unsure".
    distance: cosine, 0 to 2.
    false_match_rate: share of impostor pairs that are as close; None without a calibration.
    true_match_rate: share of genuine pairs that are as close; None without a calibration.
    reason: why the verdict is "unsure", or "".
    false_match_interval: 95 % interval of `false_match_rate` over people; None without a calibration.
    """

    verdict: str
    distance: float
    false_match_rate: float | None = None
    true_match_rate: float | None = None
    reason: str = ""
    false_match_interval: tuple[float, float] | None = None


@command("compare", EXIT_CODES)
@click.argument("first", metavar="PHOTO", type=PATH)
@click.argument("second", metavar="PHOTO", type=PATH)
@pipeline_options
@decision_options("pass as one person")
@click.option(
    "--different", type=RATE, default=DIFFERENT, metavar="RATE", help="False match rate from which they are two people."
)
def compare(
    first: Path,
    second: Path,
    networks: PipelineOptions,
    decision: DecisionOptions,
    different: float,
    console: Console,
) -> int:
    """Check whether two photos show the same person. The largest face of each photo is compared."""
    from facelib.cli.runs import make_pipeline
    from facelib.io.images import read_image

    photos = (first, second)
    images = [read_image(photo) for photo in photos]  # unreadable photos are errors before networks are loaded
    check_calibrated(networks, replace(decision, fmr=None))
    pipeline = make_pipeline(networks)
    faces = [pipeline(image) for image in images]
    for photo, found in zip(photos, faces):
        if not found:
            raise ValueError(f"{photo}: no face found")
    comparison = compare_faces(pipeline, (faces[0][0], faces[1][0]), decision, different)
    counts = [
        {"photo": str(photo), "faces": len(found), "compared": 0, "box": found[0].box.round(1).tolist()}
        for photo, found in zip(photos, faces)
    ]
    chosen = [f"{photo}: {_compared_face(len(found))}" for photo, found in zip(photos, faces)]
    console.answer(asdict(comparison) | {"photos": counts}, _sentence(comparison), *chosen)
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
                pipeline.calibration.distance_at(fmr)  # raises where no distance is known to have this rate
            decided = pipeline.compare(*pair, fmr, max(fmr, different))
            interval = pipeline.calibration.false_match_interval(decided.distance)
    except CalibrationMissingError:
        if decision.threshold is None:
            raise
        distance = float(cosine_distance(pair[0].embedding, pair[1].embedding))
        comparison = Comparison("unsure", distance)
    else:
        comparison = Comparison(**asdict(decided), false_match_interval=interval)
    return comparison if decision.threshold is None else _by_threshold(comparison, pair, decision.threshold)


def _by_threshold(comparison: Comparison, pair: "tuple[Face, Face]", threshold: float) -> Comparison:
    """The comparison with the verdict of a threshold; faces of low quality stay unsure."""
    issues = [
        f"the {which} face is {face.quality_issue}"
        for which, face in zip(("first", "second"), pair)
        if face.quality_issue
    ]
    verdict = "same" if comparison.distance <= threshold else "different"
    values = asdict(comparison) | {"verdict": "unsure" if issues else verdict, "reason": " and ".join(issues)}
    return Comparison(**values)


def _sentence(comparison: Comparison) -> str:
    text = f"{comparison.verdict}: distance {comparison.distance:.3f}"
    if comparison.false_match_interval:
        low, high = comparison.false_match_interval
        text += (
            f"; false match rate {comparison.false_match_rate:.2g} (95 % interval {low:.2g} to {high:.2g}), "
            f"{comparison.true_match_rate:.0%} of genuine pairs are as close"
        )
    return text + (f" ({comparison.reason})" if comparison.reason else "")


def _compared_face(faces: int) -> str:
    return "1 face" if faces == 1 else f"{count(faces, 'face')}, the largest is compared"
