"""Recipes of generated clips, how their people move, and how they are painted into a frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from facelib.alignment.crop import warp_image
from facelib.datasets.face_list import CROP_SIDE
from facelib.evaluation.benchmarks.clip_sources import PORTRAIT_BOX, head_mask

EFFECTS = ("scale", "turns", "motion_blur", "light", "bar", "crossings", "leaving", "cuts")
PHOTO_SECONDS = 1.5  # for which a person is shown by one portrait
FADE_SECONDS = 0.6  # of these, in which it fades into the next
SHUTTER = 0.7  # share of the time of a frame for which it is exposed
MAX_TURN = 35.0  # degrees in the plane
SMALLEST_SCALE = 0.55  # of a face that goes away from the camera
# When things happen, as shares of a scene: two people cross and come back; later one leaves and returns.
CROSSING = ((0.05, 0.28), (0.3, 0.53))
LEAVING = ((0.56, 0.7), (0.82, 0.96))
CROSSING_WAY = 4.0  # face heights between two people who cross, at most
HEAD_MASK = head_mask()
BOX_SIZE = PORTRAIT_BOX[2:] - PORTRAIT_BOX[:2]
BOX_CENTRE = (PORTRAIT_BOX[2:] + PORTRAIT_BOX[:2]) / 2 - 0.5  # in pixel centres


def smooth_step(share: float) -> float:
    """0 below 0, 1 above 1, and smooth in between."""
    share = min(max(float(share), 0.0), 1.0)
    return share * share * (3 - 2 * share)


@dataclass(frozen=True)
class ClipRecipe:
    """What a generated clip shows.

    seed: of everything random.
    size: width and height in pixels, even.
    seconds: its length.
    rate: frames a second.
    people: in the picture at a time.
    face_heights: smallest and largest height of a face box in pixels.
    effects: some of `EFFECTS`.
    crf: constant rate factor of H.264, 0 (lossless) to 51.

    Raises:
        ValueError: a size that is odd or too small, nothing to show, or an unknown effect.
    """

    seed: int = 1
    size: tuple[int, int] = (1280, 720)
    seconds: float = 12.0
    rate: int = 25
    people: int = 2
    face_heights: tuple[float, float] = (100.0, 200.0)
    effects: tuple[str, ...] = EFFECTS
    crf: int = 23

    def __post_init__(self) -> None:
        if min(self.size) < 64 or any(side % 2 for side in self.size):
            raise ValueError(f"size={self.size}: expected an even width and height of at least 64 pixels")
        if self.people < 0 or self.seconds * self.rate < 1:
            raise ValueError(
                f"people={self.people}, seconds={self.seconds}, rate={self.rate}: a clip has at least one frame"
            )
        if unknown := set(self.effects) - set(EFFECTS):
            raise ValueError(f"effects has {sorted(unknown)[0]!r}: expected some of {', '.join(EFFECTS)}")


@dataclass(frozen=True)
class Actor:
    """A person of a scene.

    person: ID.
    portraits: (k, 144, 144, 3) RGB uint8, which follow each other.
    height: of the face box in pixels, without change of scale.
    home: (2,) pixels, around which the face moves.
    crossing: (2,) pixels, added while it has changed places with another person.
    leaving: (2,) pixels, added while it is out of the frame.
    amplitudes: (3, 2) pixels, frequencies: (3, 2) Hz, phases: (3, 2) of the waves that make its path.
    seconds: length of the scene.
    """

    person: str
    portraits: np.ndarray
    height: float
    home: np.ndarray
    crossing: np.ndarray
    leaving: np.ndarray
    amplitudes: np.ndarray
    frequencies: np.ndarray
    phases: np.ndarray
    seconds: float

    def position(self, time: float) -> np.ndarray:
        """(2,) centre of the face box in pixels; its speed varies."""
        warped = time + 0.5 * np.sin(1.7 * time + self.phases[0, 0])
        waves = (self.amplitudes * np.sin(2 * np.pi * self.frequencies * warped + self.phases)).sum(0)
        return self.home + waves + self.crossing * self._away(time, CROSSING) + self.leaving * self._away(time, LEAVING)

    def _away(self, time: float, shares: tuple[tuple[float, float], tuple[float, float]]) -> float:
        """0 before and after, 1 in between."""
        go, back = (smooth_step((time / self.seconds - start) / (end - start)) for start, end in shares)
        return go - back

    def turn(self, time: float) -> float:
        """Degrees in the plane."""
        return MAX_TURN * float(np.sin(2 * np.pi * 0.23 * time + self.phases[1, 0]))

    def scale(self, time: float) -> float:
        """1 near the camera, `SMALLEST_SCALE` far from it."""
        near = 0.5 + 0.5 * float(np.sin(2 * np.pi * 0.17 * time + self.phases[1, 1]))
        return SMALLEST_SCALE + (1 - SMALLEST_SCALE) * near

    def portrait(self, time: float) -> np.ndarray:
        """(144, 144, 3) RGB uint8, one of the portraits, or a mixture while one fades into the next."""
        number, late = divmod(time, PHOTO_SECONDS)
        first, second = (self.portraits[int(number + i) % len(self.portraits)] for i in (0, 1))
        share = smooth_step((late - PHOTO_SECONDS + FADE_SECONDS) / FADE_SECONDS)
        return cv2.addWeighted(first, 1 - share, second, share, 0) if share else first


@dataclass(frozen=True)
class Layer:
    """A person, painted, to be laid over a frame.

    corner: (2,) int, x and y of its top-left pixel in the frame; it may lie outside.
    colour: (s, s, 3) float32, multiplied by the opacity.
    opacity: (s, s) float32, 0 to 1.
    face: (s, s) bool, the ellipse of the face.
    box: (4,) x1 y1 x2 y2 in pixels of the frame.
    """

    corner: np.ndarray
    colour: np.ndarray
    opacity: np.ndarray
    face: np.ndarray
    box: np.ndarray

    def paint(self, frame: np.ndarray) -> None:
        """Lay it over a frame (H, W, 3) float32, in place."""
        inside, own = self._overlap(frame)
        frame[inside] = frame[inside] * (1 - self.opacity[own][..., None]) + self.colour[own]

    def visible_share(self, hidden: np.ndarray) -> float:
        """Share of the face that is in the frame where `hidden` (H, W) is False."""
        inside, own = self._overlap(hidden)
        return float((self.face[own] & ~hidden[inside]).sum() / max(int(self.face.sum()), 1))

    def hide(self, hidden: np.ndarray) -> None:
        """Mark what it hides in (H, W) bool, in place."""
        inside, own = self._overlap(hidden)
        hidden[inside] |= self.opacity[own] > 0.5

    def _overlap(self, frame: np.ndarray) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of the frame that it covers, and the part of itself that is in the frame: (rows, columns)."""
        limit, side = np.array(frame.shape[1::-1]), len(self.opacity)
        low = self.corner.clip(0, limit)
        high = (self.corner + side).clip(0, limit)
        (x1, y1), (x2, y2) = low.tolist(), high.tolist()
        own_x, own_y = (low - self.corner).tolist()
        own = slice(own_y, own_y + y2 - y1), slice(own_x, own_x + x2 - x1)
        return (slice(y1, y2), slice(x1, x2)), own


def cast_scene(
    people: list[str], portraits: dict[str, np.ndarray], recipe: ClipRecipe, seconds: float, rng: np.random.Generator
) -> list[Actor]:
    """Actors side by side; the last two cross and the first leaves, where the recipe has these effects."""
    size = np.array(recipe.size, float)
    lanes = (rng.permutation(len(people)) + 0.5) / max(len(people), 1)
    homes = np.stack([lanes, rng.uniform(0.35, 0.6, len(people))], 1) * size
    reach = np.minimum(0.13 * size, 0.5 * size / [max(len(people), 1), 2])  # pixels around a person's home
    crossing = np.zeros_like(homes)
    if "crossings" in recipe.effects and len(people) > 1:
        way = homes[-1] - homes[-2]
        way = np.array([np.sign(way[0]) * min(abs(way[0]), CROSSING_WAY * recipe.face_heights[1]), 0])
        homes[-2:] = homes[-2:].mean(0) + np.outer([-0.5, 0.5], way)
        crossing[-2:] = [way, -way]
    leaving = np.zeros_like(homes)
    if "leaving" in recipe.effects and len(people):
        beyond = 1.5 * recipe.face_heights[1] + reach[0]
        leaving[0, 0] = size[0] - homes[0, 0] + beyond if lanes[0] >= 0.5 else -homes[0, 0] - beyond
    actors = []
    for i, person in enumerate(people):
        amplitudes = rng.uniform(0.3, 1.0, (3, 2)) * reach * [[0.6], [0.3], [0.15]]
        frequencies = rng.uniform(0.7, 1.3, (3, 2)) * [[0.2], [0.45], [0.9]]
        height = float(np.exp(rng.uniform(*np.log(recipe.face_heights))))
        own = portraits[person][rng.permutation(len(portraits[person]))]
        path = amplitudes, frequencies, rng.uniform(0, 2 * np.pi, (3, 2))
        actors.append(Actor(person, own, height, homes[i], crossing[i], leaving[i], *path, seconds))
    return actors


def render_actor(actor: Actor, recipe: ClipRecipe, time: float) -> Layer:
    """A person at a time of the scene: portrait, scale, turn, place and motion blur."""
    height = actor.height * (actor.scale(time) if "scale" in recipe.effects else 1.0)
    angle = actor.turn(time) if "turns" in recipe.effects else 0.0
    centre = actor.position(time)
    half = 0.5 / recipe.rate * SHUTTER
    motion = actor.position(time + half) - actor.position(time - half)
    zoom = height / BOX_SIZE[1]
    side = int(CROP_SIDE * 1.45 * zoom + np.abs(motion).max()) + 4
    corner = np.floor(centre - side / 2).astype(int)
    radians = np.deg2rad(angle)
    linear = zoom * np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    matrix = np.hstack([linear, (centre - 0.5 - corner - linear @ BOX_CENTRE)[:, None]])
    picture = np.dstack([actor.portrait(time), HEAD_MASK])
    warped = warp_image(picture, matrix, side).astype(np.float32)
    opacity = warped[..., 3:] / 255
    painted = np.dstack([warped[..., :3] * opacity, opacity])
    if "motion_blur" in recipe.effects:
        blurred = cv2.filter2D(painted, -1, motion_kernel(motion), borderType=cv2.BORDER_REPLICATE)
        painted = np.asarray(blurred, np.float32)
    axes = BOX_SIZE * zoom / 2
    face = np.zeros((side, side), np.uint8)
    cv2.ellipse(face, ((centre - 0.5 - corner).tolist(), (2 * axes).tolist(), angle), 1, -1)
    turn = np.abs([[np.cos(radians), np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    reach = np.sqrt(turn**2 @ axes**2)  # of an ellipse that is turned
    return Layer(corner, painted[..., :3], painted[..., 3], face > 0, np.r_[centre - reach, centre + reach])


def motion_kernel(motion: np.ndarray) -> np.ndarray:
    """Square float32 kernel of odd side that blurs along a motion (2,) in pixels; its values add up to 1."""
    radius = int(np.ceil(np.abs(motion).max() / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    steps = np.linspace(-0.5, 0.5, 4 * radius + 1)[:, None] * motion + radius
    for x, y in steps:
        left, top = int(x), int(y)
        for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
            weight = (1 - abs(x - column)) * (1 - abs(y - row))
            if weight > 0:
                kernel[row, column] += weight
    return kernel / kernel.sum()
