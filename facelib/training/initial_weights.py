"""The weights that a recipe goes on from: named by their hash, looked for, and of the recipe's architecture."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facelib.runtime.manifest import file_hash, read_manifest
from facelib.training.configuration import TrainingConfig

WEIGHTS = {"landmarks": ("start", "teacher"), "embedder": ("start",)}  # kind of recipe -> keys that name weights


def weights_files(recipe: TrainingConfig) -> dict[str, Path]:
    """The weights that a recipe names by their files instead of their hashes."""
    named = {key: Path(getattr(recipe, key)) for key in WEIGHTS[recipe.kind]}
    return {key: file for key, file in named.items() if file.is_file()}


def with_hashes(recipe: TrainingConfig) -> TrainingConfig:
    """The recipe with hashes where it names weights by their files."""
    return dataclasses.replace(recipe, **{key: file_hash(file) for key, file in weights_files(recipe).items()})


def find_weights(digits: str, folders: Sequence[Path]) -> Path | None:
    """The weights that a recipe names by their hash; None where it names none.

    Raises:
        FileNotFoundError: no manifest of `folders` lists them.
    """
    if digits in ("", "imagenet", "random"):
        return None
    if len(digits) != 64:
        raise FileNotFoundError(f"start: {digits}: no such file, and no SHA-256 of weights either")
    for folder in folders:
        for name, entry in read_manifest(folder).items():
            if entry.get("sha256") == digits:
                return folder / name
    raise FileNotFoundError(
        f"the weights {digits[:16]}... that the recipe goes on from are not here: no "
        "manifest.json lists their SHA-256 in "
        f"{', '.join(map(str, folders))}. Not all weights that others were made from are shipped; make them "
        "by their own recipe, or name other weights, e.g. with --set start=FILE"
    )


def check_arguments(arguments: dict[str, Any], recipe: TrainingConfig) -> None:
    """Raise ValueError where weights to start from have another architecture than the recipe says."""
    for name, value in arguments.items():
        if getattr(recipe, name, value) != value:
            raise ValueError(
                f"{name}: the weights to start from have {value!r}, the recipe says {getattr(recipe, name)!r}; "
                f"--set {name}={value}"
            )


@torch.no_grad()
def average_with_initial(network: nn.Module, start: dict[str, Tensor], share: float) -> None:
    """Weights on the line from those at the start to those at the end: often better than both where a training went on
    with something else, because it keeps what the training would have forgotten (Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models").

    Args:
        start: the state at the start; what is not in it stays as trained. share: its weight, from 0 to 1.
    """
    for name, value in network.state_dict().items():
        if name in start and value.is_floating_point():
            value.lerp_(start[name].to(value), share)
