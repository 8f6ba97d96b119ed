"""The choice between ONNX Runtime and PyTorch for a weights file of the manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facelib.runtime.manifest import find_onnx
from facelib.runtime.onnx import OnnxNetwork
from facelib.runtime.torch_runner import TorchNetwork, require_torch
from facelib.types import WeightsError

RUNTIMES = ("torch", "onnx")  # and "auto": ONNX Runtime where there is an ONNX file


class Network(Protocol):
    """Images (n, 3, s, s) float32 from -1 to 1 -> outputs float32.

    few_sizes: whether batches of few different sizes save memory, see `batches`.
    """

    few_sizes: bool

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Outputs for a batch of images."""
        ...

    def fingerprint(self) -> str:
        """A hash that changes with the weights."""
        ...


def as_network(network: Any) -> Network:
    """A PyTorch module as a `TorchNetwork`; a `Network` is returned unchanged."""
    return TorchNetwork(network) if hasattr(network, "state_dict") else network


def open_network(
    path: Path, load_module: Callable[[], Any], device: Any = None, runtime: str = "auto", batch_axis: int = 0
) -> Network:
    """The network of a weights file that the manifest beside it lists.

    Args:
        path: the .pt file; it need not exist where its ONNX file does.
        load_module: loads the PyTorch module; called for "torch", and for "auto" where there is no ONNX file.
        device: of ONNX Runtime, see `resolve_device`.
        runtime: "auto", "onnx" or "torch".
        batch_axis: axis of the output that belongs to the images.

    Raises:
        FileNotFoundError: no such weights.
        WeightsError: see `find_onnx` and `load_weights`; also "onnx" where there is no ONNX file.
        RuntimeError: PyTorch is needed and not installed.
        ValueError: an unknown runtime, or a device that is not available.
    """
    if runtime not in (*RUNTIMES, "auto"):
        raise ValueError(f"runtime={runtime!r}: expected auto or one of {', '.join(RUNTIMES)}")
    if runtime == "torch":
        require_torch('runtime="torch"')
        return TorchNetwork(load_module())
    if file := find_onnx(path):
        return OnnxNetwork(file, device, batch_axis)
    if runtime == "onnx":
        raise WeightsError(f"{path} has no ONNX file; write one with: python -m facelib.training.export {path}")
    require_torch(f"{path} has no ONNX file, so it")
    return TorchNetwork(load_module())
