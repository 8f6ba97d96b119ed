"""The training loop of all networks: one learning-rate cycle, a checkpoint after each epoch, exact resume.

Accelerate carries the device, mixed precision, several processes (`accelerate launch`) and the averaging of
gradients. Checkpoints are written by hand: a single file that takes the place of the last one survives a kill at any
moment, while Accelerate's is a folder of files that may be half new.
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


def fit(
    model: nn.Module,
    dataset: EpochDataset,
    loss_of: LossOf,
    run: Run,
    *,
    sampler: EpochSampler | None = None,
    groups: list[dict] | None = None,
    before_epoch: Callable[[int], None] | None = None,
    validate: Callable[[int], dict[str, float]] | None = None,
    accelerator: Accelerator | None = None,
) -> list[dict[str, float]]:
    """Train; go on where `run.checkpoint` left off. The first of several processes validates and writes.

    Args:
        model: what is saved and resumed; holds every trained parameter.
        groups: of the optimizer, each with its own "lr"; None: all parameters at `run.learning_rate`.
        before_epoch: called with each epoch before it starts.
        validate: epoch -> figures that go into the history.

    Returns:
        One dict per epoch: "epoch", "loss", "learning_rate", "images_per_s", "waiting" (share of the time
        in which the training waited for data) and what `validate` gave.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoint of the epoch before stays.
        ValueError: the checkpoint is of another run, the data are fewer than one batch, or the batch
            cannot be shared equally by the processes.
    """
    accelerator = accelerator or make_accelerator(run.device, run.precision)
    sampler = sampler or EpochSampler(len(dataset), run.seed)
    loader = accelerator.prepare(_loader(dataset, sampler, run, accelerator.num_processes))
    model.to(accelerator.device, memory_format=torch.channels_last)
    optimizer = _optimizer(groups or [{"params": list(model.parameters()), "lr": run.learning_rate}], run)
    schedule = _schedule(optimizer, run, len(loader))
    network, stepper = accelerator.prepare(Wrapped(model), optimizer)
    state = {"model": model, "optimizer": stepper, "schedule": schedule}
    state |= {"scaler": accelerator.scaler} if accelerator.scaler else {}
    name = _name(model, groups, run, len(loader))
    history = _resume(run.checkpoint, name, state)
    for epoch in range(len(history), min(run.epochs, run.stop_after or run.epochs)):
        _begin(epoch, run.seed, dataset, sampler)
        if before_epoch:
            before_epoch(epoch)
        model.train()
        row = _train_epoch(accelerator, network, loader, loss_of, (stepper, schedule), run, epoch)
        model.eval()
        if accelerator.is_main_process:
            history.append(row | (validate(epoch) if validate else {}))
            _save(run.checkpoint, name, state, history)
            if run.progress:
                print("  ".join(f"{key} {value:.4g}" for key, value in history[-1].items()), flush=True)
        else:
            history.append(row)
        accelerator.wait_for_everyone()
    model.eval()
    return history


def _train_epoch(
    accelerator: Accelerator,
    network: nn.Module,
    loader: DataLoader,
    loss_of: LossOf,
    stepping: tuple[Any, Any],
    run: Run,
    epoch: int,
) -> dict[str, float]:
    optimizer, schedule = stepping
    steps, total, waited = len(loader), torch.zeros((), device=accelerator.device), 0.0
    shown = run.progress and accelerator.is_main_process
    bar = tqdm(loader, f"epoch {epoch + 1}/{run.epochs}", unit="batch", disable=not shown, leave=False)
    start = asked = time.perf_counter()
    for step, batch in enumerate(bar):
        waited += time.perf_counter() - asked
        loss = loss_of(network(batch[0]), batch, (epoch * steps + step) / (run.epochs * steps))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}, at learning rate "
                f"{schedule.get_last_lr()[0]:.2g}: lower the rate; the last checkpoint is unharmed"
            )
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        total += loss.detach()
        if step % 20 == 0:
            rate = (step + 1) * run.batch_size / (time.perf_counter() - start)
            bar.set_postfix(loss=f"{loss.item():.4g}", images_per_s=f"{rate:.0f}")
        asked = time.perf_counter()
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch + 1,
        "loss": accelerator.reduce(total / steps, "mean").item(),
        "learning_rate": schedule.get_last_lr()[0],
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


def _optimizer(groups: list[dict], run: Run) -> torch.optim.Optimizer:
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, run.learning_rate, 0.9, weight_decay=run.weight_decay, nesterov=True)
    return torch.optim.AdamW(groups, run.learning_rate, weight_decay=run.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, run: Run, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    peaks = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=run.epochs * steps, pct_start=0.2)


def _begin(epoch: int, seed: int, dataset: EpochDataset, sampler: EpochSampler) -> None:
    """Whatever chance decides in an epoch (order, augmentation, dropout) continues the same after a resume."""
    sampler.start_epoch(epoch)
    dataset.start_epoch(seed * 100_003 + epoch)
    torch.manual_seed(seed * 100_003 + epoch)


def _name(model: nn.Module, groups: list[dict] | None, run: Run, steps: int) -> str:
    size = sum(p.numel() for p in model.parameters())
    rates = [group["lr"] for group in groups] if groups else [run.learning_rate]
    name = (
        f"{size} parameters, {run.epochs} epochs of {steps} steps of {run.batch_size}, {run.optimizer}, rates {rates}"
    )
    return f"{name}, {run.about}" if run.about else name


def finished_epochs(checkpoint: str | Path) -> int:
    """Epochs that the run of this checkpoint has behind it; 0 where there is no such file."""
    if not Path(checkpoint).exists():
        return 0
    return len(torch.load(checkpoint, map_location="cpu", weights_only=True)["history"])


def _resume(checkpoint: Path | None, name: str, state: dict[str, Any]) -> list[dict[str, float]]:
    """Fill model, optimizer and schedule from the checkpoint, where there is one; gives its history."""
    if not checkpoint or not Path(checkpoint).exists():
        return []
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if saved["run"] != name:
        raise ValueError(f"{checkpoint} is of another run ({saved['run']}, not {name}): move it away to start anew")
    for part, holder in state.items():
        holder.load_state_dict(saved[part])
    return saved["history"]


def _save(checkpoint: Path | None, name: str, state: dict[str, Any], history: list[dict[str, float]]) -> None:
    if not checkpoint:
        return
    Path(checkpoint).parent.mkdir(parents=True, exist_ok=True)
    with replacing(checkpoint) as path:
        torch.save(
            {"run": name, "history": history} | {part: holder.state_dict() for part, holder in state.items()}, path
        )
