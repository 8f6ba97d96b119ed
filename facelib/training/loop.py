"""The training loop of all networks: one learning-rate cycle, a checkpoint after each epoch, exact resume.

Accelerate carries the device, mixed precision, several processes (`torchrun`, or `accelerate launch` on GPUs) and
the averaging of gradients. Checkpoints are written by hand: a single file that takes the place of the last one
survives a kill at any moment, while Accelerate's is a folder of files that may be half new.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm.auto import tqdm

from facelib.files import replacing
from facelib.settings import pick_device
from facelib.training.sampling import EpochDataset, EpochSampler

# (what the model gives for the first tensor of a batch, the batch, share of the run done) -> scalar loss
LossOf = Callable[[Tensor, list[Tensor], float], Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on what.

    model: what is saved and resumed; holds every trained parameter. sampler: None: every item once. groups: of
    parameters, "lr" as a factor of the run's rate; None: all at that rate. before_epoch: called with each epoch before
    it starts. validate: epoch -> figures that go into the history. epochs: that it is made for; None: any number.
    """

    model: nn.Module
    dataset: EpochDataset
    loss_of: LossOf
    sampler: EpochSampler | None = None
    groups: list[dict[str, Any]] | None = None
    before_epoch: Callable[[int], None] | None = None
    validate: Callable[[int], dict[str, float]] | None = None
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """How long and how fast to train, on what, and where the checkpoint lies.

    learning_rate: the highest of the cycle; optimizer: "adamw" or "sgd" (Nesterov; the cycle moves the momentum too,
    between 0.85 and 0.95); precision: "no", "bf16" (nearly twice as fast for dense convolutions on processors that
    have it) or "fp16" (GPUs); workers: processes that prepare pictures beside the training; device: see
    `pick_device`; checkpoint: file written after each epoch, and resumed from; about: what else makes the run what it
    is (recipe, data); stop_after: end after this epoch, as if interrupted.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    precision: str = "no"
    seed: int = 0
    workers: int = 0
    device: str | None = None
    checkpoint: Path | None = None
    about: str = ""
    stop_after: int | None = None
    progress: bool = True


class Wrapped(nn.Module):
    """Takes what Accelerate does to a model, so that the model itself stays as it is, for validation."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.model(images)


def make_accelerator(device: str | None = None, precision: str = "no") -> Accelerator:
    """Accelerate's settings for our loop: each of several processes takes its equal part of every batch."""
    AcceleratorState._reset_state()  # a process may train several networks, in different precisions
    on_cpu = pick_device(device).type == "cpu"
    parts = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=False)
    patience = InitProcessGroupKwargs(timeout=timedelta(days=1))  # while the first process aligns all photos
    return Accelerator(
        cpu=on_cpu, mixed_precision=precision, dataloader_config=parts, rng_types=[], kwargs_handlers=[patience]
    )


def fit(task: Task, run: Run, accelerator: Accelerator | None = None) -> list[dict[str, float]]:
    """Train; go on where `run.checkpoint` left off. The first of several processes validates and writes.

    Returns:
        One dict per epoch: "epoch", "loss", "learning_rate", "images_per_s", "waiting" (share of the time
        in which the training waited for data) and what `task.validate` gave.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoint of the epoch before stays.
        ValueError: the checkpoint is of another run, the task is made for another number of epochs, the data are
            fewer than one batch, or the batch cannot be shared equally by the processes.
    """
    if task.epochs not in (None, run.epochs):
        raise ValueError(f"{task.epochs} sizes for {run.epochs} epochs: give one for each")
    accelerator = accelerator or make_accelerator(run.device, run.precision)
    model, sampler = task.model, task.sampler or EpochSampler(len(task.dataset))
    model.to(accelerator.device, memory_format=torch.channels_last)
    loader = accelerator.prepare(_loader(task.dataset, sampler, run, accelerator.num_processes))
    optimizer, schedule = _stepping(task, run, len(loader))
    network, optimizer = accelerator.prepare(Wrapped(model), optimizer)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    checkpoint = Checkpoint(run, len(loader), parts | ({"scaler": accelerator.scaler} if accelerator.scaler else {}))
    history = checkpoint.resume()
    for epoch in range(len(history), run.epochs if run.stop_after is None else min(run.epochs, run.stop_after)):
        # Whatever chance decides in an epoch (order, augmentation, dropout) continues the same after a resume.
        for part in (sampler.start_epoch, task.dataset.start_epoch, torch.manual_seed):
            part(run.seed * 100_003 + epoch)
        if task.before_epoch:
            task.before_epoch(epoch)
        model.train()
        row = _train_epoch(Stepper(accelerator, network, optimizer, schedule, task.loss_of), loader, run, epoch)
        model.eval()
        if accelerator.is_main_process:
            row |= task.validate(epoch) if task.validate else {}
            checkpoint.save([*history, row])
            if run.progress:
                print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        history.append(row)
        accelerator.wait_for_everyone()
    model.eval()
    return history


@dataclass(frozen=True)
class Stepper:
    """What one step of the training needs."""

    accelerator: Accelerator
    network: nn.Module
    optimizer: Any
    schedule: Any
    loss_of: LossOf

    def step(self, batch: list[Tensor], progress: float) -> Tensor:
        """Forward, backward, update; gives the loss.

        Raises:
            FloatingPointError: the loss is not finite; nothing is updated.
        """
        loss = self.loss_of(self.network(batch[0]), batch, progress)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()}")
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


def _train_epoch(stepper: Stepper, loader: DataLoader, run: Run, epoch: int) -> dict[str, float]:
    steps, total, waited = len(loader), 0.0, 0.0
    shown = run.progress and stepper.accelerator.is_main_process
    bar = tqdm(loader, f"epoch {epoch + 1}/{run.epochs}", unit="batch", disable=not shown, leave=False)
    start = asked = time.perf_counter()
    for step, batch in enumerate(bar):
        waited += time.perf_counter() - asked
        try:
            loss = stepper.step(batch, (epoch * steps + step) / (run.epochs * steps))
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error} in epoch {epoch + 1}, step {step + 1}, at learning rate "
                f"{stepper.schedule.get_last_lr()[0]:.2g}: lower the rate; the last checkpoint is unharmed"
            ) from None
        total = total + loss
        if step % 20 == 0:
            rate = (step + 1) * run.batch_size / (time.perf_counter() - start)
            bar.set_postfix(loss=f"{loss.item():.4g}", images_per_s=f"{rate:.0f}")
        asked = time.perf_counter()
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch + 1,
        "loss": stepper.accelerator.reduce(total / steps, "mean").item(),
        "learning_rate": stepper.schedule.get_last_lr()[0],
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


def _stepping(task: Task, run: Run, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """Optimizer and one cycle of its learning rates."""
    groups = task.groups or [{"params": list(task.model.parameters()), "lr": 1.0}]
    groups = [group | {"lr": group["lr"] * run.learning_rate} for group in groups]
    if run.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, run.learning_rate, 0.9, weight_decay=run.weight_decay, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(groups, run.learning_rate, weight_decay=run.weight_decay)
    peaks = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=run.epochs * steps, pct_start=0.2)
    return optimizer, schedule


@dataclass(frozen=True)
class Checkpoint:
    """The file of a run, where it has one, and the parts that are kept in it: name -> what has a state_dict."""

    run: Run
    steps: int
    parts: dict[str, Any]

    @property
    def name(self) -> str:
        """What makes the run what it is; a checkpoint of another is refused."""
        size, run = sum(p.numel() for p in self.parts["model"].parameters()), self.run
        rate = f"{run.optimizer}, rate {run.learning_rate:g}"
        return f"{size} parameters, {run.epochs} epochs of {self.steps} steps of {run.batch_size}, {rate}, {run.about}"

    def resume(self) -> list[dict[str, float]]:
        """Fill the parts from the file, where there is one; gives its history."""
        if not self.run.checkpoint or not Path(self.run.checkpoint).exists():
            return []
        saved = read_checkpoint(self.run.checkpoint)
        if saved["run"] != self.name:
            raise ValueError(
                f"{self.run.checkpoint} is of another run: photos or settings changed. Move it away to start anew "
                f"(it was: {saved['run']}; it is now: {self.name})"
            )
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        return saved["history"]

    def save(self, history: list[dict[str, float]]) -> None:
        """Write the file, whole or not at all."""
        if not self.run.checkpoint:
            return
        Path(self.run.checkpoint).parent.mkdir(parents=True, exist_ok=True)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        with replacing(self.run.checkpoint) as path:
            torch.save({"run": self.name, "history": history, **states}, path)


def end_processes() -> None:
    """Several processes take leave of each other before they end; one whose threads still talk would be aborted."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def finished_epochs(checkpoint: str | Path) -> int:
    """Epochs that the run of this checkpoint has behind it; 0 where there is no such file."""
    return len(read_checkpoint(checkpoint)["history"]) if Path(checkpoint).exists() else 0


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What `Checkpoint.save` wrote.

    Raises:
        ValueError: something else, or damaged.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if {"run", "history", "model"} <= set(saved):
            return saved
    except Exception as error:  # a broken file has many ways to fail
        raise ValueError(f"{path} is no checkpoint, or damaged ({str(error)[:80]}): remove it to start anew") from None
    raise ValueError(f"{path} is no checkpoint but another file: remove it to start anew")
