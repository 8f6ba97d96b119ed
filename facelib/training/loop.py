"""The training loop of all networks: one learning-rate cycle, by epochs or by the clock, a checkpoint after each epoch,
resume.

Accelerate carries the device, mixed precision, several processes (`torchrun`, or `accelerate launch` on GPUs) and
the averaging of gradients. Checkpoints are written by hand: a single file that takes the place of the last one
survives a kill at any moment, while Accelerate's is a folder of files that may be half new.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm.auto import tqdm

from facelib.settings import select_device
from facelib.training.checkpoints import Checkpoint
from facelib.training.ema import EMA
from facelib.training.sampling import EpochDataset, EpochSampler

# (what the model gives for the first of a batch, the batch, share of the run done) -> scalar loss
LossOf = Callable[[Any, list[Tensor], float], Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on what.

    model: what is saved and resumed; holds every trained parameter. sampler: None: every item once. prepare: (what the
    loader gives, share of the run done) -> the batch, made on the device; None: what the loader gives. groups: of
    parameters, "lr" as a factor of the run's rate; None: all at that rate. validate: share of the run done -> figures
    that go into the history.
    """

    model: nn.Module
    dataset: EpochDataset
    loss_of: LossOf
    sampler: EpochSampler | None = None
    prepare: Callable[[Any, float], list[Tensor]] | None = None
    groups: list[dict[str, Any]] | None = None
    validate: Callable[[float], dict[str, float]] | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """How long and how fast to train, on what, and where the checkpoint lies.

    epochs, or minutes: how long; by the clock, validation included, the last epoch may be cut short. learning_rate:
    the highest of the cycle, which rises from 0 in the first share `warm_up` of the run and falls to 0 like half a
    cosine. optimizer: "adamw" or "sgd" (Nesterov, momentum 0.9); betas: of AdamW. clip: of the gradient's length; None:
    none. average: what is validated and comes out are the weights averaged over the last steps (see `EMA`).
    precision: "no", "bf16" (nearly twice as fast for dense convolutions on processors that have it) or "fp16" (GPUs);
    workers: processes that prepare pictures beside the training; device: see `select_device`; checkpoint: file written
    after each epoch, and resumed from; about: what else makes the run what it is (recipe, data); stop_after: end after
    this epoch, as if interrupted.
    """

    batch_size: int
    learning_rate: float
    epochs: int | None = None
    minutes: float | None = None
    warm_up: float = 0.2
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    clip: float | None = None
    average: bool = False
    precision: str = "no"
    seed: int = 0
    workers: int = 0
    device: str | None = None
    checkpoint: Path | None = None
    about: str = ""
    stop_after: int | None = None
    progress: bool = True

    def __post_init__(self):
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("a run lasts for epochs or for minutes: give one of them")

    @property
    def length(self) -> str:
        """In words."""
        return f"{self.minutes:g} minutes" if self.epochs is None else f"{self.epochs} epochs"

    def rate(self, progress: float) -> float:
        """The learning rate when this share of the run is done."""
        if progress < self.warm_up:
            return self.learning_rate * progress / self.warm_up
        return self.learning_rate * (1 + math.cos(math.pi * (progress - self.warm_up) / (1 - self.warm_up))) / 2


class ChannelsLast(nn.Module):
    """Takes what Accelerate does to a model, so that the model itself stays as it is, for validation."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.model(images)


def make_accelerator(device: str | None = None, precision: str = "no") -> Accelerator:
    """Accelerate's settings for our loop: each of several processes takes its equal part of every batch."""
    AcceleratorState._reset_state()  # a process may train several networks, in different precisions
    on_cpu = select_device(device).type == "cpu"
    parts = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=False)
    patience = InitProcessGroupKwargs(timeout=timedelta(days=1))  # while the first process aligns all photos
    return Accelerator(
        cpu=on_cpu, mixed_precision=precision, dataloader_config=parts, rng_types=[], kwargs_handlers=[patience]
    )


def fit(task: Task, run: Run, accelerator: Accelerator | None = None) -> list[dict[str, float]]:
    """Train; go on where `run.checkpoint` left off. The first of several processes validates and writes.

    Returns:
        One dict per epoch: "epoch", "loss", "learning_rate", "images_per_s", "waiting" (share of the time
        in which the training waited for data), "minutes" (so far) and what `task.validate` gave.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoint of the epoch before stays.
        ValueError: the checkpoint is of another run, the data are fewer than one batch, or the batch cannot be shared
            equally by the processes.
    """
    accelerator = accelerator or make_accelerator(run.device, run.precision)
    model, sampler = task.model, task.sampler or EpochSampler(len(task.dataset))
    model.to(accelerator.device, memory_format=torch.channels_last)
    loader = accelerator.prepare(_loader(task.dataset, sampler, run, accelerator.num_processes))
    network, optimizer = accelerator.prepare(ChannelsLast(model), _optimizer(task, run))
    average = EMA(model) if run.average else None
    parts = {"model": model, "optimizer": optimizer, "average": average, "scaler": accelerator.scaler}
    parts = {name: part for name, part in parts.items() if part is not None}
    checkpoint = Checkpoint(Path(run.checkpoint) if run.checkpoint else None, _identity(run, model, len(loader)), parts)
    history = checkpoint.resume()
    clock = Clock(run, len(loader), accelerator, len(history), history[-1]["minutes"] if history else 0.0)
    stepper = Stepper(accelerator, network, optimizer, task, run, average)
    for epoch in count(len(history)):
        if clock.progress() >= 1 or epoch == run.stop_after:
            break
        # Whatever chance decides in an epoch (order, augmentation, dropout) continues the same after a resume.
        for part in (sampler.start_epoch, task.dataset.start_epoch, torch.manual_seed):
            part(run.seed * 100_003 + epoch)
        model.train()
        row = _train_epoch(stepper, loader, clock, epoch)
        model.eval()
        if accelerator.is_main_process:
            with average.in_use() if average else contextlib.nullcontext():
                row |= task.validate(min(1.0, clock.progress())) if task.validate else {}
            row["minutes"] = clock.minutes
            checkpoint.save([*history, row])
            if run.progress:
                print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        history.append(row)
        accelerator.wait_for_everyone()
    if average:
        average.take_over()
    model.eval()
    return history


@dataclass
class Clock:
    """How far a run is: by steps, or by minutes, those before a resume included."""

    run: Run
    steps: int
    accelerator: Accelerator
    epochs: int = 0
    before: float = 0.0
    done: int = 0
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self):
        self.done = self.epochs * self.steps

    @property
    def minutes(self) -> float:
        """So far."""
        return self.before + (time.perf_counter() - self.start) / 60

    def progress(self) -> float:
        """Share of the run that is done; the same in all processes."""
        if self.run.epochs is not None:
            return self.done / (self.run.epochs * self.steps)
        share = self.minutes / self.run.minutes
        if self.accelerator.num_processes > 1:
            share = broadcast(torch.tensor([share], device=self.accelerator.device)).item()
        return share


@dataclass(frozen=True)
class Stepper:
    """What one step of the training needs."""

    accelerator: Accelerator
    network: nn.Module
    optimizer: Any
    task: Task
    run: Run
    average: EMA | None

    def step(self, given: Any, progress: float) -> Tensor:
        """Forward, backward, update; gives the loss.

        Raises:
            FloatingPointError: the loss is not finite; nothing is updated.
        """
        batch = self.task.prepare(given, progress) if self.task.prepare else given
        loss = self.task.loss_of(self.network(batch[0]), batch, progress)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()}")
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * self.run.rate(progress)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        if self.run.clip:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.run.clip)
        self.optimizer.step()
        if self.average:
            self.average.update()
        return loss.detach()


def _train_epoch(stepper: Stepper, loader: DataLoader, clock: Clock, epoch: int) -> dict[str, float]:
    run, total, waited, steps, rate = stepper.run, 0.0, 0.0, 0, 0.0
    shown = run.progress and stepper.accelerator.is_main_process
    bar = tqdm(loader, f"epoch {epoch + 1}, {run.length}", unit="batch", disable=not shown, leave=False)
    start = asked = time.perf_counter()
    for batch in bar:
        waited += time.perf_counter() - asked
        if (progress := clock.progress()) >= 1 and steps:
            break
        rate = run.rate(min(progress, 1.0))
        try:
            loss = stepper.step(batch, min(progress, 1.0))
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error} in epoch {epoch + 1}, step {steps + 1}, at learning rate {rate:.2g}: lower the rate; the "
                "last checkpoint is unharmed"
            ) from None
        total, steps = total + loss, steps + 1
        clock.done += 1
        if steps % 20 == 1:
            speed = steps * run.batch_size / (time.perf_counter() - start)
            bar.set_postfix(loss=f"{loss.item():.4g}", images_per_s=f"{speed:.0f}")
        asked = time.perf_counter()
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch + 1,
        "loss": stepper.accelerator.reduce(total / steps, "mean").item(),
        "learning_rate": rate,
        "images_per_s": steps * run.batch_size / seconds,
        "waiting": waited / seconds,
    }


def _loader(dataset: EpochDataset, sampler: EpochSampler, run: Run, processes: int) -> DataLoader:
    if len(sampler) < run.batch_size:
        raise ValueError(f"{len(sampler)} items are fewer than one batch of {run.batch_size}: lower batch_size")
    if run.batch_size % processes:
        raise ValueError(f"a batch of {run.batch_size} cannot be shared equally by {processes} processes")
    parts = BatchSampler(sampler, run.batch_size, drop_last=True)
    return DataLoader(dataset, batch_sampler=parts, num_workers=run.workers)


def _optimizer(task: Task, run: Run) -> torch.optim.Optimizer:
    groups = task.groups or [{"params": list(task.model.parameters()), "lr": 1.0}]
    groups = [group | {"factor": group["lr"], "lr": group["lr"] * run.learning_rate} for group in groups]
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, run.learning_rate, 0.9, weight_decay=run.weight_decay, nesterov=True)
    return torch.optim.AdamW(groups, run.learning_rate, run.betas, weight_decay=run.weight_decay)


def _identity(run: Run, model: nn.Module, steps: int) -> str:
    """What makes a run what it is; a checkpoint of another is refused."""
    size, rate = sum(p.numel() for p in model.parameters()), f"{run.optimizer}, rate {run.learning_rate:g}"
    return f"{size} parameters, {run.length}, {steps} steps of {run.batch_size} each, {rate}, {run.about}"


def end_processes() -> None:
    """Several processes take leave of each other before they end; one whose threads still talk would be aborted."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
