"""What the whole pipeline costs, beside its detector alone and another library: `python -m facelib.evaluation.speed
pipeline`. Every system runs in processes of its own, in turns, so that none has a better hour of the machine."""

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

from facelib.alignment.align import warp_faces
from facelib.detection.detector import load_detector
from facelib.io.images import read_image
from facelib.io.sample import sample_photo
from facelib.pipeline import FacePipeline
from facelib.settings import data_folder

SYSTEMS = ("facelib", "facelib in PyTorch", "its detector alone", "face_recognition")
ROUNDS = 3  # processes of each system
LONGER_SIDE = 640  # of the one photo, pixels
SECONDS = 3.0  # for the one photo, in each process


def same_photo() -> np.ndarray:
    """The sample photo with six people, `LONGER_SIDE` pixels wide."""
    image = read_image(sample_photo())
    scale = LONGER_SIDE / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def many_photos() -> list[Path]:
    """Those of FACELIB_DATA/photos; where there are none, the sample photo 16 times."""
    found = sorted((data_folder() / "photos").rglob("*.jpg"))
    return found or [sample_photo()] * 16


def milliseconds(work: Callable[[], object]) -> float:
    """Of a call, the median of as many as there is time for, after two to warm up."""
    work(), work()
    times, end = [], time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def measure(system: str, device: str | None) -> dict[str, Any]:
    """In this process: "photo" (ms), "faces" in it, "stages" (ms each), "folder" (ms a photo), "peak_memory_mb"."""
    image, files = same_photo(), many_photos()
    if system == "face_recognition":
        import face_recognition

        def look(photo: np.ndarray) -> int:
            places = face_recognition.face_locations(photo)
            return len(face_recognition.face_encodings(photo, places))

        row: dict[str, Any] = {"photo": milliseconds(lambda: look(image)), "faces": look(image)}
        start = time.perf_counter()
        for file in files:
            look(face_recognition.load_image_file(str(file)))
    elif system == "its detector alone":
        detector = load_detector("auto", device)
        row = {"photo": milliseconds(lambda: detector.detect(image)), "faces": len(detector.detect(image)[0])}
        start = time.perf_counter()
        for file in files:
            detector.detect(read_image(file))
    else:
        runtime = "torch" if system == "facelib in PyTorch" else "auto"
        pipeline = FacePipeline.from_pretrained("auto", device, runtime=runtime)
        row = {"photo": milliseconds(lambda: pipeline(image)), "faces": len(pipeline(image))}
        row["stages"] = stages(pipeline, image)
        start = time.perf_counter()
        for _ in pipeline.stream(files):
            pass
    row["folder"] = 1000 * (time.perf_counter() - start) / len(files)
    return row | {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def stages(pipeline: FacePipeline, image: np.ndarray) -> dict[str, float]:
    """Milliseconds that each step takes with all faces of a photo."""
    boxes, _ = pipeline.detector.detect(image)
    landmarks = pipeline.landmarker.predict([image], [boxes])[0]
    aligned = warp_faces(image, landmarks, pipeline.align)
    return {
        "detection": milliseconds(lambda: pipeline.detector.detect(image)),
        "landmarks": milliseconds(lambda: pipeline.landmarker.predict([image], [boxes])),
        "alignment": milliseconds(lambda: warp_faces(image, landmarks, pipeline.align)),
        "embedding": milliseconds(lambda: pipeline.embedder.embed(aligned)),
    }


def benchmark_pipeline(device: str, batch_size: int = 8) -> dict[str, Any]:
    """Each system in `ROUNDS` processes, in turns; the median of each figure. A library that is not installed is left
    out."""
    rows: dict[str, list[dict]] = {}
    for _ in range(ROUNDS):
        for system in SYSTEMS:
            code = (
                "import json; from facelib.evaluation.benchmarks.pipeline_speed import measure; "
                f"print(json.dumps(measure({system!r}, {device!r})))"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            if done.returncode:
                if "No module named" not in done.stderr:
                    raise RuntimeError(f"{system}: {done.stderr[-500:]}")
                continue
            rows.setdefault(system, []).append(json.loads(done.stdout.splitlines()[-1]))
    return {"device": device, "photos": len(many_photos()), **{name: medians(of) for name, of in rows.items()}}


def medians(rows: list[dict]) -> dict[str, Any]:
    """Of each figure, in dicts within too."""
    return {
        key: medians([row[key] for row in rows])
        if isinstance(rows[0][key], dict)
        else round(float(np.median([row[key] for row in rows])), 2)
        for key in rows[0]
    }
