"""From a recipe to weights, manifest entry, saved recipe and history: what `python -m facelib.training` does."""

import os
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState

from facelib.alignment.align import METHODS
from facelib.cli.results import prepare_folder
from facelib.io.records import RESULTS, results_folder, write_record, write_table
from facelib.runtime.manifest import file_hash, read_manifest
from facelib.runtime.weights import save_weights
from facelib.settings import MODELS, data_folder
from facelib.training import embedder, landmarks
from facelib.training.configuration import (
    RECIPES,
    WRITTEN,
    EmbedderConfig,
    TrainingConfig,
    config_hash,
    load_config,
    write_config,
)
from facelib.training.initial_weights import WEIGHTS, find_weights, weights_files, with_hashes

Training = landmarks.Training | embedder.Training


def train(recipe: TrainingConfig, checkpoints: Path | None = None, **settings: Any) -> tuple[TrainingConfig, Training]:
    """Train by a recipe, or go on from its checkpoint; nothing is saved but that.

    Args:
        checkpoints: their folder; None: <FACELIB_DATA>/checkpoints.
        settings: workers, device, progress, stop_after, as `Run` has them.

    Raises:
        FileNotFoundError, ValueError: what the recipe names is not there, or does not fit; before the first step.

    Returns:
        The recipe, its start named by hash where it was a file; and what came out.
    """
    if Path(recipe.out).is_dir():
        raise ValueError(f"out: {recipe.out} is a folder: name the file that the weights should become")
    files = weights_files(recipe)
    recipe = with_hashes(recipe)
    folders = [MODELS, Path(recipe.out).parent, Path(), *(file.parent for file in files.values())]
    weights = {key: find_weights(getattr(recipe, key), folders) for key in WEIGHTS[recipe.kind]}
    path = checkpoint_path(recipe, checkpoints)
    room = embedder if isinstance(recipe, EmbedderConfig) else landmarks
    return recipe, room.train(recipe, weights, path, settings | {"about": f"recipe {config_hash(recipe)}"})


def checkpoint_path(recipe: TrainingConfig, folder: Path | None) -> Path:
    """Of a training, without the ending; a recipe that is changed in anything has another."""
    return (folder or data_folder() / "checkpoints") / f"{Path(recipe.out).stem}_{config_hash(recipe)}"


def save(recipe: TrainingConfig, training: Training, command: str) -> None:
    """Write the weights and their manifest entry, and beside them the recipe, the history and what it was made of."""
    out, path = Path(recipe.out), config_file(recipe)
    results = results_folder(out.parent)
    if not path.exists() or path.read_text().startswith(WRITTEN):
        write_config(recipe, path)
    save_weights(training.network, out, **training.entry(), recipe=os.path.relpath(path, out.parent))
    write_table(results / f"{out.stem}_history.csv", training.history)
    made = {"command": command, "weights": {out.name: file_hash(out)[:8]}, "data": training.data()}
    write_record(results / f"{out.stem}_training.json", training.metrics(), **made)


def config_file(recipe: TrainingConfig) -> Path:
    """Where the recipe is kept, beside the weights.

    Raises:
        ValueError: somebody has written another recipe there.
    """
    out = Path(recipe.out)
    path = (RECIPES if results_folder(out.parent) == RESULTS else out.parent) / f"{out.stem}.toml"
    by_hand = path.exists() and not path.read_text().startswith(WRITTEN)
    if by_hand and (there := load_config(path)) != recipe:
        differ = [key for key, value in vars(recipe).items() if getattr(there, key, None) != value]
        raise ValueError(
            f"out: {path} is there already and says something else ({', '.join(differ)}): give the weights another "
            "name with --set out=FILE"
        )
    return path


def run(recipe: TrainingConfig, checkpoints: Path | None = None, **settings: Any) -> None:
    """Train and save, and say what came out and how it is used.

    Raises:
        ValueError: what came out could not be saved or loaded; see also `train`.
    """
    out = Path(recipe.out)
    config_file(with_hashes(recipe))
    prepare_folder(out.parent)
    read_manifest(out.parent)
    if any(file.resolve() == out.resolve() for file in weights_files(recipe).values()):
        raise ValueError(f"out: {out} is what the training starts from: give the new weights another name")
    if out.exists():
        print(f"{out} is there already, and will be replaced when the training ends")
    if isinstance(recipe, EmbedderConfig) and recipe.alignment not in METHODS:
        raise ValueError(f"alignment: {recipe.alignment!r} is for comparisons, expected one of {', '.join(METHODS)}")
    recipe, training = train(recipe, checkpoints, **settings)
    processes = PartialState()
    if not processes.is_main_process:
        return
    if processes.num_processes > 1:
        print(f"{processes.num_processes} processes shared every batch")
    if recipe.epochs and len(training.history) < recipe.epochs:
        print(
            f"stopped after epoch {len(training.history)} of {recipe.epochs}; the same command "
            "without --stop-after goes on from there"
        )
        return
    save(recipe, training, " ".join(["python -m facelib.training", *sys.argv[1:]]))
    kept = checkpoint_path(recipe, checkpoints)
    for checkpoint in kept.parent.glob(f"{kept.name}*.pt"):
        checkpoint.unlink()  # the next time, the training begins anew
    load = "load_embedder" if isinstance(recipe, EmbedderConfig) else "load_landmarker"
    print(f"{out}: use it with {load}({str(out)!r})")
