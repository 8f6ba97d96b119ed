"""Folders, device and constants. Imports nothing slow, so that `--help` answers at once."""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Address of the repository, e.g. "https://github.com/NAME/facelib". `python -m facelib.evaluation.readme` writes it to
# README.md, pyproject.toml and the notebooks; while it is empty, none is written.
PROJECT_URL = ""
# Where weights are fetched from that a manifest names and its folder lacks: <address>/<SHA-256><.pt or .onnx>, see
# models/README.md. The environment variable FACELIB_WEIGHTS_URL replaces it; while both are empty, nothing is fetched.
WEIGHTS_URL = ""
DETECTORS = ("auto", "insightface", "retinaface")
# False match rates of a decision: up to SAME two faces are the same person, from DIFFERENT on they are different.
SAME, DIFFERENT = 0.001, 0.01
SMALLEST_FACE = 40.0  # pixels of a photo: the default smallest face that is searched for
TINY_FACE = 16.0  # where faces are hidden: none may be missed
BATCH_BYTES = 75_000_000  # of decoded photos in a batch: 25 megapixels

_PACKAGE = Path(__file__).parent
# A wheel holds weights and lists inside the package; in a checkout they are beside it.
_INSTALLED = (_PACKAGE / "_models").is_dir()
MODELS = Path(os.environ.get("FACELIB_MODELS") or (_PACKAGE / "_models" if _INSTALLED else _PACKAGE.parent / "models"))
LISTS = _PACKAGE / "_data" if _INSTALLED else _PACKAGE.parent / "data"  # frozen lists, see data/README.md

# Value of GOMP_SPINCOUNT, which PyTorch's OpenMP library reads when it is loaded: how long a waiting thread spins. With
# the default, waiting threads take the cores from working ones if other processes use them too: beside two other jobs
# on two cores a training step took 7.4 s, with 3,000 it takes 0.36 s, and on idle cores as long as with the default.
# With 0 the tests take twice as long on idle cores.
SPIN_COUNT = "3000"


def limit_openmp_spinning() -> None:
    """Set GOMP_SPINCOUNT, see `SPIN_COUNT`, if this process is a command of this package (`python -m facelib...`).

    Call it before PyTorch is imported. The environment of other programs that import the package is not changed, and
    a value that the user has set is kept.
    """
    command = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    if sys.argv[:1] == ["-m"] and command and command[0].partition(".")[0] == "facelib":
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def data_folder() -> Path:
    """Folder of data sets and downloaded models.

    The environment variable FACELIB_DATA, else ~/.facelib for an installed wheel, else data/ of the checkout.
    """
    if folder := os.environ.get("FACELIB_DATA"):
        return Path(folder).expanduser()
    return Path.home() / ".facelib" if _INSTALLED else LISTS


def cache_folder() -> Path:
    """Folder of files that can be computed again: the environment variable FACELIB_CACHE, else ~/.cache/facelib."""
    return Path(os.environ.get("FACELIB_CACHE") or Path.home() / ".cache" / "facelib").expanduser()


def weights_url() -> str:
    """Address of published weights: the environment variable FACELIB_WEIGHTS_URL, else `WEIGHTS_URL`; "" for none."""
    return (os.environ.get("FACELIB_WEIGHTS_URL") or WEIGHTS_URL).rstrip("/")


def own_cache_name(folder: Path) -> str:
    """How the names of the files begin in which training caches the faces of a folder of one's own.

    The hash of the path keeps folders of one name from sharing a cache.
    """
    path_hash = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]
    return f"own_{folder.resolve().name}_{path_hash}"


def own_caches(folder: Path) -> list[Path]:
    """The files in which faces of a folder of one's own, and their embeddings, are cached."""
    return sorted((data_folder() / "cache").glob(f"{glob.escape(own_cache_name(folder))}*"))


def search_cache(folder: Path) -> Path:
    """Where `facelib find` keeps the faces of the photos of a folder."""
    return cache_folder() / "find" / own_cache_name(folder)


def select_torch_device(device: str | int | torch.device | None = None) -> torch.device:
    """Device of PyTorch, for training; inference in ONNX Runtime has `facelib.runtime.onnx.resolve_device`.

    Args:
        device: "cpu", "cuda", "mps"; "cuda:1" or 1 for a GPU by its number; a torch.device; None: the fastest one.

    Raises:
        ValueError: the device is not available.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        return torch.device(next(name for name, usable in available.items() if usable))
    is_number = (hasattr(device, "__index__") and not isinstance(device, bool)) or str(device).isdecimal()
    name = f"cuda:{device}" if is_number else str(device)
    kind, _, number = name.partition(":")
    counts = {"cuda": torch.cuda.device_count() if available["cuda"] else 0, "mps": 1, "cpu": 1}
    valid = not number or (number.isdecimal() and str(int(number)) == number and int(number) < counts.get(kind, 0))
    if not available.get(kind, False) or not valid:
        names = [name for name, usable in available.items() if usable]
        names += [f"cuda:{i}" for i in range(counts["cuda"])]
        raise ValueError(f"device={device!r} is not available here; PyTorch has: {', '.join(names)}")
    return torch.device(name)


def one_line_errors(command: Callable[[], int | None]) -> Callable[[], int]:
    """Decorate a command: errors become one line on standard error and an exit code, without a traceback.

    Exit code 1 for OSError, ValueError and RuntimeError; 130 for Ctrl-C; 0 if the reader of a pipe (`| head`) closes
    it; else what the command returns. Other exceptions are bugs and keep their traceback.
    """

    @functools.wraps(command)
    def run() -> int:
        try:
            code = command() or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            # Python flushes standard output once more at exit, which would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (OSError, ValueError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            return 130

    return run
