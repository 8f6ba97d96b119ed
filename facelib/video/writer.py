"""Writes H.264 clips that browsers play."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from facelib.io.files import atomic_write, printable
from facelib.video.stream import CLOCK_RESET, require_av, start_time

ENCODER = "libx264"
# Constant quality: at 20 hardly a difference is seen. "veryfast" needs a third of the time of the default, and makes
# files that are about a tenth larger. Without B-frames the duration is right also where the times are uneven.
ENCODER_OPTIONS = {"crf": "20", "preset": "veryfast", "bf": "0"}
TICKS = 90_000  # of the clip's clock in a second, as MPEG has it: true to the times of all usual frame rates
USUAL_RATE = 25.0  # frames a second, where the rate is not known
RATES = (0.01, 1_000.0)  # frames a second; others are no rates, but what a damaged or odd file says
MP4_AUDIO = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}  # codecs that MP4 may hold
BT709 = 1  # of FFmpeg's colour matrices, primaries and curves: what players expect of HD
LIMITED_RANGE = 1  # luma from 16 to 235


class ClipWriter:
    """Writes frames as a clip: H.264 in MP4, 4:2:0, with the index at its start. A context manager.

    The clip is written to a temporary file, which replaces `path` when the block ends without an error; after an
    error or an interruption nothing of it is left. Odd sides get another row or column, a copy of the last one,
    because 4:2:0 needs even sides.

    Args:
        path: of the clip; it is MP4 whatever its suffix.
        size: (width, height) of the frames, in pixels.
        frame_rate: mean number of frames a second, which the encoder plans with; 0.0: unknown. The times of the frames
            may differ from it as they like.
        audio_from: a clip whose first audio stream is copied, not encoded again; None, or no audio stream of a codec
            that MP4 may hold: the clip is silent.
        comment: text that players show as the comment of the file.

    Raises:
        ImportError: PyAV is missing. RuntimeError: it has no libx264.
        OSError: the clip cannot be written, e.g. because the disk is full; in `write` and at the end of the block.
        ValueError: a size that is not positive; at the end of the block: no frame was written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        frame_rate: float = 0.0,
        audio_from: str | Path | None = None,
        comment: str = "",
    ):
        if min(size) < 1:
            raise ValueError(f"size={size}: expected a width and a height of at least 1 pixel")
        self.path, self.size, self.comment = Path(path), size, comment
        self.frame_rate = frame_rate if RATES[0] <= frame_rate <= RATES[1] else USUAL_RATE
        self._audio_from = audio_from
        self._last = -1  # tick of the last frame
        self.note = ""  # why the clip is silent although sound was to be copied

    def __enter__(self) -> "ClipWriter":
        self._av = av = require_av()
        if ENCODER not in av.codecs_available:
            raise RuntimeError(f"this build of PyAV has no {ENCODER}: install the one of PyPI (pip install av)")
        with contextlib.ExitStack() as stack, self._named_errors():
            temporary = stack.enter_context(atomic_write(self.path))
            # An absolute path: FFmpeg takes "a:b.mp4" for an address.
            name = os.path.abspath(temporary)
            options = {"movflags": "+faststart"}
            self._container = stack.enter_context(av.open(name, "w", format="mp4", container_options=options))
            if self.comment:
                self._container.metadata["comment"] = self.comment
            self._video = self._add_video()
            self._audio = self._add_audio(stack)
            self._container.start_encoding()  # a file that cannot be made is told now, not at the first frame
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def _add_video(self) -> Any:
        rate = Fraction(self.frame_rate).limit_denominator(1001)
        video = self._container.add_stream(ENCODER, rate, options=dict(ENCODER_OPTIONS))
        video.width, video.height = (side + side % 2 for side in self.size)
        video.pix_fmt = "yuv420p"
        codec = video.codec_context
        codec.time_base = video.time_base = Fraction(1, TICKS)
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED_RANGE
        return video

    def _add_audio(self, stack: contextlib.ExitStack) -> Iterator[tuple[float, Any]]:
        """The packets of the audio to copy, and the time of each in seconds; none where there is none that fits."""
        if self._audio_from is None:
            return iter(())
        file = stack.enter_context(open(self._audio_from, "rb"))  # noqa: SIM115
        options = {"protocol_whitelist": "none"}
        source = self._av.open(file, container_options=options, metadata_errors="replace")
        stack.enter_context(source)
        audio = next((one for one in source.streams.audio if one.codec_context.name in MP4_AUDIO), None)
        if audio is None:
            if names := [one.codec_context.name for one in source.streams.audio]:
                self.note = f"its sound ({', '.join(names)}) does not fit into MP4: the copy is silent"
            return iter(())
        pictures = next(iter(source.streams.video), None)
        start = start_time(source, pictures) if pictures else 0.0
        copied = self._container.add_stream_from_template(audio)
        return self._packets(source.demux(audio), copied, start)

    def _packets(self, packets: Iterator[Any], copied: Any, start: float) -> Iterator[tuple[float, Any]]:
        """Packets of audio from the start of the clip on, with times that count from it and do not fall."""
        end: int | None = None  # of the last packet, in ticks
        shift = 0
        with contextlib.suppress(self._av.error.InvalidDataError):  # the source may end in the middle
            for packet in packets:
                if packet.dts is None or (end is None and packet.dts * packet.time_base < start):
                    continue
                ticks = round(start / packet.time_base)
                dts = packet.dts - ticks + shift
                if end is not None and dts < end - CLOCK_RESET / packet.time_base:  # another recording
                    shift, dts = shift + end - dts, end
                packet.pts = (packet.dts if packet.pts is None else packet.pts) - ticks + shift
                packet.dts = dts
                end = dts + (packet.duration or 1)
                packet.stream = copied
                yield float(packet.dts * packet.time_base), packet

    def write(self, image: np.ndarray, time: float) -> None:
        """Add a frame.

        Args:
            image: RGB uint8 (height, width, 3) of the clip's size.
            time: seconds from the start of the clip, later than that of the frame before; an earlier one counts as
                just after it.

        Raises:
            ValueError: another shape or type. OSError: the clip cannot be written.
        """
        width, height = self.size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ValueError(f"a frame of {image.dtype} {image.shape}: expected uint8 {(height, width, 3)}")
        if width % 2 or height % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
        self._last = frame.pts = max(round(time * TICKS), self._last + 1)
        frame.time_base = Fraction(1, TICKS)
        frame.duration = round(TICKS / self.frame_rate)  # how long the last frame is shown
        with self._named_errors():
            self._copy_audio(time)
            self._container.mux(self._video.encode(frame))

    def _copy_audio(self, until: float) -> None:
        """Copy audio up to a time, so that it lies beside the pictures of that time."""
        for time, packet in self._audio:
            self._container.mux(packet)
            if time > until:
                break

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what the encoder still holds, unless the block ended with an error."""
        if kind is None:
            if self._last < 0:
                raise ValueError(f"{printable(self.path)}: no frame was written")
            self._container.mux(self._video.encode(None))
            self._copy_audio(self._last / TICKS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._named_errors():
            self._stack.__exit__(kind, error, traceback)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let errors of the disk name the clip instead of the temporary file."""
        try:
            yield
        except self._av.error.FFmpegError as error:
            if not isinstance(error, OSError):
                raise
            text = f"{printable(self.path)}: the clip cannot be written ({error.strerror})"
            raise OSError(error.errno, text) from None
