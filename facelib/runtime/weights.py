"""PyTorch weights: state dicts in half precision, described and hashed in the manifest.json beside them."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facelib.io.files import atomic_write, file_hash, printable
from facelib.runtime.batching import forbid_fork
from facelib.runtime.manifest import (
    check_hash,
    manifest_value,
    missing_weights,
    read_manifest,
    weights_entry,
    write_manifest,
)
from facelib.runtime.published_weights import find_published
from facelib.settings import select_torch_device
from facelib.types import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Names in files that were written before version 0.3, the shipped ones among them -> today's. The files stay as they
# are, because their hashes identify the embeddings in galleries and calibrations.
RENAMED_ARGUMENTS = {"taught_weight": "distill_head_scale", "taught_centre": "distill_centering"}
RENAMED_TENSORS = {
    "taught.weight": "distill_head.weight",
    "taught.bias": "distill_head.bias",
    "taught_mean": "teacher_mean",
}


def save_weights(model: nn.Module, path: str | Path, **entry: Any) -> None:
    """Save a state dict in half precision, and put its hash, the date and `entry` into the manifest beside it.

    The manifest entry of an ONNX file that was exported from other weights of this name is removed.
    """
    import torch

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    with atomic_write(path) as new:
        torch.save(state, new)
    described = {"sha256": file_hash(path), "date": datetime.date.today().isoformat(), **entry}
    manifest = read_manifest(path.parent)
    before = manifest.get(path.name, {})
    if before.get("sha256") == described["sha256"] and "threshold" in before:
        described["threshold"] = before["threshold"]
    manifest[path.name] = described
    outdated = [
        name
        for name, other in manifest.items()
        if other.get("from") == path.name and other.get("from_sha256") != described["sha256"]
    ]
    for name in outdated:
        del manifest[name]
    write_manifest(manifest, path.parent)


def load_weights(
    path: str | Path, build: Callable[..., nn.Module], device: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that the manifest describes and load its weights, with checks of the file.

    Args:
        path: weights file; the manifest.json beside it must list it.
        build: called with the manifest's "arguments", returns the network.
        device: see `select_torch_device`.

    Returns:
        The network in evaluation mode, float32, and its manifest entry.

    Raises:
        FileNotFoundError: no such file, and it is not published either.
        DownloadError: see `find_published`.
        WeightsError: not in the manifest, another hash, truncated, or of another architecture.
        ForkError: see `forbid_fork`.
    """
    import torch

    forbid_fork()
    path = Path(path)
    entry, state = _read_checked(path)
    arguments = manifest_value(path, entry, "arguments")
    if "pretrained" in arguments:  # it would ask a hub for weights that the file replaces
        raise WeightsError(f"{path.parent / 'manifest.json'}: {path.name} > arguments > pretrained: remove it")
    arguments = {RENAMED_ARGUMENTS.get(name, name): value for name, value in arguments.items()}
    try:
        with torch.device("meta"):  # allocates no memory for sizes that may be absurd
            shapes = {name: value.shape for name, value in build(**arguments).state_dict().items()}
        if shapes != {name: value.shape for name, value in state.items()}:
            raise ValueError("names or shapes differ")
        with torch.device("cpu"):
            model = build(**arguments)
        model.load_state_dict(state)
    except Exception as error:  # a network may raise anything when it is built with wrong arguments
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise WeightsError(f"{path} holds weights of another architecture than {arguments}: {reason}") from None
    # float32, also where the program changed PyTorch's default.
    model = model.float().to(memory_format=torch.channels_last).to(select_torch_device(device))
    return model.eval(), entry


def _read_checked(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The manifest entry of a weights file and its state dict, after a check of the hash."""
    import torch

    entry = weights_entry(path)
    if path.exists():
        check_hash(path, entry, "train again, which writes both")
        file: Path | None = path
    else:
        file = find_published(path, manifest_value(path, entry, "sha256", among=str))
    if file is None:
        raise missing_weights(path)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises many kinds
        reason = textwrap.shorten(printable(error), 200, placeholder=" ...")
        raise WeightsError(f"{path} is not a state dict that PyTorch can read: {reason}") from None
    if not isinstance(state, dict):
        raise WeightsError(f"{path} is not a state dict, but {type(state).__name__}")
    return entry, {RENAMED_TENSORS.get(str(name), str(name)): value for name, value in state.items()}
