"""Options that several commands share, as dataclasses."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from facelib.cli.console import Console
from facelib.settings import DETECTORS, SAME, SMALLEST_FACE

CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}
COMMON_CODES = {2: "error: wrong arguments, or nothing could be done", 130: "interrupted"}


class FiniteRange(click.FloatRange):
    """A number in a range; unlike click's, NaN is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


PATH = click.Path(path_type=Path)
RATE = FiniteRange(0, 1, min_open=True, max_open=True)
SCORE = FiniteRange(-2, 2)  # of two faces


@dataclass(frozen=True)
class PipelineOptions:
    """The networks of a command.

    detector: one of `settings.DETECTORS`.
    smallest_face: pixels of the photo down to which faces are searched for.
    detector_threshold: score from which a box counts as a face; None: the detector's own.
    embedder: see `load_embedder`; None: the default.
    device: "cpu", "cuda" or "mps"; None: the best that is available.
    """

    detector: str = "auto"
    smallest_face: float = SMALLEST_FACE
    detector_threshold: float | None = None
    embedder: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class DecisionOptions:
    """When two faces count as one person.

    fmr: target false match rate; None: the command chooses.
    threshold: score that takes the place of `fmr`, and needs no calibration; None: `fmr` decides.
    """

    fmr: float | None = SAME
    threshold: float | None = None

    @property
    def target_fmr(self) -> float:
        """`fmr`, the default where it is None."""
        return SAME if self.fmr is None else self.fmr


def command(name: str, exit_codes: dict[int, str]) -> Callable[[Callable], click.Command]:
    """A decorator like `click.command` for functions with a parameter `console`: adds --json, --quiet and exit codes.

    Args:
        exit_codes: code -> its meaning in this command, beside `COMMON_CODES`.
    """
    codes = dict(sorted((COMMON_CODES | exit_codes).items()))
    epilog = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in codes.items())

    def decorate(function: Callable) -> click.Command:
        @functools.wraps(function)
        def run(*, json: bool, quiet: bool, **values: Any) -> int:
            return function(console=Console(json, quiet), **values)

        made = click.command(name, epilog=epilog, context_settings=CONTEXT)(run)
        made.params += [
            click.Option(["--json"], is_flag=True, show_default=False, help="For programs: print JSON, errors too."),
            click.Option(["--quiet"], is_flag=True, show_default=False, help="No progress bar and no notices."),
        ]
        return made

    return decorate


def gathered(kind: type, name: str) -> Callable[[Callable], Callable]:
    """A decorator: the values of the fields of the dataclass `kind` reach the function as one argument, `name`."""
    names = [field.name for field in fields(kind)]

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def run(**values: Any) -> int:
            made = kind(**{field: values.pop(field) for field in names})
            return function(**values, **{name: made})

        return run

    return decorate


def pipeline_options(function: Callable, smallest_face: float = SMALLEST_FACE) -> Callable:
    """A decorator that adds the options of `PipelineOptions`; the function gets them as `networks`.

    Args:
        smallest_face: its default.
    """
    decorators = (
        click.option("--detector", type=click.Choice(DETECTORS), default="auto", help="Face detector."),
        click.option(
            "--smallest-face",
            type=FiniteRange(0, min_open=True),
            default=smallest_face,
            metavar="PIXELS",
            help="Large photos are searched in tiles for faces down to this size.",
        ),
        click.option(
            "--detector-threshold",
            type=FiniteRange(0, 1),
            metavar="SCORE",
            help="Score from which a box counts as a face. Default: the detector's own.",
        ),
        click.option(
            "--embedder", metavar="NAME", help="Embedder by name, or a weights file. Default: the shipped one."
        ),
        click.option("--device", metavar="NAME", help="cpu, cuda or mps. Default: the best that is available."),
    )
    function = gathered(PipelineOptions, "networks")(function)
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def decision_options(effect: str, default: float | None = SAME) -> Callable[[Callable], Callable]:
    """A decorator that adds --fmr and --threshold; the function gets them as `decision`.

    Args:
        effect: what impostors that are matched cause, for the help.
        default: target false match rate; None: the command chooses.
    """

    def decorate(function: Callable) -> Callable:
        @click.option(
            "--fmr",
            type=RATE,
            default=default,
            metavar="RATE",
            help=f"Target false match rate: share of impostors who {effect}.",
        )
        @click.option("--fpr", type=RATE, hidden=True)  # the name of --fmr before 0.3
        @click.option(
            "--threshold",
            type=SCORE,
            metavar="SCORE",
            help="Instead of --fmr: score from which on two faces are one person. Needs no calibration.",
        )
        @functools.wraps(function)
        def run(*, fmr: float | None, fpr: float | None, threshold: float | None, **values: Any) -> int:
            return function(decision=DecisionOptions(fmr if fpr is None else fpr, threshold), **values)

        return run

    return decorate


def photo_arguments(function: Callable) -> Callable:
    """A decorator that adds PHOTO..., at least one."""
    return click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=PATH)(function)


def gallery_option(function: Callable) -> Callable:
    """A decorator that adds --gallery, which has to be given."""
    text = "File of enrolled people, made by the first enrol."
    return click.option("--gallery", type=PATH, required=True, metavar="FILE", help=text)(function)


def batch_size_option(function: Callable) -> Callable:
    """A decorator that adds --batch-size."""
    text = "Photos processed together."
    return click.option("--batch-size", type=click.IntRange(1), default=8, metavar="PHOTOS", help=text)(function)
