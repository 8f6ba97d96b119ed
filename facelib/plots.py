"""Matplotlib figures that several notebooks show. Each function returns the axes or the figure."""

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import PercentFormatter

from facelib.io.files import printable
from facelib.render import LANDMARK_COLOURS
from facelib.types import Face

SHOWN_SIDE = 2000  # pixels; a larger photo is downscaled before it is drawn
# Fonts with Chinese, Japanese and Korean characters. Most systems have one of them.
WIDE_FONTS = (
    "Noto Sans CJK",
    "Source Han Sans",
    "PingFang",
    "Hiragino Sans",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
    "WenQuanYi",
    "Droid Sans Fallback",
    "Unifont",
)


@functools.cache
def title_fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    """Font families for file names, and the code points that they have glyphs for."""
    files = {entry.name: entry.fname for entry in font_manager.fontManager.ttflist}
    wide = next((name for start in WIDE_FONTS for name in sorted(files) if name.startswith(start)), None)
    families = ("DejaVu Sans",) + ((wide,) if wide else ())
    charmaps = [font_manager.get_font(files[name]).get_charmap() for name in families if name in files]
    return families, frozenset(code for charmap in charmaps for code in charmap)


def name_text(name: str) -> dict[str, Any]:
    """Keywords of `Axes.set_title` for a file name: "?" for characters without a glyph, "$" not parsed as a formula."""
    families, code_points = title_fonts()
    shown = "".join(character if ord(character) in code_points else "?" for character in printable(name))
    return {"label": shown[:100], "fontfamily": list(families), "parse_math": False}


def show_image(image: np.ndarray, title: str = "", axes: Axes | None = None) -> Axes:
    """Show an image (H, W, 3) without ticks.

    Photos larger than `SHOWN_SIDE` are downscaled first; the axes keep the photo's coordinates.
    """
    axes = axes or plt.gca()
    height, width = image.shape[:2]
    if max(height, width) > SHOWN_SIDE:
        scale = SHOWN_SIDE / max(height, width)
        size = [max(1, round(side * scale)) for side in (width, height)]
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        axes.imshow(small, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    else:
        axes.imshow(image)
    axes.set(xticks=[], yticks=[], title=title)
    return axes


def draw_landmarks(axes: Axes, points: np.ndarray, size: float = 12) -> None:
    """Draw landmarks (..., 5, 2) as dots: eyes blue, nose yellow, mouth pink. The limits of the axes do not change.

    Args:
        size: area of a dot in square points, as in `Axes.scatter`.
    """
    points = np.asarray(points).reshape(-1, 2)
    colours = np.tile(np.array(LANDMARK_COLOURS) / 255, (len(points) // 5, 1))
    xlim = axes.get_xlim()
    ylim = axes.get_ylim()
    axes.scatter(
        points[:, 0], points[:, 1], s=size, c=colours, edgecolors="black", linewidths=min(0.4, size / 20), zorder=3
    )
    axes.set(xlim=xlim, ylim=ylim)


def draw_faces(axes: Axes, faces: Sequence[Face]) -> None:
    """Draw box, number and landmarks of every face onto the photo shown in `axes`; dashed with a quality issue."""
    width = np.diff(axes.get_xlim())[0]
    for number, face in enumerate(faces):
        x1, y1, x2, y2 = face.box
        line: dict[str, Any] = dict(edgecolor="white", linewidth=1.5, linestyle="--" if face.quality_issue else "-")
        axes.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **line))
        label: dict[str, Any] = dict(color="black", fontsize=9, bbox=dict(facecolor="white", edgecolor="none", pad=1.5))
        axes.text(x1, y1, str(number), va="bottom", **label)
        diameter = 0.07 * (x2 - x1) / width * 72 * axes.figure.bbox.width / axes.figure.dpi  # in points
        draw_landmarks(axes, face.landmarks, np.clip(diameter**2, 1.5, 16))


def annotated_photo(image: np.ndarray, faces: Sequence[Face], title: str = "") -> Figure:
    """Figure of a photo with all its faces, see `draw_faces`."""
    height, width = image.shape[:2]
    figure, axes = plt.subplots(figsize=(10, np.clip(10 * height / width, 2, 16)), layout="constrained")
    show_image(image, axes=axes)
    axes.set_title(**name_text(title), pad=16)  # above the number of a face at the upper border
    draw_faces(axes, faces)
    return figure


def image_grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    columns: int = 6,
    landmarks: Sequence[np.ndarray] | None = None,
    title: str = "",
    size: float = 1.6,
) -> Figure:
    """Figure of images of one size in rows.

    Args:
        images: RGB uint8 (H, W, 3).
        titles: one for each image, or none.
        columns: images in a row.
        landmarks: (5, 2) for each image, or None.
        title: of the figure.
        size: of an image in inches.
    """
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    title_height = 0.25 if len(titles) else 0.0
    figsize = (size * columns, (size + title_height) * rows + 0.4)
    figure, grid = plt.subplots(rows, columns, figsize=figsize, squeeze=False, layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    for i, (axes, image) in enumerate(zip(grid.flat, images)):
        axes.imshow(image)
        if len(titles):
            axes.set_title(titles[i], fontsize=8)
        if landmarks is not None:
            draw_landmarks(axes, landmarks[i], 10)
    figure.suptitle(title, fontsize=10)
    return figure


def distance_matrix(
    faces: Sequence[np.ndarray],
    distances: np.ndarray,
    title: str = "",
    numbers: bool = True,
    labels: Sequence[str] | None = None,
    marked: np.ndarray | None = None,
) -> Figure:
    """Figure of all cosine distances, with the aligned faces and their labels along both axes.

    Args:
        faces: n aligned faces, RGB uint8 (112, 112, 3).
        distances: (n, n) cosine distances.
        title: of the figure.
        numbers: write the distances into the cells.
        labels: of the faces; None: 0 to n - 1.
        marked: (n, n) bool, cells with a red frame, such as those below a threshold; None: no cell.
    """
    n = len(faces)
    side = np.clip(0.75 * n + 1.5, 4, 12)
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    largest = max(float(np.max(distances, initial=0)), 1e-3)  # the distances of some embedders lie close together
    picture = axes.imshow(distances, cmap="viridis", vmin=0, vmax=largest)
    axes.set(xticks=[], yticks=[], title=title)
    labels = [str(i) for i in range(n)] if labels is None else labels
    _draw_face_axes(axes, faces, labels, zoom=0.42 * side / (n + 1))
    axes.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(distances) if numbers else ():
        colour = "black" if value > 0.6 * largest else "white"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    for i, j in [] if marked is None else np.argwhere(marked):
        axes.add_patch(plt.Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="red", linewidth=2))
    figure.colorbar(picture, label="cosine distance (0: same direction)", shrink=0.8)
    return figure


def _draw_face_axes(axes: Axes, faces: Sequence[np.ndarray], labels: Sequence[str], zoom: float) -> None:
    """Faces and their labels left of a matrix and below it."""
    n = len(faces)
    rotation = 0 if max(map(len, labels), default=0) < 4 else 90
    for i, (face, label) in enumerate(zip(faces, labels)):
        for position in ((-1, i), (i, n)):
            thumbnail = OffsetImage(face, zoom=zoom)
            axes.add_artist(AnnotationBbox(thumbnail, position, frameon=False, annotation_clip=False, pad=0))
        text = name_text(label) | {"fontsize": 8}
        shown = text.pop("label")
        axes.text(-1.55, i, shown, ha="right", va="center", **text)
        axes.text(i, n + 0.55, shown, ha="center", va="top", rotation=rotation, **text)
    axes.set(xlim=(-1.5, n - 0.5), ylim=(n + 0.5, -0.5))


def training_curves(
    axes: Axes, history: Sequence[dict[str, float]], keys: dict[str, str], ylabel: str, percent: bool = False
) -> Axes:
    """Plot values of a training history over the epochs.

    Args:
        history: one dict for each epoch.
        keys: name in the history -> label of its curve.
        ylabel: of the y axis.
        percent: show shares as percentages.
    """
    epochs = np.arange(1, len(history) + 1)
    for key, label in keys.items():
        axes.plot(epochs, [row[key] for row in history], marker="o", markersize=3, label=label)
    axes.set(xlabel="epoch", ylabel=ylabel)
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()
    axes.grid(alpha=0.3)
    return axes


def roc(axes: Axes, curves: dict[str, tuple[np.ndarray, np.ndarray]], lowest: float = 1e-4) -> Axes:
    """Plot ROC curves with a logarithmic x axis.

    Args:
        curves: label -> (FPR, TPR), see `facelib.metrics.roc_curve`.
        lowest: left end of the x axis.
    """
    for label, (fpr, tpr) in curves.items():
        axes.plot(np.maximum(fpr, lowest / 10), tpr, label=label)
    axes.set(xscale="log", xlim=(lowest, 1), ylim=(0, 1.02), xlabel="false positive rate", ylabel="true positive rate")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return axes


def score_histogram(axes: Axes, genuine: np.ndarray, impostor: np.ndarray) -> Axes:
    """Plot the distributions of the cosine similarities of genuine (n,) and impostor pairs (m,), each with area 1."""
    lowest = np.floor(10 * min(genuine.min(), impostor.min())) / 10
    bins = np.linspace(lowest, 1, 81).tolist()
    axes.hist(impostor, bins, density=True, alpha=0.6, label=f"impostor ({len(impostor):,} pairs)")
    axes.hist(genuine, bins, density=True, alpha=0.6, label=f"genuine ({len(genuine):,} pairs)")
    axes.set(xlabel="cosine similarity", ylabel="density", xlim=(lowest, 1))
    axes.margins(y=0.25)  # space for the legend
    axes.legend(loc="upper right")
    return axes


def rates_by_group(
    axes: Axes, rates: dict[str, dict[str, tuple[float, float, float]]], target: float, lowest: float = 1e-4
) -> Axes:
    """Plot the false match rates of groups of people on a logarithmic axis, with their intervals.

    Args:
        rates: label, such as "cosine" and "normalised score" -> group -> (rate, low, high).
        target: rate that is aimed at, drawn as a line.
        lowest: left end of the axis; lower rates, such as 0, are drawn there.
    """
    first = next(iter(rates.values()))
    groups = sorted(first, key=lambda group: first[group][0])
    for number, (label, by_group) in enumerate(rates.items()):
        rate, low, high = np.maximum([by_group[group] for group in groups], lowest).T
        places = np.arange(len(groups)) + min(0.25, 0.7 / len(rates)) * (number - (len(rates) - 1) / 2)
        axes.errorbar(rate, places, xerr=[rate - low, high - rate], fmt="o", markersize=4, capsize=2, label=label)
    axes.axvline(target, color="black", linestyle="--", linewidth=1, label=f"target, {100 * target:g}%")
    axes.set(xscale="log", xlabel="false match rate, with 95 % interval over people", yticks=range(len(groups)))
    axes.set_yticklabels(groups)
    axes.set_xlim(left=lowest)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.grid(alpha=0.3)
    axes.legend()
    return axes
