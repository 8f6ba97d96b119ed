"""Time per photo and memory of the pipeline, its detector alone and another library:
`python -m facelib.evaluation.benchmarks.pipeline_speed`.

Each system runs in processes of its own, in turns, so that varying load of the machine affects all alike.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facelib.detection.detector import load_detector
from facelib.evaluation.speed import stages
from facelib.evaluation.timing import milliseconds, repeated
from facelib.io.images import read_image
from facelib.io.sample import sample_photo
from facelib.pipeline import FacePipeline
from facelib.settings import data_folder, one_line_errors

MODULE = "facelib.evaluation.benchmarks.pipeline_speed"
ROUNDS = 3  # processes of each system
LONGER_SIDE = 640  # of the single photo, pixels


def group_photo() -> np.ndarray:
    """The sample photo of six people, RGB uint8, with a longer side of `LONGER_SIDE` pixels."""
    image = read_image(sample_photo())
    scale = LONGER_SIDE / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def folder_photos() -> list[Path]:
    """The photos of <FACELIB_DATA>/photos; the sample photo 16 times where there are none."""
    found = sorted((data_folder() / "photos").rglob("*.jpg"))
    return found or [sample_photo()] * 16


def measure_face_recognition(device: str | None) -> dict[str, Any]:
    """The library face_recognition: HOG detector, 68 landmarks, dlib's network."""
    import face_recognition

    def embed(photo: np.ndarray) -> int:
        boxes = face_recognition.face_locations(photo)
        return len(face_recognition.face_encodings(photo, boxes))

    image, files = group_photo(), folder_photos()
    row = {"photo": milliseconds(repeated(lambda: embed(image))), "faces": embed(image)}
    start = time.perf_counter()
    for file in files:
        embed(face_recognition.load_image_file(str(file)))
    return row | {"folder": _milliseconds_since(start, files)}


def measure_detector(device: str | None) -> dict[str, Any]:
    """The detector of the pipeline alone."""
    image, files = group_photo(), folder_photos()
    detector = load_detector("auto", device)
    row = {"photo": milliseconds(repeated(lambda: detector.detect(image))), "faces": len(detector.detect(image)[0])}
    start = time.perf_counter()
    for file in files:
        detector.detect(read_image(file))
    return row | {"folder": _milliseconds_since(start, files)}


def measure_pipeline(device: str | None, runtime: str = "auto") -> dict[str, Any]:
    """The pipeline, and each of its steps."""
    image, files = group_photo(), folder_photos()
    pipeline = FacePipeline.from_pretrained("auto", device, runtime=runtime)
    row: dict[str, Any] = {"photo": milliseconds(repeated(lambda: pipeline(image))), "faces": len(pipeline(image))}
    row["stages"] = stages(pipeline, image)
    start = time.perf_counter()
    for _ in pipeline.stream(files):
        pass
    return row | {"folder": _milliseconds_since(start, files)}


def _milliseconds_since(start: float, files: list[Path]) -> float:
    return 1000 * (time.perf_counter() - start) / len(files)


SYSTEMS: dict[str, Callable[[str | None], dict[str, Any]]] = {
    "facelib": measure_pipeline,
    "facelib in PyTorch": lambda device: measure_pipeline(device, "torch"),
    "its detector alone": measure_detector,
    "face_recognition": measure_face_recognition,
}


def measure(system: str, device: str | None) -> dict[str, Any]:
    """Measure one of `SYSTEMS` in this process.

    Returns:
        "photo" (milliseconds), "faces" in it, "stages" (of the pipeline, milliseconds), "folder" (milliseconds per
        photo) and "peak_memory_mb".
    """
    row = SYSTEMS[system](device)
    return row | {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def benchmark_pipeline(device: str) -> dict[str, Any]:
    """Each system in `ROUNDS` processes, in turns: the median of each figure. Libraries not installed are skipped.

    Raises:
        RuntimeError: a system failed for another reason.
    """
    rows: dict[str, list[dict]] = {}
    for _ in range(ROUNDS):
        for system in SYSTEMS:
            code = f"import json; from {MODULE} import measure; print(json.dumps(measure({system!r}, {device!r})))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            if done.returncode == 0:
                rows.setdefault(system, []).append(json.loads(done.stdout.splitlines()[-1]))
            elif "No module named" not in done.stderr:
                raise RuntimeError(f"{system}: {done.stderr[-500:]}")
    return {"device": device, "photos": len(folder_photos()), **{name: medians(of) for name, of in rows.items()}}


def medians(rows: list[dict]) -> dict[str, Any]:
    """Median of each figure, in nested dicts too."""
    result = {}
    for key, first in rows[0].items():
        values = [row[key] for row in rows]
        result[key] = medians(values) if isinstance(first, dict) else round(float(np.median(values)), 2)
    return result


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(json.dumps(benchmark_pipeline(options.device), indent=1))


if __name__ == "__main__":
    sys.exit(main())
