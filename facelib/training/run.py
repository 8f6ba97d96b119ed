"""From a recipe to weights, manifest entry, saved recipe and history: what `python -m facelib.training` does."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState

from facelib.records import RESULTS, results_folder, write_record, write_table
from facelib.settings import MODELS, data_folder
from facelib.training import embedder, landmarks
from facelib.training.recipes import RECIPES, EmbedderRecipe, Recipe, find_weights, recipe_hash, write_recipe
from facelib.weights import file_hash, save_weights

WEIGHTS = ("start", "teacher")  # keys of recipes that name weights
Training = landmarks.Training | embedder.Training


def train(recipe: Recipe, checkpoints: Path | None = None, **settings: Any) -> tuple[Recipe, Training]:
    """Train by a recipe, or go on from its checkpoint; nothing is saved but that.

    Args:
        checkpoints: their folder; None: <FACELIB_DATA>/checkpoints.
        settings: workers, device, progress, stop_after, as `Run` has them.

    Returns:
        The recipe, its start named by hash where it was a file; and what came out.
    """
    recipe = named_by_hash(recipe)
    room = embedder if isinstance(recipe, EmbedderRecipe) else landmarks
    folders = [MODELS, Path(recipe.out).parent, Path()]
    weights = {key: find_weights(getattr(recipe, key, ""), folders) for key in WEIGHTS}
    path = (checkpoints or data_folder() / "checkpoints") / Path(recipe.out).stem
    about = {"about": f"recipe {recipe_hash(recipe)}"}
    return recipe, room.train(recipe, weights, path, settings | about)


def named_by_hash(recipe: Recipe) -> Recipe:
    """The recipe with hashes where it names weights by their files."""
    files = {key: getattr(recipe, key, "") for key in WEIGHTS}
    return dataclasses.replace(recipe, **{key: file_hash(file) for key, file in files.items() if Path(file).is_file()})


def save(recipe: Recipe, training: Training, command: str) -> Path:
    """Write the weights and their manifest entry, and beside them the recipe, the history and what it was made of."""
    out = Path(recipe.out)
    results = results_folder(out.parent)
    recipes = RECIPES if results == RESULTS else out.parent
    model, metrics = training.model, {}
    room = embedder if isinstance(recipe, EmbedderRecipe) else landmarks
    if isinstance(training, embedder.Training):
        model = training.model.network
        metrics = training.closed_set("test", recipe.sizes[-1], {"closed_set_top1": 1, "closed_set_top5": 5})
    else:
        metrics = {"label_offsets": {name: offset.tolist() for name, offset in training.offsets.items()}}
    path = recipes / f"{out.stem}.toml"
    write_recipe(recipe, path)
    save_weights(model, out, **room.manifest_entry(training), recipe=os.path.relpath(path, out.parent))
    write_table(results / f"{out.stem}_history.csv", training.history)
    weights = {out.name: file_hash(out)[:8]}
    write_record(
        results / f"{out.stem}_training.json", metrics, command=command, weights=weights, data=room.data_of(training)
    )
    return out


def run(recipe: Recipe, checkpoints: Path | None = None, **settings: Any) -> None:
    """Train and save, and say what came out and how it is used."""
    recipe, training = train(recipe, checkpoints, **settings)
    if not PartialState().is_main_process:
        return
    if len(training.history) < recipe.epochs:
        print(f"stopped after epoch {len(training.history)} of {recipe.epochs}; the same command goes on from there")
        return
    out = save(recipe, training, " ".join(["python -m facelib.training", *sys.argv[1:]]))
    load = "load_embedder" if isinstance(recipe, EmbedderRecipe) else "load_landmarker"
    print(f"{out}: use it with {load}({str(out)!r})")
