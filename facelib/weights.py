"""Weights: plain state dicts in half precision, described and hashed in models/manifest.json."""

import datetime
import hashlib
import json
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facelib.files import replacing
from facelib.inference import one_process
from facelib.settings import MODELS, pick_device


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: str | Path = MODELS) -> dict[str, dict[str, Any]]:
    """Everything models/manifest.json says, by file name, and under "embedder" which of them embed and from which
    distance on two faces count as two people; empty where there is no manifest."""
    path = Path(folder) / "manifest.json"
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): restore it from the repository") from None
    if not isinstance(manifest, dict) or not all(isinstance(entry, dict) for entry in manifest.values()):
        raise ValueError(
            f"{path} is no manifest (expected an object of objects): restore it from the repository, "
            "or use another folder"
        )
    return manifest


def manifest_value(path: Path, entry: dict[str, Any], *names: str, among: type | range | tuple = dict) -> Any:
    """entry[name][name]... of the manifest entry of the weights `path`, which must be of a type or among values.

    Raises:
        ValueError: it is missing or another.
    """
    value: Any = entry
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(among, type):
        fits, expected = isinstance(value, among), among.__name__
    elif isinstance(among, range):
        fits, expected = type(value) is int and value in among, f"{among[0]} to {among[-1]} in steps of {among.step}"
    else:
        fits, expected = value in among, f"one of {', '.join(map(str, among))}"
    if not fits:
        raise ValueError(
            f"{path.parent / 'manifest.json'}: {' > '.join((path.name, *names))} is {str(value)[:60]!r}, expected "
            f"{expected}; restore the manifest, or train again"
        )
    return value


def preprocessing_of(path: Path, entry: dict[str, Any], obeyed: dict[str, range | tuple]) -> dict[str, Any]:
    """What the manifest says about the pictures that the weights `path` expect, every field of it.

    `obeyed`: field -> the values that this code can obey; of a single one, it can do nothing else.

    Raises:
        ValueError: a field is missing, says something that cannot be obeyed, or is not known here.
    """
    fields = manifest_value(path, entry, "preprocessing")
    if unknown := sorted(set(fields) - set(obeyed)):
        raise ValueError(
            f"{path.parent / 'manifest.json'}: {path.name} > preprocessing > {unknown[0]} is not known here, so it "
            "cannot be obeyed; update the package, or restore the manifest"
        )
    return {name: manifest_value(path, entry, "preprocessing", name, among=values) for name, values in obeyed.items()}


def named_embedders(folder: str | Path = MODELS) -> list[str]:
    """What the manifest of a folder names that is made of networks: "embedder", the one for use, first."""
    names = [name for name, entry in read_manifest(folder).items() if "networks" in entry]
    return sorted(names, key=lambda name: name != "embedder")


def embedder_networks(folder: str | Path = MODELS, name: str = "embedder") -> list[Path]:
    """The files that the manifest of a folder names as an embedder: one network, or several as an ensemble.

    Raises:
        ValueError: it names none.
    """
    names = read_manifest(folder).get(name, {}).get("networks")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{Path(folder) / 'manifest.json'}: {name} > networks is {str(names)[:60]!r}, expected a list of files"
        )
    return [Path(folder) / file for file in names]


def embedder_flips(folder: str | Path = MODELS, name: str = "embedder") -> bool:
    """Whether the manifest says of an embedder that faces are averaged with their mirror images; of what it says
    nothing, they are not."""
    return bool(read_manifest(folder).get(name, {}).get("flip", False))


def embedder_key(folder: str | Path = MODELS, name: str = "embedder") -> str:
    """What vectors of an embedder that the manifest names are known by, see `Embedder.key`."""
    return key_of(
        hashes_of(read_manifest(folder), [p.name for p in embedder_networks(folder, name)]),
        embedder_flips(folder, name),
    )


def key_of(hashes: list[str], flip: bool) -> str:
    """`Embedder.key`: the networks by the first eight digits of their hashes, and whether mirror images count."""
    return "+".join(hashes) + "-mirror" * flip


def threshold_of(folder: str | Path = MODELS) -> float | None:
    """The cosine distance below which the manifest calls two faces the same person; None where it names none, or
    one that was chosen with other weights than those that now embed.

    Raises:
        ValueError: it is no distance.
    """
    manifest = read_manifest(folder)
    embedder = manifest.get("embedder", {})
    threshold = embedder.get("threshold")
    value = threshold.get("cosine_distance") if isinstance(threshold, dict) else None
    if value is not None and not (type(value) in (int, float) and 0 < value < 2):
        raise ValueError(f"{Path(folder) / 'manifest.json'}: threshold {value!r}, expected a distance from 0 to 2")
    if value is None or threshold.get("weights") != hashes_of(manifest, embedder.get("networks", [])):
        return None
    return value


def hashes_of(manifest: dict[str, dict[str, Any]], networks: list[str]) -> list[str]:
    """The first eight digits of each file's hash: what a threshold or a result names the weights by."""
    return [str(manifest.get(name, {}).get("sha256"))[:8] for name in networks]


def write_manifest(manifest: dict[str, dict[str, Any]], folder: str | Path = MODELS) -> None:
    """What `read_manifest` reads."""
    with replacing(Path(folder) / "manifest.json") as path:
        path.write_text(json.dumps(manifest, indent=2) + "\n")


def save_weights(model: nn.Module, path: str | Path, **entry: Any) -> None:
    """Save a state dict in half precision and put its hash, the date and `entry` into the manifest beside it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    with replacing(path) as new:
        torch.save(state, new)
    manifest = read_manifest(path.parent)
    new, old = (
        {"sha256": file_hash(path), "date": datetime.date.today().isoformat(), **entry},
        manifest.get(path.name, {}),
    )
    kept = {"threshold": old["threshold"]} if old.get("sha256") == new["sha256"] and "threshold" in old else {}
    manifest[path.name] = new | kept
    write_manifest(manifest, path.parent)


def load_weights(
    path: str | Path, build: Callable[..., nn.Module], device: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that the manifest describes and fill it, checking the file on the way.

    Args:
        path: weights file; the manifest.json beside it must list it.
        build: called with the manifest's "arguments", gives the network.
        device: see `pick_device`.

    Returns:
        The network in evaluation mode, and its manifest entry.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not in the manifest, hash differs, cut short, or of another architecture.
    """
    one_process()
    path = Path(path)
    entry, state = _checked(path)
    arguments = manifest_value(path, entry, "arguments")
    try:
        with torch.device("meta"):  # before memory is taken for numbers that may be absurd
            shapes = {name: value.shape for name, value in build(**arguments).state_dict().items()}
        if shapes != {name: value.shape for name, value in state.items()}:
            raise ValueError("names or shapes differ")
        with torch.device("cpu"):
            model = build(**arguments)
        model.load_state_dict(state)
    except Exception as error:  # whatever a network raises that is built with the wrong arguments
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ValueError(f"{path} holds weights of another architecture than {arguments}: {reason}") from None
    # In float32, whatever the program has made PyTorch's default.
    return model.float().to(pick_device(device), memory_format=torch.channels_last).eval(), entry


def _checked(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The manifest entry of a weights file, and the state dict in it, which is the one that the entry describes."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such weights; restore them from the repository or train them (see models/README.md)"
        )
    entry = read_manifest(path.parent).get(path.name)
    if entry is None:
        raise ValueError(f"{path} is not listed in {path.parent / 'manifest.json'}: its architecture is unknown")
    if file_hash(path) != manifest_value(path, entry, "sha256", among=str):
        raise ValueError(
            f"{path} is not the file that {path.parent / 'manifest.json'} describes (SHA-256 differs): it is cut "
            "short or replaced; restore it, or train again, which writes both"
        )
    try:
        return entry, torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a state dict that PyTorch can read: {error}") from None
