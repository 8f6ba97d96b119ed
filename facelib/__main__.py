"""Command line: `python -m facelib PHOTO... --out DIR`."""

import argparse
import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from tqdm import tqdm

from facelib.checkpoints import read_manifest
from facelib.detection import DETECTORS
from facelib.embedding import cosine_distance
from facelib.images import find_photos
from facelib.pipeline import FacePipeline, Faces, sample_photo

MATRIX_FACES = 30  # the distance matrix picture shows at most so many


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m facelib",
        description="Find, align and embed every face. Writes annotated photos, aligned faces, faces.json, "
        "embeddings.npz and a picture of all distances; exits with 1 when a photo could not be read.",
    )
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--sample", action="store_true", help="use insightface's sample photo of six people")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, made if missing")
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is if not given")
    parser.add_argument("--batch-size", type=int, default=8, help="photos processed together")
    options = parser.parse_args(arguments)
    if not options.photos and not options.sample:
        parser.error("give photos or folders, or --sample")
    if options.batch_size < 1:
        parser.error(f"--batch-size {options.batch_size}: at least 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit code: 0, 1 (a photo could not be read), 2 (nothing to do)."""
    options = parse_arguments(arguments)
    matplotlib.use("Agg")  # writes files, opens no window
    photos = find_photos(options.photos) + ([sample_photo()] if options.sample else [])
    if not photos:
        print(f"no photos in {', '.join(map(str, options.photos))}", file=sys.stderr)
        return 2
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        pipeline = FacePipeline.from_pretrained(options.detector, options.device)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    names = unique_names(photos)
    records, embeddings, thumbnails, failed = [], [], [], 0
    results = pipeline.stream(photos, options.batch_size)
    bar = tqdm(zip(photos, names, results), total=len(photos), unit="photo", disable=len(photos) == 1)
    for photo, name, (image, faces) in bar:
        if faces.error:
            failed += 1
            bar.write(f"error: {faces.error}", file=sys.stderr)
            records.append({"photo": str(photo), "error": str(faces.error), "faces": []})
            continue
        records.append({"photo": str(photo), "faces": write_faces(options.out, name, image, faces)})
        embeddings += [face.embedding for face in faces]
        thumbnails += [face.aligned for face in faces[: MATRIX_FACES - len(thumbnails)]]

    write_tables(options.out, records, embeddings)
    print_table(records, embeddings)
    if len(thumbnails) > 1:
        vectors = np.stack(embeddings[: len(thumbnails)])
        write_matrix(options.out, thumbnails, vectors, len(embeddings))
    print(f"{len(embeddings)} faces in {len(photos) - failed} of {len(photos)} photos; results in {options.out}")
    return 1 if failed else 0


def unique_names(photos: list[Path]) -> list[str]:
    """A name per photo for its results: the file's own, numbered where several files share it."""
    names: dict[str, None] = {}
    for photo in photos:
        name, number = photo.stem, 1
        while name in names:
            number += 1
            name = f"{photo.stem}-{number}"
        names[name] = None
    return list(names)


def write_faces(out: Path, name: str, image: np.ndarray, faces: Faces) -> list[dict]:
    """Annotated photo and aligned faces of one photo; gives what faces.json says of them."""
    import matplotlib.pyplot as plt

    from facelib.plots import annotated_photo

    figure = annotated_photo(image, faces, f"{name}: {len(faces)} face{'s' * (len(faces) != 1)}")
    figure.savefig(out / f"{name}_annotated.jpg", dpi=120)
    plt.close(figure)
    records = []
    for number, face in enumerate(faces):
        file = f"{name}_face{number}.png"
        Image.fromarray(face.aligned).save(out / file)
        records.append(
            {
                "box": face.box.round(2).tolist(),
                "score": round(face.score, 4),
                "landmarks": face.landmarks.round(2).tolist(),
                "aligned": file,
            }
        )
    return records


def write_tables(out: Path, records: list[dict], embeddings: list[np.ndarray]) -> None:
    """faces.json (all but the vectors) and embeddings.npz (vectors with photo and face number)."""
    (out / "faces.json").write_text(json.dumps(records, indent=1) + "\n")
    rows = [(record["photo"], number) for record in records for number in range(len(record["faces"]))]
    np.savez(
        out / "embeddings.npz",
        embeddings=np.stack(embeddings) if embeddings else np.zeros((0, 0), np.float32),
        photo=np.array([photo for photo, _ in rows], dtype=str),
        face=np.array([number for _, number in rows], dtype=int),
    )


def print_table(records: list[dict], embeddings: list[np.ndarray]) -> None:
    """One line per face, with the face most like it and whether that is below the threshold."""
    threshold = read_manifest().get("embedder", {}).get("threshold", {}).get("cosine_distance")
    rows = [(Path(r["photo"]).name, number, face) for r in records for number, face in enumerate(r["faces"])]
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


def write_matrix(out: Path, thumbnails: list[np.ndarray], vectors: np.ndarray, total: int) -> None:
    """distances.png: every face against every other."""
    from facelib.plots import distance_matrix

    shown = f"the first {len(thumbnails)} of {total} faces" if total > len(thumbnails) else f"{total} faces"
    figure = distance_matrix(thumbnails, cosine_distance(vectors, vectors), f"Cosine distances of {shown}")
    figure.savefig(out / "distances.png", dpi=120)


if __name__ == "__main__":
    sys.exit(main())
