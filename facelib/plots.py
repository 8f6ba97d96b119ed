"""Pictures that more than one notebook, or the command line, shows. Every function gives the axes or figure."""

import functools
from collections.abc import Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import PercentFormatter

from facelib.io.files import printable

SHOWN_SIDE = 2000  # pixels of the longer side of a photo, as far as it is drawn
# Fonts with Chinese, Japanese and Korean letters, of which most systems have one.
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
POINT_COLOURS = ("#00e5ff", "#00e5ff", "#ffe600", "#ff4fd8", "#ff4fd8")


@functools.cache
def title_fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    """Font families for names of files, and the characters that they can show."""
    entries = {entry.name: entry.fname for entry in font_manager.fontManager.ttflist}
    wide = next((name for start in WIDE_FONTS for name in sorted(entries) if name.startswith(start)), None)
    families = ("DejaVu Sans",) + ((wide,) if wide else ())
    maps = [font_manager.get_font(entries[name]).get_charmap() for name in families if name in entries]
    return families, frozenset(character for known in maps for character in known)


def name_text(name: str) -> dict[str, object]:
    """Keywords of `Axes.set_title` for the name of a file: no formula in it, a ? for what no font here can show."""
    families, known = title_fonts()
    shown = "".join(c if ord(c) in known else "?" for c in printable(name))
    return {"label": shown[:100], "fontfamily": list(families), "parse_math": False}


def show_image(image: np.ndarray, title: str = "", axes: Axes | None = None) -> Axes:
    """A picture without ticks; what is larger than can be seen is shrunk first, its coordinates stay."""
    axes = axes or plt.gca()
    height, width = image.shape[:2]
    if max(height, width) > SHOWN_SIDE:
        scale = SHOWN_SIDE / max(height, width)
        size = [max(1, round(side * scale)) for side in (width, height)]
        axes.imshow(
            cv2.resize(image, size, interpolation=cv2.INTER_AREA), extent=(-0.5, width - 0.5, height - 0.5, -0.5)
        )
    else:
        axes.imshow(image)
    axes.set(xticks=[], yticks=[], title=title)
    return axes


def draw_landmarks(axes: Axes, points: np.ndarray, size: float = 12) -> None:
    """Landmarks (..., 5, 2) as dots: eyes blue, nose yellow, mouth pink. The axes stay where they are."""
    points = np.asarray(points).reshape(-1, 2)
    colours = POINT_COLOURS * (len(points) // 5)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.scatter(*points.T, s=size, c=colours, edgecolors="black", linewidths=min(0.4, size / 20), zorder=3)
    axes.set(xlim=limits[0], ylim=limits[1])


def draw_faces(axes: Axes, faces: Sequence) -> None:
    """Box, number and landmarks of every `Face` onto the photo shown in `axes`; dashed: the face shows too little."""
    width = np.diff(axes.get_xlim())[0]
    for number, face in enumerate(faces):
        x1, y1, x2, y2 = face.box
        line = dict(edgecolor="white", linewidth=1.5, linestyle="--" if face.quality_issue else "-")
        axes.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **line))
        label = dict(color="black", fontsize=9, bbox=dict(facecolor="white", edgecolor="none", pad=1.5))
        axes.text(x1, y1, str(number), va="bottom", **label)
        dot = 0.07 * (x2 - x1) / width * 72 * axes.figure.get_figwidth()  # points of the page
        draw_landmarks(axes, face.landmarks, np.clip(dot**2, 1.5, 16))


def annotated_photo(image: np.ndarray, faces: Sequence, title: str = "") -> Figure:
    """The photo with all its faces marked and numbered."""
    height, width = image.shape[:2]
    figure, axes = plt.subplots(figsize=(10, np.clip(10 * height / width, 2, 16)), layout="constrained")
    show_image(image, axes=axes)
    axes.set_title(**name_text(title), pad=16)  # the number of a face at the upper border stands there
    draw_faces(axes, faces)
    return figure


def image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 6, landmarks: Sequence | None = None,
    title: str = "", size: float = 1.6,
) -> Figure:  # fmt: skip
    """Pictures of one size in rows, with a title and, if given, (5, 2) landmarks each."""
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    extra = 0.25 if len(titles) else 0.0
    figure, grid = plt.subplots(
        rows, columns, figsize=(size * columns, (size + extra) * rows + 0.4), squeeze=False, layout="constrained"
    )
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
    """Cosine distances (n, n) as colours, with the n aligned faces and their labels (0 to n - 1) along both axes.

    `marked`: (n, n) bool, cells that get a red frame, such as those below a threshold.
    """
    n = len(faces)
    side = np.clip(0.75 * n + 1.5, 4, 12)
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    largest = max(float(np.max(distances, initial=0)), 1e-3)  # distances of some embedders lie close together
    picture = axes.imshow(distances, cmap="viridis", vmin=0, vmax=largest)
    axes.set(xticks=[], yticks=[], title=title)
    zoom = 0.42 * side / (n + 1)
    labels = [str(i) for i in range(n)] if labels is None else labels
    below = 0 if max(map(len, labels), default=0) < 4 else 90
    for i, (face, label) in enumerate(zip(faces, labels)):
        for at in ((-1, i), (i, n)):
            thumb = AnnotationBbox(OffsetImage(face, zoom=zoom), at, frameon=False, annotation_clip=False, pad=0)
            axes.add_artist(thumb)
        text = {key: value for key, value in name_text(label).items() if key != "label"} | {"fontsize": 8}
        axes.text(-1.55, i, name_text(label)["label"], ha="right", va="center", **text)
        axes.text(i, n + 0.55, name_text(label)["label"], ha="center", va="top", rotation=below, **text)
    axes.set(xlim=(-1.5, n - 0.5), ylim=(n + 0.5, -0.5))
    axes.spines[:].set_visible(False)
    if numbers:
        for i, row in enumerate(distances):
            for j, value in enumerate(row):
                axes.text(
                    j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="wk"[int(value > 0.6 * largest)]
                )
    for i, j in [] if marked is None else np.argwhere(marked):
        axes.add_patch(plt.Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="red", linewidth=2))
    figure.colorbar(picture, label="cosine distance (0: same direction)", shrink=0.8)
    return figure


def training_curves(
    axes: Axes, history: Sequence[dict[str, float]], keys: dict[str, str], ylabel: str, percent: bool = False
) -> Axes:
    """Figures of the history over the epochs; `keys`: name in the history -> label. `percent`: shares as such."""
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
    """ROC curves on a logarithmic false positive rate; `curves`: label -> (fpr, tpr)."""
    for label, (fpr, tpr) in curves.items():
        axes.plot(np.maximum(fpr, lowest / 10), tpr, label=label)
    axes.set(xscale="log", xlim=(lowest, 1), ylim=(0, 1.02), xlabel="false positive rate", ylabel="true positive rate")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return axes


def score_histogram(axes: Axes, genuine: np.ndarray, impostor: np.ndarray) -> Axes:
    """Cosine similarities of genuine and impostor pairs, each with area 1."""
    lowest = np.floor(10 * min(genuine.min(), impostor.min())) / 10
    bins = np.linspace(lowest, 1, 81)
    axes.hist(impostor, bins, density=True, alpha=0.6, label=f"impostor ({len(impostor):,} pairs)")
    axes.hist(genuine, bins, density=True, alpha=0.6, label=f"genuine ({len(genuine):,} pairs)")
    axes.set(xlabel="cosine similarity", ylabel="density", xlim=(lowest, 1))
    axes.margins(y=0.25)  # room for the legend
    axes.legend(loc="upper right")
    return axes
