"""Read clips: videos of all formats that FFmpeg decodes, animated pictures, and sequences of images.

Frames come one by one with their true times, so that memory does not grow with the length of a clip.
"""

import math
import os
import re
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facelib.io.files import printable
from facelib.io.formats import HEAD_BYTES, is_photo
from facelib.io.inputs import expand_file_url
from facelib.types import VideoError
from facelib.video.pictures import NUMBER, Animation, ImageSequence
from facelib.video.stream import VideoFile, require_av

__all__ = ["Clip", "Frame", "default_step", "require_av"]

STEP = 0.12  # seconds between two frames that are looked at by default
SEQUENCE_RATE = 25.0
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/+", re.IGNORECASE)  # of the web, a camera; not a drive of Windows
MOTION_JPEG = {".mjpeg", ".mjpg"}  # begin like a photo


def default_step(frame_rate: float) -> int:
    """Which frames are looked at by default: every third at 25 a second; all where the rate is unknown (0)."""
    return max(1, round(frame_rate * STEP))


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    image: (H, W, 3) RGB uint8, upright.
    time: seconds from the clip's start.
    number: of the decoded frame, from 0.
    """

    image: np.ndarray
    time: float
    number: int


class _Source(Protocol):
    """What a kind of clip must offer. `pictures`: number, time and picture, in order, at the latest from `start` on, or
    from `resume` on where that changes no number; `image`: such a picture as RGB, None where it cannot be read;
    `damaged`: number of frames that could not be decoded so far."""

    size: tuple[int, int]
    frame_rate: float
    duration: float | None
    notes: list[str]
    problem: str

    @property
    def damaged(self) -> int: ...

    def pictures(self, start: float, resume: float = 0.0) -> Iterator[tuple[int, float, Any]]: ...

    def image(self, picture: Any) -> np.ndarray | None: ...


class Clip:
    """A clip: iterate over it for its frames, as often as you like. As a context manager it is closed at the end.

    Videos need the extra `video` (PyAV). HDR becomes SDR, interlaced frames are deinterlaced, rotated ones turned
    upright, and pixels that are not square stretched; `notes` says so.

    Attributes:
        path: of the file, or of the sequence.
        size: (width, height) of its frames in pixels, upright.
        frame_rate: frames a second, the mean; 0.0 where it is unknown.
        duration: seconds; None where it is unknown. Some formats only allow an estimate.
        every: each frame whose number is a multiple of it is read.
        notes: what is converted.
        problem: "" or, once frames have been read, why some are missing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        every: int | None = None,
        start: float | None = None,
        end: float | None = None,
        rate: float | None = None,
        after: float | None = None,
    ):
        """
        Args:
            path: a video, an animated GIF, WebP, PNG or AVIF, or numbered images: frames/%04d.png (%d: any number of
                digits). "~" is the home folder.
            every: read every n-th frame; None: see `default_step`.
            start: seconds at which reading begins.
            end: seconds before which it ends.
            rate: frames a second of numbered images (25).
            after: seconds up to which frames were read before; those after it are read, and numbered as if all were.

        Raises:
            FileNotFoundError: no such file, or no image of a sequence.
            OSError: the file cannot be read.
            VideoError: no video, damaged, still being written, a photo, a folder, a web address.
            ValueError: `every`, `start`, `end` or `rate` mean nothing.
            ImportError: a video, and PyAV is not installed.
        """
        _check_part(every, start, end, rate)
        self.path = _local_path(path)
        self._start = start or 0.0
        self._end = math.inf if end is None else end
        self._after = -math.inf if after is None else after
        self._frames: Generator[Frame, None, None] | None = None
        self._source = _open_source(self.path, rate)
        self.every = every or default_step(self.frame_rate)

    @property
    def size(self) -> tuple[int, int]:
        return self._source.size

    @property
    def frame_rate(self) -> float:
        return self._source.frame_rate

    @property
    def duration(self) -> float | None:
        return self._source.duration

    @property
    def notes(self) -> list[str]:
        return self._source.notes

    @property
    def problem(self) -> str:
        return self._source.problem

    @property
    def is_damaged(self) -> bool:
        """Whether something could not be read so far."""
        return bool(self._source.problem or self._source.damaged)

    def __iter__(self) -> Iterator[Frame]:
        """The frames, decoded one by one.

        A damaged clip gives what can be decoded, and `problem` says what could not. After a start in the middle,
        numbers are exact where the file has an index of its frames (MP4, MOV, AVI), else they come from the frame rate.

        Raises:
            VideoError: the clip ends before `start`. OSError: the file was removed.
        """
        self._frames = self._read()
        return self._frames

    def _read(self) -> Generator[Frame, None, None]:
        is_reached = False
        for number, time, picture in self._source.pictures(self._start, max(self._after, 0.0)):
            if time < self._start:
                continue
            is_reached = True
            if time >= self._end:
                return
            if time <= self._after:
                continue
            if number % self.every == 0 and (image := self._source.image(picture)) is not None:
                yield Frame(image, time, number)
        if not is_reached:
            raise VideoError(f"{printable(self.path)} has no frame at {self._start:g} s or later: start earlier")

    def close(self) -> None:
        """End an iteration that is not finished, and close the file."""
        if self._frames is not None:
            self._frames.close()

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _check_part(every: int | None, start: float | None, end: float | None, rate: float | None) -> None:
    if every is not None and every < 1:
        raise ValueError(f"every={every}: expected 1 for all frames, or more")
    if start is not None and not 0 <= start < math.inf:
        raise ValueError(f"start={start}: expected seconds from the clip's start, 0 or more")
    if end is not None and not end > (start or 0):
        raise ValueError(f"end={end}: expected seconds, after the start ({start or 0:g})")
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"rate={rate}: expected frames a second, more than 0")


def _local_path(path: str | os.PathLike) -> Path:
    """The path of a local file or of a sequence; "~" and file URLs are expanded."""
    text = expand_file_url(os.fsdecode(path))
    if not text.strip() or "\0" in text:
        raise VideoError(f"{printable(text)!r} is not a path: give a video")
    if os.path.lexists(text):
        return Path(text)
    if ADDRESS.match(text):
        raise VideoError(f"{printable(text)[:100]} is an address, and only files are read: download it, give the file")
    return Path(os.path.expanduser(text))


def _open_source(path: Path, rate: float | None) -> _Source:
    """What reads a clip, by its content."""
    name = printable(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if NUMBER.search(path.name):
            return ImageSequence(path, rate or SEQUENCE_RATE)
        raise FileNotFoundError(f"{name[:300]}: no such file") from None
    except OSError as error:
        raise OSError(f"{name[:300]}: cannot be opened ({error.strerror})") from None
    if stat.S_ISDIR(mode):
        raise VideoError(f"{name} is a folder: give a video, or numbered images as {name}/%04d.png")
    if not stat.S_ISREG(mode):
        raise VideoError(f"{name} is not a regular file but a pipe, a socket or a device: give a video")
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except PermissionError:
        raise PermissionError(f"{name}: no permission to read it; change its permissions") from None
    except OSError as error:
        raise OSError(f"{name}: cannot be read ({error.strerror})") from None
    if not head:
        raise VideoError(f"{name} is empty (0 bytes): get a complete copy")
    if is_photo(head) and path.suffix.lower() not in MOTION_JPEG:
        return Animation(path)
    return VideoFile(path)
