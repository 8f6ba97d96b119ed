"""The weights that a training starts from: named by their SHA-256, found through the manifests."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facelib.runtime.manifest import file_hash, read_manifest
from facelib.training.configuration import TrainingConfig

# Kind of configuration -> the keys that name weights.
WEIGHTS_KEYS = {"landmarks": ("initial_weights", "label_network"), "embedder": ("initial_weights",)}
NO_FILE = ("", "imagenet", "random")


def weights_files(config: TrainingConfig) -> dict[str, Path]:
    """Key -> file, for the weights that a configuration names by their files instead of their hashes."""
    named = {key: Path(getattr(config, key)) for key in WEIGHTS_KEYS[config.kind]}
    return {key: file for key, file in named.items() if file.is_file()}


def with_hashes(config: TrainingConfig) -> TrainingConfig:
    """The configuration with SHA-256 values where it names weights by their files."""
    hashes = {key: file_hash(file) for key, file in weights_files(config).items()}
    return dataclasses.replace(config, **hashes)  # type: ignore[type-var]


def find_weights(sha256: str, folders: Sequence[Path]) -> Path | None:
    """The file that a manifest of `folders` lists under a hash; None for "imagenet", "random" and "".

    Raises:
        FileNotFoundError: no manifest lists it.
    """
    if sha256 in NO_FILE:
        return None
    if len(sha256) != 64:
        raise FileNotFoundError(f"initial_weights: {sha256}: no such file, and not a SHA-256 of weights either")
    for folder in folders:
        for name, entry in read_manifest(folder).items():
            if entry.get("sha256") == sha256:
                return folder / name
    raise FileNotFoundError(
        f"the initial weights {sha256[:16]}... are not here: no manifest.json in {', '.join(map(str, folders))} lists "
        "their SHA-256. Not all initial weights are shipped: train them by their own configuration, or use others, "
        "e.g. --set initial_weights=FILE"
    )


def check_arguments(arguments: dict[str, Any], config: TrainingConfig) -> None:
    """Raise ValueError where initial weights have another architecture than the configuration."""
    for name, value in arguments.items():
        if getattr(config, name, value) != value:
            raise ValueError(
                f"{name}: the initial weights have {value!r}, the configuration says {getattr(config, name)!r}; "
                f"--set {name}={value}"
            )


@torch.no_grad()
def average_with_initial(network: nn.Module, initial: dict[str, Tensor], alpha: float) -> None:
    """Average trained and initial weights, which often beats both after fine-tuning with another loss, because it keeps
    what the fine-tuning would have forgotten (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    Args:
        initial: state dict; parameters that are not in it stay as trained. alpha: weight of the initial ones, 0 to 1.
    """
    for name, value in network.state_dict().items():
        if name in initial and value.is_floating_point():
            value.lerp_(initial[name].to(value), alpha)
