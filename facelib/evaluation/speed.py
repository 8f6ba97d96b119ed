"""How quick it is here: `python -m facelib.evaluation.speed landmarks | embedder | pipeline`."""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.embedding.embedder import NetworkEmbedder, load_embedder
from facelib.evaluation.benchmarks.pipeline_speed import benchmark_pipeline
from facelib.io.images import read_image
from facelib.io.sample import sample_photo
from facelib.runtime.batching import network_cost
from facelib.runtime.onnx import RUNTIMES
from facelib.settings import one_line_errors

SECONDS = 3.0  # of a measurement


def rate(work: Callable[[], object], device: str, seconds: float | None = None) -> float:
    """Calls per second, the best of three rounds of a third of `seconds` (None: `SECONDS`), after a warm-up."""
    seconds = SECONDS if seconds is None else seconds
    rates = []
    for _ in range(4):
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < seconds / 3:
            work()
            count += 1
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(count / (time.perf_counter() - start))
    return max(rates[1:])


def milliseconds_a_face(work: Callable[[int], object], device: str, batch_size: int) -> dict[str, float]:
    """Number of faces at a time -> milliseconds for each of them; `work` takes the number."""
    return {
        str(count): 1000 / rate(functools.partial(work, count), device) / count for count in sorted({1, batch_size})
    }


def benchmark_landmarks(device: str, batch_size: int = 6) -> dict[str, Any]:
    """The whole step from box to landmarks, cropping and decoding included, on a face of the sample photo."""
    image, box = read_image(sample_photo()), np.array([[400, 150, 500, 280]], np.float32)
    times = {}
    for runtime in RUNTIMES if device == "cpu" else ("torch",):
        landmarker = load_landmarker(device=device, batch_size=batch_size, runtime=runtime)
        work = functools.partial(_find_landmarks, landmarker, image, box)
        times[runtime] = milliseconds_a_face(work, device, batch_size)
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "milliseconds_a_face": times,
        "input_size": landmarker.input_size,
        **network_cost(landmarker.model, landmarker.input_size),
    }


def _find_landmarks(landmarker: HourglassLandmarker, image: np.ndarray, box: np.ndarray, count: int) -> None:
    landmarker.predict([image], [box.repeat(count, 0)])


def _embed(embedder: NetworkEmbedder, faces: np.ndarray, count: int) -> None:
    embedder.embed(faces[:count])


def benchmark_embedder(device: str, batch_size: int = 6) -> dict[str, Any]:
    """From aligned faces to vectors of the shipped embedder, mirror images included."""
    faces = np.random.default_rng(0).integers(0, 255, (batch_size, 112, 112, 3), dtype=np.uint8)
    times = {}
    for runtime in RUNTIMES if device == "cpu" else ("torch",):
        embedder = load_embedder(device=device, batch_size=batch_size, runtime=runtime)
        work = functools.partial(_embed, embedder, faces)
        times[runtime] = milliseconds_a_face(work, device, batch_size)
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "milliseconds_a_face": times,
        "networks": [
            {"input_size": one.input_size, **network_cost(one.model, one.input_size)} for one in embedder.networks
        ],
    }


BENCHMARKS = {"landmarks": benchmark_landmarks, "embedder": benchmark_embedder, "pipeline": benchmark_pipeline}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.speed", description=__doc__)
    parser.add_argument("part", choices=BENCHMARKS)
    parser.add_argument("--batch-size", type=int, default=6)
    options = parser.parse_args()
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    for device in devices:
        print(json.dumps(BENCHMARKS[options.part](device, options.batch_size), indent=1))


if __name__ == "__main__":
    sys.exit(main())
