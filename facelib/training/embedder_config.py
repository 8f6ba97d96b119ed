"""Hyperparameters of an embedding network."""

import typing
from typing import Annotated, Literal

from pydantic import Field, model_validator

from facelib.alignment.align import METHODS
from facelib.embedding.losses import LOSSES, MARGIN_LOSSES
from facelib.training.config_types import (
    BelowOne,
    Betas,
    InputSize,
    NonNegativeFloat,
    NonNegativeInt,
    Optimizer,
    PositiveFloat,
    PositiveInt,
    Precision,
    UnitInterval,
    configuration,
)


@configuration
class EmbedderConfig:
    """Hyperparameters of an embedder training.

    Data
    train_sets: folders of FACELIB_DATA with prepared face crops.
    people_folder: instead, your own photos as <people_folder>/<person>/<photo>.
    num_people, num_photos: use only so many photos, of so many people with equally many each; num_people 0: of
        anybody; num_photos 0: all.
    people_fraction: use the photos of this fraction of the people, chosen by the hash of their IDs and `people_seed`.
    exclude_sources: sources (column of faces.csv) that are not used.
    source_weights: source -> how much more often than others its photos are sampled.
    min_class_photos: people with fewer photos are no classes of the loss on labels: the teacher alone teaches them.
    alignment: method of `align_faces`; for comparisons also "box" and "detector".

    Network
    initial_weights: "imagenet", "random", or the SHA-256 of weights to fine-tune.
    backbone, embedding_size, dropout, output_stride, pooling, drop_path: see `EmbeddingNetwork`.
    frozen_stages: the stem and so many of the backbone's stages keep their initial weights. On a CPU with three of
        seven a step takes two thirds of the time.

    Distillation
    teacher: "dlib", whose embeddings a second head learns; "" for labels only.
    distill_loss_weight: factor of the squared distance to the teacher's embedding.
    distill_head_scale, distill_centering: see `EmbeddingNetwork`.
    distill_density_exponent: above 0, photos count more where the teacher's embeddings are dense, see
        `density_weights`.

    Loss
    loss: a name in `LOSSES`. label_loss_weight: its factor.
    within_source_weight: fraction of the loss in which a photo is compared with people of its own source only.
    scale, margin: of margin losses.
    initial_margin: margin at the beginning; it rises linearly to `margin`.
    margin_ramp_start, margin_ramp_end: fractions of the run between which it rises.
    triplet_margin: of the triplet loss. triplet_loss_weight: of the triplet loss beside ArcFace.

    Schedule
    stages: pairs of input size and epochs, under one learning-rate cycle.
    minutes: above 0, the run ends by the clock, and the epochs of `stages` are fractions of it.
    epoch_size: photos in an epoch, after each of which there is a checkpoint; 0: all.
    batch_size: photos in a batch, fewer where there are few photos.
    optimizer: "adamw" or "sgd". betas: of AdamW. momentum: of SGD (Nesterov).
    learning_rate: peak, of the backbone and a full batch; proportional for smaller batches.
    head_lr_mult: learning-rate multiplier of the new layers.
    warmup_fraction: fraction of the run in which the learning rate rises.
    weight_decay: of kernels and matrices, not of norms and biases.
    gradient_clip_norm: 0 for none.
    ema: validate and save an exponential moving average of the weights.
    weight_average_alpha: weight of the initial weights in what is saved, see `average_with_initial`.

    Augmentation, see `FaceAugmentation`
    augmentation_strength, tight_crop_probability, pose_std, side_light_std.

    precision: "no", "bf16" or "fp16" (mixed precision). seed: of initialisation, order and augmentation.
    """

    kind: Literal["embedder"] = "embedder"
    train_sets: list[str] = Field(default_factory=list)
    people_folder: str = ""
    num_people: NonNegativeInt = 0
    num_photos: NonNegativeInt = 0
    people_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    people_seed: int = 0
    exclude_sources: list[str] = Field(default_factory=list)
    source_weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    min_class_photos: PositiveInt = 1
    alignment: Literal[*METHODS, "box", "detector"] = "five_points"  # type: ignore[valid-type]
    initial_weights: Annotated[str, Field(min_length=1)] = "imagenet"
    backbone: str = "tf_efficientnet_lite2"
    embedding_size: PositiveInt = 512
    dropout: BelowOne = 0.2
    output_stride: PositiveInt = 32
    pooling: str = "depthwise"
    drop_path: BelowOne = 0.0
    frozen_stages: NonNegativeInt = 0
    teacher: Literal["", "dlib"] = ""
    distill_loss_weight: NonNegativeFloat = 0.0
    distill_head_scale: NonNegativeFloat = 0.0
    distill_centering: BelowOne = 0.0
    distill_density_exponent: NonNegativeFloat = 0.0
    loss: Literal[*LOSSES] = "arcface"  # type: ignore[valid-type]
    label_loss_weight: NonNegativeFloat = 1.0
    within_source_weight: UnitInterval = 0.0
    scale: PositiveFloat = 40.0
    margin: NonNegativeFloat = 0.45
    initial_margin: NonNegativeFloat = 0.0
    margin_ramp_start: BelowOne = 0.1
    margin_ramp_end: UnitInterval = 0.5
    triplet_margin: PositiveFloat = 0.2
    triplet_loss_weight: NonNegativeFloat = 5.0
    stages: Annotated[list[tuple[InputSize, PositiveInt]], Field(min_length=1)] = Field(
        default_factory=lambda: [(112, 10)]
    )
    minutes: NonNegativeFloat = 0.0
    epoch_size: NonNegativeInt = 0
    batch_size: PositiveInt = 128
    optimizer: Optimizer = "adamw"
    betas: Betas = (0.9, 0.98)
    momentum: BelowOne = 0.9
    learning_rate: PositiveFloat = 1e-3
    head_lr_mult: PositiveFloat = 1.0
    warmup_fraction: BelowOne = 0.05
    weight_decay: NonNegativeFloat = 0.05
    gradient_clip_norm: NonNegativeFloat = 5.0
    ema: bool = True
    weight_average_alpha: BelowOne = 0.0
    augmentation_strength: UnitInterval = 0.8
    tight_crop_probability: UnitInterval = 0.25
    pose_std: NonNegativeFloat = 0.0
    side_light_std: NonNegativeFloat = 0.0
    precision: Precision = "no"
    seed: int = 0

    @model_validator(mode="after")
    def check(self) -> typing.Self:
        """Raise ValueError where values do not fit each other."""
        untrained = self.initial_weights in ("imagenet", "random")
        if bool(self.train_sets) == bool(self.people_folder):
            raise ValueError("train_sets, people_folder: set one of them, prepared sets or a folder of your own people")
        if self.weight_average_alpha and untrained:
            raise ValueError(f"weight_average_alpha: {self.initial_weights} has no trained embedder to average with")
        if self.people_folder and self.alignment not in METHODS:
            raise ValueError(f"alignment: {self.alignment} is for prepared sets, expected one of {', '.join(METHODS)}")
        if self.num_people and self.num_photos < self.num_people:
            raise ValueError(
                f"num_people, num_photos: {self.num_photos} photos of {self.num_people} people: at least one of each"
            )
        if self.within_source_weight and self.loss not in MARGIN_LOSSES:
            raise ValueError(f"within_source_weight: the loss {self.loss} has no class margins to restrict to a source")
        if self.margin_ramp_start >= self.margin_ramp_end:
            raise ValueError("margin_ramp_start: must be below margin_ramp_end")
        if self.frozen_stages and untrained:
            raise ValueError(
                f"frozen_stages: {self.initial_weights} has no trained embedder whose stages could be kept"
            )
        self._check_distillation()
        return self

    def _check_distillation(self) -> None:
        if bool(self.teacher) != bool(self.distill_loss_weight and self.distill_head_scale):
            raise ValueError("teacher, distill_loss_weight, distill_head_scale: set all of them, or none")
        if self.distill_centering and not self.teacher:
            raise ValueError("distill_centering: there is no teacher whose mean embedding could be subtracted")
        if self.min_class_photos > 1 and not self.teacher:
            raise ValueError("min_class_photos: without a teacher nothing would be learned from the other photos")
        if self.distill_density_exponent and not self.teacher:
            raise ValueError("distill_density_exponent: there is no teacher whose embeddings could be dense")
        if not self.label_loss_weight and not self.teacher:
            raise ValueError("label_loss_weight: 0, and there is no teacher: nothing would be learned")

    @property
    def epochs(self) -> int | None:
        """Epochs of all stages; None for a run that ends by the clock."""
        return None if self.minutes else sum(epochs for _, epochs in self.stages)

    def input_size(self, progress: float) -> int:
        """Input size in pixels when this fraction of the run is done."""
        total = sum(epochs for _, epochs in self.stages)
        done = 0
        for size, epochs in self.stages:
            done += epochs
            if progress * total < done - 1e-6:
                return size
        return self.stages[-1][0]
