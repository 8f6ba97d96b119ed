"""Hyperparameters of the stacked hourglass."""

import typing
from typing import Annotated, Literal

from pydantic import Field, model_validator

from facelib.alignment.heatmaps import STRIDE
from facelib.training.config_types import (
    BelowOne,
    Betas,
    InputSize,
    NonNegativeFloat,
    Optimizer,
    PositiveFloat,
    PositiveInt,
    Precision,
    configuration,
)
from facelib.training.heatmap_losses import HEATMAP_LOSSES


@configuration
class Stage:
    """One learning-rate cycle at one input size.

    input_size: side of the input, pixels.
    epochs: passes of `LandmarkConfig.epoch_size` faces.
    learning_rate: peak of the cycle.
    seed: of sampling order and augmentation.
    pseudo_label_fraction: fraction of the drawn faces that are pseudo-labelled.
    refresh_pseudo_labels: pseudo-labels are predicted again as the stage begins, instead of a detector's points.
    unify_labels: the labels of all sets are moved to CelebA's convention.
    """

    input_size: InputSize = 128
    epochs: PositiveInt = 12
    learning_rate: PositiveFloat = 1.5e-3
    seed: int = 0
    pseudo_label_fraction: BelowOne = 0.0
    refresh_pseudo_labels: bool = False
    unify_labels: bool = False


@configuration
class LandmarkConfig:
    """Hyperparameters of a hourglass training.

    initial_weights: "random", or the SHA-256 of weights to fine-tune.
    label_network: SHA-256 of the network that predicts points for `refresh_pseudo_labels` and `unify_labels`; "" for
        the trained network itself as it is when a stage begins.
    train_sets: folders of FACELIB_DATA with labelled landmarks.
    pseudo_label_sets: folders of face crops whose detector points serve as labels.
    annotation_sets: names of the label sets that are used, [] for all.
    label_offsets: by how much `unify_labels` moves the labels of each set, along and across the eye line in units of
        the eye distance, a pair for each landmark; {} to measure it.
    stacks, channels, depth: see `StackedHourglass`.
    loss: a name in `HEATMAP_LOSSES`.
    large_rotation_probability: of a rotation by any angle up to 180 degrees instead of up to 40.
    truncation_probability: of a face that lies partly outside the photo or the crop.
    epoch_size: faces drawn in an epoch.
    batch_size: faces in a batch.
    optimizer: "adamw" or "sgd".
    betas: of AdamW. momentum: of SGD (Nesterov).
    warmup_fraction: fraction of each stage in which the learning rate rises.
    weight_decay: of all parameters.
    precision: "no", "bf16" or "fp16" (mixed precision).
    stages: learning-rate cycles, one after the other.
    """

    kind: Literal["landmarks"] = "landmarks"
    initial_weights: Annotated[str, Field(min_length=1)] = "random"
    label_network: str = ""
    train_sets: list[str] = Field(default_factory=lambda: ["landmarks", "landmarks_more"])
    pseudo_label_sets: list[str] = Field(default_factory=list)
    annotation_sets: list[str] = Field(default_factory=list)
    label_offsets: dict[str, Annotated[list[tuple[float, float]], Field(min_length=5, max_length=5)]] = Field(
        default_factory=dict
    )
    stacks: PositiveInt = 2
    channels: PositiveInt = 96
    depth: PositiveInt = 3
    loss: Literal[*HEATMAP_LOSSES] = "adaptive_wing"  # type: ignore[valid-type]
    large_rotation_probability: BelowOne = 0.2
    truncation_probability: BelowOne = 0.05
    epoch_size: PositiveInt = 20_000
    batch_size: PositiveInt = 32
    optimizer: Optimizer = "adamw"
    betas: Betas = (0.9, 0.999)
    momentum: BelowOne = 0.9
    warmup_fraction: BelowOne = 0.2
    weight_decay: NonNegativeFloat = 1e-4
    precision: Precision = "no"
    stages: Annotated[list[Stage], Field(min_length=1)] = Field(default_factory=lambda: [Stage()])

    @model_validator(mode="after")
    def check(self) -> typing.Self:
        """Raise ValueError where values do not fit each other."""
        multiple = STRIDE * 2**self.depth
        for i, stage in enumerate(self.stages):
            if stage.input_size % multiple:
                raise ValueError(f"stages.{i}.input_size: {stage.input_size} is no multiple of {multiple}")
        first = self.stages[0]
        if self.initial_weights == "imagenet":
            raise ValueError('initial_weights: the hourglass has no ImageNet weights, expected "random" or a SHA-256')
        measures = first.unify_labels and not self.label_offsets
        if (first.refresh_pseudo_labels or measures) and self.initial_weights == "random" and not self.label_network:
            raise ValueError(
                "stages.0: refresh_pseudo_labels and unify_labels need a trained network: set initial_weights or "
                "label_network"
            )
        if any(stage.pseudo_label_fraction for stage in self.stages) and not self.pseudo_label_sets:
            raise ValueError("stages: a pseudo_label_fraction above 0 needs pseudo_label_sets")
        return self

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)
