"""Command line: `python -m facelib PHOTO... --out DIR`."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from facelib.settings import DETECTORS, SMALLEST_FACE, SPIN_COUNT

MATRIX_FACES = 30  # the distance matrix picture shows at most so many
INTERRUPTED = 130  # the exit code that shells give to what Ctrl-C ended


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m facelib",
        description="Find, align and embed every face. Writes annotated photos, aligned faces, faces.json, "
        "embeddings.npz and a picture of all distances. Called again after an interruption it goes on where it "
        "stopped. Exits with 0, 1 (a photo could not be read), 2 (nothing to do, or the results cannot be written) "
        "or 130 (interrupted).",
    )
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--sample", action="store_true", help="use insightface's sample photo of six people")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, made if missing")
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument(
        "--smallest-face", type=float, default=SMALLEST_FACE, metavar="PIXELS",
        help="large photos are looked through in parts for faces down to this size (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--detector-threshold",
        type=float,
        metavar="SCORE",
        help="from which a box is a face; default: the detector's own",
    )
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is if not given")
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
    options = parse_arguments(arguments)
    try:
        with signals_interrupt():
            return run(options)
    except OSError as error:  # of what is printed: the disk behind it is full, or gone
        return say(f"error: {error}")
    except KeyboardInterrupt:
        return say("interrupted; what was done is kept, and the same command goes on from there", INTERRUPTED)


def say(line: str, code: int = 2) -> int:
    print(line, file=sys.stderr, flush=True)
    return code


def run(options: argparse.Namespace) -> int:
    # Imported here, so that --help and wrong arguments answer at once.
    import matplotlib

    from facelib.detection import load_detector
    from facelib.files import printable
    from facelib.photo_search import search_photos
    from facelib.pipeline import FacePipeline, sample_photo
    from facelib.results import Results, is_results, prepare_folder

    matplotlib.use("Agg")  # writes files, opens no window
    out = options.out
    for path in options.photos:
        if os.path.isdir(path) and is_results(path, out):
            return say(
                f"error: {printable(path)} is a folder of results: give the folder of the photos, and another --out"
            )
        if os.path.lexists(path) and os.path.realpath(path.parent) == os.path.realpath(out):
            return say(f"error: {printable(path)} lies in the folder of the results: give another --out")
    results_in: list[Path] = []
    named = options.photos + ([sample_photo()] if options.sample else [])
    found = search_photos(named, lambda folder: is_results(folder, out) and not results_in.append(folder))
    for line in [f"left out: {printable(folder)}, which holds results" for folder in results_in] + found.summary():
        say(line)
    photos = found.photos
    if not photos:
        return say(f"no photos in {', '.join(map(printable, options.photos))}")
    try:
        prepare_folder(out)
        detector = load_detector(options.detector, options.device, options.detector_threshold, options.smallest_face)
        pipeline = FacePipeline.from_pretrained(detector, options.device)
        any_detector = options.detector == "auto"
        results = Results(out, made_by(pipeline), pipeline.detector.name, photos, any_detector).resume()
    except (OSError, ValueError, RuntimeError) as error:
        return say(f"error: {printable(error)}")
    stopped = process(pipeline, results, options.batch_size)
    if stopped:
        return stopped
    report(results)
    return 1 if any("error" in record for record in results.ordered()) else 0


def made_by(pipeline) -> str:
    """What the rows depend on: the alignment, the hashes of the shipped weights, and how faces were looked for."""
    from facelib.landmarks import SHIPPED
    from facelib.weights import embedder_networks, hashes_of, read_manifest

    weights = " ".join(hashes_of(read_manifest(), [SHIPPED, *(path.name for path in embedder_networks())]))
    detector = pipeline.detector
    looked = f" from {detector.smallest_face:g} px" if detector.smallest_face != SMALLEST_FACE else ""
    if detector.loaded and detector.loaded[2] is not None:  # a threshold that was asked for
        looked += f" threshold {detector.threshold:g}"
    return f"{pipeline.align} {weights}{looked}"


def process(pipeline, results, batch_size: int) -> int:
    """Write the results of every photo that has none; gives 0, or the exit code of what stopped it."""
    from tqdm import tqdm

    from facelib.files import printable
    from facelib.results import count

    todo, total, out = results.todo(), len(results.photos), printable(results.folder)
    goes_on = "the same command goes on from there"
    if results.removed:
        print(f"{count(results.removed, 'row')} of an earlier run removed: of other photos, detector or weights")
    if len(todo) < total:
        print(f"{total - len(todo)} of {total} photos are done already", flush=True)
    stopped = 0
    try:
        stream, bar = pipeline.stream(todo, batch_size), tqdm(todo, unit="photo", disable=total == 1)
        for photo in bar:
            image, faces = next(stream)
            record = results.add(photo, image, faces)
            del image  # before the next one is read
            if "error" in record:
                bar.write(f"error: {printable(record['error'])}", file=sys.stderr)
    except KeyboardInterrupt:
        stopped, why = INTERRUPTED, "interrupted"
    except OSError as error:
        stopped, why = 2, f"error: the results cannot be written ({printable(error)})"
    try:
        results.close()
    except OSError as error:
        stopped, why = 2, f"error: the results cannot be written ({printable(error)})"
    if stopped:
        say(f"{why}: {len(results.records):,} of {total:,} photos are done and in {out}; {goes_on}")
    return stopped


def report(results) -> None:
    """The table of all faces, and the picture of their distances."""
    import numpy as np

    from facelib.files import printable
    from facelib.results import count, write_matrix

    vectors = [vector for record in results.ordered() for vector in results.vectors[record["photo"]]]
    if len(vectors) > 1:
        try:
            write_matrix(results, np.stack(vectors), MATRIX_FACES)
        except OSError as error:
            say(f"error: distances.png cannot be written: {printable(error)}")
    print_table(results, vectors)
    sizes = [record["searched_to"] for record in results.ordered() if "searched_to" in record]
    if sizes and max(sizes) > 2:
        print(f"photos were searched for faces down to {max(sizes):.0f} pixels; --smallest-face changes that")
    read = sum("error" not in record for record in results.ordered())
    print(
        f"{count(len(vectors), 'face')} in {read:,} of {len(results.photos):,} photos; "
        f"results in {printable(results.folder)}"
    )


def print_table(results, embeddings: list) -> None:
    """One line per face, with the face most like it and whether that is below the threshold."""
    import numpy as np

    from facelib.embedding import cosine_distance
    from facelib.files import printable
    from facelib.weights import threshold_of

    threshold = threshold_of()
    rows = [
        (printable(Path(r["photo"]).name), number, face)
        for r in results.ordered()
        for number, face in enumerate(r["faces"])
    ]
    print(f"{'photo':24} {'face':>4} {'box (x1 y1 x2 y2)':>24} {'score':>6} {'closest':>28} {'distance':>8}")
    vectors = np.stack(embeddings) if embeddings else None
    for i, (photo, number, face) in enumerate(rows):
        closest, distance = "-", ""
        if len(rows) > 1:
            distances = cosine_distance(vectors[i], vectors)
            distances[i] = np.inf
            j = int(distances.argmin())
            closest = f"{rows[j][0][:20]} face {rows[j][1]}"
            distance = f"{distances[j]:.3f}" + (" same?" if threshold and distances[j] < threshold else "")
        box = " ".join(f"{v:.0f}" for v in face["box"])
        print(f"{photo[:24]:24} {number:4d} {box:>24} {face['score']:6.2f} {closest:>28} {distance:>8}")
    if threshold:
        print(f"'same?': closer than {threshold:.3f}, where 1 in 1,000 pairs of strangers is (see models/README.md)")


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a console that lacks a letter of a name still gets the rest
    # None where a service or a closed terminal left no stream.
    sys.stdout, sys.stderr = (stream and Tolerant(stream) for stream in (sys.stdout, sys.stderr))
    sys.exit(main())
