"""Command line: `python -m facelib compare | enrol | identify | remove | people | album`."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from facelib.io.files import printable
from facelib.settings import DETECTORS, DIFFERENT, SAME, SMALLEST_FACE

COMMANDS = ("compare", "enrol", "identify", "remove", "people", "album")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m facelib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, words: str, looks: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words)
        if looks:
            add_detection_options(sub)
        sub.add_argument("--json", action="store_true", help="for programs: the answer as JSON, a line for each")
        return sub

    compare = command("compare", "are two photos of one person? The largest face of each is compared")
    compare.add_argument("photos", nargs=2, type=Path, metavar="PHOTO")
    compare.add_argument("--fpr", type=float, default=SAME, metavar="RATE", help="of strangers who pass as one person")
    compare.add_argument("--different", type=float, default=DIFFERENT, metavar="RATE", help="from which they are two")
    compare.add_argument("--threshold", type=float, metavar="DISTANCE", help="one person up to it, else two")
    enrol = command("enrol", "add photos of a person, one face each, to a gallery; what is there already stays")
    enrol.add_argument("name")
    enrol.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    identify = command("identify", "who of a gallery is on these photos?")
    identify.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    identify.add_argument("--fpr", type=float, default=SAME, metavar="RATE", help="of strangers who are given a name")
    identify.add_argument("--threshold", type=float, metavar="DISTANCE", help="instead: named up to this distance")
    remove = command("remove", "forget a person: no vector stays in the gallery", looks=False)
    remove.add_argument("name")
    people = command("people", "who is in a gallery, with how many photos", looks=False)
    for sub in (enrol, identify, remove, people):
        sub.add_argument("--gallery", type=Path, required=True, metavar="FILE", help="made by the first enrol")
    album = command("album", "photos sorted by person: one page, and a table that may be edited")
    album.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    album.add_argument("--out", type=Path, required=True, help="folder for the album, made if missing")
    album.add_argument("--gallery", type=Path, metavar="FILE", help="names are taken from it, and given names go there")
    album.add_argument(
        "--fpr", type=float, metavar="RATE", help="of strangers who may be sorted together, among new faces"
    )
    album.add_argument("--folders", choices=["copies", "links"], help="also one folder a person")
    for sub in (enrol, identify, album):
        sub.add_argument("--batch-size", type=int, default=8, help="photos processed together")
    options = parser.parse_args(arguments)
    if getattr(options, "batch_size", 1) < 1:
        parser.error(f"--batch-size {options.batch_size}: at least 1")
    if getattr(options, "threshold", None) is not None and not 0 <= options.threshold <= 2:
        parser.error(f"--threshold {options.threshold}: cosine distances lie between 0 and 2")
    return options


def add_detection_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that looks at photos."""
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument(
        "--smallest-face", type=float, default=SMALLEST_FACE, metavar="PIXELS",
        help="large photos are looked through in parts for faces down to this size (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--detector-threshold", type=float, metavar="SCORE",
        help="from which a box is a face; default: the detector's own",
    )  # fmt: skip
    parser.add_argument("--embedder", metavar="NAME", help="another than the shipped one, see load_embedder")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is if not given")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; gives the exit code: 0, 1 (no, nobody, or a photo that cannot be used), 2 (it cannot be done)."""
    options = parse_arguments(arguments)
    try:
        return RUN[options.command](options)
    except KeyError as error:
        return _error(error.args[0])
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        return _error(str(error))


def _error(text: str) -> int:
    print(f"error: {printable(text)}", file=sys.stderr, flush=True)
    return 2


def _answer(options: argparse.Namespace, value: Any, words: str) -> None:
    print(json.dumps(value) if options.json else printable(words), flush=True)


def make_pipeline(options: argparse.Namespace):
    """As the options of `add_detection_options` say."""
    from facelib.detection.detector import load_detector
    from facelib.pipeline import FacePipeline

    detector = load_detector(options.detector, options.device, options.detector_threshold, options.smallest_face)
    return FacePipeline.from_pretrained(detector, options.device, embedder=options.embedder)


def open_gallery(options: argparse.Namespace, pipeline, new: bool):
    """The gallery of the options, which has to be of the pipeline's embedder; made where there is none if `new`."""
    from facelib.recognition.gallery import Gallery

    if not new and not options.gallery.exists():
        raise FileNotFoundError(f"{options.gallery}: no such gallery; the first enrol makes it")
    return Gallery(options.gallery, pipeline.model_id)


def photos_of(options: argparse.Namespace) -> list[Path]:
    """The photos that are named, or lie in folders that are.

    Raises:
        ValueError: none.
    """
    from facelib.cli.results import is_results
    from facelib.io.photo_search import search_photos

    out = getattr(options, "out", None)
    for path in options.photos if out else ():
        if os.path.isdir(path) and is_results(path, out):
            raise ValueError(f"{path} is a folder of results: give the folder of the photos, and another --out")
        if os.path.lexists(path) and os.path.realpath(path.parent) == os.path.realpath(out):
            raise ValueError(f"{path} lies in the folder of the results: give another --out")
    results_in: list[Path] = []
    found = search_photos(options.photos, lambda folder: is_results(folder, out) and not results_in.append(folder))
    left_out = [f"left out: {printable(folder)}, which holds results" for folder in results_in]
    for line in left_out + found.summary():
        print(line, file=sys.stderr)
    if not found.photos:
        raise ValueError(f"no photos in {', '.join(map(str, options.photos))}")
    return found.photos


def process_photos(pipeline, photos: list[Path], batch_size: int) -> Iterator[tuple[Path, list]]:
    """Photo and faces, one after the other; of a photo that cannot be read, why, on standard error, and no faces."""
    from tqdm import tqdm

    bar = tqdm(photos, unit="photo", disable=len(photos) == 1)
    for photo, (_, faces) in zip(bar, pipeline.stream(photos, batch_size)):
        if faces.error:
            bar.write(f"error: {printable(faces.error)}", file=sys.stderr)
        yield photo, faces


def compare(options: argparse.Namespace) -> int:
    pipeline = make_pipeline(options)
    largest = []
    for photo in options.photos:
        if not (faces := pipeline(photo)):
            raise ValueError(f"{photo}: no face found")
        largest.append(faces[0])
    same, different = options.fpr, max(options.fpr, options.different)
    decision = pipeline.compare(*largest, same, different)
    if options.threshold is not None and not (largest[0].quality_issue or largest[1].quality_issue):
        verdict = "same" if decision.distance <= options.threshold else "different"
        decision = replace(decision, verdict=verdict, reason="")
    wrong, right = decision.false_match_rate, decision.true_match_rate
    low, high = pipeline.calibration.false_match_interval(decision.distance)
    words = (
        f"{decision.verdict}: distance {decision.distance:.3f}; {wrong:.2g} of the pairs of strangers ({low:.2g} to "
        f"{high:.2g} by the people looked at) and {right:.0%} of the pairs of one person are as close"
        + (f" ({decision.reason})" if decision.reason else "")
    )
    _answer(options, asdict(decision) | {"false_match_interval": [low, high]}, words)
    return int(decision.verdict != "same")


def enrol(options: argparse.Namespace) -> int:
    photos, pipeline = photos_of(options), make_pipeline(options)
    gallery, added, failed = open_gallery(options, pipeline, new=True), 0, False
    for photo, faces in process_photos(pipeline, photos, options.batch_size):
        if not faces:
            failed = True
            if not faces.error:
                _error(f"{photo}: no face found")
            continue
        if len(faces) > 1:
            print(f"{printable(photo)}: {len(faces)} faces, the largest is taken", file=sys.stderr)
        if faces[0].quality_issue:
            print(f"{printable(photo)}: the face is {faces[0].quality_issue}", file=sys.stderr)
        added = gallery.enrol(options.name, faces[0])  # as it comes: an interruption loses nothing
    number = gallery.people().get(options.name, added)
    _answer(options, {"name": options.name, "photos": number}, f"{options.name}: {number} photos in {options.gallery}")
    return int(failed)


def identify(options: argparse.Namespace) -> int:
    photos, pipeline = photos_of(options), make_pipeline(options)
    gallery, anybody, failed = open_gallery(options, pipeline, new=False), False, False
    for photo, faces in process_photos(pipeline, photos, options.batch_size):
        failed |= faces.error is not None
        for number, (face, who) in enumerate(zip(faces, gallery.identify(list(faces), options.fpr) if faces else [])):
            row = {"photo": str(photo), "face": number, "box": face.box.round(1).tolist()} | asdict(who)
            if options.threshold is not None:
                near = who.nearest and who.distance <= options.threshold and not face.quality_issue
                row["name"] = who.nearest[0][0] if near else None
            anybody |= row["name"] is not None
            nearest = ", ".join(f"{name} {distance:.3f}" for name, distance in who.nearest)
            said = row["name"] or (f"unsure, {who.reason}" if who.reason else "unknown")
            _answer(options, row, f"{photo.name} face {number}: {said} (nearest: {nearest or 'nobody'})")
    return int(failed or not anybody)


def remove(options: argparse.Namespace) -> int:
    from facelib.recognition.gallery import Gallery

    Gallery(options.gallery, any_embedder=True).remove(options.name)
    _answer(options, {"removed": options.name}, f"{options.name} is forgotten: no vector is left in {options.gallery}")
    return 0


def people(options: argparse.Namespace) -> int:
    from facelib.recognition.gallery import Gallery

    there = Gallery(options.gallery, any_embedder=True).people()
    if options.json or not there:
        _answer(options, there, "nobody")
    for name, photos in there.items() if not options.json else ():
        print(f"{printable(name)}: {photos}")
    return 0


def album(options: argparse.Namespace) -> int:
    import matplotlib

    from facelib.cli.album import make_album, read_people
    from facelib.cli.results import Results, prepare_folder
    from facelib.cli.runs import process
    from facelib.recognition.clustering import clustering_fmr

    matplotlib.use("Agg")
    photos = photos_of(options)
    prepare_folder(options.out)
    known = read_people(options.out)
    pipeline = make_pipeline(options)
    meaning = pipeline.calibration
    distance = None if options.fpr is None else meaning.distance_at(options.fpr)
    gallery = open_gallery(options, pipeline, new=True) if options.gallery else None
    any_detector = options.detector == "auto"
    results = Results(options.out, pipeline.pipeline_id, pipeline.detector_name, photos, any_detector).resume()
    if stopped := process(pipeline, results, options.batch_size):
        return stopped
    if distance is None:
        distance = meaning.distance_at(clustering_fmr(sum(len(record["faces"]) for record in results.ordered())))
    made = make_album(results, known, distance, gallery, options.folders)
    value = {"faces": made.faces, "people": made.people, "page": str(made.page)}
    _answer(options, value, f"{made.faces} faces of {made.people} people; open {made.page}")
    return 1 if any("error" in record for record in results.ordered()) else 0


RUN = {
    "compare": compare,
    "enrol": enrol,
    "identify": identify,
    "remove": remove,
    "people": people,
    "album": album,
}
