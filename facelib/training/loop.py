"""The training loop of all networks: one learning-rate cycle, by epochs or by the clock, a checkpoint after each epoch,
resume.

Accelerate handles the device, mixed precision, several processes (`torchrun`, or `accelerate launch` on GPUs) and
gradient averaging. Checkpoints are written by hand: a single file that is replaced atomically survives a kill at any
moment, while Accelerate's is a folder of files that may be half new.
"""

import contextlib
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

from facelib.settings import select_torch_device
from facelib.training.checkpoints import Checkpoint
from facelib.training.ema import EMA
from facelib.training.run_config import RunConfig
from facelib.training.sampling import EpochDataset, EpochSampler

# (output of the model for batch[0], batch, fraction of the run done) -> scalar loss
Loss = Callable[[Any, list[Tensor], float], Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on what.

    model: holds every trained parameter; it is saved and resumed.
    dataset: see `EpochDataset`.
    loss: see `Loss`.
    sampler: None for every item once an epoch.
    prepare: (what the loader yields, fraction of the run done) -> the batch, on the device; None: what it yields.
    parameter_groups: with "lr" as a multiplier of the learning rate; None: one group.
    validate: fraction of the run done -> figures for the history.
    """

    model: nn.Module
    dataset: EpochDataset
    loss: Loss
    sampler: EpochSampler | None = None
    prepare: Callable[[Any, float], list[Tensor]] | None = None
    parameter_groups: list[dict[str, Any]] | None = None
    validate: Callable[[float], dict[str, float]] | None = None


class ChannelsLast(nn.Module):
    """A wrapper for Accelerate to modify, so that the model itself stays as it is for validation."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.model(images)


def make_accelerator(device: str | None = None, precision: str = "no") -> Accelerator:
    """Accelerate's settings for this loop: each of several processes takes an equal part of every batch."""
    AcceleratorState._reset_state()  # a process may train several networks, in different precisions
    on_cpu = select_torch_device(device).type == "cpu"
    loader = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=False)
    process_group = InitProcessGroupKwargs(timeout=timedelta(days=1))  # while the first process aligns all photos
    return Accelerator(
        cpu=on_cpu, mixed_precision=precision, dataloader_config=loader, rng_types=[], kwargs_handlers=[process_group]
    )


def fit(task: Task, run: RunConfig, accelerator: Accelerator | None = None) -> list[dict[str, float]]:
    """Train, or resume from `run.checkpoint`. The first of several processes validates and writes.

    Returns:
        One dict per epoch: "epoch", "loss", "learning_rate", "images_per_s", "waiting" (fraction of the time in which
        the training waited for data), "minutes" (since the start of the run) and what `task.validate` returned.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoint of the epoch before stays.
        ValueError: the checkpoint is of another run, there are fewer items than one batch, or the batch cannot be
            divided among the processes.
    """
    accelerator = accelerator or make_accelerator(run.device, run.precision)
    model, sampler = task.model, task.sampler or EpochSampler(len(task.dataset))
    model.to(accelerator.device).to(memory_format=torch.channels_last)
    loader = accelerator.prepare(_loader(task.dataset, sampler, run, accelerator.num_processes))
    network, optimizer = accelerator.prepare(ChannelsLast(model), _optimizer(task, run))
    ema = EMA(model) if run.ema else None
    parts = {"model": model, "optimizer": optimizer, "average": ema, "scaler": accelerator.scaler}
    parts = {name: part for name, part in parts.items() if part is not None}
    file = Path(run.checkpoint) if run.checkpoint else None
    checkpoint = Checkpoint(file, _identity(run, model, len(loader)), parts)
    history = checkpoint.resume()
    clock = Clock(run, len(loader), accelerator, len(history), history[-1]["minutes"] if history else 0.0)
    stepper = Stepper(accelerator, network, optimizer, task, run, ema)
    for epoch in count(len(history)):
        if clock.progress() >= 1 or epoch == run.stop_after:
            break
        # All random choices of an epoch (order, augmentation, dropout) are the same after a resume.
        for set_seed in (sampler.start_epoch, task.dataset.start_epoch, torch.manual_seed):
            set_seed(run.seed * 100_003 + epoch)
        model.train()
        row = _train_epoch(stepper, loader, clock, epoch)
        model.eval()
        if accelerator.is_main_process:
            with ema.applied() if ema else contextlib.nullcontext():
                row |= task.validate(min(1.0, clock.progress())) if task.validate else {}
            row["minutes"] = clock.minutes
            checkpoint.save([*history, row])
            if run.progress:
                print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        history.append(row)
        accelerator.wait_for_everyone()
    if ema:
        ema.apply()
    model.eval()
    return history


@dataclass
class Clock:
    """How far a run is: by steps, or by minutes, those before a resume included."""

    run: RunConfig
    steps_per_epoch: int
    accelerator: Accelerator
    completed_epochs: int = 0
    minutes_before: float = 0.0
    steps: int = 0
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self):
        self.steps = self.completed_epochs * self.steps_per_epoch

    @property
    def minutes(self) -> float:
        """Since the start of the run."""
        return self.minutes_before + (time.perf_counter() - self.start) / 60

    def progress(self) -> float:
        """Fraction of the run that is done; the same in all processes."""
        if self.run.epochs is not None:
            return self.steps / (self.run.epochs * self.steps_per_epoch)
        fraction = self.minutes / self.run.minutes
        if self.accelerator.num_processes > 1:
            fraction = broadcast(torch.tensor([fraction], device=self.accelerator.device)).item()
        return fraction


@dataclass(frozen=True)
class Stepper:
    """What one optimizer step needs."""

    accelerator: Accelerator
    network: nn.Module
    optimizer: Any
    task: Task
    run: RunConfig
    ema: EMA | None

    def step(self, loaded: Any, progress: float) -> Tensor:
        """Forward, backward, update; returns the loss.

        Raises:
            FloatingPointError: the loss is not finite; nothing is updated.
        """
        batch = self.task.prepare(loaded, progress) if self.task.prepare else loaded
        loss = self.task.loss(self.network(batch[0]), batch, progress)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()}")
        for group in self.optimizer.param_groups:
            group["lr"] = group["multiplier"] * self.run.learning_rate_at(progress)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        if self.run.gradient_clip_norm:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.run.gradient_clip_norm)
        self.optimizer.step()
        if self.ema:
            self.ema.update()
        return loss.detach()


def _train_epoch(stepper: Stepper, loader: DataLoader, clock: Clock, epoch: int) -> dict[str, float]:
    run, waited, steps, learning_rate = stepper.run, 0.0, 0, 0.0
    total = torch.zeros((), device=stepper.accelerator.device)
    shown = run.progress and stepper.accelerator.is_main_process
    bar = tqdm(loader, f"epoch {epoch + 1}, {run.length}", unit="batch", disable=not shown, leave=False)
    start = requested = time.perf_counter()
    for batch in bar:
        waited += time.perf_counter() - requested
        if (progress := clock.progress()) >= 1 and steps:
            break
        learning_rate = run.learning_rate_at(min(progress, 1.0))
        try:
            loss = stepper.step(batch, min(progress, 1.0))
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error} in epoch {epoch + 1}, step {steps + 1}, at learning rate {learning_rate:.2g}: lower the "
                "learning rate; the last checkpoint is unharmed"
            ) from None
        total, steps = total + loss, steps + 1
        clock.steps += 1
        if steps % 20 == 1:
            speed = steps * run.batch_size / (time.perf_counter() - start)
            bar.set_postfix(loss=f"{loss.item():.4g}", images_per_s=f"{speed:.0f}")
        requested = time.perf_counter()
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch + 1,
        "loss": stepper.accelerator.reduce(total / steps, "mean").item(),
        "learning_rate": learning_rate,
        "images_per_s": steps * run.batch_size / seconds,
        "waiting": waited / seconds,
    }


def _loader(dataset: EpochDataset, sampler: EpochSampler, run: RunConfig, processes: int) -> DataLoader:
    if len(sampler) < run.batch_size:
        raise ValueError(f"{len(sampler)} items are fewer than one batch of {run.batch_size}: lower batch_size")
    if run.batch_size % processes:
        raise ValueError(f"a batch of {run.batch_size} cannot be divided equally among {processes} processes")
    batches = BatchSampler(sampler, run.batch_size, drop_last=True)
    return DataLoader(dataset, batch_sampler=batches, num_workers=run.workers)


def _optimizer(task: Task, run: RunConfig) -> torch.optim.Optimizer:
    groups = task.parameter_groups or [{"params": list(task.model.parameters()), "lr": 1.0}]
    groups = [group | {"multiplier": group["lr"], "lr": group["lr"] * run.learning_rate} for group in groups]
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, run.learning_rate, run.momentum, weight_decay=run.weight_decay, nesterov=True)
    return torch.optim.AdamW(groups, run.learning_rate, run.betas, weight_decay=run.weight_decay)


def _identity(run: RunConfig, model: nn.Module, steps: int) -> str:
    """Text that identifies a run; a checkpoint of another run is refused."""
    size, rate = sum(p.numel() for p in model.parameters()), f"{run.optimizer}, rate {run.learning_rate:g}"
    return f"{size} parameters, {run.length}, {steps} steps of {run.batch_size} each, {rate}, {run.description}"


def end_processes() -> None:
    """Shut the process group down before the processes end, which would be aborted otherwise."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
