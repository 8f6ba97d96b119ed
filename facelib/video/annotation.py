"""Boxes and names, drawn on the frames of a clip."""

import functools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from facelib.render import drawable, font_of_size
from facelib.video.tracks import Track

# Of people, in turn: Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
FONT_SHARE = 0.028  # of the height of a frame
FONT_SIZES = (12, 40)  # pixels, smallest and largest


def annotate_frame(image: np.ndarray, time: float, tracks: Sequence[Track], names: Mapping[int, str]) -> np.ndarray:
    """Draw the box of each track that is in a frame, with the name of its person.

    Between two detections the box is interpolated, see `Track.box_at`. Each name has a colour of its own, as long as
    there are no more than seven.

    Args:
        image: RGB uint8 (H, W, 3); it is not changed.
        time: seconds, of the frame.
        tracks: of the clip; those that are not in the frame are skipped.
        names: number of a track -> the name of its person; a track without one is not drawn.

    Returns:
        RGB uint8 (H, W, 3).
    """
    canvas = image.copy()
    colours = dict(zip(dict.fromkeys(names.values()), COLOURS * len(names)))
    size = int(np.clip(round(FONT_SHARE * len(image)), *FONT_SIZES))
    for track in tracks:
        box = track.box_at(time) if track.number in names else None
        if box is not None:
            name = names[track.number]
            _draw_box(canvas, box, colours[name], max(2, size // 8))
            _draw_name(canvas, box, _label(name, size, colours[name]))
    return canvas


def _draw_box(canvas: np.ndarray, box: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    """A box with a black rim, which is seen on any background."""
    x1, y1, x2, y2 = (int(side) for side in box.round())
    cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), width + 2)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width)


def _draw_name(canvas: np.ndarray, box: np.ndarray, label: np.ndarray) -> None:
    """A label above a box, or in it at the upper border; moved into the frame, or cut where it is wider."""
    height, width = (min(sides) for sides in zip(label.shape, canvas.shape[:2]))
    x = int(np.clip(round(float(box[0])), 0, canvas.shape[1] - width))
    y = int(np.clip(round(float(box[1])) - height, 0, canvas.shape[0] - height))
    canvas[y : y + height, x : x + width] = label[:height, :width]


@functools.lru_cache(1_000)
def _label(name: str, size: int, colour: tuple[int, int, int]) -> np.ndarray:
    """A name in black on a colour, RGB uint8 (h, w, 3)."""
    text, font = drawable(name), font_of_size(size)
    label = Image.new("RGB", (round(font.getlength(text)) + size // 2, round(1.4 * size)), colour)
    ImageDraw.Draw(label).text((size // 4, label.height // 2), text, "black", font, anchor="lm")
    return np.asarray(label)
