"""Decoded frames of FFmpeg as RGB arrays: deinterlaced, upright, with square pixels, in BT.709."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from facelib.io.pixels import upright
from facelib.runtime.onnx import cpu_threads
from facelib.video.tone_mapping import TRANSFERS, to_sdr

if TYPE_CHECKING:
    from av import VideoFrame

INTERLACED = "interlaced: deinterlaced with FFmpeg's bwdif"
OTHER_SIZES = "its size changes: frames are stretched to the size of the first, in which boxes are given"
UNSPECIFIED, BT709 = 2, 1  # matrices of ITU-T H.273
KNOWN_MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}  # to FFmpeg's conversion, which refuses others
SD_SIZE = 1279, 576  # the largest frame that players take for BT.601 where its matrix is not said
# EXIF orientation by what is done to the decoded pixels: rows and columns exchanged, then mirrored in x, then in y.
ORIENTATIONS = {
    (False, False, False): 1, (False, True, False): 2, (False, True, True): 3, (False, False, True): 4,
    (True, False, False): 5, (True, True, False): 6, (True, True, True): 7, (True, False, True): 8,
}  # fmt: skip


class FrameConverter:
    """Converts the frames of one clip.

    size: (width, height) of its images; frames of another size in the same stream are stretched to it.
    notes: what is converted.
    """

    def __init__(self, first: VideoFrame, pixel_aspect: Fraction | None):
        """`first`: a frame of the clip. `pixel_aspect`: width of a pixel divided by its height; None: square."""
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._orientation = _orientation(first)
        self._first_size = first.width, first.height
        aspect = pixel_aspect if pixel_aspect and Fraction(1, 10) <= pixel_aspect <= 10 else Fraction(1)
        # The short side of the pixels is stretched, so that no detail is lost.
        self._coded_size = round(first.width * max(float(aspect), 1.0)), round(first.height / min(float(aspect), 1.0))
        self.size = self._coded_size[::-1] if self._orientation >= 5 else self._coded_size
        self.notes: list[str] = []
        if first.interlaced_frame:
            self.notes.append(INTERLACED)
        if first.color_trc in TRANSFERS:
            self.notes.append(f"HDR ({TRANSFERS[first.color_trc]}): converted to SDR")
        if aspect != 1:
            self.notes.append(f"pixels of {aspect.numerator}:{aspect.denominator}: stretched to square ones")
        if self._orientation != 1:
            self.notes.append("rotated or mirrored: turned upright")

    def image(self, frame: VideoFrame) -> np.ndarray:
        """The frame as (H, W, 3) RGB uint8, upright, H and W as in `size`."""
        if frame.colorspace not in KNOWN_MATRICES:
            frame.colorspace = UNSPECIFIED
        transfer = TRANSFERS.get(frame.color_trc)
        is_large = frame.width > SD_SIZE[0] or frame.height > SD_SIZE[1]
        if (frame.width, frame.height) != self._first_size and OTHER_SIZES not in self.notes:
            self.notes.append(OTHER_SIZES)
        converted = self._reformatter.reformat(
            frame,
            *self._coded_size,
            format="rgb48le" if transfer else "rgb24",
            src_colorspace=BT709 if frame.colorspace == UNSPECIFIED and is_large else None,
            threads=cpu_threads(),
        ).to_ndarray()
        return upright(to_sdr(converted, transfer) if transfer else converted, self._orientation)


def _orientation(frame: VideoFrame) -> int:
    """EXIF orientation that turns a frame upright, from its display matrix: a rotation by quarter turns, or a mirror.

    The matrix takes a decoded pixel (x, y) to (a x + c y, b x + d y).
    """
    side_data: Any = frame.side_data
    matrix = next((data for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    is_transposed = abs(b) > abs(a)
    return ORIENTATIONS[is_transposed, (c if is_transposed else a) < 0, (b if is_transposed else d) < 0]


def deinterlaced(frames: Iterator[VideoFrame], notes: list[str]) -> Iterator[VideoFrame]:
    """As many frames, of which interlaced ones are deinterlaced; the first of these adds a note."""
    graph: Any = None
    layout = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if INTERLACED not in notes:
            notes.append(INTERLACED)
        if layout != (frame.width, frame.height, frame.format.name):
            yield from _pull(graph, None)
            graph = _deinterlacer(frame)
            layout = (frame.width, frame.height, frame.format.name)
        yield from _pull(graph, frame)
    yield from _pull(graph, None)


def _deinterlacer(frame: VideoFrame) -> Any:
    """A filter graph for frames like this one; it answers one frame late."""
    from av.filter import Graph

    graph = Graph()
    graph.threads = cpu_threads()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pull(graph: Any, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """Give a frame to a filter graph, None at the end, and yield what it has ready. Nothing where there is no graph."""
    from av.error import BlockingIOError, EOFError

    if graph is None:
        return
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError):
            return
