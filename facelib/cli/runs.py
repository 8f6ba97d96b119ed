"""Runs over photos: the networks of the options, processing with progress, and the report of all faces."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facelib.cli.arguments import PhotoList
from facelib.cli.console import Console, ExitCode, count
from facelib.cli.options import PipelineOptions
from facelib.cli.results import MATRIX_FILE, Results
from facelib.embedding.similarity import cosine_distance, nearest_neighbours
from facelib.io.files import atomic_write, printable
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.types import Detector, Faces

if TYPE_CHECKING:
    from facelib.pipeline import FacePipeline
    from facelib.steps import FaceSteps

MATRIX_FACES = 30  # the picture of distances shows at most so many


def make_pipeline(networks: PipelineOptions) -> "FacePipeline":
    """Load the networks that the options name."""
    from facelib.pipeline import FacePipeline

    detector = make_detector(networks, FacePipeline)
    return FacePipeline.from_pretrained(detector, networks.device, embedder=networks.embedder)


def make_detector(networks: PipelineOptions, pipeline: "type[FaceSteps]") -> Detector:
    """Load the detector that the options name, for a pipeline."""
    from facelib.detection.detector import load_detector

    return load_detector(
        networks.detector,
        networks.device,
        networks.detector_threshold,
        networks.smallest_face,
        pipeline.detector_input,
    )


def tell_without_cohort(pipeline: "FacePipeline", console: Console) -> None:
    """Tell what scores are, for an embedder without a cohort."""
    if pipeline.cohort is None:
        console.notice("this embedder has no cohort (facelib calibrate makes one): the score is the cosine")


def process_photos(
    pipeline: "FacePipeline", photos: PhotoList, batch_size: int, console: Console
) -> Iterator[tuple[Path, Faces]]:
    """Yield each photo with its faces; unreadable photos are reported and have none."""
    bar = console.progress(photos.paths, "photo")
    for photo, (_, faces) in zip(bar, pipeline.stream(photos.paths, batch_size)):
        if faces.error and photo not in photos.missing:
            console.error(str(faces.error))
        yield photo, faces


def resume_results(out: Path, pipeline: "FacePipeline", photos: PhotoList, networks: PipelineOptions) -> Results:
    """Open a folder of results, and take over what earlier runs have left there.

    Raises:
        OSError: see `Results.resume`.
    """
    names = pipeline.pipeline_id, pipeline.detector_name
    return Results(out, *names, photos.paths, networks.detector == "auto", pipeline.cohort).resume()


def process(pipeline: "FacePipeline", results: Results, photos: PhotoList, batch_size: int, console: Console) -> int:
    """Write the results of every photo that has none.

    Returns:
        0, or the exit code of what stopped the run.
    """
    pending, total = results.pending(), len(results.photos)
    if results.removed:
        rows = count(results.removed, "row")
        console.status(f"{rows} of an earlier run removed: of other photos, detector or weights")
    if len(pending) < total:
        console.status(f"{total - len(pending)} of {total} photos are done already")
    code, reason = ExitCode.YES, ""
    try:
        _process_pending(pipeline, results, photos, batch_size, console)
    except KeyboardInterrupt:
        code, reason = ExitCode.INTERRUPTED, "interrupted"
    except OSError as error:
        code, reason = ExitCode.ERROR, f"the results cannot be written ({error})"
    try:
        results.close()
    except OSError as error:
        code, reason = ExitCode.ERROR, f"the results cannot be written ({error})"
    if code:
        done = f"{len(results.records):,} of {total:,} photos are done and in {results.folder}"
        text = f"{reason}: {done}; run the same command again to resume"
        console.failure(text, text if code == ExitCode.INTERRUPTED else f"error: {text}")
    return code


def _process_pending(
    pipeline: "FacePipeline", results: Results, photos: PhotoList, batch_size: int, console: Console
) -> None:
    pending = results.pending()
    stream = pipeline.stream(pending, batch_size)
    for photo in console.progress(pending, "photo"):
        image, faces = next(stream)
        record = results.add(photo, image, faces)
        del image  # before the next photo is read
        if "error" in record and photo not in photos.missing:
            console.error(record["error"])


def report(results: Results, threshold: float | None, console: Console) -> None:
    """Print the table of all faces, and write the picture of their distances.

    Args:
        threshold: score from which on two faces are marked as perhaps one person's; None: no pair is.
    """
    embeddings = [row for record in results.ordered() for row in results.embeddings[record["photo"]]]
    if len(embeddings) > 1:
        try:
            write_matrix(results, np.stack(embeddings), MATRIX_FACES)
        except OSError as error:
            console.error(f"{MATRIX_FILE} cannot be written: {error}")
    lines = table_lines(results, embeddings, threshold)
    sizes = [record["min_detectable_face"] for record in results.ordered() if "min_detectable_face" in record]
    if sizes and max(sizes) > 2:
        lines.append(f"photos were searched for faces down to {max(sizes):.0f} pixels; --smallest-face changes that")
    readable = sum("error" not in record for record in results.ordered())
    faces = count(len(embeddings), "face")
    lines.append(f"{faces} in {readable:,} of {len(results.photos):,} photos; results in {results.folder}")
    console.answer(results.ordered(), *lines)


def table_lines(results: Results, embeddings: list[np.ndarray], threshold: float | None) -> list[str]:
    """One line for each face, with the face that has the highest score with it, marked from the threshold on."""
    rows = [
        (printable(Path(record["photo"]).name), number, face)
        for record in results.ordered()
        for number, face in enumerate(record["faces"])
    ]
    found = f"{'photo':24} {'face':>4} {'box (x1 y1 x2 y2)':>24} {'detector':>8}"
    lines = [f"{found} {'closest':>28} {'distance':>8} {'score':>6}"]
    nearest = _nearest_faces(np.stack(embeddings), results.cohort) if len(rows) > 1 else []
    for i, (photo, number, face) in enumerate(rows):
        closest, values = "-", ""
        if nearest:
            neighbour, distance, score = nearest[i]
            closest = f"{rows[neighbour][0][:20]} face {rows[neighbour][1]}"
            values = f"{distance:8.3f} {score:6.3f}"
            if threshold is not None and score >= threshold:
                unsure = face["quality_issue"] or rows[neighbour][2]["quality_issue"]
                values += " unsure" if unsure else " same?"
        box = " ".join(f"{value:.0f}" for value in face["box"])
        lines.append(f"{photo[:24]:24} {number:4d} {box:>24} {face['score']:8.2f} {closest:>28} {values}".rstrip())
    for photo, number, face in rows:
        if face["quality_issue"]:
            lines.append(f"{photo[:24]} face {number} is {face['quality_issue']}: its distances are unreliable")
    return lines


def _nearest_faces(embeddings: np.ndarray, cohort: Cohort | None) -> list[tuple[int, float, float]]:
    """For each embedding the other one with the highest score, their cosine distance, and the score."""
    offsets = score_offsets(embeddings, cohort)
    neighbours, distances = nearest_neighbours(embeddings, offsets=offsets)
    scores = 1 - distances - offsets - offsets[neighbours]
    return list(zip(neighbours.tolist(), distances.tolist(), scores.tolist()))


def write_matrix(results: Results, embeddings: np.ndarray, limit: int) -> None:
    """Write distances.png: the distances between the first `limit` faces.

    Raises:
        OSError: the picture cannot be written, or a picture of a face cannot be read.
    """
    from facelib.render import distance_matrix_image

    several = len(results.ordered()) > 1
    faces: list[np.ndarray] = []
    labels: list[str] = []
    for record in results.ordered():
        for number, face in enumerate(record["faces"][: limit - len(faces)]):
            with Image.open(results.folder / face["aligned"]) as picture:
                faces.append(np.asarray(picture.convert("RGB")))
            labels.append(f"{record['name'][:12]} {number}" if several else str(number))
    total = count(len(embeddings), "face")
    shown = total if len(faces) == len(embeddings) else f"the first {len(faces)} of {total}"
    embeddings = embeddings[: len(faces)]
    distances = np.asarray(cosine_distance(embeddings, embeddings))
    image = distance_matrix_image(faces, distances, labels, f"Cosine distances of {shown}")
    with atomic_write(results.folder / MATRIX_FILE) as path:
        Image.fromarray(image).save(path)


def exit_code(results: Results) -> int:
    """0; 1 where some photos could not be read, 2 where none could."""
    unreadable = sum("error" in record for record in results.ordered())
    if unreadable and unreadable == len(results.ordered()):
        return ExitCode.ERROR
    return ExitCode.NO if unreadable else ExitCode.YES
