"""Which data sets of the evaluation are here, how the others are made, and records that are measured set by set."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from facelib.datasets.splits import FAMILIES, GROUPS, OPEN_SET, WORLD
from facelib.runtime.manifest import file_hash
from facelib.settings import LISTS, data_folder

LFW, LANDMARKS, PHOTOS = "lfw", "landmarks", "photos"
TRAIN_SETS = ("faces_train", "faces_more", "faces_celeba", "faces_celebrities")  # of the shipped networks
PREPARE = "python -m facelib.datasets prepare FOLDER --name"
# Set -> how to get it; data/README.md says more.
HOW_TO_GET = {
    OPEN_SET: "python -m facelib.datasets open_set",
    LFW: "python -m facelib.datasets lfw",
    FAMILIES: f"{PREPARE} {FAMILIES}, with Families in the Wild as FOLDER/fiw_<family>_<member>/",
    GROUPS: "python -m facelib.datasets utkface PATH, and fairface, aaf, scut",
    WORLD: "public figures from the web, not to be downloaded; see data/README.md",
    LANDMARKS: "python -m facelib.datasets celeba_landmarks, and helen, lfpw, afw, 300w, wflw, mtfl PATH",
    PHOTOS: "the 40 photos of AFW that data/photo_faces.csv names, in a folder of this name",
} | {name: f"{PREPARE} {name}" for name in TRAIN_SETS if name != FAMILIES}
CALIBRATION_SETS = (OPEN_SET, FAMILIES, WORLD, GROUPS)
EMBEDDER_SETS = (OPEN_SET, LFW, FAMILIES, WORLD, GROUPS, PHOTOS)
FAIRNESS_SETS = (GROUPS, OPEN_SET, WORLD, FAMILIES)
EVALUATED = (*EMBEDDER_SETS, LANDMARKS)  # what --sets can name

# Figures of a record that are kept one by one, and how deep they lie; others are kept or replaced as a whole.
NESTED = {"calibration": 2, "identification": 1, "clustering": 1, "condition": 1, "rejection": 1, "embedders": 2}
BY_COSINE = ("open_val", "open_test", "lfw", "families", "alignment")  # figures for which no calibration is needed


def available_sets() -> frozenset[str]:
    """The sets of `HOW_TO_GET` that are under FACELIB_DATA."""
    return frozenset(name for name in HOW_TO_GET if (data_folder() / name).is_dir())


def report_missing(names: Iterable[str]) -> None:
    """Print a line for each of some sets that is not here: how to get it."""
    available = available_sets()
    for name in (name for name in dict.fromkeys(names) if name not in available):
        print(f"{data_folder() / name} is missing: {HOW_TO_GET[name]}", flush=True)


def describe_set(name: str) -> str:
    """Number of photos of a data set, and the hash of its table."""
    if name == PHOTOS:
        return f"labels {file_hash(LISTS / 'photo_faces.csv')[:8]}"
    table = data_folder() / name / (f"{name}.csv" if name == LANDMARKS else "faces.csv")
    rows = len(table.read_text().splitlines()) - 1
    return f"{rows} photos, {table.name} {file_hash(table)[:8]}"


def hash_of_lists() -> str:
    """Hashes of the lists that keep identities out of the training sets."""
    return " ".join(file_hash(path)[:8] for path in sorted(LISTS.glob("*.txt")))


def with_earlier(
    path: Path, metrics: Mapping[str, Any], measured: Mapping[str, Any], recalibrated: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of a record that is written again, with the figures that were not measured this time.

    Args:
        path: the record, which need not exist. Figures of other weights are not kept.
        metrics, measured: figures and their provenance ("date", "command", "weights", "data").
        recalibrated: whether the embedder's calibration changed; only figures by cosine are kept then.

    Returns:
        metrics: all figures. measured: their provenance; "earlier": figure that was kept -> its date and command.
    """
    before: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"measured": {}}
    provenance = before.pop("measured")
    old, new = _flat(before), _flat(metrics)
    same_weights = provenance.get("weights") == measured["weights"]
    kept = [key for key in old if key not in new and same_weights and (not recalibrated or key[0] in BY_COSINE)]
    if not kept:
        return dict(metrics), dict(measured)
    source = f"{provenance['date']}, {provenance['command']}"
    earlier = {name: provenance.get("earlier", {}).get(name, source) for name in map(" > ".join, kept)}
    figures = {key: value for key, value in (old | new).items() if key in new or key in kept}
    data = provenance["data"] | measured["data"]
    return _nested(figures), {**measured, "data": data, "earlier": earlier}


def _flat(figures: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Figures by their path, as deep as `NESTED` says."""
    flat: dict[tuple[str, ...], Any] = {(name,): value for name, value in figures.items()}
    for depth in range(1, max(NESTED.values()) + 1):
        for key in [key for key in flat if len(key) == depth <= NESTED.get(key[0], 0)]:
            if isinstance(flat[key], dict) and flat[key]:
                flat |= {(*key, name): value for name, value in flat.pop(key).items()}
    return flat


def _nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    result: dict[str, Any] = {}
    for (*path, name), value in flat.items():
        place = result
        for step in path:
            place = place.setdefault(step, {})
        place[name] = value
    return result
