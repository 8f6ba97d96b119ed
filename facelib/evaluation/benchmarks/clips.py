"""Clips of people with known answers: `python -m facelib.evaluation.benchmarks.clips CLIP`.

Portraits of held-out people move over backgrounds without faces. A seed determines the pictures; the truth of each
frame (person, box, visible share of the face) is written as a CSV file beside the clip.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facelib.evaluation.benchmarks.clip_people import (
    EFFECTS,
    Actor,
    ClipRecipe,
    Layer,
    cast_scene,
    render_actor,
    smooth_step,
)
from facelib.evaluation.benchmarks.clip_sources import ClipSources, load_clip_sources
from facelib.io.files import atomic_write
from facelib.settings import one_line_errors
from facelib.video.reader import require_av

SCENE_SECONDS = 7.0  # of a scene between two cuts, on average
RETURN_SHARE = 0.5  # probability that one person of an earlier scene is in the next one
CAMERA_SWAY = 0.04  # of the frame's size: how far the background moves
BAR_SECONDS = 7.0  # in which the bar crosses the frame
BT709 = 1  # of FFmpeg's colour matrices
TRUTH_COLUMNS = ("frame", "time", "person", "x1", "y1", "x2", "y2", "visible")


@dataclass(frozen=True)
class TrueFace:
    """A face of a frame.

    person: ID.
    box: (4,) float32, x1 y1 x2 y2 in pixels, as a detector would draw it, clipped to the frame.
    visible: share of the face that is in the frame and not hidden, 0 to 1.
    """

    person: str
    box: np.ndarray
    visible: float


@dataclass(frozen=True)
class Scene:
    """What is seen between two cuts.

    start, end: seconds.
    background: RGB uint8, larger than the frame by `CAMERA_SWAY` on each side.
    actors: the later ones pass in front of the earlier ones.
    phase: of light, bar and camera.
    """

    start: float
    end: float
    background: np.ndarray
    actors: list[Actor]
    phase: float


def plan_scenes(recipe: ClipRecipe, sources: ClipSources) -> list[Scene]:
    """Scenes of a clip: cuts, backgrounds, people.

    Raises:
        ValueError: the sources have too few people, or no background.
    """
    rng = np.random.default_rng(recipe.seed)
    count = max(2, round(recipe.seconds / SCENE_SECONDS)) if "cuts" in recipe.effects else 1
    cuts = (np.arange(1, count) + rng.uniform(-0.2, 0.2, count - 1)) * recipe.seconds / count
    times = [0.0, *cuts.tolist(), recipe.seconds]
    waiting = rng.permutation(sorted(sources.portraits)).tolist()
    if len(waiting) < count * recipe.people or not sources.backgrounds:
        raise ValueError(
            f"{len(waiting)} people and {len(sources.backgrounds)} backgrounds: expected {count * recipe.people} or "
            "more people, and a background; ask for fewer people at a time or a shorter clip"
        )
    scenes: list[Scene] = []
    seen: list[str] = []
    pictures = rng.permutation(len(sources.backgrounds))
    for number in range(count):
        people = [waiting.pop() for _ in range(recipe.people)]
        if seen and people and rng.random() < RETURN_SHARE:
            people[0] = seen[rng.integers(len(seen))]
        seen += [name for name in people if name not in seen]
        actors = cast_scene(people, sources.portraits, recipe, times[number + 1] - times[number], rng)
        background = _enlarged(sources.backgrounds[pictures[number % len(pictures)]], recipe.size)
        scenes.append(Scene(times[number], times[number + 1], background, actors, rng.uniform(0, 2 * np.pi)))
    return scenes


def _enlarged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image, large enough for a camera that sways."""
    width, height = (round(side * (1 + 2 * CAMERA_SWAY)) + 2 for side in size)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def clip_frames(recipe: ClipRecipe, sources: ClipSources) -> Iterator[tuple[np.ndarray, list[TrueFace]]]:
    """The frames of a clip before compression, RGB uint8 (H, W, 3), and the faces in each.

    Raises:
        ValueError: see `plan_scenes`.
    """
    scenes = plan_scenes(recipe, sources)
    for number in range(round(recipe.seconds * recipe.rate)):
        time = number / recipe.rate
        scene = next(scene for scene in reversed(scenes) if scene.start <= time)
        yield render_frame(recipe, scene, time - scene.start)


def render_frame(recipe: ClipRecipe, scene: Scene, time: float) -> tuple[np.ndarray, list[TrueFace]]:
    """A frame (H, W, 3) RGB uint8 and its faces, `time` seconds after the scene's start."""
    layers = [render_actor(actor, recipe, time) for actor in scene.actors]
    frame = _background(recipe, scene, time)
    for layer in layers:
        layer.paint(frame)
    bar = _bar_columns(recipe, scene, time)
    frame[:, bar] = np.linspace(45, 70, frame.shape[0])[:, None, None]
    if "light" in recipe.effects:
        frame *= _light(scene, time)
    return frame.clip(0, 255).round().astype(np.uint8), _true_faces(recipe, scene, layers, bar)


def _background(recipe: ClipRecipe, scene: Scene, time: float) -> np.ndarray:
    """(H, W, 3) float32, the part of the background that the camera sees."""
    sway = CAMERA_SWAY * np.sin(np.array([0.9, 0.6]) * time + scene.phase)
    shift = np.array(recipe.size) * (CAMERA_SWAY + sway)
    matrix = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]])
    return cv2.warpAffine(scene.background, matrix, recipe.size, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def _bar_columns(recipe: ClipRecipe, scene: Scene, time: float) -> slice:
    """The columns that a bar hides, which crosses the frame again and again; it is as wide as a face."""
    if "bar" not in recipe.effects or not scene.actors:
        return slice(0, 0)
    width = 0.75 * float(np.mean([actor.height for actor in scene.actors]))
    share = (time / BAR_SECONDS + scene.phase) % 1.0
    left = -width + share * (recipe.size[0] + width)
    return slice(max(0, round(left)), max(0, round(left + width)))


def _light(scene: Scene, time: float) -> np.ndarray:
    """(3,) float32 factors of red, green and blue: it grows dark to a third, and warmer."""
    dark = smooth_step(np.sin(2 * np.pi * time / 6 + scene.phase))
    return np.array([1.08 - 0.7 * dark, 1.08 - 0.75 * dark, 1.08 - 0.8 * dark], np.float32)


def _true_faces(recipe: ClipRecipe, scene: Scene, layers: list[Layer], bar: slice) -> list[TrueFace]:
    """The faces of which something is in the frame and not hidden."""
    width, height = recipe.size
    hidden = np.zeros((height, width), bool)
    hidden[:, bar] = True
    faces = []
    for actor, layer in zip(reversed(scene.actors), reversed(layers)):
        box = layer.box.clip(0, [width, height, width, height]).astype(np.float32)
        visible = layer.visible_share(hidden)
        if visible > 0 and (box[2:] > box[:2] + 1).all():
            faces.append(TrueFace(actor.person, box, visible))
        layer.hide(hidden)
    return faces[::-1]


def write_clip(path: Path, recipe: ClipRecipe, sources: ClipSources) -> Path:
    """Write a clip in H.264, and its truth as <name>.csv beside it with the columns `TRUTH_COLUMNS`.

    Returns:
        The path of the CSV file.

    Raises:
        ImportError: PyAV is not installed, see `require_av`.
        OSError: a file cannot be written.
        ValueError: see `plan_scenes`.
    """
    av = require_av()
    truth = path.with_suffix(".csv")
    with atomic_write(path) as temporary, atomic_write(truth) as table, open(table, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TRUTH_COLUMNS)
        with av.open(str(temporary), "w", format="mp4") as container:
            options = {"crf": str(recipe.crf), "preset": "veryfast", "threads": "1"}
            stream = container.add_stream("libx264", rate=recipe.rate, options=options)
            stream.width, stream.height = recipe.size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.colorspace = BT709
            for number, (image, faces) in enumerate(clip_frames(recipe, sources)):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=BT709)))
                writer.writerows(_truth_row(number, recipe, face) for face in faces)
            container.mux(stream.encode())
    return truth


def _truth_row(number: int, recipe: ClipRecipe, face: TrueFace) -> list[str]:
    box = [f"{value:.1f}" for value in face.box]
    return [str(number), f"{number / recipe.rate:.4f}", face.person, *box, f"{face.visible:.3f}"]


def read_truth(path: Path) -> dict[int, list[TrueFace]]:
    """Number of a frame -> its faces, from the CSV file of `write_clip`; frames without a face are not in it."""
    faces: dict[int, list[TrueFace]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            box = np.array([row[name] for name in ("x1", "y1", "x2", "y2")], np.float32)
            faces.setdefault(int(row["frame"]), []).append(TrueFace(row["person"], box, float(row["visible"])))
    return faces


def parse_recipe(arguments: list[str] | None = None) -> tuple[argparse.Namespace, ClipRecipe]:
    """The options of the command, and the recipe that they make."""
    standard = ClipRecipe()
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.clips", description=__doc__)
    parser.add_argument("clip", type=Path, help="MP4 file to write")
    parser.add_argument(
        "--part", default="open_test", help="open_val or open_test: whose portraits (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=standard.seed)
    parser.add_argument("--size", type=int, nargs=2, default=standard.size, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--seconds", type=float, default=standard.seconds)
    parser.add_argument("--people", type=int, default=standard.people, help="at a time (default: %(default)s)")
    parser.add_argument("--face-heights", type=float, nargs=2, default=standard.face_heights, metavar=("MIN", "MAX"))
    parser.add_argument("--effects", nargs="*", choices=EFFECTS, default=EFFECTS)
    parser.add_argument("--crf", type=int, default=standard.crf)
    options = parser.parse_args(arguments)
    names = ("seed", "seconds", "people", "crf")
    recipe = ClipRecipe(
        size=tuple(options.size),
        face_heights=tuple(options.face_heights),
        effects=tuple(options.effects),
        **{name: getattr(options, name) for name in names},
    )
    return options, recipe


@one_line_errors
def main() -> None:
    options, recipe = parse_recipe()
    sources = load_clip_sources(options.part, recipe.size[0] / recipe.size[1])
    print(f"{options.clip}: written, with {write_clip(options.clip, recipe, sources).name}")


if __name__ == "__main__":
    sys.exit(main())
