"""Checks of a command's arguments that need no network."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facelib.cli.console import Console
from facelib.cli.options import DecisionOptions, PipelineOptions
from facelib.io.files import printable

MISSING_SHOWN = 3  # photos that an error names


@dataclass(frozen=True)
class PhotoList:
    """Photos of a command.

    paths: all of them, each once, in the order in which they were named or found.
    missing: those of them that do not exist, which has been reported.
    """

    paths: list[Path]
    missing: frozenset[Path] = frozenset()


def list_photos(given: Sequence[Path], console: Console, out: Path | None = None) -> PhotoList:
    """List the photos that are named, or lie in folders that are named.

    Args:
        out: folder of results, which is not searched.

    Raises:
        ValueError: there is no photo, or results would be written among the photos.
        FileNotFoundError: none of the photos exists.
    """
    from facelib.cli.results import is_results
    from facelib.io.photo_search import search_photos

    if out:
        _check_out(given, out)
    results_in: list[Path] = []

    def skip(folder: Path) -> bool:
        if is_results(folder, out):
            results_in.append(folder)
        return folder in results_in

    found = search_photos(given, skip)
    for line in [f"skipped: {folder}, which holds results" for folder in results_in] + found.summary():
        console.notice(line)
    if not found.photos:
        raise ValueError(f"no photos in {', '.join(map(str, given))}")
    missing = {path: _why_unreadable(path) for path in found.photos if not os.path.exists(path)}
    if len(missing) == len(found.photos):
        more = f", and {len(missing) - MISSING_SHOWN} more" if len(missing) > MISSING_SHOWN else ""
        raise FileNotFoundError("; ".join(list(missing.values())[:MISSING_SHOWN]) + more)
    for reason in missing.values():
        console.error(reason)
    return PhotoList(found.photos, frozenset(missing))


def _check_out(given: Sequence[Path], out: Path) -> None:
    """Raise ValueError where results would be written among the photos, or are given as photos."""
    from facelib.cli.results import is_results

    for path in given:
        if os.path.isdir(path) and is_results(path, out):
            raise ValueError(f"{path} is a folder of results: give the folder of the photos, and another --out")
        if os.path.lexists(path) and os.path.realpath(path.parent) == os.path.realpath(out):
            raise ValueError(f"{path} lies in the folder of the results: give another --out")


def _why_unreadable(photo: Path) -> str:
    from facelib.io.images import read_image

    try:
        read_image(photo)
    except (OSError, ValueError) as error:
        return str(error)
    return f"{printable(photo)}: no such file"


def check_gallery(gallery: Path, new: bool) -> None:
    """Check a gallery's file before networks are loaded.

    Args:
        new: whether it may be missing, and is made then.

    Raises:
        FileNotFoundError: it is missing, or its folder. GalleryError: it is no gallery, or damaged.
    """
    from facelib.recognition.gallery import Gallery

    if gallery.expanduser().exists():
        Gallery(gallery, any_embedder=True).close()
    elif not new:
        raise FileNotFoundError(f"{gallery}: no such gallery; the first enrol makes it")
    elif not gallery.expanduser().parent.is_dir():
        raise FileNotFoundError(f"{gallery.parent}: no such folder")


@contextlib.contextmanager
def threshold_advice() -> Iterator[None]:
    """Add to the error of an embedder without a calibration that --threshold does without one."""
    from facelib.types import CalibrationMissingError

    try:
        yield
    except CalibrationMissingError as error:
        raise CalibrationMissingError(f"{error}; or give --threshold SCORE, which needs no calibration") from None


def check_calibrated(networks: PipelineOptions, decision: DecisionOptions) -> None:
    """Check before networks are loaded that the false match rates of a shipped embedder are known.

    Raises:
        CalibrationMissingError: the embedder has no calibration. FileNotFoundError, ValueError: see `load_calibration`.
    """
    from facelib.recognition.calibration_files import load_calibration
    from facelib.runtime.manifest import default_model_id, named_embedders

    name = networks.embedder or "default"
    if decision.threshold is None and name in named_embedders():
        with threshold_advice():
            load_calibration(default_model_id(name=name))
