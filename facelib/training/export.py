"""Export of PyTorch weights to the ONNX files of inference: `python -m facelib.training.export models/NAME.pt`."""

import argparse
import copy
import datetime
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxscript import optimizer
from torch import nn

from facelib.alignment.hourglass import StackedHourglass
from facelib.embedding.network import EmbeddingNetwork
from facelib.io.files import atomic_write, file_hash
from facelib.runtime.manifest import manifest_value, read_manifest, write_manifest
from facelib.runtime.weights import load_weights
from facelib.settings import one_line_errors
from facelib.types import WeightsError

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "StackedHourglass": StackedHourglass,
    "EmbeddingNetwork": EmbeddingNetwork,
}
MIN_HALF_SIZE = 64  # values; smaller tensors stay float32, as the Cast node would take as much space


def export_onnx(model: nn.Module, input_size: int, path: Path) -> None:
    """Write a network as an ONNX file: "images" (n, 3, input_size, input_size) float32 -> "outputs", any n.

    Weights that float16 represents exactly, as all weights of a .pt file here, are stored in float16 and computed in
    float32. The folder is made if missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = _trace(model, input_size)
    _store_exact_halves(graph)
    _remove_descriptions(graph)
    onnx.checker.check_model(graph)
    with atomic_write(path) as new:
        onnx.save(graph, new)


def write_onnx_beside(path: Path) -> Path:
    """Export a weights file to an ONNX file beside it, and add its entry to the manifest.

    Args:
        path: a .pt file that the manifest beside it lists.

    Returns:
        The ONNX file.

    Raises:
        FileNotFoundError, WeightsError: see `load_weights`; WeightsError also for an unknown architecture.
    """
    path = Path(path)
    architecture = str(read_manifest(path.parent).get(path.name, {}).get("architecture")).rpartition(".")[2]
    build = ARCHITECTURES.get(architecture, EmbeddingNetwork)
    model, entry = load_weights(path, build, "cpu")
    if architecture not in ARCHITECTURES:
        raise WeightsError(f"{path}: architecture {architecture}, expected one of {', '.join(ARCHITECTURES)}")
    input_size = manifest_value(path, entry, "preprocessing", "input_size", among=int)
    exported = path.with_suffix(".onnx")
    export_onnx(model, input_size, exported)
    described = {
        "sha256": file_hash(exported),
        "date": datetime.date.today().isoformat(),
        "from": path.name,
        "from_sha256": entry["sha256"],
    }
    manifest = read_manifest(path.parent)
    write_manifest(manifest | {exported.name: described}, path.parent)
    return exported


def _trace(model: nn.Module, input_size: int) -> ModelProto:
    """The network as an ONNX graph, with constants folded.

    Batch norms stay separate from convolutions (ONNX Runtime fuses them when it loads the file): fused weights would
    not be exact in float16. That is why only constants are folded here, instead of all of the exporter's rewriting.
    """
    images = torch.zeros(2, 3, input_size, input_size, dtype=torch.float32, device="cpu")
    model = copy.deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format).eval()
    with _quiet_exporter():
        program = torch.onnx.export(
            model,
            (images,),
            input_names=["images"],
            output_names=["outputs"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
            optimize=False,
        )
        assert program is not None  # as no file is named, the exporter returns the program
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
        return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppress log messages and warnings about the exporter's own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _store_exact_halves(model: ModelProto) -> None:
    """Store float32 tensors that float16 represents exactly as float16, followed by a Cast node to float32."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_HALF_SIZE:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _remove_descriptions(model: ModelProto) -> None:
    """Remove what no runtime needs: stack traces of the exporter with file names, and intermediate shapes."""
    del model.graph.value_info[:]
    holders: list[Any] = [model, model.graph, *model.graph.node, *model.graph.initializer]
    for holder in [*holders, *model.graph.input, *model.graph.output]:
        del holder.metadata_props[:]
        holder.ClearField("doc_string")


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.training.export", description=__doc__)
    parser.add_argument("weights", type=Path, nargs="+", help=".pt files that the manifest beside them lists")
    for path in parser.parse_args().weights:
        print(f"{write_onnx_beside(path)}: written")


if __name__ == "__main__":
    sys.exit(main())
