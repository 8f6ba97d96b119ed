"""Clips that are pictures: animated GIF, WebP, PNG and AVIF, and sequences of numbered images."""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from facelib.io.files import printable
from facelib.io.formats import HEAD_BYTES, image_factories
from facelib.io.images import read_image
from facelib.io.pixels import as_array, orientation, upright
from facelib.types import VideoError

MAX_PIXELS = 60_000_000  # of an animation
ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}  # the pictures of other formats are pages
SHORTEST = 0.01  # seconds: browsers show pictures that last no longer for `REPLACED` seconds
REPLACED = 0.1
NUMBER = re.compile(r"%0?\d*d")  # in the name of a sequence: frame%04d.png


class Animation:
    """An animated GIF, WebP, PNG or AVIF, read by Pillow. Attributes as of `Clip`.

    Raises:
        VideoError: a still picture, or damaged.
    """

    damaged = 0

    def __init__(self, path: Path):
        self.path = path
        self.name = printable(path)
        self.notes: list[str] = []
        self.problem = ""
        with open(path, "rb") as file:
            image = self._open(file)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise VideoError(f"{self.name} has {width:,} x {height:,} pixels: shrink it to {MAX_PIXELS / 1e6:g} MP")
            ends = [end for _, end in itertools.islice(self._times(image), None if image.format in ANIMATED else 1)]
            if len(ends) == 1:
                raise VideoError(f"{self.name} is a photo, not a clip: facelib detect reads it")
            if not ends:
                raise VideoError(f"{self.name} is damaged ({self.problem}): get a complete copy")
            self.size = (height, width) if orientation(image) >= 5 else (width, height)
        self.duration: float | None = ends[-1]
        self.frame_rate = len(ends) / ends[-1]

    def pictures(self, start: float, resume: float = 0.0) -> Iterator[tuple[int, float, Image.Image]]:
        """Number, seconds and picture, from the first one on: each depends on those before it."""
        self.problem = ""
        with open(self.path, "rb") as file:
            image = self._open(file)
            for number, (time, _) in enumerate(self._times(image)):
                yield number, time, image

    def image(self, picture: Image.Image) -> np.ndarray:
        """The current picture as (H, W, 3) RGB uint8, upright, on white."""
        return upright(as_array(picture, may_close=False), orientation(picture))

    def _open(self, file: BinaryIO) -> Image.Image:
        factories: list[Callable[..., Image.Image]] = list(image_factories(file.read(HEAD_BYTES)))
        for factory in factories:
            file.seek(0)
            try:
                return factory(file, "")
            except Exception:  # each format fails on a broken header with exceptions of its own
                continue
        raise VideoError(f"{self.name} is damaged: get a complete copy")

    def _times(self, image: Image.Image) -> Iterator[tuple[float, float]]:
        """Seconds from which and until which each picture is shown, with the image at that picture, decoded."""
        end = 0.0
        if image.format == "GIF" and not _has_end(self.path):
            self.problem = "the file has no end mark: it may end in the middle"
        for number in itertools.count():
            try:
                image.seek(number)
                image.load()
            except EOFError:
                return
            except Exception as error:
                self.problem = f"damaged, ends at {end:.1f} s ({printable(error)[:200]})"
                return
            seconds = float(image.info.get("duration") or 0) / 1000
            start, end = end, end + (seconds if seconds > SHORTEST else REPLACED)
            yield round(start, 6), end


class ImageSequence:
    """Photos with numbers in their names, as frames of a constant rate. Attributes as of `Clip`.

    Numbers may begin anywhere and have gaps, which take time. Photos of another size are resized to the first.

    Args:
        pattern: a path whose last part holds %d or %04d.

    Raises:
        FileNotFoundError: no file fits. VideoError: the first one cannot be read.
    """

    damaged = 0

    def __init__(self, pattern: Path, rate: float):
        self._files = numbered_files(pattern)
        if not self._files:
            raise FileNotFoundError(f"{printable(pattern)}: no file has such a name")
        self.notes: list[str] = []
        self.problem = ""
        self.frame_rate = rate
        first, last = self._files[0][0], self._files[-1][0]
        self.duration: float | None = (last - first + 1) / rate
        try:
            height, width = read_image(self._files[0][1]).shape[:2]
        except ValueError as error:
            raise VideoError(f"{error}; the first of {printable(pattern)} says how large frames are") from None
        self.size = width, height

    def pictures(self, start: float, resume: float = 0.0) -> Iterator[tuple[int, float, str]]:
        """Number, seconds and path of each photo."""
        self.problem = ""
        first = self._files[0][0]
        for number, path in self._files:
            yield number - first, round((number - first) / self.frame_rate, 6), path

    def image(self, picture: str) -> np.ndarray | None:
        """The photo as (H, W, 3) RGB uint8; None where it cannot be read, which `problem` says."""
        try:
            image = read_image(picture)
        except (OSError, ValueError) as error:
            self.problem = self.problem or f"photos that cannot be read are left out, the first: {error}"
            return None
        return image if image.shape[1::-1] == self.size else cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)


def numbered_files(pattern: Path) -> list[tuple[int, str]]:
    """Number and path of the files of a sequence, in order; none where the path is no pattern or no file fits it."""
    if not NUMBER.search(pattern.name):
        return []
    before, after = map(re.escape, NUMBER.split(pattern.name, maxsplit=1))
    fitting = re.compile(rf"{before}(\d+){after}")
    names = os.listdir(pattern.parent) if pattern.parent.is_dir() else []
    return sorted((int(match[1]), str(pattern.parent / name)) for name in names if (match := fitting.fullmatch(name)))


def _has_end(path: Path) -> bool:
    """Whether a GIF ends as it should, with a semicolon; Pillow does not complain where it is cut."""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() in (b";", b"\0")  # some programs fill up the file
