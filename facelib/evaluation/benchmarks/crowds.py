"""Detection on large photos, and its cost: `python -m facelib.evaluation.benchmarks.crowds`.

Crowds are made by pasting insightface's sample photo of six people, scaled so that faces are 50 to 150 pixels large,
side by side onto canvases of many sizes and shapes. Each is detected as a whole and with tiling, the default.
"""

import argparse
import functools
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facelib.detection.detector import FaceDetector, load_detector
from facelib.evaluation.detection import count_faces, detector_weights
from facelib.io.files import prepare_folder
from facelib.io.images import read_image
from facelib.io.records import RESULTS, write_record, write_table
from facelib.io.sample import sample_photo
from facelib.settings import one_line_errors

SIZES = {  # width and height in pixels
    "2 megapixels": (1600, 1200),
    "12 megapixels": (4000, 3000),
    "41 megapixels": (7680, 5316),
    "100 megapixels": (11600, 8700),
    "a panorama": (7680, 900),
    "a long panorama": (30000, 1500),
    "a tall picture": (1500, 30000),
}
FACE_SIZES = (50, 150)  # pixels, of the smallest and the largest face of the sample photo
BORDER = 20  # pixels; a box so near the right or an upper edge may be of a face that the canvas cuts

RULES: dict[str, Callable[[FaceDetector], FaceDetector]] = {
    "whole": lambda detector: replace(detector, smallest_face=float("inf")),
    "tiled": lambda detector: detector,
}


@functools.cache
def sample_people() -> tuple[np.ndarray, np.ndarray]:
    """The sample photo (H, W, 3), and the boxes (6, 4) of its faces."""
    image = read_image(sample_photo())
    return image, load_detector("retinaface", "cpu").detect(image)[0]


def crowd(width: int, height: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image (height, width, 3) full of people, and the boxes (n, 4) of their faces."""
    image, boxes = sample_people()
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    scales = np.log([FACE_SIZES[0] / sides.min(), FACE_SIZES[1] / sides.max()])
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 110, np.uint8)
    pasted = []
    y = 0
    while y < height:
        x = row_height = 0
        while x < width:
            scale = np.exp(rng.uniform(*scales))
            copy = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            copy = copy[: height - y, : width - x]
            canvas[y : y + copy.shape[0], x : x + copy.shape[1]] = copy
            whole = (boxes[:, 2] * scale < copy.shape[1]) & (boxes[:, 3] * scale < copy.shape[0])
            pasted.append(boxes[whole] * scale + [x, y, x, y])
            x += copy.shape[1]
            row_height = max(row_height, copy.shape[0])
        y += row_height
    return canvas, np.concatenate(pasted)


def measure(detector: FaceDetector, name: str) -> dict[str, Any]:
    """Faces, true and false positives, seconds and peak memory of one of `SIZES`.

    Boxes at the edges of the canvas, where faces may be cut, do not count as false positives.
    """
    width, height = SIZES[name]
    image, boxes = crowd(width, height)
    detector.detect(image[:640, :640])  # the first call loads the network
    start = time.perf_counter()
    detected, _ = detector.detect(image)
    seconds = time.perf_counter() - start
    true, false = count_faces(detected, boxes, np.ones(len(boxes), bool), np.eye(2, 3))
    at_edge = (detected[:, :2] < BORDER).any(1)
    at_edge |= (detected[:, 2] > width - BORDER) | (detected[:, 3] > height - BORDER)
    return {
        "detector": detector.name,
        "picture": name,
        "megapixels": width * height / 1e6,
        "width": width,
        "height": height,
        "min_detectable_face": detector.min_detectable_face(image),
        "faces": len(boxes),
        "true_positives": true,
        "false_positives": max(0, false - int(at_edge.sum())),
        "seconds": seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.crowds", description=__doc__)
    detectors = ["insightface", "retinaface"]
    parser.add_argument("--only", choices=detectors, nargs="+", default=detectors, help="detectors")
    parser.add_argument("--out", type=Path, default=RESULTS / "crowds.csv", help="CSV file")
    options = parser.parse_args()
    prepare_folder(options.out.parent)
    rows = []
    # From small to large, because peak memory is that of the process so far.
    for name in sorted(SIZES, key=lambda name: SIZES[name][0] * SIZES[name][1]):
        for kind in options.only:
            for rule, configure in RULES.items():
                row = {"rule": rule, **measure(configure(load_detector(kind, "cpu")), name)}
                rows.append(row)
                counts = f"{row['true_positives']}/{row['faces']}, {row['false_positives']} false positives"
                print(f"{name:16} {kind:12} {rule:6} {counts}, {row['seconds']:.2f} s")
    write_table(options.out, rows)
    command = " ".join(["python -m facelib.evaluation.benchmarks.crowds", *sys.argv[1:]])
    data = {"photos": "insightface's sample"}
    write_record(options.out.with_suffix(".json"), {}, command=command, weights=detector_weights(), data=data)


if __name__ == "__main__":
    sys.exit(main())
