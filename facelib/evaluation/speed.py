"""Time per face and per step on this machine: `python -m facelib.evaluation.speed landmarks | embedder`.

`facelib.evaluation.benchmarks.pipeline_speed` compares the whole pipeline with others.
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from facelib.alignment.align import warp_faces
from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.embedding.embedder import NetworkEmbedder, load_embedder
from facelib.evaluation.timing import milliseconds, rate, repeated
from facelib.io.images import read_image
from facelib.io.sample import sample_photo
from facelib.pipeline import FacePipeline
from facelib.runtime.network_cost import network_cost
from facelib.runtime.networks import RUNTIMES
from facelib.settings import one_line_errors
from facelib.types import NamedEmbedder


def milliseconds_per_face(work: Callable[[int], object], device: str, batch_size: int) -> dict[str, float]:
    """Batch size, 1 and `batch_size` -> milliseconds per face; `work` takes the number of faces."""
    return {
        str(count): 1000 / rate(functools.partial(work, count), device) / count for count in sorted({1, batch_size})
    }


def benchmark_landmarks(device: str, batch_size: int = 6) -> dict[str, Any]:
    """Time of the landmark step, from box to points with cropping and decoding, on a face of the sample photo."""
    image = read_image(sample_photo())
    box = np.array([[400, 150, 500, 280]], np.float32)
    times = {}
    for runtime in _runtimes(device):
        landmarker = load_landmarker(device=device, batch_size=batch_size, runtime=runtime)
        work = functools.partial(_predict_landmarks, landmarker, image, box)
        times[runtime] = milliseconds_per_face(work, device, batch_size)
    model = load_landmarker(device="cpu", runtime="torch").model
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "milliseconds_per_face": times,
        "input_size": landmarker.input_size,
        **network_cost(model, landmarker.input_size),
    }


def _runtimes(device: str) -> tuple[str, ...]:
    return RUNTIMES if device == "cpu" else ("torch",)


def _predict_landmarks(landmarker: HourglassLandmarker, image: np.ndarray, box: np.ndarray, count: int) -> None:
    landmarker.predict([image], [box.repeat(count, 0)])


def _embed(embedder: NamedEmbedder, faces: np.ndarray, count: int) -> None:
    embedder.embed(faces[:count])


def benchmark_embedder(device: str, batch_size: int = 6) -> dict[str, Any]:
    """Time of the default embedder, from aligned faces to embeddings."""
    faces = np.random.default_rng(0).integers(0, 255, (batch_size, 112, 112, 3), dtype=np.uint8)
    times = {}
    for runtime in _runtimes(device):
        embedder = load_embedder(device=device, batch_size=batch_size, runtime=runtime)
        work = functools.partial(_embed, embedder, faces)
        times[runtime] = milliseconds_per_face(work, device, batch_size)
    networks = cast(NetworkEmbedder, load_embedder(device="cpu", runtime="torch")).networks
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "milliseconds_per_face": times,
        "networks": [{"input_size": one.input_size, **network_cost(one.model, one.input_size)} for one in networks],
    }


def stages(pipeline: FacePipeline, image: np.ndarray) -> dict[str, float]:
    """Milliseconds of each step of the pipeline with all faces of a photo (H, W, 3) RGB uint8."""
    boxes, _ = pipeline.detector.detect(image)
    landmarks = pipeline.landmarker.predict([image], [boxes])[0]
    aligned = warp_faces(image, landmarks, pipeline.align)
    steps: dict[str, Callable[[], object]] = {
        "detection": lambda: pipeline.detector.detect(image),
        "landmarks": lambda: pipeline.landmarker.predict([image], [boxes]),
        "alignment": lambda: warp_faces(image, landmarks, pipeline.align),
        "embedding": lambda: pipeline.embedder.embed(aligned),
    }
    return {name: milliseconds(repeated(step)) for name, step in steps.items()}


BENCHMARKS = {"landmarks": benchmark_landmarks, "embedder": benchmark_embedder}


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
