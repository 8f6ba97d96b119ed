"""Equal runs that differ in one setting: a base configuration and overrides, from models/recipes/comparisons.toml.

`python -m facelib.training.compare [NAME ...]` trains what has no result yet (results are kept under
FACELIB_DATA/comparisons, so an interrupted comparison resumes) and writes models/results/comparison_NAME.csv, which
keeps the rows of runs that are not trained again. `--list` prints the comparisons and their runs.
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
import torch

from facelib.alignment.landmarker import load_landmarker
from facelib.bootstrap_intervals import bootstrap_identification_rate
from facelib.datasets.aligned_faces import aligned_families
from facelib.datasets.groups import group_faces, world_faces
from facelib.datasets.splits import GROUPS, WORLD
from facelib.embedding.embedder import NetworkEmbedder, TrainedNetwork
from facelib.group_metrics import group_fmrs, impostor_scores, threshold_at
from facelib.io.files import atomic_write
from facelib.io.records import RESULTS, read_table, write_table
from facelib.metrics import measurable_fprs, tpr_at_fprs, triplet_accuracy
from facelib.runtime.network_cost import network_cost
from facelib.settings import data_folder, select_torch_device
from facelib.training import embedder, landmarks
from facelib.training.configuration import RECIPES, TrainingConfig, config_hash, make_config
from facelib.training.initial_weights import with_hashes
from facelib.training.run import train

COMPARISONS = RECIPES / "comparisons.toml"
DESCRIPTION_KEYS = ("table", "what")  # of a run; everything else in it is a key of the configuration


def read_comparison(name: str, file: Path = COMPARISONS) -> dict[str, tuple[dict[str, str], TrainingConfig]]:
    """The runs of a comparison: name -> (its description, its configuration).

    Raises:
        ValueError: no comparison of that name.
        ConfigurationError: see `make_config`.
    """
    comparisons = tomllib.loads(file.read_text())
    if name not in comparisons:
        raise ValueError(f"{name}: {file} has {', '.join(comparisons)}")
    comparison = {"set": {}, "runs": {}} | comparisons[name]
    base = tomllib.loads((file.parent / comparison["base"]).read_text()) | comparison["set"]
    runs = {}
    for run, values in comparison["runs"].items():
        description = {key: values[key] for key in DESCRIPTION_KEYS if key in values}
        settings = {key: value for key, value in values.items() if key not in DESCRIPTION_KEYS}
        runs[run] = description, make_config(base | settings, name=f"{file}: {name}.{run}")
    return runs


def measure(training: landmarks.LandmarkTraining | embedder.EmbedderTraining) -> dict[str, Any]:
    """The figures of a run, a row of the table."""
    if isinstance(training, landmarks.LandmarkTraining):
        return _measure_landmarks(training)
    return _measure_embedder(training)


def _measure_landmarks(training: landmarks.LandmarkTraining) -> dict[str, Any]:
    last = training.history[-1]
    errors = {key: value for key, value in last.items() if key.startswith("nme_") and "stack" not in key}
    row: dict[str, Any] = {
        "faces_seen": len(training.history) * training.config.epoch_size,
        "input_size": training.input_size,
    }
    row |= {key: training.model.arguments[key] for key in ("stacks", "channels")}
    row |= network_cost(training.model, training.input_size) | {"loss": last["loss"]} | errors
    return row | {"nme_mean": float(np.mean(list(errors.values())))}


def _measure_embedder(training: embedder.EmbedderTraining) -> dict[str, Any]:
    config, last = training.config, training.history[-1]
    rows = training.training_set.rows("train")
    aligned, people = training.training_set.open_val
    size = config.input_size(1.0)
    row: dict[str, Any] = {
        "photos_seen": len(training.history) * (config.epoch_size or len(rows)),
        "people": len(training.training_set.names),
        "input_size": size,
        "loss": last["loss"],
    }
    network = TrainedNetwork(training.network, size)
    for name, flip in (("open_val", False), ("open_val_flip", True)):
        embeddings = NetworkEmbedder(network, flip=flip).embed(aligned)
        row |= {f"{name}_{fpr}": rate for fpr, rate in tpr_at_fprs(embeddings, people).items()}
    row |= _interval(embeddings, people)
    row["triplets"] = triplet_accuracy(embeddings, people)
    if config.alignment == "five_points":
        aligned, faces = aligned_families(load_landmarker())
        rates = tpr_at_fprs(NetworkEmbedder(network, flip=True).embed(aligned), faces.people)
        row |= {f"families_{fpr}": rate for fpr, rate in rates.items()}
        row |= _measure_groups(NetworkEmbedder(network))
    return row | {key: last[key] for key in ("top1",) if key in last}


def _measure_groups(embedder: NetworkEmbedder) -> dict[str, float]:
    """TPR on the people of faces_world who are held out for choosing, and the highest FMR of a group of faces_groups
    (calibration part) at the cosine at which white adults have 0.001. Nothing where these sets are not there."""
    if not all((data_folder() / name).is_dir() for name in (GROUPS, WORLD)):
        return {}
    world = world_faces("val", load_landmarker())
    embeddings = embedder.embed(world.aligned)
    row = {f"world_{fpr}": rate for fpr, rate in tpr_at_fprs(embeddings, world.faces.people).items()}
    groups = group_faces("calibration", load_landmarker())
    embeddings = embedder.embed(groups.aligned)
    pairs = impostor_scores(embeddings @ embeddings.T, groups.groups, np.asarray(groups.faces.sources))
    rates = group_fmrs(pairs, threshold_at([pairs["white men"], pairs["white women"]], 0.001))
    return row | {f"fmr_{group.replace(' ', '_')}": rate for group, rate in rates.items()}


def _interval(embeddings: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """95 % interval over people of the TPR at FPR 0.01, where there are enough pairs."""
    if not measurable_fprs(people, [0.01]):
        return {}
    bounds = bootstrap_identification_rate(embeddings, people, [0.01])[0]
    return dict(zip(("open_val_flip_0.01_low", "open_val_flip_0.01_high"), bounds))


def run_comparison(name: str, only: list[str], settings: dict[str, Any], file: Path = COMPARISONS) -> Iterator[dict]:
    """The rows of a comparison; missing runs are trained first.

    Args:
        only: train only these runs; [] for all. settings: see `train`.

    Raises:
        ValueError: an unknown run.
    """
    folder, runs = data_folder() / "comparisons", read_comparison(name, file)
    if unknown := [run for run in only if run not in runs]:
        raise ValueError(f"--only {unknown[0]}: {name} has {', '.join(runs)}")
    for run, (description, config) in runs.items():
        digits = config_hash(with_hashes(config))
        kept = folder / f"{name}_{run}_{digits}.json"
        if not kept.exists() and (not only or run in only):
            start = time.time()
            config, training = train(config, folder / f"{name}_{run}.pt", folder, **settings)
            row: dict[str, Any] = {"seconds": round(time.time() - start), "device": _name_of(settings.get("device"))}
            row |= measure(training) | {"data": training.data()}
            with atomic_write(kept) as path:
                path.write_text(json.dumps(row))
        if kept.exists():
            yield {"run": run, **description, "config_hash": digits, **json.loads(kept.read_text())}


def _name_of(device: str | None) -> str:
    """What a run was trained on: the name of the GPU, or the number of CPU threads."""
    kind = select_torch_device(device).type
    return torch.cuda.get_device_name() if kind == "cuda" else f"{torch.get_num_threads()} {kind.upper()} threads"


def list_runs(name: str) -> Iterator[str]:
    """Lines about a comparison: what it costs, and for each run the seconds of the recorded one, where they were
    recorded, and whether code made it that is gone."""
    comparison, runs = tomllib.loads(COMPARISONS.read_text())[name], read_comparison(name)
    path = RESULTS / f"comparison_{name}.csv"
    made = {row["run"]: row for row in read_table(path)} if path.exists() else {}
    yield f"{name}: {comparison.get('cost', 'time not measured')}"
    for run in dict.fromkeys([*runs, *made]):
        row = made.get(run, {"note": "not recorded yet"})
        seconds = f"{row['seconds']:.0f} s" if "seconds" in row else "-"
        device = f", {row['device']}" if "device" in row else ""
        what = row.get("what") or runs[run][0]["what"]
        gone = "" if run in runs else "; cannot be run again"
        note = f" ({row['note']}{gone})" if "note" in row else ""
        yield f"  {run:17} {seconds + device:>11}  {what}{note}"


def main() -> int:
    parser = argparse.ArgumentParser("python -m facelib.training.compare", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="comparisons; default: all")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="train only these runs")
    parser.add_argument("--device", help="cpu, cuda or mps; default: the best available")
    parser.add_argument("--list", action="store_true", help="print the comparisons and their runs; train nothing")
    options = parser.parse_args()
    try:
        for name in options.names or tomllib.loads(COMPARISONS.read_text()):
            if options.list:
                print(*list_runs(name), sep="\n")
                continue
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
