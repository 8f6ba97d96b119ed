"""Training loops: one `fit` for both networks, with checkpoints and exact resume."""

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm.auto import tqdm

from facelib.checkpoints import pick_device
from facelib.files import replacing


class EpochSampler(Sampler[tuple[int, int]]):
    """Indices of one epoch, each with a seed for its augmentation, both a function of (seed, epoch).

    A run that is resumed, or has another number of workers, therefore sees the same pictures.
    `weights`: (n,) relative frequency of each item; None: every item once. `length`: items drawn.
    `labels`: (n,) people; with them, `together` photos of a person follow each other (triplets need that).
    """

    def __init__(
        self,
        items: int,
        seed: int = 0,
        weights: Tensor | None = None,
        length: int | None = None,
        labels: np.ndarray | None = None,
        together: int = 1,
    ):
        self.items, self.seed, self.weights, self.length, self.epoch = items, seed, weights, length or items, 0
        self.labels, self.together = labels, together

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        if self.weights is None:
            passes = -(-self.length // self.items)  # more than one where more are drawn than there are
            order = torch.cat([torch.randperm(self.items, generator=generator) for _ in range(passes)])
            if self.together > 1:
                order = self._in_groups(order.numpy(), generator)
            order = order[: self.length]
        else:
            order = torch.multinomial(self.weights.double(), self.length, replacement=True, generator=generator)
        seeds = torch.randint(2**31, (self.length,), generator=generator)
        return iter(zip(order.tolist(), seeds.tolist()))

    def _in_groups(self, order: np.ndarray, generator: torch.Generator) -> np.ndarray:
        order = order[np.argsort(self.labels[order], kind="stable")]
        _, first = np.unique(self.labels[order], return_index=True)
        rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        starts = np.flatnonzero(rank % self.together == 0)
        groups = np.split(order, starts[1:])
        return np.concatenate([groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()])


class ShareOfBatches(Sampler[list]):
    """Batches of `sampler`, of which each of several processes takes its equal part."""

    def __init__(self, sampler: EpochSampler, batch_size: int, rank: int, processes: int):
        self.sampler, self.batch_size, self.rank, self.processes = sampler, batch_size, rank, processes

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size

    def __iter__(self):
        items, part = list(self.sampler), self.batch_size // self.processes
        for step in range(len(self)):
            start = step * self.batch_size + self.rank * part
            yield items[start : start + part]


def finished_epochs(checkpoint: str | Path) -> int:
    """Epochs that the run of this checkpoint has behind it; 0 where there is no such file."""
    if not Path(checkpoint).exists():
        return 0
    return len(torch.load(checkpoint, map_location="cpu", weights_only=True)["history"])


def fit(
    model: nn.Module,
    dataset: Dataset,
    loss_of: Callable[[tuple[Tensor, ...], float], Tensor],
    parameters: list[dict] | None = None,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    optimizer: str = "adamw",
    weight_decay: float = 1e-4,
    sampler: EpochSampler | None = None,
    workers: int = 0,
    device: torch.device | None = None,
    before_epoch: Callable[[int], None] | None = None,
    validate: Callable[[int], dict[str, float]] | None = None,
    checkpoint: str | Path | None = None,
    stop_after: int | None = None,
    bfloat16: bool = False,
    about: str = "",
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train with one learning-rate cycle; resume where `checkpoint` left off.

    Under `torchrun` (after `start_processes`) each process trains on its part of every batch, and the
    gradients are averaged; the first process validates and writes.

    Args:
        model: what is saved and resumed; holds every trained parameter.
        dataset: items are asked for by (index, seed) and give tuples of tensors.
        loss_of: (batch, share of the run done) -> scalar loss.
        parameters: optimizer groups, each with its own "lr"; None: all at `learning_rate`.
        optimizer: "adamw" or "sgd" (Nesterov). The cycle moves the momentum too, between 0.85 and 0.95.
        before_epoch: called with each epoch before it starts.
        validate: epoch -> figures that go into the history.
        checkpoint: file written after each epoch (under another name first, then moved).
        stop_after: end after this epoch, as if interrupted; the schedule is still that of `epochs`.
        bfloat16: autocast on the CPU too, which nearly doubles the speed of dense convolutions on
            processors that have it. On a GPU mixed precision is always on.
        about: what else makes the run what it is (the data); a checkpoint of another is refused.

    Returns:
        One dict per epoch: "epoch", "loss", "learning_rate", "images_per_s", "waiting" (share of the time
        in which the training waited for data) and what `validate` gave.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoint of the epoch before stays.
        ValueError: the checkpoint is of another run, the data are fewer than one batch, or the batch
            cannot be shared equally by the processes.
    """
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    progress = progress and rank == 0
    device = device or torch.device("cpu")
    sampler = sampler or EpochSampler(len(dataset))
    steps = len(sampler) // batch_size
    if steps == 0:
        raise ValueError(f"{len(sampler)} items are fewer than one batch of {batch_size}: lower batch_size")
    if batch_size % processes:
        raise ValueError(f"a batch of {batch_size} cannot be shared equally by {processes} processes")
    loader = DataLoader(
        dataset,
        batch_sampler=ShareOfBatches(sampler, batch_size, rank, processes),
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    groups = parameters or [{"params": list(model.parameters()), "lr": learning_rate}]
    kind = {
        "adamw": lambda: torch.optim.AdamW(groups, weight_decay=weight_decay),
        "sgd": lambda: torch.optim.SGD(groups, learning_rate, 0.9, weight_decay=weight_decay, nesterov=True),
    }
    optim = kind[optimizer]()
    peaks = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, peaks, total_steps=epochs * steps, pct_start=0.2)
    kind_of_float = torch.bfloat16 if bfloat16 else None  # None: the device's own choice
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda" and not bfloat16)
    history: list[dict[str, float]] = []
    size = sum(p.numel() for p in model.parameters())
    run = f"{size} parameters, {epochs} epochs of {steps} steps of {batch_size}, {optimizer}, rates {peaks}"
    run += f", {about}" if about else ""
    if checkpoint and Path(checkpoint).exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["run"] != run:
            raise ValueError(f"{checkpoint} is of another run ({saved['run']}, not {run}): move it away to start anew")
        model.load_state_dict(saved["model"])
        for part, name in ((optim, "optimizer"), (schedule, "schedule"), (scaler, "scaler")):
            part.load_state_dict(saved[name])
        history = saved["history"]
    for epoch in range(len(history), min(epochs, stop_after or epochs)):
        if before_epoch:
            before_epoch(epoch)
        model.train()
        sampler.epoch = epoch
        torch.manual_seed(sampler.seed * 100_003 + epoch)  # dropout continues the same after a resume
        total = torch.zeros((), device=device)
        bar = tqdm(loader, f"epoch {epoch + 1}/{epochs}", unit="batch", disable=not progress, leave=False)
        start = asked = time.perf_counter()
        waited = 0.0
        for step, batch in enumerate(bar):
            waited += time.perf_counter() - asked
            batch = tuple(part.to(device, non_blocking=True) for part in batch)
            with torch.autocast(device.type, kind_of_float, enabled=bfloat16 or device.type == "cuda"):
                loss = loss_of(batch, (epoch * steps + step) / (epochs * steps))
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}, at learning rate "
                    f"{schedule.get_last_lr()[0]:.2g}: lower the rate; the last checkpoint is unharmed"
                )
            optim.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            if processes > 1:
                _average_gradients(model, processes)
            scaler.step(optim)
            scaler.update()
            schedule.step()
            total += loss.detach()
            if step % 20 == 0:
                rate = (step + 1) * batch_size / (time.perf_counter() - start)
                bar.set_postfix(loss=f"{loss.item():.4g}", images_per_s=f"{rate:.0f}")
            asked = time.perf_counter()
        seconds = time.perf_counter() - start
        if processes > 1:
            dist.all_reduce(total)
        row = {"epoch": epoch + 1, "loss": (total / steps / processes).item()}
        row |= {"learning_rate": schedule.get_last_lr()[0]}
        row |= {"images_per_s": steps * batch_size / seconds, "waiting": waited / seconds}
        if validate and rank == 0:
            model.eval()
            row |= validate(epoch)
        history.append(row)
        if checkpoint and rank == 0:
            state = {"run": run, "model": model.state_dict(), "history": history}
            state |= {"optimizer": optim.state_dict(), "schedule": schedule.state_dict(), "scaler": scaler.state_dict()}
            Path(checkpoint).parent.mkdir(parents=True, exist_ok=True)
            with replacing(checkpoint) as path:
                torch.save(state, path)
        if progress:
            print("  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
        if processes > 1:
            dist.barrier()
    model.eval()
    return history


def start_processes(device: str | None = None) -> torch.device:
    """The device of this process; under `torchrun` the processes are joined first (NCCL on GPUs, else gloo)."""
    if "LOCAL_RANK" not in os.environ:
        return pick_device(device)
    on_gpus = torch.cuda.is_available() and device in (None, "cuda")
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpus else "gloo")
        atexit.register(dist.destroy_process_group)  # its threads must end before the interpreter does
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpus else pick_device(device)


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process runs the block alone, so that it writes the caches and the others read them."""
    waits = dist.is_initialized() and dist.get_rank() > 0
    if waits:
        dist.barrier()
    yield
    if dist.is_initialized() and not waits:
        dist.barrier()


def _average_gradients(model: nn.Module, processes: int) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= processes
