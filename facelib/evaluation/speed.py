"""How quick the networks are here: `python -m facelib.evaluation.speed landmarks | embedder`."""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from facelib.embedding import load_embedder
from facelib.inference import network_cost
from facelib.landmarks import load_landmarker
from facelib.pipeline import sample_photo
from facelib.reading import read_image

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


def benchmark_landmarks(device: str, batch_size: int = 16) -> dict[str, float | str]:
    """The whole step from box to landmarks, cropping and decoding included, on faces of the sample photo."""
    landmarker = load_landmarker(device=device, batch_size=batch_size)
    image, box = read_image(sample_photo()), np.array([[400, 150, 500, 280]], np.float32)
    many, one = box.repeat(batch_size, 0), box
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "faces_per_second": batch_size * rate(lambda: landmarker.predict([image], [many]), device),
        "batch_size": batch_size,
        "milliseconds_for_one_face": 1000 / rate(lambda: landmarker.predict([image], [one]), device),
        "input_size": landmarker.input_size,
        **network_cost(landmarker.model, landmarker.input_size),
    }


def benchmark_embedder(device: str, batch_size: int = 16) -> dict[str, float | str | list]:
    """From aligned faces to vectors of the shipped embedder, mirror images included."""
    embedder = load_embedder(device=device, batch_size=batch_size)
    faces = np.random.default_rng(0).integers(0, 255, (batch_size, 112, 112, 3), dtype=np.uint8)
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "faces_per_second": batch_size * rate(lambda: embedder.embed(faces), device),
        "batch_size": batch_size,
        "milliseconds_for_one_face": 1000 / rate(lambda: embedder.embed(faces[:1]), device),
        "networks": [
            {"input_size": one.input_size, **network_cost(one.model, one.input_size)} for one in embedder.networks
        ],
    }


BENCHMARKS = {"landmarks": benchmark_landmarks, "embedder": benchmark_embedder}


def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.speed", description=__doc__)
    parser.add_argument("part", choices=BENCHMARKS)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    for device in devices:
        print(json.dumps(BENCHMARKS[options.part](device, options.batch_size), indent=1))


if __name__ == "__main__":
    main()
