"""Command line: `python -m facelib PHOTO... --out DIR`, and `python -m facelib COMMAND`, see `commands`."""

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from facelib.cli import commands
from facelib.cli.commands import COMMANDS, add_detection_options, make_pipeline, photos_of
from facelib.cli.runs import INTERRUPTED, process, report, say
from facelib.settings import SAME, SPIN_COUNT


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m facelib",
        description="Find, align and embed every face. Writes annotated photos, aligned faces, faces.json, "
        "embeddings.npz and a picture of all distances. Called again after an interruption it goes on where it "
        "stopped. Exits with 0, 1 (a photo could not be read), 2 (nothing to do, or the results cannot be written) "
        "or 130 (interrupted). Other commands: " + ", ".join(COMMANDS) + " (python -m facelib COMMAND --help).",
    )
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--sample", action="store_true", help="use insightface's sample photo of six people")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, made if missing")
    add_detection_options(parser)
    parser.add_argument("--fpr", type=float, default=SAME, metavar="RATE", help="of strangers who are marked 'same?'")
    parser.add_argument("--threshold", type=float, metavar="DISTANCE", help="instead: marked up to this distance")
    parser.add_argument("--json", action="store_true", help="for programs: faces.json in place of the table")
    parser.add_argument("--batch-size", type=int, default=8, help="photos processed together")
    options = parser.parse_args(arguments)
    if not options.photos and not options.sample:
        parser.error("give photos or folders, or --sample")
    if any(not photo.strip() for photo in options.photos):
        parser.error("an empty name is given for a photo: is a variable of the shell unset?")
    options.photos = [Path(photo) for photo in options.photos]
    if options.batch_size < 1:
        parser.error(f"--batch-size {options.batch_size}: at least 1")
    return options


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Being told to end (TERM, a closed terminal) is handled like Ctrl-C, so that results are closed properly."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored stays so: `nohup` wants it.
    before = {n: signal.signal(n, interrupt) for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Tolerant:
    """A stream for which `| head`, which closes it before all is said, is no error: the rest goes nowhere."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._tolerant():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._tolerant():
            self.stream.flush()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit code, see `--help`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = bool(arguments) and arguments[0] in COMMANDS  # a folder of that name is given as ./album
    options = arguments if command else parse_arguments(arguments)
    try:
        with signals_interrupt():
            return commands.main(options) if command else run(options)
    except OSError as error:  # of what is printed: the disk behind it is full, or gone
        return say(f"error: {error}")
    except KeyboardInterrupt:
        return say("interrupted; what was done is kept, and the same command goes on from there", INTERRUPTED)


def threshold_for(pipeline, options: argparse.Namespace) -> float | None:
    """The distance up to which faces are marked; None where nothing is known of the embedder."""
    if options.threshold is not None:
        return options.threshold
    try:
        return pipeline.calibration.distance_at(options.fpr)
    except FileNotFoundError as error:
        say(f"no pair is marked: {error}")
        return None


def run(options: argparse.Namespace) -> int:
    # Imported here, so that --help and wrong arguments answer at once.
    import matplotlib

    from facelib.cli.results import Results, prepare_folder
    from facelib.io.files import printable
    from facelib.io.sample import sample_photo

    matplotlib.use("Agg")  # writes files, opens no window
    out = options.out
    options.photos += [sample_photo()] if options.sample else []
    try:
        photos = photos_of(options)
        prepare_folder(out)
        pipeline = make_pipeline(options)
        threshold = threshold_for(pipeline, options)
        any_detector = options.detector == "auto"
        results = Results(out, pipeline.pipeline_id, pipeline.detector_name, photos, any_detector).resume()
    except (OSError, ValueError, RuntimeError) as error:
        return say(f"error: {printable(error)}")
    stopped = process(pipeline, results, options.batch_size)
    if stopped:
        return stopped
    if options.json:
        print(json.dumps(results.ordered()))
    else:
        report(results, threshold)
    return 1 if any("error" in record for record in results.ordered()) else 0


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a console that lacks a letter of a name still gets the rest
    # None where a service or a closed terminal left no stream.
    sys.stdout, sys.stderr = (stream and Tolerant(stream) for stream in (sys.stdout, sys.stderr))
    sys.exit(main())
