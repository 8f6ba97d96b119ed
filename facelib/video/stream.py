"""Video files, decoded by PyAV (FFmpeg inside its wheel). Only local files: nothing that they name is opened."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facelib.io.files import printable
from facelib.runtime.onnx import cpu_threads
from facelib.types import VideoError
from facelib.video.conversion import FrameConverter, deinterlaced

if TYPE_CHECKING:
    from av import VideoFrame

MAX_PIXELS = 100_000_000
MAX_RATE = 1000.0  # frames a second: a higher one says that the format does not know it
ASSUMED_RATE = 25.0  # where no time and no rate is known
MISSING = 0.5  # seconds that a stream may end before its declared end
CLOCK_RESET = 1.0  # seconds by which times fall where recordings were joined
JOINED = {"mpegts", "mpeg", "flv"}  # formats in which that happens: a time may be there twice, and cannot be sought
SOUND_LEAD = 0.1  # seconds, from which players count sound that begins before the pictures as the start
BUFFER_BYTES = 2**18
COVER_ART = 1 << 10 | 1 << 11  # dispositions of streams with still pictures: cover, thumbnails
# FFmpeg takes texts for videos, and pictures ("..._pipe"). The durations of streams for broadcast are estimated.
NO_VIDEO = {"tty", "bin", "xbin", "adf", "idf"}
WITHOUT_DURATION = {"mpegts", "mpeg", "mpegvideo", "h264", "hevc"}


def require_av() -> Any:
    """The module `av`.

    Raises:
        ImportError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise ImportError("video needs PyAV: pip install 'facelib-hourglass[video]'") from None
    return av


def start_time(container: Any, stream: Any, first: float = 0.0) -> float:
    """Seconds on the clock of a file that players show as 0: where the pictures begin, or sound well before them.

    Args:
        first: time of the first frame, where the stream does not say when it begins.
    """
    begin = first if stream.start_time is None else float(stream.start_time * stream.time_base)
    if container.streams.audio and container.start_time is not None:
        whole = container.start_time / 1e6
        return whole if begin - whole >= SOUND_LEAD else begin
    return begin


class VideoFile:
    """A video file. Attributes as of `Clip`: size, frame_rate, duration, notes, problem.

    Raises:
        VideoError: no video, or none that can be decoded. OSError: the file cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.name = printable(path)
        self.problem = ""
        self._errors = require_av().FFmpegError, OSError
        self._damaged: list[float] = []  # seconds
        self._end = 0.0  # of the last frame that was decoded, in seconds
        with self._opened() as (container, stream):
            self.frame_rate = _mean_rate(stream)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise VideoError(f"{self.name} has no frame that can be decoded: it is damaged, or still being written")
            self._start = start_time(container, stream, first.time or 0.0)
            self.duration, self._declared = _durations(container, stream, self._start)
            self._converter = FrameConverter(first, stream.sample_aspect_ratio)
        self.notes = self._converter.notes
        self.size = self._converter.size

    @property
    def damaged(self) -> int:
        """Number of frames that could not be decoded so far."""
        return len(self._damaged)

    def pictures(self, start: float, resume: float = 0.0) -> Iterator[tuple[int, float, VideoFrame]]:
        """Number, seconds and frame, from the keyframe before `start` on; times never fall.

        Args:
            resume: seconds from which on frames are wanted. Where numbers stay exact reading begins there; otherwise
                it begins as for `start`.
        """
        place = self._keyframe(resume, exact=True) if resume > start else None
        place = place or (self._keyframe(start) if start > 0 else None)
        is_reached = False
        for number, time, frame in self._read(place):
            is_reached = is_reached or time >= start
            yield number, time, frame
        if place and not is_reached:  # the seek went too far
            yield from self._read(None)

    def _read(self, place: tuple[int, int, int] | None) -> Iterator[tuple[int, float, VideoFrame]]:
        """What `pictures` returns, from a place on that `_keyframe` has found; None: from the first frame on."""
        self.problem = ""
        self._damaged = []
        step = 1 / (self.frame_rate or ASSUMED_RATE)
        shift = 0.0
        seek_to, keyframe, first_number = place or (None, None, 0)
        with self._opened() as (container, stream):
            size = container.size
            # AVI has no times, and those that are derived are wrong where frames are stored in another order.
            is_counted = container.format.name == "avi" and stream.codec_context.has_b_frames
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = min(cpu_threads(), 8)
            if seek_to is not None:
                container.seek(seek_to, stream=stream)
            frames = deinterlaced(self._decoded(container, stream, keyframe), self.notes)
            last = self._end = 0.0
            for number, frame in enumerate(frames, first_number):
                time = number * step if is_counted or frame.time is None else frame.time - self._start + shift
                if time < last - CLOCK_RESET:
                    shift += last + step - time
                    time = last + step
                last = max(time, last)
                self._end = last + max(step, float((frame.duration or 0) * (frame.time_base or 0)))
                yield number, round(last, 6), frame
            self._report(has_grown=container.size > size)

    def image(self, picture: VideoFrame) -> np.ndarray | None:
        """A frame of `pictures` as (H, W, 3) RGB uint8, upright; None where it cannot be converted."""
        try:
            return self._converter.image(picture)
        except self._errors:
            self._damaged.append(self._end)
            return None

    def _report(self, has_grown: bool) -> None:
        """Set `problem` after the last frame."""
        problems = [self.problem] if self.problem else []
        if has_grown:
            problems.append(f"the file grew while it was read, up to {self._end:.1f} s: it is still being written")
        elif self._declared and self._end < self._declared - MISSING:
            problems.append(f"the stream ends in the middle, at {self._end:.1f} s of {self._declared:.1f} s")
        if self._damaged:
            problems.append(f"damaged frames: {len(self._damaged)}, the first at {self._damaged[0]:.1f} s")
        self.problem = "; ".join(problems)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The container, and its video stream."""
        av = require_av()
        with open(self.path, "rb") as file:
            try:
                # The file is already open, and FFmpeg may open no other, of this machine or of the network.
                container = av.open(
                    file,
                    container_options={"protocol_whitelist": "none"},
                    metadata_errors="replace",
                    buffer_size=BUFFER_BYTES,
                )
            except av.FFmpegError:
                reason = "is damaged, or no video in a format that FFmpeg reads: get a complete copy, or convert it"
                if _is_unfinished(self.path):
                    reason = "is still being written, or was cut off: its index (moov), written last, is missing"
                raise VideoError(f"{self.name} {reason}") from None
            with container:
                yield container, self._video_stream(container)

    def _video_stream(self, container: Any) -> Any:
        """The stream that players show first."""
        streams = [stream for stream in container.streams.video if not stream.disposition & COVER_ART]
        kind = container.format.name
        if kind in NO_VIDEO or kind.endswith("_pipe"):
            raise VideoError(f"{self.name} is not a video: check that its content is what its name says")
        if not streams:
            found = "only sound" if container.streams.audio else "no video stream"
            raise VideoError(f"{self.name} has no pictures, {found}: give a video")
        best = container.streams.best("video")
        stream = best if best in streams else streams[0]
        if stream.codec_context is None:
            raise VideoError(f"{self.name} is in a coding for which FFmpeg has no decoder: convert it to H.264")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise VideoError(
                f"{self.name} has frames of {width:,} x {height:,} pixels: shrink it to {MAX_PIXELS / 1e6:g} megapixels"
            )
        return stream

    def _decoded(self, container: Any, stream: Any, keyframe: int | None = None) -> Iterator[VideoFrame]:
        """Frames, in the order in which they are shown. Packets that cannot be decoded are noted and left out.

        Args:
            keyframe: pts of the frame to begin with, after seeking; None: the first one.
        """
        packets = container.demux(stream)
        if keyframe is not None:
            packets = itertools.dropwhile(lambda packet: not packet.is_keyframe, packets)
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # of PyAV, after the last packet of a file in which another stream began late
                packet = None
            except self._errors as error:
                self.problem = f"reading the file failed at {self._end:.1f} s ({error.strerror})"
                packet = None
            try:
                # After a failure the decoder is asked for what it still holds; otherwise the last packet does that.
                frames = packet.decode() if packet is not None else stream.decode(None) if self.problem else []
            except self._errors:
                self._damaged.append(self._end)
                frames = []
            for frame in frames:
                if keyframe is not None and frame.pts is not None and frame.pts < keyframe:
                    continue
                keyframe = None  # a later time that is lower is that of another recording
                if frame.is_corrupt:
                    self._damaged.append(self._end)
                yield frame
            if packet is None:
                return

    def _keyframe(self, start: float, exact: bool = False) -> tuple[int, int, int] | None:
        """Where to seek for the frame at `start`: the target, and pts and number of the keyframe that follows it.

        None where decoding has to begin with the first frame; if `exact`, also where the number would be an estimate.
        """
        with self._opened() as (container, stream):
            if container.format.name in JOINED or (exact and not _has_index(stream)):
                return None
            begin = round(self._start / stream.time_base)
            back = 0.0
            while back < start:
                target = begin + int((start - back) / stream.time_base)
                try:
                    container.seek(target, stream=stream)
                    packets = container.demux(stream)
                    key = next((packet for packet in packets if packet.is_keyframe and packet.pts is not None), None)
                    if key is not None and key.pts <= begin + start / stream.time_base:
                        return target, key.pts, self._number(stream, key, packets)
                except self._errors:  # a format in which one cannot seek
                    return None
                back = 2 * back + 2  # formats without an index are sought by estimates
        return None

    def _number(self, stream: Any, key: Any, following: Iterator[Any]) -> int:
        """Number of a keyframe: exact where the file has an index of all frames, otherwise by the mean frame rate.

        Args:
            following: the packets after the keyframe.
        """
        position = -1
        if key.dts is not None and _has_index(stream):
            position = stream.index_entries.search_timestamp(key.dts, backward=True)
        if position < 0:
            return round(float((key.pts - (stream.start_time or 0)) * stream.time_base) * self.frame_rate)
        # Frames that follow the keyframe in the file may be shown before it.
        leading = itertools.takewhile(lambda packet: packet.pts is not None and packet.pts < key.pts, following)
        return position + sum(1 for _ in leading)


def _has_index(stream: Any) -> bool:
    """Whether the file has an index of all frames of a stream."""
    return len(stream.index_entries) == stream.frames > 0


def _mean_rate(stream: Any) -> float:
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if rate <= MAX_RATE else 0.0


def _durations(container: Any, stream: Any, start: float) -> tuple[float | None, float | None]:
    """Seconds from `start` to the end of the stream, and the same as the file declares it, which a cut file does not
    reach. None: unknown."""
    begin = start if stream.start_time is None else float(stream.start_time * stream.time_base)
    seconds = [begin - start + float(stream.duration * stream.time_base)] if stream.duration else []
    if container.format.name == "avi" and stream.frames and stream.average_rate:  # a cut AVI declares nothing else
        seconds.append(float(stream.frames / stream.average_rate))
    if match := re.match(r"(\d+):(\d\d):(\d\d\.\d+)", stream.metadata.get("DURATION", "")):  # of Matroska
        seconds.append(3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) - start)
    is_declared = bool(seconds) or not container.streams.audio
    if not seconds and container.duration:
        ends = "matroska" in container.format.name  # declares its end, others their length
        seconds.append(container.duration / 1e6 - (start if ends else 0))
    if not seconds:
        return None, None
    is_declared = is_declared and container.format.name not in WITHOUT_DURATION
    return max(seconds), max(seconds) if is_declared else None


def _is_unfinished(path: Path) -> bool:
    """Whether a file of the MP4 family lacks the box "moov", which most programs write last."""
    kinds: list[bytes] = []
    with open(path, "rb") as file:
        while len(head := file.read(16)) >= 8:
            size, kind = int.from_bytes(head[:4]), head[4:8]
            size = int.from_bytes(head[8:16]) if size == 1 else size
            if not kind.isalnum() or len(kinds) > 100:
                return False
            kinds.append(kind)
            if size < 8:  # 0: up to the end of the file
                break
            file.seek(size - len(head), os.SEEK_CUR)
    return bool(kinds) and kinds[0] in (b"ftyp", b"mdat", b"wide", b"free") and b"moov" not in kinds
