"""ONNX Runtime: the detectors come for it, and our own networks run in it in less than half of PyTorch's time on a
CPU. Their ONNX files are made from the weights when they are first asked for, and kept."""

import copy
import hashlib
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from facelib.io.files import atomic_write
from facelib.runtime.batching import forbid_fork
from facelib.settings import cache_folder

RUNTIMES = ("torch", "onnx")  # and "auto": the quicker one for the device


def make_session(model: str | bytes, device: str | None = None, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session for a file or its content.

    Args:
        device: "cpu", or "cuda:1" for a GPU by its number; else the first GPU that onnxruntime has, or the CPU.
        threads: for one call; 0: as many as PyTorch takes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    # Threads that wait for work sleep: on busy cores those that spin take the time from those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        number = int((device or "").partition(":")[2] or 0)
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
    return onnxruntime.InferenceSession(model, options, providers=providers)


def network_hash(model: nn.Module) -> str:
    """SHA-256 of what a network is made of and filled with, in hexadecimal digits."""
    digest = hashlib.sha256(str(model).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def export_onnx(model: nn.Module, input_size: int, path: Path) -> None:
    """Write what the network computes for images (n, 3, input_size, input_size) as an ONNX file, n left open."""
    images = torch.zeros(2, 3, input_size, input_size, dtype=torch.float32, device="cpu")
    model = copy.deepcopy(model).cpu().eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with atomic_write(path) as new, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own inside
            torch.onnx.export(
                model,
                (images,),
                new,
                input_names=["images"],
                output_names=["outputs"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(level)


class OnnxNetwork:
    """images (n, 3, s, s) float32 -> what `model` gives for them, by ONNX Runtime.

    On a CPU a batch is computed in as many parts as PyTorch has threads, which so need not wait for each other at
    every layer: on two cores that takes a third less time than all threads on the whole batch.

    The ONNX file is made once and kept in FACELIB_CACHE (else ~/.cache/facelib) under the network's hash.

    Args:
        batch_axis: of the outputs.
    """

    def __init__(self, model: nn.Module, input_size: int, batch_axis: int = 0):
        forbid_fork()
        self.path = cache_folder() / f"{network_hash(model)[:16]}_{input_size}.onnx"
        whole = self.path.exists()
        if not whole:
            export_onnx(model, input_size, self.path)
        self.batch_axis, self.device = batch_axis, str(next(model.parameters()).device)
        try:
            self._start()
        except Exception:  # whatever onnxruntime raises for a file that is cut short
            if not whole:
                raise
            export_onnx(model, input_size, self.path)
            self._start()

    def _start(self) -> None:
        self.session = make_session(str(self.path), self.device)
        on_cpu = self.session.get_providers() == ["CPUExecutionProvider"]
        self.parts = torch.get_num_threads() if on_cpu else 1
        self.narrow = make_session(str(self.path), "cpu", threads=1) if self.parts > 1 else self.session
        self.threads = ThreadPoolExecutor(self.parts)

    def __getstate__(self) -> dict:
        return {"path": self.path, "batch_axis": self.batch_axis, "device": self.device}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)  # in another process: the same file, sessions of its own
        self._start()

    def __call__(self, images: Tensor) -> Tensor:
        values = images.cpu().contiguous().numpy()
        if len(values) < max(self.parts, 2):
            return torch.from_numpy(self.session.run(None, {"images": values})[0])
        parts = np.array_split(values, self.parts)
        outputs = self.threads.map(lambda part: self.narrow.run(None, {"images": part})[0], parts)
        return torch.from_numpy(np.concatenate(list(outputs), self.batch_axis))


def onnx_network(model: nn.Module, input_size: int, runtime: str, batch_axis: int = 0) -> OnnxNetwork | None:
    """The network in ONNX Runtime; None where PyTorch is asked for, or quicker ("auto": anywhere but on a CPU), or, for
    "auto", where the ONNX file cannot be kept.

    Raises:
        ValueError: an unknown runtime.
    """
    if runtime not in (*RUNTIMES, "auto"):
        raise ValueError(f"runtime={runtime!r}: expected auto or one of {', '.join(RUNTIMES)}")
    if runtime == "torch" or (runtime == "auto" and next(model.parameters()).device.type != "cpu"):
        return None
    try:
        return OnnxNetwork(model, input_size, batch_axis)
    except OSError as error:
        if runtime == "onnx":
            raise
        warnings.warn(f"{cache_folder()}: no ONNX file can be kept there ({error}), so PyTorch is used", stacklevel=3)
        return None
