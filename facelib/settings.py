"""Folders, device and names that are known before anything heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DETECTORS = ("auto", "insightface", "retinaface")

_PACKAGE = Path(__file__).parent
# Installed from a wheel, weights and lists travel inside the package; in a checkout they lie beside it.
_INSTALLED = (_PACKAGE / "_models").is_dir()
MODELS = Path(os.environ.get("FACELIB_MODELS") or (_PACKAGE / "_models" if _INSTALLED else _PACKAGE.parent / "models"))
LISTS = _PACKAGE / "_data" if _INSTALLED else _PACKAGE.parent / "data"  # frozen lists, see data/README.md

# For the variable GOMP_SPINCOUNT, which the OpenMP library of PyTorch reads when it is loaded: how long a thread
# that waits for the others keeps its core busy. By default it is so long that on cores which other jobs use too,
# threads that wait take the time from those that work: beside two other jobs on two cores, a training step took
# 7.4 s; with 3,000 it takes 0.36 s, and on idle cores as long as before. With 0 the tests take twice as long there.
SPIN_COUNT = "3000"


def data_folder() -> Path:
    """FACELIB_DATA; else data/ of the checkout, or ~/.facelib where the package was installed without one."""
    return Path(os.environ.get("FACELIB_DATA") or (Path.home() / ".facelib" if _INSTALLED else LISTS))


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """ "cpu", "cuda", "mps", or the best there is for None; a torch.device is one too.

    Raises:
        ValueError: the named device is not there.
    """
    import torch  # takes seconds, which `--help` should not wait for

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        device = next(name for name, available in there.items() if available)
    if not there.get(str(device).split(":")[0], False):
        names = ", ".join(name for name, available in there.items() if available)
        raise ValueError(f"device={device!r} is not available here; there is: {names}")
    return torch.device(device)
