"""ONNX Runtime: sessions, devices, and networks that run in it."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facelib.io.files import file_hash, printable
from facelib.runtime.batching import forbid_fork
from facelib.telemetry import import_onnxruntime
from facelib.types import WeightsError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Execution providers of ONNX Runtime, in the order in which a device is chosen where none is named.
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
    "mps": "CoreMLExecutionProvider",
}


def resolve_device(device: Any = None) -> str:
    """Name of a device for ONNX Runtime: "cpu", "cuda:0" or "mps".

    Args:
        device: "cpu", "cuda", "mps"; "cuda:1" or 1 for a GPU by its number; a torch.device; None: CUDA where this ONNX
            Runtime has it, else the CPU.

    Raises:
        ValueError: the device is not available.
    """
    providers = import_onnxruntime().get_available_providers()
    available = [name for name, provider in PROVIDERS.items() if provider in providers]
    if device is None:
        return "cuda:0" if "cuda" in available else "cpu"
    is_number = (hasattr(device, "__index__") and not isinstance(device, bool)) or str(device).isdecimal()
    kind, _, number = (f"cuda:{device}" if is_number else str(device)).partition(":")
    number_fits = not number or (number.isdecimal() and (kind == "cuda" or number == "0"))
    if kind not in available or not number_fits:
        raise ValueError(_unavailable(device, kind, available))
    return f"cuda:{int(number or 0)}" if kind == "cuda" else kind


def _unavailable(device: Any, kind: str, available: list[str]) -> str:
    """The text of the error for a device that this ONNX Runtime does not have."""
    hint = ""
    if kind == "cuda" and "cuda" not in available:
        hint = '; for CUDA: pip uninstall onnxruntime, then pip install "onnxruntime-gpu"'
    return f"device={device!r} is not available here; ONNX Runtime has: {', '.join(available)}{hint}"


def cpu_threads() -> int:
    """Number of threads for computations on the CPU: OMP_NUM_THREADS, else the physical cores of this process."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return int(first)
    try:
        cores = os.sched_getaffinity(0)
        folder = Path("/sys/devices/system/cpu")
        return len({(folder / f"cpu{core}/topology/thread_siblings_list").read_text() for core in cores})
    except (AttributeError, OSError):  # not Linux
        return os.cpu_count() or 1


def make_session(model: str | bytes, device: Any = None, threads: int = 0) -> InferenceSession:
    """ONNX Runtime session of a file or its content.

    Args:
        device: see `resolve_device`.
        threads: CPU threads of one call; 0: `cpu_threads`.

    Raises:
        ValueError: the device is not available.
        WeightsError: not a valid ONNX file.
    """
    runtime = import_onnxruntime()
    name = resolve_device(device)
    kind, _, number = name.partition(":")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or cpu_threads()
    # Waiting threads sleep: on busy cores, spinning threads take the time of those that compute.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list = ["CPUExecutionProvider"]
    if kind != "cpu":
        providers.insert(0, (PROVIDERS[kind], {"device_id": number} if number else {}))
    # Without another provider to fall back to it would only try again, and print that on standard output.
    more = {"enable_fallback": 0} if kind == "cpu" else {}
    try:
        session = runtime.InferenceSession(model, options, providers=providers, **more)
    except Exception as error:  # ONNX Runtime raises many kinds
        name = model if isinstance(model, str) else "the content"
        raise WeightsError(f"{name} is not a valid ONNX file ({printable(error)[:100]}): restore it") from None
    used = session.get_providers()
    if device is not None and PROVIDERS[kind] not in used:  # ONNX Runtime falls back to the CPU where a GPU fails
        available = [other for other, provider in PROVIDERS.items() if provider in used]
        raise ValueError(_unavailable(device, kind, available))
    return session


class OnnxNetwork:
    """A network that ONNX Runtime runs: images (n, 3, s, s) float32 -> outputs float32.

    On the CPU a batch is split over threads, each with a part of it in a one-thread session, so that threads need not
    wait for each other at every layer: on two cores that takes a third less time than all threads on the whole batch.
    Sessions are made when they are first needed. The network can be pickled; another process makes its own sessions.

    Args:
        path: ONNX file with the input "images" and one output.
        device: see `resolve_device`.
        batch_axis: axis of the output that belongs to the images.

    Raises:
        ValueError: the device is not available.
        ForkError: see `forbid_fork`.
    """

    few_sizes = False  # any batch size costs the same, see `batches`

    def __init__(self, path: str | Path, device: Any = None, batch_axis: int = 0):
        forbid_fork()
        self.path, self.batch_axis = Path(path), batch_axis
        self.device = resolve_device(device)
        if self.device != "cpu":
            self._try_device(required=device is not None)

    def _try_device(self, required: bool) -> None:
        """Make the session of a GPU now, so that a failure is reported when the network is loaded."""
        try:
            _ = self.session
        except ValueError:
            if required:
                raise
            self.device = "cpu"  # the CUDA build of ONNX Runtime on a machine without a GPU

    @functools.cached_property
    def threads(self) -> int:
        """Number of parts of a batch that are computed at the same time."""
        return cpu_threads() if self.device == "cpu" else 1

    @functools.cached_property
    def session(self) -> InferenceSession:
        """Session with all threads, for small batches."""
        return make_session(str(self.path), self.device)

    @functools.cached_property
    def one_thread_session(self) -> InferenceSession:
        """Session for a part of a batch."""
        return make_session(str(self.path), self.device, threads=1)

    @functools.cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that compute the parts of a batch."""
        return ThreadPoolExecutor(self.threads)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "batch_axis": self.batch_axis, "device": self.device}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(images, np.float32)
        parts = self.threads
        if parts == 1 or len(images) < parts:
            return _run(self.session, images)
        outputs = self.pool.map(functools.partial(_run, self.one_thread_session), np.array_split(images, parts))
        return np.concatenate(list(outputs), self.batch_axis)

    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return file_hash(self.path)

    @property
    def model(self) -> Any:
        """Not available: raises RuntimeError. `TorchNetwork.model` is the PyTorch module."""
        raise RuntimeError(f'{self.path.name} runs in ONNX Runtime: load with runtime="torch" for the PyTorch module')


def _run(session: InferenceSession, images: np.ndarray) -> np.ndarray:
    """The first output of a session for images (n, 3, s, s) float32.

    Raises:
        WeightsError: the images have another size than the network's input, or the network fails.
    """
    expected = session.get_inputs()[0].shape[1:]
    if list(images.shape[1:]) != expected:
        sizes = ", ".join(map(str, expected))
        raise WeightsError(f"images of shape {images.shape}: the ONNX network expects (n, {sizes})")
    try:
        return session.run(None, {"images": images})[0]
    except Exception as error:  # ONNX Runtime raises many kinds
        raise WeightsError(f"the ONNX network fails ({printable(error)[:150]}): export it again") from None
