"""Weights: plain state dicts in half precision, described and hashed in models/manifest.json."""

import datetime
import hashlib
import json
import os
import pickle
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facelib.files import replacing

MODELS = Path(os.environ.get("FACELIB_MODELS", Path(__file__).parent.parent / "models"))


def data_folder() -> Path:
    """FACELIB_DATA, else the repository's data/."""
    return Path(os.environ.get("FACELIB_DATA") or Path(__file__).parent.parent / "data")


_NETWORKS_IN: int | None = None  # the process that loaded or ran networks


def one_process() -> None:
    """Called before a network is loaded or run: their threads do not exist in a forked process, which would hang.

    Raises:
        RuntimeError: this process was forked from one that had loaded networks.
    """
    global _NETWORKS_IN
    if _NETWORKS_IN not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked from one that had loaded networks, whose threads are not here: it would wait "
            'for ever. Start workers with multiprocessing.get_context("spawn"), or fork before anything is loaded'
        )
    _NETWORKS_IN = os.getpid()


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices over `count` items, at most `size` at a time, the rest in powers of two: 45 by 32 are 32, 8, 4 and 1.

    On a CPU, PyTorch keeps a set of prepared kernels for every batch size it has met. Over photos with all numbers
    of faces these took 1.4 GB; with these few sizes they take a tenth.
    """
    start = 0
    while start < count:
        step = min(size, 1 << ((count - start).bit_length() - 1))
        yield slice(start, start + step)
        start += step


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """ "cpu", "cuda", "mps", or the best there is for None; a torch.device is one too.

    Raises:
        ValueError: the named device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        device = next(name for name, available in there.items() if available)
    if not there.get(str(device).split(":")[0], False):
        names = ", ".join(name for name, available in there.items() if available)
        raise ValueError(f"device={device!r} is not available here; there is: {names}")
    return torch.device(device)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: str | Path = MODELS) -> dict[str, dict[str, Any]]:
    """Everything models/manifest.json says, by file name, and under "embedder" what holds for the two networks
    side by side; empty where there is no manifest."""
    path = Path(folder) / "manifest.json"
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): restore it from the repository") from None
    if not isinstance(manifest, dict) or not all(isinstance(entry, dict) for entry in manifest.values()):
        raise ValueError(f"{path} is no manifest (expected an object of objects): restore it from the repository")
    return manifest


def manifest_value(path: Path, entry: dict[str, Any], *names: str, among: type | range | tuple = dict) -> Any:
    """entry[name][name]... of the manifest entry of the weights `path`, which must be of a type or among values.

    Raises:
        ValueError: it is missing or another.
    """
    value: Any = entry
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(among, type):
        fits, expected = isinstance(value, among), among.__name__
    elif isinstance(among, range):
        fits, expected = type(value) is int and value in among, f"{among[0]} to {among[-1]} in steps of {among.step}"
    else:
        fits, expected = value in among, f"one of {', '.join(among)}"
    if not fits:
        raise ValueError(
            f"{path.parent / 'manifest.json'}: {' > '.join((path.name, *names))} is {str(value)[:60]!r}, expected "
            f"{expected}; restore the manifest, or train again"
        )
    return value


def threshold_of(folder: str | Path = MODELS) -> float | None:
    """The cosine distance below which the manifest calls two faces the same person; None where it names none.

    Raises:
        ValueError: it is no distance.
    """
    value = read_manifest(folder)
    for name in ("embedder", "threshold", "cosine_distance"):
        value = value.get(name) if isinstance(value, dict) else None
    if value is not None and not (type(value) in (int, float) and 0 < value < 2):
        raise ValueError(f"{Path(folder) / 'manifest.json'}: threshold {value!r}, expected a distance from 0 to 2")
    return value


def write_manifest(manifest: dict[str, dict[str, Any]], folder: str | Path = MODELS) -> None:
    """What `read_manifest` reads."""
    with replacing(Path(folder) / "manifest.json") as path:
        path.write_text(json.dumps(manifest, indent=2) + "\n")


def save_weights(model: nn.Module, path: str | Path, **entry: Any) -> None:
    """Save a state dict in half precision and put its hash and `entry` into the manifest beside it.

    What was measured with the former weights side by side with others ("embedder") leaves the manifest.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    with replacing(path) as new:
        torch.save(state, new)
    manifest = read_manifest(path.parent)
    embedder = manifest.get("embedder", {})
    choice = embedder.get("choice", {})
    embedder["choice"] = {names: rates for names, rates in choice.items() if path.name not in names.split(" + ")}
    if path.name in embedder.get("files", []):
        del manifest["embedder"]
    manifest[path.name] = {"sha256": file_hash(path), "date": datetime.date.today().isoformat(), **entry}
    write_manifest(manifest, path.parent)


def load_weights(
    path: str | Path, build: Callable[..., nn.Module], device: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that the manifest describes and fill it, checking the file on the way.

    Args:
        path: weights file; the manifest.json beside it must list it.
        build: called with the manifest's "arguments", gives the network.
        device: see `pick_device`.

    Returns:
        The network in evaluation mode, and its manifest entry.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not in the manifest, hash differs, cut short, or of another architecture.
    """
    one_process()
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such weights; restore them from the repository or train them (see models/README.md)"
        )
    entry = read_manifest(path.parent).get(path.name)
    if entry is None:
        raise ValueError(f"{path} is not listed in {path.parent / 'manifest.json'}: its architecture is unknown")
    if file_hash(path) != manifest_value(path, entry, "sha256", among=str):
        raise ValueError(
            f"{path} is not the file that {path.parent / 'manifest.json'} describes (SHA-256 differs): it is cut "
            "short or replaced; restore it, or train again, which writes both"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a state dict that PyTorch can read: {error}") from None
    arguments = manifest_value(path, entry, "arguments")
    try:
        with torch.device("meta"):  # before memory is taken for numbers that may be absurd
            shapes = {name: value.shape for name, value in build(**arguments).state_dict().items()}
        if shapes != {name: value.shape for name, value in state.items()}:
            raise ValueError("names or shapes differ")
        model = build(**arguments)
        model.load_state_dict(state)
    except Exception as error:  # whatever a network raises that is built with the wrong arguments
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ValueError(f"{path} holds weights of another architecture than {arguments}: {reason}") from None
    return model.to(pick_device(device), memory_format=torch.channels_last).eval(), entry
