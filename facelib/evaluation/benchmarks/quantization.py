"""Whether int8 networks are as accurate: `python -m facelib.evaluation.benchmarks.quantization`.

Both networks are quantised statically by ONNX Runtime, with ranges of activations from training faces. They are
compared with the shipped ones on the splits that choices are made on: the default embedder by its TPR on open_val, the
hourglass by its NME on the validation faces of the landmark sets. Written to models/results/quantization.json.
"""

import argparse
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from facelib.alignment.crop import crop_matrix, image_to_input, warp_image
from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.aligned_faces import aligned_open_set, crop_faces
from facelib.datasets.face_list import FaceList, load_faces
from facelib.datasets.sources import load_landmark_list
from facelib.datasets.splits import sample_per_person
from facelib.embedding.embedder import NetworkEmbedder, TrainedNetwork, load_embedder
from facelib.embedding.inputs import faces_to_input
from facelib.evaluation.landmarks import evaluate_landmarks
from facelib.evaluation.timing import milliseconds
from facelib.io.images import read_image
from facelib.io.records import RESULTS, write_record
from facelib.metrics import tpr_at_fprs
from facelib.runtime.networks import Network
from facelib.runtime.onnx import OnnxNetwork, import_onnxruntime
from facelib.settings import one_line_errors

FACES = 256  # training faces that the ranges of activations are measured on
BATCH = 16  # of them at a time
TIMED_FACES = 6  # in one call
REPEATS = 30  # timed calls; the median counts


def quantize(path: Path, images: np.ndarray, out: Path, method: str) -> None:
    """Write the int8 network of an ONNX file: weights per channel, activations per tensor.

    Args:
        images: (n, 3, s, s) float32, on which the ranges of activations are measured.
        method: "MinMax", "Percentile" or "Entropy", how a range follows from the activations.
    """
    import_onnxruntime()  # with its telemetry disabled
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        """The images in batches, for the quantiser."""

        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(np.split(images, range(BATCH, len(images), BATCH)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    folded = out.with_suffix(".folded.onnx")  # float32 weights, normalisation merged into the convolutions
    quant_pre_process(str(path), str(folded), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(folded),
        str(out),
        Reader(),
        per_channel=True,
        calibrate_method=quantization.CalibrationMethod[method],
        op_types_to_quantize=["Conv", "Gemm"],
    )


def training_crops(faces: FaceList, size: int) -> np.ndarray:
    """Network input (n, 3, s, s) float32 for the face boxes of photos."""
    images = [read_image(file) for file in faces.files]
    matrices = [crop_matrix(box, size) for box in faces.boxes]
    return image_to_input(np.stack([warp_image(*both, size) for both in zip(images, matrices)]))


def evenly(faces: FaceList) -> FaceList:
    """`FACES` of a list, evenly spaced."""
    return faces.select(np.linspace(0, len(faces) - 1, FACES).astype(int))


def compare(
    networks: dict[str, Network], images: np.ndarray, metrics: Callable[[Network], dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Metrics of each network, and its time for `TIMED_FACES` images in milliseconds, all timed in turn."""
    rows = {name: metrics(network) for name, network in networks.items()}
    part = images[:TIMED_FACES]
    for network in networks.values():
        network(part)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(REPEATS):
        for name, network in networks.items():
            times[name].append(milliseconds([functools.partial(network, part)]))
    return {name: row | {"ms_6_faces": float(np.median(times[name]))} for name, row in rows.items()}


def embedder_rows(
    embedder: NetworkEmbedder, landmarker: HourglassLandmarker, folder: Path, methods: list[str]
) -> dict[str, dict[str, float]]:
    """TPR at each FPR on open_val of an embedder of one network, in float32 and in int8 by each method."""
    (trained,) = embedder.networks
    shipped = trained.network
    assert isinstance(shipped, OnnxNetwork)
    train = load_faces("faces_train")
    aligned, _ = crop_faces(evenly(train.select(sample_per_person(train, 1))), "five_points", landmarker)
    images = faces_to_input(aligned, trained.input_size)
    networks: dict[str, Network] = {"float32": shipped}
    for method in methods:
        quantize(shipped.path, images, folder / f"embedder_{method}.onnx", method)
        networks[f"int8 {method}"] = OnnxNetwork(folder / f"embedder_{method}.onnx")
    faces, kept = aligned_open_set("open_val", landmarker)

    def metrics(network: Network) -> dict[str, float]:
        other = NetworkEmbedder(TrainedNetwork(network, trained.input_size), flip=embedder.flip)
        return tpr_at_fprs(other.embed(faces), kept.people)

    return compare(networks, images, metrics)


def landmarker_rows(landmarker: HourglassLandmarker, folder: Path, methods: list[str]) -> dict[str, dict[str, float]]:
    """NME on the validation faces of each landmark set, of the hourglass in float32 and in int8 by each method."""
    shipped = landmarker.network
    assert isinstance(shipped, OnnxNetwork)
    faces = load_landmark_list()
    val = faces.select(faces.splits == "val")
    images = training_crops(evenly(faces.select(faces.splits == "train")), landmarker.input_size)
    networks: dict[str, Network] = {"float32": shipped}
    for method in methods:
        quantize(shipped.path, images, folder / f"hourglass_{method}.onnx", method)
        networks[f"int8 {method}"] = OnnxNetwork(folder / f"hourglass_{method}.onnx", batch_axis=1)

    def metrics(network: Network) -> dict[str, float]:
        other = HourglassLandmarker(network, landmarker.input_size, landmarker.activation, landmarker.decoder)
        return {name: result["nme"] for name, result in evaluate_landmarks(other, val).items()}

    return compare(networks, images, metrics)


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.quantization", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["MinMax", "Percentile"])
    parser.add_argument("--out", type=Path, default=RESULTS / "quantization.json")
    options = parser.parse_args()
    landmarker, embedder = load_landmarker(runtime="onnx"), load_embedder(runtime="onnx")
    assert isinstance(embedder, NetworkEmbedder)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        figures = {
            "landmarker": landmarker_rows(landmarker, folder, options.methods),
            "embedder": embedder_rows(embedder, landmarker, folder, options.methods),
        }
    command = "python -m facelib.evaluation.benchmarks.quantization"
    weights = {"landmarker": landmarker.model_id, "embedder": embedder.model_id}
    write_record(options.out, figures, command=command, weights=weights, data={})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
