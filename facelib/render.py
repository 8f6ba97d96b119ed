"""Pictures and HTML of faces, drawn with OpenCV and Pillow: what commands write and notebooks show."""

from __future__ import annotations

import base64
import functools
import html
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facelib.alignment.align import alignment_matrix
from facelib.alignment.crop import transform_points
from facelib.io.files import printable

if TYPE_CHECKING:
    from facelib.types import Face

MARKED_SIDES = (640, 2000)  # pixels of the longer side of an annotated photo, at least and at most
LANDMARK_COLOURS = ((0, 229, 255), (0, 229, 255), (255, 230, 0), (255, 79, 216), (255, 79, 216))  # eyes, nose, mouth
THUMBNAIL_SIZE = 112  # pixels at which a notebook shows an aligned face; the image has twice as many
BORDER_COLOURS = {False: "#9aa0a6", True: "#e8710a"}  # of a thumbnail, without and with a quality issue

# The matrix of distances, in pixels.
MATRIX_WIDTH = 1100  # of all cells, about
CELL_SIZES = (8, 150)  # smallest and largest
MAX_WRITTEN_FACES = 30  # up to this number of faces, the distances are written into the cells
MARGIN = 20
GAP = 8
BAR_WIDTH = 24
BAR_SPACE = 140  # of the colour bar with its ticks, caption and margins
TICK_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
TITLE_SIZE = 22
MAX_LABEL = 24  # characters
VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ]
)  # matplotlib's colour map at equal steps


def marked_photo(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """The photo with the box, number and landmarks of every face, its longer side within `MARKED_SIDES` pixels.

    Args:
        image: RGB uint8 (H, W, 3); it is not changed.
        faces: with coordinates of that image.

    Returns:
        RGB uint8.
    """
    scale = float(np.clip(1, *(side / max(image.shape[:2]) for side in MARKED_SIDES)))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for number, face in enumerate(faces):
        x1, y1, x2, y2 = (int(value) for value in (face.box * scale).round())
        width = x2 - x1
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (255, 255, 255), max(1, width // 80), cv2.LINE_AA)
        _draw_landmarks(canvas, face.landmarks * scale, max(3, width // 30))
        _draw_number(canvas, number, x1, y1)
    return canvas


def _draw_landmarks(canvas: np.ndarray, landmarks: np.ndarray, radius: int) -> None:
    """Landmarks (5, 2) as coloured dots with a black rim."""
    for point, colour in zip(landmarks, LANDMARK_COLOURS):
        centre = [int(value) for value in point.round()]
        cv2.circle(canvas, centre, radius, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, radius - 1, colour, -1, cv2.LINE_AA)


def _draw_number(canvas: np.ndarray, number: int, x: int, y: int) -> None:
    """The number of a face on white, above the corner (x, y) of its box, or in it at the upper border."""
    (width, height), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    top = max(y, height + 4)
    cv2.rectangle(canvas, (x, top - height - 4), (x + width + 4, top), (255, 255, 255), -1)
    cv2.putText(canvas, str(number), (x + 2, top - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)


def jpeg(image: np.ndarray, quality: int = 85) -> bytes:
    """RGB uint8 (H, W, 3) as the content of a JPEG file."""
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def data_url(image: np.ndarray) -> str:
    """RGB uint8 (H, W, 3) as a data URL, for the `src` of an image in a page without other files."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image)).decode()


def face_thumbnail(face: Face) -> np.ndarray:
    """The aligned face with its landmarks, RGB uint8 of twice `THUMBNAIL_SIZE`."""
    side = 2 * THUMBNAIL_SIZE
    scale = side / face.aligned.shape[0]
    canvas = cv2.resize(face.aligned, (side, side), interpolation=cv2.INTER_CUBIC)
    try:
        matrix = alignment_matrix(face.landmarks, face.alignment)
    except ValueError:  # landmarks that are not finite, or a method that is not ours: shown without dots
        return canvas
    centres = (transform_points(face.landmarks, matrix) + 0.5) * scale - 0.5
    _draw_landmarks(canvas, centres, 5)
    return canvas


def faces_html(faces: Sequence[Face], error: str = "") -> str:
    """Faces as a notebook shows them: aligned, with landmarks, number, box, detector score and quality.

    Args:
        faces: of one photo.
        error: why there are none, shown instead.
    """
    if not faces:
        return f"<p>{html.escape(error or 'no face')}</p>"
    cells = [_face_html(number, face) for number, face in enumerate(faces)]
    return f'<div style="display: flex; flex-wrap: wrap; gap: 12px">{"".join(cells)}</div>'


def _face_html(number: int, face: Face) -> str:
    box = " ".join(f"{value:.0f}" for value in face.box)
    lines = [f"<b>{number}</b> box {box}", f"score {face.score:.2f}, quality {face.quality:.2f}"]
    if face.quality_issue:
        lines.append(f'<span style="color: {BORDER_COLOURS[True]}">{html.escape(face.quality_issue)}</span>')
    border = f"border: 3px solid {BORDER_COLOURS[bool(face.quality_issue)]}; border-radius: 4px"
    title = html.escape(f"aligned by {face.alignment}", quote=True)
    image = (
        f'<img src="{data_url(face_thumbnail(face))}" width="{THUMBNAIL_SIZE}" height="{THUMBNAIL_SIZE}" '
        f'alt="face {number}" title="{title}" style="{border}">'
    )
    return f'<div style="font-size: 12px; line-height: 1.4">{image}<br>{"<br>".join(lines)}</div>'


def distance_matrix_image(
    aligned: Sequence[np.ndarray], distances: np.ndarray, labels: Sequence[str], title: str
) -> np.ndarray:
    """Picture of all cosine distances, with the aligned faces and their labels along both axes.

    Args:
        aligned: n > 0 aligned faces, RGB uint8 (112, 112, 3).
        distances: (n, n) cosine distances.
        labels: n texts such as file names; characters that the font lacks become "?".
        title: above the matrix.

    Returns:
        RGB uint8, about 1,400 pixels wide for six faces or more.

    Raises:
        ValueError: no face, or another number of distances or labels.
    """
    count = len(aligned)
    distances = np.asarray(distances, float)
    if not count or distances.shape != (count, count) or len(labels) != count:
        raise ValueError(
            f"{count} faces, distances of shape {distances.shape} and {len(labels)} labels: expected n > 0 faces, "
            "distances (n, n) and n labels"
        )
    cell = int(np.clip(MATRIX_WIDTH // count, *CELL_SIZES))
    texts = [drawable(label) for label in labels]
    title = drawable(title, 200)
    label_width = max(round(_label_font(cell).getlength(text)) for text in texts)
    left = MARGIN + label_width + cell + 2 * GAP
    top = MARGIN + TITLE_SIZE + 2 * GAP
    width = max(left + count * cell + BAR_SPACE, round(font_of_size(TITLE_SIZE).getlength(title)) + 2 * MARGIN)
    label_height = label_width if label_width > cell else TITLE_SIZE
    height = top + count * cell + cell + 2 * GAP + label_height + MARGIN
    canvas = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(canvas).text((MARGIN, MARGIN), title, "black", font_of_size(TITLE_SIZE))
    largest = max(float(distances.max()), 1e-3)  # the distances of some embedders lie close together
    _draw_cells(canvas, distances, largest, (left, top), cell)
    _draw_axes(canvas, aligned, texts, (left, top), cell)
    _draw_colour_bar(canvas, largest, (left + count * cell + MARGIN, top), count * cell)
    return np.asarray(canvas)


def _draw_cells(canvas: Image.Image, distances: np.ndarray, largest: float, corner: tuple[int, int], cell: int) -> None:
    """The coloured cells, the upper left one at `corner`, with their distances where there is room."""
    count = len(distances)
    colours = Image.fromarray(_viridis(distances / largest))
    canvas.paste(colours.resize((count * cell, count * cell), Image.Resampling.NEAREST), corner)
    if count > MAX_WRITTEN_FACES:
        return
    draw = ImageDraw.Draw(canvas)
    font = font_of_size(int(np.clip(cell // 3, 8, 22)))
    for (row, column), distance in np.ndenumerate(distances):
        middle = (corner[0] + column * cell + cell // 2, corner[1] + row * cell + cell // 2)
        colour = "black" if distance > 0.6 * largest else "white"
        draw.text(middle, f"{distance:.2f}", colour, font, anchor="mm")


def _draw_axes(
    canvas: Image.Image, aligned: Sequence[np.ndarray], texts: Sequence[str], corner: tuple[int, int], cell: int
) -> None:
    """Faces and labels left of the cells and below them."""
    left, top = corner
    bottom = top + len(aligned) * cell
    font = _label_font(cell)
    rotated = max(font.getlength(text) for text in texts) > cell
    draw = ImageDraw.Draw(canvas)
    for i, (face, text) in enumerate(zip(aligned, texts)):
        thumbnail = Image.fromarray(face).resize((cell - 2, cell - 2), Image.Resampling.LANCZOS)
        canvas.paste(thumbnail, (left - GAP - cell + 1, top + i * cell + 1))
        canvas.paste(thumbnail, (left + i * cell + 1, bottom + GAP + 1))
        middle = i * cell + cell // 2
        draw.text((left - cell - 2 * GAP, top + middle), text, "black", font, anchor="rm")
        _draw_label(canvas, text, font, (left + middle, bottom + cell + 2 * GAP), rotated)


def _draw_label(
    canvas: Image.Image, text: str, font: ImageFont.FreeTypeFont, at: tuple[int, int], rotated: bool
) -> None:
    """A label centred below `at`; `rotated`: to be read from bottom to top."""
    if not rotated:
        ImageDraw.Draw(canvas).text(at, text, "black", font, anchor="mt")
        return
    mask = Image.new("L", (max(1, round(font.getlength(text))), round(1.4 * font.size)))
    ImageDraw.Draw(mask).text((0, mask.height // 2), text, 255, font, anchor="lm")
    mask = mask.rotate(90, expand=True)
    canvas.paste((0, 0, 0), (at[0] - mask.width // 2, at[1]), mask)


def _draw_colour_bar(canvas: Image.Image, largest: float, corner: tuple[int, int], height: int) -> None:
    """The colours from 0 (below) to `largest` (above), with ticks and a caption."""
    left, top = corner
    colours = Image.fromarray(_viridis(np.linspace(1, 0, height)[:, None]))
    canvas.paste(colours.resize((BAR_WIDTH, height), Image.Resampling.NEAREST), corner)
    draw = ImageDraw.Draw(canvas)
    font = font_of_size(16)
    right = left + BAR_WIDTH
    most_ticks = min(10, max(1, height // 40))
    step = next((step for step in TICK_STEPS if largest / step <= most_ticks), TICK_STEPS[-1])
    for value in np.arange(0, largest * 1.0001, step):
        y = top + round((height - 1) * (1 - min(1.0, value / largest)))
        draw.line((right, y, right + 4, y), "black")
        draw.text((right + GAP, y), f"{value:g}", "black", font, anchor="lm")
    caption = "cosine distance"
    x = right + 3 * GAP + round(font.getlength("0.000"))
    _draw_label(canvas, caption, font, (x, top + (height - round(font.getlength(caption))) // 2), rotated=True)


def _viridis(shares: np.ndarray) -> np.ndarray:
    """Colours (..., 3) RGB uint8 of values from 0 to 1."""
    steps = np.linspace(0, 1, len(VIRIDIS))
    channels = [np.interp(shares, steps, VIRIDIS[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


@functools.cache
def font_of_size(size: int) -> ImageFont.FreeTypeFont:
    """The font that Pillow ships. It has the letters of English, see `drawable`."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this build of Pillow has no FreeType: install Pillow from PyPI")
    return font


def _label_font(cell: int) -> ImageFont.FreeTypeFont:
    return font_of_size(int(np.clip(cell // 2, 8, 18)))


@functools.cache
def _has_glyph(character: str) -> bool:
    masks = [font_of_size(16).getmask(text) for text in (character, "\U0010ffff")]
    return (masks[0].size, bytes(masks[0])) != (masks[1].size, bytes(masks[1]))


def drawable(text: str, most: int = MAX_LABEL) -> str:
    """A text in one line of at most `most` characters: accents that the font lacks are dropped, other characters that
    it lacks become "?"."""
    shown = ""
    for character in printable(text):
        base = character if _has_glyph(character) else unicodedata.normalize("NFKD", character)[0]
        shown += base if _has_glyph(base) else "?"
    return shown if len(shown) <= most else f"{shown[: most - 7]}…{shown[-6:]}"  # names often differ at the end
