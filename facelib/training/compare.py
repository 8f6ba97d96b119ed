"""Equal runs that differ in one thing: a recipe and a list of overrides, from models/recipes/comparisons.toml.

`python -m facelib.training.compare [NAME ...]` trains what has no result yet (each run's is kept under
FACELIB_DATA/comparisons, so an interrupted comparison goes on where it stopped) and writes
models/results/comparison_NAME.csv, which keeps the rows of runs that are not made anew.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.landmarker import load_landmarker
from facelib.datasets.aligned_faces import aligned_families
from facelib.embedding.embedder import NetworkEmbedder, TrainedNetwork
from facelib.io.files import atomic_write
from facelib.io.records import RESULTS, read_table, write_table
from facelib.metrics import bootstrap_identification_rate, measurable_fprs, tpr_at_fprs, triplet_accuracy
from facelib.runtime.batching import network_cost
from facelib.settings import data_folder
from facelib.training import embedder, landmarks
from facelib.training.configuration import RECIPES, TrainingConfig, config_hash, make_config
from facelib.training.initial_weights import with_hashes
from facelib.training.run import train

COMPARISONS = RECIPES / "comparisons.toml"
WORDS = ("table", "what")  # of a run; everything else in it is a key of the recipe


def read_comparison(name: str, file: Path = COMPARISONS) -> dict[str, tuple[dict[str, str], TrainingConfig]]:
    """The runs of a comparison: name -> (what it is, its recipe).

    Raises:
        ValueError: no comparison of that name, or a recipe that is none, see `make_config`.
    """
    comparisons = tomllib.loads(file.read_text())
    if name not in comparisons:
        raise ValueError(f"{name}: {file} has {', '.join(comparisons)}")
    comparison = {"set": {}, "runs": {}} | comparisons[name]
    base = tomllib.loads((file.parent / comparison["recipe"]).read_text()) | comparison["set"]
    return {
        run: (
            {word: values[word] for word in WORDS if word in values},
            make_config(
                base | {key: value for key, value in values.items() if key not in WORDS}, name=f"{file}: {name}.{run}"
            ),
        )
        for run, values in comparison["runs"].items()
    }


def measure(recipe: TrainingConfig, training: landmarks.Training | embedder.Training) -> dict[str, Any]:
    """A row of the table: what is compared."""
    last = training.history[-1]
    if isinstance(training, landmarks.Training):
        errors = {key: value for key, value in last.items() if key.startswith("nme_") and "stack" not in key}
        mean = {"nme_mean": float(np.mean(list(errors.values())))}
        seen = {"faces_seen": len(training.history) * recipe.epoch_size, "input_size": training.size}
        seen |= {"stacks": training.model.arguments["stacks"], "channels": training.model.arguments["channels"]}
        return seen | network_cost(training.model, training.size) | {"loss": last["loss"]} | errors | mean
    rows, (seen, people) = training.training_set.rows("train"), training.training_set.unseen
    row = {
        "photos_seen": len(training.history) * (recipe.epoch_photos or len(rows)),
        "people": len(training.training_set.names),
    }
    row |= {"input_size": recipe.size(1.0), "loss": last["loss"]}
    network = TrainedNetwork(training.network, recipe.size(1.0))
    for name, flip in (("open_val", False), ("open_val_flip", True)):
        vectors = NetworkEmbedder(network, flip=flip).embed(seen)
        row |= {f"{name}_{fpr}": rate for fpr, rate in tpr_at_fprs(vectors, people).items()}
    row |= interval_of(vectors, people)
    row["triplets"] = triplet_accuracy(vectors, people)
    if recipe.alignment == "five_points":
        aligned, faces = aligned_families(load_landmarker())
        rates = tpr_at_fprs(NetworkEmbedder(network, flip=True).embed(aligned), faces.people)
        row |= {f"families_{fpr}": rate for fpr, rate in rates.items()}
    return row | {key: last[key] for key in ("top1",) if key in last}


def interval_of(vectors: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """95 % interval over people of the TPR at FPR 0.01, where there are pairs enough."""
    if not measurable_fprs(people, [0.01]):
        return {}
    bounds = bootstrap_identification_rate(vectors, people, [0.01])[0]
    return dict(zip(("open_val_flip_0.01_low", "open_val_flip_0.01_high"), bounds))


def run_comparison(name: str, only: list[str], settings: dict[str, Any], file: Path = COMPARISONS) -> Iterator[dict]:
    """The rows of a comparison, those that are missing trained first."""
    folder, runs = data_folder() / "comparisons", read_comparison(name, file)
    if unknown := [run for run in only if run not in runs]:
        raise ValueError(f"--only {unknown[0]}: {name} has {', '.join(runs)}")
    for run, (words, recipe) in runs.items():
        digits = config_hash(with_hashes(recipe))
        kept = folder / f"{name}_{run}_{digits}.json"
        if not kept.exists() and (not only or run in only):
            start = time.time()
            recipe, training = train(recipe, folder / f"{name}_{run}_{digits}", **settings)
            row = {"seconds": round(time.time() - start)} | measure(recipe, training) | {"data": training.data()}
            with atomic_write(kept) as path:
                path.write_text(json.dumps(row))
        if kept.exists():
            yield {"run": run, **words, "recipe": digits, **json.loads(kept.read_text())}


def main() -> int:
    parser = argparse.ArgumentParser("python -m facelib.training.compare", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="comparisons; default: all")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="train only these runs")
    parser.add_argument("--device")
    options = parser.parse_args()
    try:
        for name in options.names or tomllib.loads(COMPARISONS.read_text()):
            path = RESULTS / f"comparison_{name}.csv"
            rows = {row["run"]: row for row in read_table(path)} if path.exists() else {}
            for row in run_comparison(name, options.only, {"device": options.device, "progress": False}):
                print(name, row, flush=True)
                rows[row["run"]] = row
                write_table(path, list(rows.values()))
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
