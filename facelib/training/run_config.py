"""The settings of the training loop."""

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long and how fast to train, on which device, and where the checkpoint lies.

    batch_size: items in a batch, over all processes.
    learning_rate: peak of the cycle: linear warm-up from 0, then cosine decay to 0.
    epochs, minutes: length of the run, one of them; by the clock, validation included, the last epoch may be cut short.
    warmup_fraction: fraction of the run in which the learning rate rises.
    optimizer: "adamw" or "sgd" (Nesterov). betas: of AdamW. momentum: of SGD.
    weight_decay: of the parameter groups that set none.
    gradient_clip_norm: None for no clipping.
    ema: validate and keep the moving average of the weights, see `EMA`.
    precision: "no", "bf16" (nearly twice as fast for dense convolutions on CPUs that have it) or "fp16" (GPUs).
    seed: of order, augmentation and dropout.
    workers: processes that prepare images beside the training.
    device: see `select_torch_device`.
    checkpoint: file that is written after each epoch and resumed from; None for none.
    description: what else identifies the run (configuration, data); a checkpoint of another run is refused.
    stop_after: end after this epoch, as if interrupted.
    progress: print a line for each epoch and a progress bar.
    """

    batch_size: int
    learning_rate: float
    epochs: int | None = None
    minutes: float | None = None
    warmup_fraction: float = 0.2
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gradient_clip_norm: float | None = None
    ema: bool = False
    precision: str = "no"
    seed: int = 0
    workers: int = 0
    device: str | None = None
    checkpoint: Path | None = None
    description: str = ""
    stop_after: int | None = None
    progress: bool = True

    def __post_init__(self):
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("a run lasts for epochs or for minutes: give one of them")

    @property
    def length(self) -> str:
        """In words."""
        return f"{self.minutes:g} minutes" if self.epochs is None else f"{self.epochs} epochs"

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate when this fraction of the run is done."""
        if progress < self.warmup_fraction:
            return self.learning_rate * progress / self.warmup_fraction
        decay = (progress - self.warmup_fraction) / (1 - self.warmup_fraction)
        return self.learning_rate * (1 + math.cos(math.pi * decay)) / 2
