"""Recipes: every setting of a training in a TOML file, none left open, and checked before anything is loaded."""

import copy
import dataclasses
import hashlib
import json
import tomllib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from facelib.alignment.align import METHODS
from facelib.alignment.hourglass import StackedHourglass
from facelib.embedding.losses import LOSSES, MARGIN_LOSSES
from facelib.io.files import atomic_write
from facelib.settings import MODELS
from facelib.training.heatmap_losses import HEATMAP_LOSSES

RECIPES = MODELS / "recipes"
WRITTEN = "# Written by python -m facelib.training: what the weights beside it were made with."

Count = Annotated[int, Field(ge=1)]
Limit = Annotated[int, Field(ge=0)]
Pixels = Annotated[int, Field(ge=32, le=1024)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Whole = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["no", "bf16", "fp16"]
WeightsFile = Annotated[str, Field(pattern=r"\.pt$")]
checked = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))


@checked
class Stage:
    """One learning-rate cycle of the hourglass at one size.

    input_size: pixels
    learning_rate: the highest of the cycle
    seed: of the order and the augmentation
    pseudo_label_share: of the faces drawn, how many are pseudo-labelled
    relabel: those get the points that the teacher finds as the stage begins, instead of a detector's
    unify_labels: the labels of all sets are moved to CelebA's convention, by what the teacher finds
    """

    input_size: Pixels
    epochs: Count
    learning_rate: Rate
    seed: int
    pseudo_label_share: Share
    relabel: bool
    unify_labels: bool


@checked
class LandmarkConfig:
    """Settings of the stacked hourglass.

    out: the weights' file
    start: SHA-256 of weights to go on from, "" for none
    teacher: SHA-256 of the network that finds points for `relabel` and `unify_labels`, "" for the network itself as
        it is when a stage begins
    sets: folders of FACELIB_DATA with labelled landmarks
    pseudo: folders of face crops whose points serve as labels
    label_sets: the sets of labels that are trained on, [] for all
    label_offsets: by how much `unify_labels` moves the labels of each set, along and across the eye line in units of
        the eye distance, a pair for each landmark; {} for as much as the teacher finds
    large_rotation_share, truncation_share: shares of the faces that are made harder, see `Augmentation`
    epoch_size: faces drawn in an epoch
    """

    kind: Literal["landmarks"]
    out: WeightsFile
    start: str
    teacher: str
    sets: list[str]
    pseudo: list[str]
    label_sets: list[str]
    label_offsets: dict[str, Annotated[list[tuple[float, float]], Field(min_length=5, max_length=5)]]
    stacks: Count
    channels: Count
    depth: Count
    loss: Literal[*HEATMAP_LOSSES]
    large_rotation_share: Share
    truncation_share: Share
    epoch_size: Count
    batch_size: Count
    optimizer: Optimizer
    weight_decay: float
    precision: Precision
    stages: Annotated[list[Stage], Field(min_length=1)]

    @model_validator(mode="after")
    def fits(self) -> typing.Self:
        """Whether settings fit each other."""
        multiple = StackedHourglass.STRIDE * 2**self.depth
        for i, stage in enumerate(self.stages):
            if stage.input_size % multiple:
                raise ValueError(f"stages.{i}.input_size: {stage.input_size} is no multiple of {multiple}")
        first = self.stages[0]
        if self.start in ("imagenet", "random"):
            raise ValueError(f'start: {self.start!r}, expected the SHA-256 of weights, or "" for none')
        moved = first.unify_labels and not self.label_offsets
        if (first.relabel or moved) and not (self.start or self.teacher):
            raise ValueError("stages.0: relabel and unify_labels need a network: name a start or a teacher")
        if any(stage.pseudo_label_share for stage in self.stages) and not self.pseudo:
            raise ValueError("stages: a pseudo_label_share above 0 needs folders under pseudo")
        return self

    @property
    def epochs(self) -> int:
        """Passes in all."""
        return sum(stage.epochs for stage in self.stages)


@checked
class EmbedderConfig:
    """Settings of an embedding network.

    out: the weights' file
    start: "imagenet", "random", or the SHA-256 of weights to go on from
    faces: folders of FACELIB_DATA with face crops
    folder: instead, your own photos as <folder>/<person>/<photo>
    people, photos: only so many photos, of so many people with equally many each; people 0: of anybody; photos 0: all
    exclude_sources: sources that are left out
    alignment: "five_points" or "eyes", and for comparisons "box" or "detector"
    backbone, embedding_size, dropout, output_stride, pooling, drop_path: see `EmbeddingNetwork`
    teacher: "dlib", whose vectors a second head learns, or "" for a network that learns from labels only
    distill_loss_weight: factor of the squared distance to the teacher's vector in the loss
    distill_head_scale, distill_centering: how much the second head weighs in the vector for use, and how much of the teacher's
        mean is taken from it, see `EmbeddingNetwork`
    label_loss_weight: factor of the labels' loss
    within_source_weight: share of that loss in which a photo is compared with people of its own source only
    scale, margin, initial_margin: of the loss, the margin rising from initial_margin in the first half of the run
    stages: pairs of input size and epochs, all under one learning-rate cycle
    minutes: above 0, the run ends by the clock, and the epochs of the stages are shares of it
    epoch_photos: of an epoch, after each of which there is a checkpoint; 0: all
    batch_size: less where photos are few
    learning_rate: the highest, of the backbone, for a full batch; for smaller ones in proportion
    head_lr_mult: how many times as fast the new layers learn
    warm_up: share of the run in which the rate rises
    weight_decay: of kernels and matrices
    clip: of the gradient's length; 0: none
    average: what comes out are weights averaged over the last steps
    weight_average_alpha: share of the weights that it started from in those that come out, see `average_with_initial`
    strength, tight_crop_share, pose, light: of the augmentation, see `FaceAugmentation`
    """

    kind: Literal["embedder"]
    out: WeightsFile
    start: Annotated[str, Field(min_length=1)]
    faces: list[str]
    folder: str
    people: Limit
    photos: Limit
    exclude_sources: list[str]
    alignment: Literal[*METHODS, "box", "detector"]
    backbone: str
    embedding_size: Count
    dropout: Share
    output_stride: Count
    pooling: str
    drop_path: Share
    teacher: Literal["", "dlib"]
    distill_loss_weight: NotNegative
    distill_head_scale: NotNegative
    distill_centering: Share
    label_loss_weight: NotNegative
    loss: Literal[*LOSSES]
    within_source_weight: Whole
    scale: Rate
    margin: float
    initial_margin: float
    stages: Annotated[list[tuple[Pixels, Count]], Field(min_length=1)]
    minutes: NotNegative
    epoch_photos: Limit
    batch_size: Count
    optimizer: Optimizer
    learning_rate: Rate
    head_lr_mult: Rate
    warm_up: Share
    weight_decay: float
    clip: NotNegative
    average: bool
    weight_average_alpha: Share
    strength: Whole
    tight_crop_share: Whole
    pose: NotNegative
    light: NotNegative
    precision: Precision
    seed: int

    @model_validator(mode="after")
    def fits(self) -> typing.Self:
        """Whether settings fit each other."""
        if bool(self.faces) == bool(self.folder):
            raise ValueError("faces and folder: give one of them, prepared sets or a folder of your own people")
        if self.weight_average_alpha and self.start in ("imagenet", "random"):
            raise ValueError(f"weight_average_alpha: {self.start} has no weights of a whole network, so it has to be 0")
        if self.folder and self.alignment not in METHODS:
            raise ValueError(f"alignment: {self.alignment} is for prepared sets, expected one of {', '.join(METHODS)}")
        if self.people and self.photos < self.people:
            raise ValueError(f"people, photos: {self.photos} photos of {self.people} people: at least one of each")
        if self.within_source_weight and self.loss not in MARGIN_LOSSES:
            raise ValueError(f"within_source_weight: the loss {self.loss} has no class margins to confine to a source")
        if bool(self.teacher) != bool(self.distill_loss_weight and self.distill_head_scale):
            raise ValueError("teacher, distill_loss_weight, distill_head_scale: all of them, or none")
        if self.distill_centering and not self.teacher:
            raise ValueError(
                f"distill_centering: {self.distill_centering}, and there is no teacher whose mean that could be"
            )
        if not self.label_loss_weight and not self.teacher:
            raise ValueError("label_loss_weight: 0, and there is no teacher: nothing would be learned")
        return self

    @property
    def epochs(self) -> int | None:
        """Epochs in all; None for a run by the clock."""
        return None if self.minutes else sum(epochs for _, epochs in self.stages)

    def size(self, progress: float) -> int:
        """The input size when this share of the run is done."""
        whole, done = sum(epochs for _, epochs in self.stages), 0
        for size, epochs in self.stages:
            done += epochs
            if progress * whole < done - 1e-6:
                return size
        return self.stages[-1][0]


TrainingConfig = LandmarkConfig | EmbedderConfig
KINDS = {"landmarks": LandmarkConfig, "embedder": EmbedderConfig}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
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
    return make_config(values, overrides, str(path))


def make_config(values: dict[str, Any], overrides: Sequence[str] = (), name: str = "the recipe") -> TrainingConfig:
    """A recipe from its values, see `load_config`; `name`: what errors call it."""
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
        return TypeAdapter(kind).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ValueError(f"{name}: {_words(error, kind)}") from None


def _words(error: ValidationError, kind: type) -> str:
    """The first thing that is wrong, by its key."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "string_pattern_mismatch":
        return f"{place}: {first['input']!r}, expected the name of a file that ends in .pt"
    if place.startswith("stages") and place[-1].isdigit() and first["type"] in ("missing", "too_long"):
        return f"{place}: expected pairs of input size and epochs, e.g. [[64, 6], [112, 4]]"
    if "missing" in first["type"]:
        return f"{place}: missing key; a recipe leaves none open"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place}: unknown key; expected {', '.join(field.name for field in dataclasses.fields(kind))}"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{place}: {repr(first['input'])[:60]}, {first['msg'].replace('Input should be', 'expected')}"


def write_config(recipe: TrainingConfig, path: Path) -> None:
    """What `load_config` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as new:
        new.write_text(f"{WRITTEN}\n{tomli_w.dumps(dataclasses.asdict(recipe))}")


def config_hash(recipe: TrainingConfig) -> str:
    """Eight digits that differ between recipes; where the weights go does not matter."""
    text = json.dumps(dataclasses.asdict(recipe) | {"out": ""})
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
    if isinstance(place, dict) and isinstance(place.get(last), str):
        place[last] = text.strip("\"'")
        return
    try:
        place[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        place[last] = text  # which the recipe will refuse where it wants a number
