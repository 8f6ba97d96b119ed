"""Weights: plain state dicts in half precision, described and hashed in models/manifest.json."""

import datetime
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

MODELS = Path(os.environ.get("FACELIB_MODELS", Path(__file__).parent.parent / "models"))


def data_folder() -> Path:
    """FACELIB_DATA, else the repository's data/."""
    return Path(os.environ.get("FACELIB_DATA") or Path(__file__).parent.parent / "data")


def pick_device(device: str | None = None) -> torch.device:
    """ "cpu", "cuda", "mps", or the best there is for None.

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
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): restore it from the repository") from None


def write_manifest(manifest: dict[str, dict[str, Any]], folder: str | Path = MODELS) -> None:
    """What `read_manifest` reads."""
    (Path(folder) / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def save_weights(model: nn.Module, path: str | Path, **entry: Any) -> None:
    """Save a state dict in half precision and put its hash and `entry` into the manifest beside it.

    What was measured with the former weights side by side with others ("embedder") leaves the manifest.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save(state, path)
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
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such weights; restore them from the repository or train them (see models/README.md)"
        )
    entry = read_manifest(path.parent).get(path.name)
    if entry is None:
        raise ValueError(f"{path} is not listed in {path.parent / 'manifest.json'}: its architecture is unknown")
    if file_hash(path) != entry["sha256"]:
        raise ValueError(
            f"{path} is not the file that {path.parent / 'manifest.json'} describes (SHA-256 differs): it is cut "
            "short or replaced; restore it, or train again, which writes both"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a state dict that PyTorch can read: {error}") from None
    try:
        model = build(**entry["arguments"])
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} holds weights of another architecture than {entry['arguments']}: {error}") from None
    return model.to(pick_device(device), memory_format=torch.channels_last).eval(), entry
