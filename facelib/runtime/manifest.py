"""models/manifest.json: what each weights file is, and which files make which embedder.

An entry is a weights file (.pt, with "architecture", "arguments" and "preprocessing"), its ONNX form (.onnx, with
"from" and "from_sha256"), or a named embedder ("networks", "flip").
"""

import json
from pathlib import Path
from typing import Any

from facelib.io.files import atomic_write
from facelib.io.files import file_hash as file_hash
from facelib.runtime.published_weights import find_published
from facelib.settings import MODELS
from facelib.types import WeightsError

Manifest = dict[str, dict[str, Any]]  # name of a file or of an embedder -> entry


def read_manifest(folder: str | Path = MODELS) -> Manifest:
    """The manifest of a folder; empty where there is none.

    Raises:
        WeightsError: it is not valid.
    """
    path = Path(folder) / "manifest.json"
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON ({error}): restore it from the repository") from None
    if not isinstance(manifest, dict) or not all(isinstance(entry, dict) for entry in manifest.values()):
        raise WeightsError(
            f"{path} is no manifest (expected an object of objects): restore it from the repository, "
            "or use another folder"
        )
    return manifest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def write_manifest(manifest: Manifest, folder: str | Path = MODELS) -> None:
    """Write what `read_manifest` reads."""
    with atomic_write(Path(folder) / "manifest.json") as path:
        path.write_text(json.dumps(manifest, indent=2) + "\n")


def weights_entry(path: Path) -> dict[str, Any]:
    """The manifest entry of a weights file. The file itself need not exist: its ONNX form may.

    Raises:
        FileNotFoundError: neither an entry nor a file.
        WeightsError: a file without an entry.
    """
    entry = read_manifest(path.parent).get(path.name)
    if entry is not None:
        return entry
    if not path.exists():
        raise missing_weights(path)
    raise WeightsError(f"{path} is not listed in {path.parent / 'manifest.json'}: its architecture is unknown")


def missing_weights(path: Path) -> FileNotFoundError:
    """The error for a weights file that does not exist."""
    return FileNotFoundError(
        f"{path}: no such weights; restore them from the repository, set FACELIB_WEIGHTS_URL to where they are "
        "published, or train them (see models/README.md)"
    )


def check_architecture(path: Path, entry: dict[str, Any], expected: str) -> None:
    """Raise WeightsError where a manifest entry names another class than `expected`; one that names none passes."""
    architecture = entry.get("architecture")
    if architecture is not None and str(architecture).rpartition(".")[2] != expected:
        raise WeightsError(f"{path} holds weights of another architecture than {expected}: {architecture}")


def find_onnx(path: Path) -> Path | None:
    """The ONNX file of a weights file, checked against the manifest; None where there is none.

    Where the folder has neither of the two files, the ONNX file is that of `find_published`.

    Raises:
        WeightsError: one of the two files is not the one that the manifest describes, or the ONNX file was exported
            from other weights.
        DownloadError: see `find_published`.
    """
    manifest = read_manifest(path.parent)
    for name, entry in manifest.items():
        file = path.parent / name
        if entry.get("from") != path.name or not _is_file_name(name) or (path.exists() and not file.exists()):
            continue
        again = f"write it again with: python -m facelib.training.export {path}"
        if entry.get("from_sha256") != manifest.get(path.name, {}).get("sha256"):
            raise WeightsError(f"{file} was exported from other weights than {path.name} has now; {again}")
        if not file.exists():
            return find_published(file, manifest_value(file, entry, "sha256", among=str))
        check_hash(file, entry, again)
        if path.exists():
            check_hash(path, manifest.get(path.name, {}), "train again, which writes both")
        return file
    return None


def check_hash(path: Path, entry: dict[str, Any], otherwise: str) -> None:
    """Raise WeightsError unless a file is the one that its manifest entry describes.

    Args:
        otherwise: what to do about it, beside restoring the file.
    """
    if file_hash(path) != manifest_value(path, entry, "sha256", among=str):
        raise WeightsError(
            f"{path} is not the file that {path.parent / 'manifest.json'} describes (SHA-256 differs): it is truncated "
            f"or replaced; restore it, or {otherwise}"
        )


def _is_file_name(name: str) -> bool:
    """Whether a name of a manifest is that of a file beside it, and no path that leads elsewhere."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def manifest_value(path: Path, entry: dict[str, Any], *names: str, among: type | range | tuple = dict) -> Any:
    """The value entry[name][name]... of the manifest entry of the weights `path`.

    Args:
        among: the type of the value, or its allowed values.

    Raises:
        WeightsError: it is missing or not allowed.
    """
    value: Any = entry
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(among, type):
        valid, expected = isinstance(value, among), among.__name__
    elif isinstance(among, range):
        valid, expected = type(value) is int and value in among, f"{among[0]} to {among[-1]} in steps of {among.step}"
    else:
        valid, expected = value in among, f"one of {', '.join(map(str, among))}"
    if not valid:
        raise WeightsError(
            f"{path.parent / 'manifest.json'}: {' > '.join((path.name, *names))} is {str(value)[:60]!r}, expected "
            f"{expected}; restore the manifest, or train again"
        )
    return value


def read_preprocessing(path: Path, entry: dict[str, Any], supported: dict[str, range | tuple]) -> dict[str, Any]:
    """The preprocessing that the manifest prescribes for the weights `path`, all fields.

    Args:
        supported: field -> the values that this code implements.

    Raises:
        WeightsError: a field is missing, has a value that is not supported, or is not known here.
    """
    fields = manifest_value(path, entry, "preprocessing")
    if unknown := sorted(set(fields) - set(supported)):
        raise WeightsError(
            f"{path.parent / 'manifest.json'}: {path.name} > preprocessing > {unknown[0]} is not known here, so it "
            "cannot be applied; update the package, or restore the manifest"
        )
    return {name: manifest_value(path, entry, "preprocessing", name, among=among) for name, among in supported.items()}


def named_embedders(folder: str | Path = MODELS) -> list[str]:
    """Names of the embedders that the manifest of a folder defines, "default" first."""
    names = [name for name, entry in read_manifest(folder).items() if "networks" in entry]
    return sorted(names, key=lambda name: name != "default")


def embedder_networks(folder: str | Path = MODELS, name: str = "default") -> list[Path]:
    """Weights files of a named embedder: one network, or several as an ensemble.

    Raises:
        WeightsError: the manifest names no files.
    """
    names = read_manifest(folder).get(name, {}).get("networks")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and _is_file_name(n) for n in names):
        raise WeightsError(
            f"{Path(folder) / 'manifest.json'}: {name} > networks is {str(names)[:60]!r}, expected a list of files"
        )
    return [Path(folder) / file for file in names]


def embedder_uses_flip(folder: str | Path = MODELS, name: str = "default") -> bool:
    """Whether a named embedder averages each face with its mirror image; False where the manifest does not say."""
    return bool(read_manifest(folder).get(name, {}).get("flip", False))


def default_model_id(folder: str | Path = MODELS, name: str = "default") -> str:
    """`Embedder.model_id` of a named embedder, without loading it."""
    networks = [path.name for path in embedder_networks(folder, name)]
    return make_model_id(short_hashes(read_manifest(folder), networks), embedder_uses_flip(folder, name))


def make_model_id(hashes: list[str], flip: bool) -> str:
    """`Embedder.model_id`: the first eight digits of each network's hash, and "-mirror" for flip averaging."""
    return "+".join(hashes) + "-mirror" * flip


def short_hashes(manifest: Manifest, networks: list[str]) -> list[str]:
    """The first eight digits of each file's hash, by which thresholds and results name the weights."""
    return [str(manifest.get(name, {}).get("sha256"))[:8] for name in networks]
