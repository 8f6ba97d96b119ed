"""models/manifest.json: what the weights beside it are, and which of them make which embedder."""

import hashlib
import json
from pathlib import Path
from typing import Any

from facelib.io.files import atomic_write
from facelib.settings import MODELS
from facelib.types import WeightsError


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: str | Path = MODELS) -> dict[str, dict[str, Any]]:
    """Everything models/manifest.json says, by file name, and under "default" which of them embed and from which
    distance on two faces count as two people; empty where there is no manifest."""
    path = Path(folder) / "manifest.json"
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON ({error}): restore it from the repository") from None
    if not isinstance(manifest, dict) or not all(isinstance(entry, dict) for entry in manifest.values()):
        raise WeightsError(
            f"{path} is no manifest (expected an object of objects): restore it from the repository, "
            "or use another folder"
        )
    return manifest


def manifest_value(path: Path, entry: dict[str, Any], *names: str, among: type | range | tuple = dict) -> Any:
    """entry[name][name]... of the manifest entry of the weights `path`, which must be of a type or among values.

    Raises:
        WeightsError: it is missing or another.
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
        raise WeightsError(
            f"{path.parent / 'manifest.json'}: {' > '.join((path.name, *names))} is {str(value)[:60]!r}, expected "
            f"{expected}; restore the manifest, or train again"
        )
    return value


def read_preprocessing(path: Path, entry: dict[str, Any], obeyed: dict[str, range | tuple]) -> dict[str, Any]:
    """What the manifest says about the pictures that the weights `path` expect, every field of it.

    `obeyed`: field -> the values that this code can obey; of a single one, it can do nothing else.

    Raises:
        WeightsError: a field is missing, says something that cannot be obeyed, or is not known here.
    """
    fields = manifest_value(path, entry, "preprocessing")
    if unknown := sorted(set(fields) - set(obeyed)):
        raise WeightsError(
            f"{path.parent / 'manifest.json'}: {path.name} > preprocessing > {unknown[0]} is not known here, so it "
            "cannot be obeyed; update the package, or restore the manifest"
        )
    return {name: manifest_value(path, entry, "preprocessing", name, among=values) for name, values in obeyed.items()}


def named_embedders(folder: str | Path = MODELS) -> list[str]:
    """What the manifest of a folder names that is made of networks: "default", the one for use, first."""
    names = [name for name, entry in read_manifest(folder).items() if "networks" in entry]
    return sorted(names, key=lambda name: name != "default")


def embedder_networks(folder: str | Path = MODELS, name: str = "default") -> list[Path]:
    """The files that the manifest of a folder names as an embedder: one network, or several as an ensemble.

    Raises:
        WeightsError: it names none.
    """
    names = read_manifest(folder).get(name, {}).get("networks")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise WeightsError(
            f"{Path(folder) / 'manifest.json'}: {name} > networks is {str(names)[:60]!r}, expected a list of files"
        )
    return [Path(folder) / file for file in names]


def embedder_uses_flip(folder: str | Path = MODELS, name: str = "default") -> bool:
    """Whether the manifest says of an embedder that faces are averaged with their mirror images; of what it says
    nothing, they are not."""
    return bool(read_manifest(folder).get(name, {}).get("flip", False))


def default_model_id(folder: str | Path = MODELS, name: str = "default") -> str:
    """What vectors of an embedder that the manifest names are known by, see `Embedder.model_id`."""
    return make_model_id(
        short_hashes(read_manifest(folder), [p.name for p in embedder_networks(folder, name)]),
        embedder_uses_flip(folder, name),
    )


def make_model_id(hashes: list[str], flip: bool) -> str:
    """`Embedder.model_id`: the networks by the first eight digits of their hashes, and whether mirror images count."""
    return "+".join(hashes) + "-mirror" * flip


def threshold_of(folder: str | Path = MODELS) -> float | None:
    """The cosine distance below which the manifest calls two faces the same person; None where it names none, or
    one that was chosen with other weights than those that now embed.

    Raises:
        WeightsError: it is no distance.
    """
    manifest = read_manifest(folder)
    embedder = manifest.get("default", {})
    threshold = embedder.get("threshold")
    value = threshold.get("cosine_distance") if isinstance(threshold, dict) else None
    if value is not None and not (type(value) in (int, float) and 0 < value < 2):
        raise WeightsError(f"{Path(folder) / 'manifest.json'}: threshold {value!r}, expected a distance from 0 to 2")
    if value is None or threshold.get("weights") != short_hashes(manifest, embedder.get("networks", [])):
        return None
    return value


def short_hashes(manifest: dict[str, dict[str, Any]], networks: list[str]) -> list[str]:
    """The first eight digits of each file's hash: what a threshold or a result names the weights by."""
    return [str(manifest.get(name, {}).get("sha256"))[:8] for name in networks]


def write_manifest(manifest: dict[str, dict[str, Any]], folder: str | Path = MODELS) -> None:
    """What `read_manifest` reads."""
    with atomic_write(Path(folder) / "manifest.json") as path:
        path.write_text(json.dumps(manifest, indent=2) + "\n")
