"""What the commands that look at photos share: results photo by photo, and what is said of them."""

import sys
from pathlib import Path

MATRIX_FACES = 30  # the distance matrix picture shows at most so many
INTERRUPTED = 130  # the exit code that shells give to what Ctrl-C ended


def say(line: str, code: int = 2) -> int:
    print(line, file=sys.stderr, flush=True)
    return code


def process(pipeline, results, batch_size: int) -> int:
    """Write the results of every photo that has none; gives 0, or the exit code of what stopped it."""
    from tqdm import tqdm

    from facelib.cli.results import count
    from facelib.io.files import printable

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


def report(results, threshold: float | None) -> None:
    """The table of all faces, and the picture of their distances.

    `threshold`: distance from which two faces are no longer marked as perhaps one person's; None: none are.
    """
    import numpy as np

    from facelib.cli.results import count, write_matrix
    from facelib.io.files import printable

    vectors = [vector for record in results.ordered() for vector in results.vectors[record["photo"]]]
    if len(vectors) > 1:
        try:
            write_matrix(results, np.stack(vectors), MATRIX_FACES)
        except OSError as error:
            say(f"error: distances.png cannot be written: {printable(error)}")
    print_table(results, vectors, threshold)
    sizes = [record["min_detectable_face"] for record in results.ordered() if "min_detectable_face" in record]
    if sizes and max(sizes) > 2:
        print(f"photos were searched for faces down to {max(sizes):.0f} pixels; --smallest-face changes that")
    read = sum("error" not in record for record in results.ordered())
    print(
        f"{count(len(vectors), 'face')} in {read:,} of {len(results.photos):,} photos; "
        f"results in {printable(results.folder)}"
    )


def print_table(results, embeddings: list, threshold: float | None) -> None:
    """One line per face, with the face most like it and whether that is below the threshold."""
    import numpy as np

    from facelib.embedding.similarity import nearest_neighbours
    from facelib.io.files import printable

    rows = [
        (printable(Path(r["photo"]).name), number, face)
        for r in results.ordered()
        for number, face in enumerate(r["faces"])
    ]
    print(f"{'photo':24} {'face':>4} {'box (x1 y1 x2 y2)':>24} {'score':>6} {'closest':>28} {'distance':>8}")
    nearest = list(zip(*nearest_neighbours(np.stack(embeddings)))) if len(rows) > 1 else []
    for i, (photo, number, face) in enumerate(rows):
        closest, distance = "-", ""
        if nearest:
            j, apart = nearest[i]
            closest = f"{rows[j][0][:20]} face {rows[j][1]}"
            distance = f"{apart:.3f}"
            if threshold is not None and apart <= threshold:
                distance += " unsure" if face["quality_issue"] or rows[j][2]["quality_issue"] else " same?"
        box = " ".join(f"{v:.0f}" for v in face["box"])
        print(f"{photo[:24]:24} {number:4d} {box:>24} {face['score']:6.2f} {closest:>28} {distance:>8}")
    for photo, number, face in rows:
        if face["quality_issue"]:
            print(f"{photo[:24]} face {number} is {face['quality_issue']}: its distances say little")
