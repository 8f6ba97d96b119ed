"""From a configuration to weights, manifest entry, saved configuration and history: what `python -m facelib.training`
does."""

import os
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState

from facelib.alignment.align import METHODS
from facelib.io.files import prepare_folder
from facelib.io.records import RESULTS, results_folder, write_record, write_table
from facelib.runtime.manifest import file_hash, read_manifest
from facelib.runtime.weights import save_weights
from facelib.settings import MODELS, data_folder, own_caches
from facelib.training import embedder, landmarks
from facelib.training.configuration import (
    GENERATED,
    RECIPES,
    EmbedderConfig,
    TrainingConfig,
    config_hash,
    load_config,
    write_config,
)
from facelib.training.export import write_onnx_beside
from facelib.training.initial_weights import WEIGHTS_KEYS, find_weights, weights_files, with_hashes

Training = landmarks.LandmarkTraining | embedder.EmbedderTraining


def default_out(name: str) -> Path:
    """Where weights go unless told otherwise: <FACELIB_DATA>/trained/<name>.pt."""
    return data_folder() / "trained" / f"{name}.pt"


def train(
    config: TrainingConfig, out: Path, checkpoints: Path | None = None, **settings: Any
) -> tuple[TrainingConfig, Training]:
    """Train by a configuration, or resume from its checkpoint; nothing else is saved.

    Args:
        out: the file that the weights will have; checkpoints are named after it.
        checkpoints: their folder; None: <FACELIB_DATA>/checkpoints.
        settings: workers, device, progress, stop_after, as in `RunConfig`.

    Raises:
        FileNotFoundError, ValueError: something that the configuration names is missing or does not fit; before the
            first step.

    Returns:
        The configuration, its initial weights named by hash where it named a file; and the training.
    """
    if out.is_dir():
        raise ValueError(f"--out: {out} is a folder: name the file of the weights")
    if out.suffix != ".pt":
        raise ValueError(f"--out: {out}, expected the name of a file that ends in .pt")
    files = weights_files(config)
    config = with_hashes(config)
    folders = [MODELS, out.parent, Path(), *(file.parent for file in files.values())]
    weights = {key: find_weights(getattr(config, key), folders) for key in WEIGHTS_KEYS[config.kind]}
    path = checkpoint_path(config, out, checkpoints)
    trainer = embedder if isinstance(config, EmbedderConfig) else landmarks
    description = f"configuration {config_hash(config)}"
    return config, trainer.train(config, weights, path, settings | {"description": description})


def checkpoint_path(config: TrainingConfig, out: Path, folder: Path | None) -> Path:
    """Path of the checkpoint without ending; each configuration has its own."""
    return (folder or data_folder() / "checkpoints") / f"{out.stem}_{config_hash(config)}"


def save(config: TrainingConfig, training: Training, out: Path, command: str) -> None:
    """Write the weights with their manifest entry and ONNX file, and beside them configuration, history and metrics."""
    path, results = config_file(config, out), results_folder(out.parent)
    if not path.exists() or path.read_text().startswith(GENERATED):
        write_config(config, path)
    entry = training.manifest_entry()
    save_weights(training.network, out, **entry, configuration=os.path.relpath(path, out.parent))
    write_table(results / f"{out.stem}_history.csv", training.history)
    measured = {"command": command, "weights": {out.name: file_hash(out)[:8]}, "data": training.data()}
    write_record(results / f"{out.stem}_training.json", training.final_metrics(), **measured)
    write_onnx_beside(out)


def config_file(config: TrainingConfig, out: Path) -> Path:
    """Where the configuration is kept, beside the weights.

    Raises:
        ValueError: there is another configuration, which was written by hand.
    """
    path = (RECIPES if results_folder(out.parent) == RESULTS else out.parent) / f"{out.stem}.toml"
    by_hand = path.exists() and not path.read_text().startswith(GENERATED)
    if by_hand and (there := load_config(path)) != config:
        differ = [key for key, value in vars(config).items() if getattr(there, key, None) != value]
        raise ValueError(
            f"--out: {path} exists and says something else ({', '.join(differ)}): give the weights another name"
        )
    return path


def check_out(config: TrainingConfig, out: Path, force: bool) -> None:
    """Check, before the first step, that the weights can be saved as `out`.

    Raises:
        OSError: the folder cannot be written to.
        ValueError: shipped weights would be replaced without `force`, or the file is the initial weights.
    """
    shipped = out.resolve().parent == MODELS.resolve() and out.name in read_manifest(MODELS)
    if shipped and not force:
        raise ValueError(f"--out: {out} is shipped with the repository: --force replaces it, or give another name")
    config_file(with_hashes(config), out)
    prepare_folder(out.parent)
    read_manifest(out.parent)
    if any(file.resolve() == out.resolve() for file in weights_files(config).values()):
        raise ValueError(f"--out: {out} is what the training starts from: give the new weights another name")


def run(
    config: TrainingConfig,
    out: Path,
    force: bool = False,
    checkpoints: Path | None = None,
    keep_cache: bool = False,
    **settings: Any,
) -> None:
    """Train and save, and print what was saved and how it is used.

    Args:
        force, checkpoints, settings: see `check_out` and `train`.
        keep_cache: whether the cached faces of one's own people stay for another training.

    Raises:
        ValueError: see `check_out` and `train`; an alignment that is for comparisons only.
    """
    check_out(config, out, force)
    if out.exists():
        print(f"{out} exists and will be replaced when the training ends")
    if isinstance(config, EmbedderConfig) and config.alignment not in METHODS:
        raise ValueError(f"alignment: {config.alignment!r} is for comparisons, expected one of {', '.join(METHODS)}")
    config, training = train(config, out, checkpoints, **settings)
    processes = PartialState()
    if not processes.is_main_process:
        return
    if processes.num_processes > 1:
        print(f"{processes.num_processes} processes shared every batch")
    if config.epochs and len(training.history) < config.epochs:
        print(
            f"stopped after epoch {len(training.history)} of {config.epochs}; the same command without --stop-after "
            "resumes"
        )
        return
    save(config, training, out, " ".join(["python -m facelib.training", *sys.argv[1:]]))
    finished = checkpoint_path(config, out, checkpoints)
    for checkpoint in finished.parent.glob(f"{finished.name}*.pt"):
        checkpoint.unlink()  # the same command trains from the beginning again
    del training  # which has the cached faces mapped into memory
    if isinstance(config, EmbedderConfig) and config.people_folder:
        end_own_caches(Path(config.people_folder), keep_cache)
    load = "load_embedder" if isinstance(config, EmbedderConfig) else "load_landmarker"
    print(f"{out}: use it with {load}({str(out)!r})")


def end_own_caches(folder: Path, keep: bool) -> None:
    """Remove the cached faces of one's own people, and say so; or where they stay."""
    caches = own_caches(folder)
    if keep and caches:
        print(f"the faces of {folder} stay in {caches[0].parent}; `facelib forget {folder}` removes them")
        return
    for file in caches:
        file.unlink()
    print(f"the cached faces of {folder} are removed (--keep-cache keeps them)")
