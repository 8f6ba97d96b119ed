"""Recipes: every setting of a training in a TOML file, none left open, and checked before anything is loaded."""

import copy
import dataclasses
import hashlib
import json
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from facelib.alignment import METHODS
from facelib.embedding import PREPROCESSING
from facelib.files import replacing
from facelib.hourglass import StackedHourglass
from facelib.losses import LOSSES, MARGIN_LOSSES
from facelib.settings import MODELS
from facelib.training.heatmap_losses import HEATMAP_LOSSES
from facelib.weights import read_manifest

RECIPES = MODELS / "recipes"
WRITTEN = "# Written by python -m facelib.training: what the weights beside it were made with."
PRECISIONS = ("no", "bf16", "fp16")
OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One learning-rate cycle of the hourglass at one size.

    input_size: pixels
    learning_rate: the highest of the cycle
    seed: of the order and the augmentation
    pseudo_share: of the faces drawn, how many are pseudo-labelled
    relabel: those get the points that the teacher finds as the stage begins, instead of a detector's
    unify_labels: the labels of all sets are moved to CelebA's convention, by what the teacher finds
    """

    input_size: int
    epochs: int
    learning_rate: float
    seed: int
    pseudo_share: float
    relabel: bool
    unify_labels: bool


@dataclass(frozen=True, kw_only=True)
class LandmarkRecipe:
    """Settings of the stacked hourglass.

    out: the weights' file
    start: SHA-256 of weights to go on from, "" for none
    teacher: SHA-256 of the network that finds points for `relabel` and `unify_labels`, "" for the network itself as
        it is when a stage begins
    sets: folders of FACELIB_DATA with labelled landmarks
    pseudo: folders of face crops whose points serve as labels
    label_sets: the sets of labels that are trained on, [] for all
    epoch_size: faces drawn in an epoch
    """

    kind: str
    out: str
    start: str
    teacher: str
    sets: list[str]
    pseudo: list[str]
    label_sets: list[str]
    stacks: int
    channels: int
    depth: int
    loss: str
    epoch_size: int
    batch_size: int
    optimizer: str
    weight_decay: float
    precision: str
    stages: list[Stage]

    def check(self) -> None:
        """Raise ValueError where settings do not fit each other."""
        _among("loss", self.loss, tuple(HEATMAP_LOSSES))
        if self.start in ("imagenet", "random"):
            raise ValueError(f'start: {self.start!r}, expected the SHA-256 of weights, or "" for none')
        multiple = StackedHourglass.STRIDE * 2**self.depth
        for i, stage in enumerate(self.stages):
            _in_range(f"stages.{i}.input_size", stage.input_size, range(multiple, 1025, multiple))
            _in_range(f"stages.{i}.epochs", stage.epochs, range(1, 10_000))
            if not 0 <= stage.pseudo_share < 1:
                raise ValueError(f"stages.{i}.pseudo_share: {stage.pseudo_share}, expected 0 to below 1")
            _positive(f"stages.{i}.learning_rate", stage.learning_rate)
        _in_range("epoch_size", self.epoch_size, range(1, 10**9))
        first = self.stages[0]
        if (first.relabel or first.unify_labels) and not (self.start or self.teacher):
            raise ValueError("stages.0: relabel and unify_labels need a network: name a start or a teacher")
        if any(stage.pseudo_share for stage in self.stages) and not self.pseudo:
            raise ValueError("stages: a pseudo_share above 0 needs folders under pseudo")

    @property
    def epochs(self) -> int:
        """Passes in all."""
        return sum(stage.epochs for stage in self.stages)


@dataclass(frozen=True, kw_only=True)
class EmbedderRecipe:
    """Settings of an embedding network.

    out: the weights' file
    start: "imagenet", "random", or the SHA-256 of weights to go on from
    faces: folders of FACELIB_DATA with face crops
    folder: instead, your own photos as <folder>/<person>/<photo>
    people, photos: only so many photos, of so many people with equally many each; people 0: of anybody; photos 0: all
    without_sources: sources that are left out
    alignment: "five_points" or "eyes", and for comparisons "box" or "detector"
    by_source: a photo is compared with people of its own source only
    scale, margin, margin_before: of the loss, the margin rising from margin_before in the first half of the run
    stages: pairs of input size and epochs, all under one learning-rate cycle
    batch_size: less where photos are few
    learning_rate: the highest, of the backbone, for a full batch; for smaller ones in proportion
    head_rate: how many times as fast the new layers learn
    strength, tight_crop: of the augmentation, see `face_augmentation`
    """

    kind: str
    out: str
    start: str
    faces: list[str]
    folder: str
    people: int
    photos: int
    without_sources: list[str]
    alignment: str
    backbone: str
    embedding_size: int
    dropout: float
    output_stride: int
    pooling: str
    loss: str
    by_source: bool
    scale: float
    margin: float
    margin_before: float
    stages: list[list[int]]
    batch_size: int
    optimizer: str
    learning_rate: float
    head_rate: float
    weight_decay: float
    strength: float
    tight_crop: float
    precision: str
    seed: int

    def check(self) -> None:
        """Raise ValueError where settings do not fit each other."""
        _among("loss", self.loss, tuple(LOSSES))
        _among("alignment", self.alignment, (*METHODS, "box", "detector"))
        if any(len(stage) != 2 for stage in self.stages):
            raise ValueError(
                f"stages: {self.stages}: expected pairs of input size and epochs, e.g. [[64, 6], [112, 4]]"
            )
        for i, (size, epochs) in enumerate(self.stages):
            _in_range(f"stages.{i}.0", size, PREPROCESSING["input_size"])
            _in_range(f"stages.{i}.1", epochs, range(1, 10_000))
        _positive("learning_rate", self.learning_rate)
        if self.start == "":
            raise ValueError('start: "", expected "imagenet", "random" or the SHA-256 of weights')
        if bool(self.faces) == bool(self.folder):
            raise ValueError("faces and folder: give prepared sets, or a folder of your own people, not both")
        if self.folder and self.alignment not in METHODS:
            raise ValueError(
                f"alignment: {self.alignment!r} is for prepared sets, expected one of {', '.join(METHODS)}"
            )
        if self.people and self.photos < self.people:
            raise ValueError(f"people, photos: {self.photos} photos of {self.people} people: at least one of each")
        if self.by_source and self.loss not in MARGIN_LOSSES:
            raise ValueError(f"by_source: the loss {self.loss} has no class margins to confine to a source")

    @property
    def epochs(self) -> int:
        """Passes in all."""
        return len(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """The input size of each epoch."""
        return [size for size, epochs in self.stages for _ in range(epochs)]


Recipe = LandmarkRecipe | EmbedderRecipe
KINDS = {"landmarks": LandmarkRecipe, "embedder": EmbedderRecipe}


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from its file.

    Args:
        overrides: "key=value", the value as in TOML, text without quotes too; "stages.0.epochs=1" goes into lists.

    Raises:
        FileNotFoundError: no such file. ValueError: not TOML; a key that is unknown, missing or of another type.
    """
    path = Path(path)
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in RECIPES.glob("*.toml")))
        raise FileNotFoundError(f"{path}: no such recipe; {RECIPES} has {there}")
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    return make_recipe(values, overrides, str(path))


def make_recipe(values: dict[str, Any], overrides: Sequence[str] = (), name: str = "the recipe") -> Recipe:
    """A recipe from its values, see `read_recipe`; `name`: what errors call it."""
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        raise ValueError(f"{name}: kind is {values.get('kind')!r}, expected one of {', '.join(KINDS)}")
    values = copy.deepcopy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key == "kind":
            raise ValueError(f"--set {override}: expected key=value, of any key but kind")
        _place(values, key, text, kind, override)
    try:
        recipe = _fill(kind, values)
        _among("optimizer", recipe.optimizer, OPTIMIZERS)
        _among("precision", recipe.precision, PRECISIONS)
        if not recipe.stages:
            raise ValueError("stages: none; at least one is needed")
        if Path(recipe.out).suffix != ".pt":
            raise ValueError(f"out: {recipe.out!r}, expected the name of a file that ends in .pt")
        _in_range("batch_size", recipe.batch_size, range(1, 10**6))
        recipe.check()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return recipe


def find_weights(digits: str, folders: Sequence[Path]) -> Path | None:
    """The weights that a recipe names by their hash; None where it names none.

    Raises:
        FileNotFoundError: no manifest of `folders` lists them.
    """
    if digits in ("", "imagenet", "random"):
        return None
    for folder in folders:
        for name, entry in read_manifest(folder).items():
            if entry.get("sha256") == digits:
                return folder / name
    raise FileNotFoundError(
        f"the weights {digits[:16]}... that the recipe goes on from are not here: there is no such file, and no "
        "manifest.json lists that SHA-256 in "
        f"{', '.join(map(str, folders))}. Not all weights that others were made from are shipped; make them "
        "by their own recipe, or name other weights, e.g. with --set start=FILE"
    )


def same_arguments(arguments: dict[str, Any], recipe: Recipe) -> None:
    """Raise ValueError where weights to start from have another architecture than the recipe says."""
    for name, value in arguments.items():
        if getattr(recipe, name, value) != value:
            raise ValueError(
                f"{name}: the weights to start from have {value!r}, the recipe says {getattr(recipe, name)!r}; "
                f"--set {name}={value}"
            )


def write_recipe(recipe: Recipe, path: Path) -> None:
    """What `read_recipe` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write_text(f"{WRITTEN}\n{tomli_w.dumps(dataclasses.asdict(recipe))}")


def recipe_hash(recipe: Recipe) -> str:
    """Eight digits that differ between recipes; where the weights go does not matter."""
    text = json.dumps(dataclasses.asdict(dataclasses.replace(recipe, out="")))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _place(values: dict[str, Any], key: str, text: str, kind: type, override: str) -> None:
    """Put the value of one override where its key leads."""
    *way, last = key.split(".")
    place: Any = values
    try:
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        last = int(last) if isinstance(place, list) else last
        known = last in place if isinstance(place, dict) else place[last] is not None
    except (KeyError, ValueError, IndexError, TypeError):
        known = False
    if not known and not (not way and last in {field.name for field in dataclasses.fields(kind)}):
        raise ValueError(
            f"--set {override}: no such key; there are {', '.join(f.name for f in dataclasses.fields(kind))}"
        )
    if isinstance(place, dict) and not way and typing.get_type_hints(kind)[last] is str:
        place[last] = text.strip("\"'")
        return
    try:
        place[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ValueError(f'--set {override}: {text!r} is no TOML value (numbers, true, "text", [lists])') from None


def _fill(kind: type, values: dict[str, Any], place: str = "") -> Any:
    """A dataclass from a dict that has all of its fields and no others."""
    hints = typing.get_type_hints(kind)
    if unknown := [name for name in values if name not in hints]:
        raise ValueError(f"{place}{unknown[0]}: unknown key; expected {', '.join(hints)}")
    if missing := [name for name in hints if name not in values]:
        raise ValueError(f"{place}{missing[0]}: missing key; a recipe leaves none open")
    return kind(**{name: _typed(value, hints[name], f"{place}{name}") for name, value in values.items()})


def _typed(value: Any, hint: Any, place: str) -> Any:
    if isinstance(hint, types.GenericAlias):
        if not isinstance(value, list):
            raise ValueError(f"{place}: {value!r}, expected a list")
        return [_typed(part, hint.__args__[0], f"{place}.{i}") for i, part in enumerate(value)]
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{place}: {value!r}, expected a table")
        return _fill(hint, value, f"{place}.")
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise ValueError(f"{place}: {value!r}, expected {'text' if hint is str else hint.__name__}")
    return value


def _in_range(name: str, value: int, expected: range) -> None:
    if value not in expected:
        steps = f" in steps of {expected.step}" if expected.step > 1 else ""
        raise ValueError(f"{name}: {value}, expected {expected[0]} to {expected[-1]}{steps}")


def _positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: {value}, expected a number above 0")


def _among(name: str, value: str, expected: tuple[str, ...]) -> None:
    if value not in expected:
        raise ValueError(f"{name}: {value!r}, expected one of {', '.join(expected)}")
