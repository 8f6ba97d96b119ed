"""Folders, device and names that are known before anything heavy is imported."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DETECTORS = ("auto", "insightface", "retinaface")
SAME, DIFFERENT = 0.001, 0.01  # false positive rates: up to the first it is one person, from the second it is two
SMALLEST_FACE = 40.0  # pixels of a photo, looked for unless something else is asked for
BATCH_BYTES = 75_000_000  # of decoded photos, after which a batch is full: 25 megapixels

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


def limit_openmp_spinning() -> None:
    """Set GOMP_SPINCOUNT where a command of this package owns the process (`python -m facelib...`), before PyTorch is
    imported; the environment of a program that uses the package stays as it is."""
    command = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    if sys.argv[:1] == ["-m"] and command and command[0].partition(".")[0] == "facelib":
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def data_folder() -> Path:
    """FACELIB_DATA; else data/ of the checkout, or ~/.facelib where the package was installed without one."""
    named = os.environ.get("FACELIB_DATA")
    return Path(named).expanduser() if named else Path.home() / ".facelib" if _INSTALLED else LISTS


def cache_folder() -> Path:
    """FACELIB_CACHE, else ~/.cache/facelib: what can be made again."""
    return Path(os.environ.get("FACELIB_CACHE") or Path.home() / ".cache" / "facelib").expanduser()


def select_device(device: str | int | torch.device | None = None) -> torch.device:
    """ "cpu", "cuda", "mps", "cuda:1" or 1 for a GPU by its number, or the best there is for None; a torch.device is
    one too.

    Raises:
        ValueError: the named device is not there.
    """
    import torch  # takes seconds, which `--help` should not wait for

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        device = next(name for name, available in there.items() if available)
    number = (hasattr(device, "__index__") and not isinstance(device, bool)) or str(device).isdecimal()
    named = f"cuda:{device}" if number else str(device)
    kind, _, number = named.partition(":")
    counts = {"cuda": torch.cuda.device_count() if there["cuda"] else 0, "mps": 1, "cpu": 1}
    fits = not number or (number.isdecimal() and str(int(number)) == number and int(number) < counts.get(kind, 0))
    if not there.get(kind, False) or not fits:
        names = [name for name, available in there.items() if available]
        names += [f"cuda:{i}" for i in range(counts["cuda"])]
        raise ValueError(f"device={device!r} is not available here; there is: {', '.join(names)}")
    return torch.device(named)


def one_line_errors(command: Callable[[], int | None]) -> Callable[[], int]:
    """A command whose failures are one line on standard error and an exit code, without a traceback."""

    @functools.wraps(command)
    def run() -> int:
        try:
            code = command() or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # `| head` has read enough; what is still to be said goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (OSError, ValueError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            return 130

    return run
