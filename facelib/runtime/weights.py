"""PyTorch weights: plain state dicts in half precision, described and hashed in the manifest.json beside them."""

import datetime
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facelib.io.files import atomic_write
from facelib.runtime.batching import forbid_fork
from facelib.runtime.manifest import file_hash, manifest_value, read_manifest, write_manifest
from facelib.settings import select_device
from facelib.types import WeightsError

# Names in files that were written before version 0.3 -> today's.
RENAMED_ARGUMENTS = {"taught_weight": "distill_head_scale", "taught_centre": "distill_centering"}
RENAMED_TENSORS = {
    "taught.weight": "distill_head.weight",
    "taught.bias": "distill_head.bias",
    "taught_mean": "teacher_mean",
}


def save_weights(model: nn.Module, path: str | Path, **entry: Any) -> None:
    """Save a state dict in half precision, and put its hash, the date and `entry` into the manifest beside it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    with atomic_write(path) as new:
        torch.save(state, new)
    manifest = read_manifest(path.parent)
    described = {"sha256": file_hash(path), "date": datetime.date.today().isoformat(), **entry}
    before = manifest.get(path.name, {})
    if before.get("sha256") == described["sha256"] and "threshold" in before:
        described["threshold"] = before["threshold"]
    manifest[path.name] = described
    write_manifest(manifest, path.parent)


def load_weights(
    path: str | Path, build: Callable[..., nn.Module], device: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that the manifest describes and fill it, checking the file on the way.

    Args:
        path: weights file; the manifest.json beside it must list it.
        build: called with the manifest's "arguments", returns the network.
        device: see `select_device`.

    Returns:
        The network in evaluation mode, and its manifest entry.

    Raises:
        FileNotFoundError: no such file.
        WeightsError: not in the manifest, hash differs, cut short, or of another architecture.
    """
    forbid_fork()
    path = Path(path)
    entry, state = _checked(path)
    arguments = manifest_value(path, entry, "arguments")
    arguments = {RENAMED_ARGUMENTS.get(name, name): value for name, value in arguments.items()}
    try:
        with torch.device("meta"):  # before memory is allocated for sizes that may be absurd
            shapes = {name: value.shape for name, value in build(**arguments).state_dict().items()}
        if shapes != {name: value.shape for name, value in state.items()}:
            raise ValueError("names or shapes differ")
        with torch.device("cpu"):
            model = build(**arguments)
        model.load_state_dict(state)
    except Exception as error:  # whatever a network raises that is built with the wrong arguments
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise WeightsError(f"{path} holds weights of another architecture than {arguments}: {reason}") from None
    # In float32, whatever the program has made PyTorch's default.
    return model.float().to(select_device(device), memory_format=torch.channels_last).eval(), entry


def _checked(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The manifest entry of a weights file, and the state dict in it, which is the one that the entry describes."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such weights; restore them from the repository or train them (see models/README.md)"
        )
    entry = read_manifest(path.parent).get(path.name)
    if entry is None:
        raise WeightsError(f"{path} is not listed in {path.parent / 'manifest.json'}: its architecture is unknown")
    if file_hash(path) != manifest_value(path, entry, "sha256", among=str):
        raise WeightsError(
            f"{path} is not the file that {path.parent / 'manifest.json'} describes (SHA-256 differs): it is cut "
            "short or replaced; restore it, or train again, which writes both"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise WeightsError(f"{path} is not a state dict that PyTorch can read: {error}") from None
    return entry, {RENAMED_TENSORS.get(name, name): value for name, value in state.items()}
