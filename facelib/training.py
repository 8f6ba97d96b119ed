"""Training loops: one `fit` for both networks, with checkpoints and exact resume."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm.auto import tqdm


class EpochSampler(Sampler[tuple[int, int]]):
    """Indices of one epoch, each with a seed for its augmentation, both a function of (seed, epoch).

    A run that is resumed, or has another number of workers, therefore sees the same pictures.
    `weights`: (n,) relative frequency of each item; None: every item once. `length`: items drawn.
    """

    def __init__(self, items: int, seed: int = 0, weights: Tensor | None = None, length: int | None = None):
        self.items, self.seed, self.weights, self.length, self.epoch = items, seed, weights, length or items, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.items, generator=generator)[: self.length]
        else:
            order = torch.multinomial(self.weights.double(), self.length, replacement=True, generator=generator)
        seeds = torch.randint(2**31, (self.length,), generator=generator)
        return iter(zip(order.tolist(), seeds.tolist()))


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
    validate: Callable[[int], dict[str, float]] | None = None,
    checkpoint: str | Path | None = None,
    stop_after: int | None = None,
    bfloat16: bool = False,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train with one learning-rate cycle; resume where `checkpoint` left off.

    Args:
        model: what is saved and resumed; holds every trained parameter.
        dataset: items are asked for by (index, seed) and give tuples of tensors.
        loss_of: (batch, share of the run done) -> scalar loss.
        parameters: optimizer groups, each with its own "lr"; None: all at `learning_rate`.
        optimizer: "adamw" or "sgd" (Nesterov momentum 0.9).
        validate: epoch -> figures that go into the history.
        checkpoint: file written after each epoch (under another name first, then moved).
        stop_after: end after this epoch, as if interrupted; the schedule is still that of `epochs`.
        bfloat16: autocast on the CPU too, which nearly doubles the speed of dense convolutions on
            processors that have it. On a GPU mixed precision is always on.

    Returns:
        One dict per epoch: "epoch", "loss", "learning_rate" and what `validate` gave.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoint of the epoch before stays.
        ValueError: the checkpoint is of another run, or the data are fewer than one batch.
    """
    device = device or torch.device("cpu")
    sampler = sampler or EpochSampler(len(dataset))
    steps = len(sampler) // batch_size
    if steps == 0:
        raise ValueError(f"{len(sampler)} items are fewer than one batch of {batch_size}: lower batch_size")
    loader = DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, drop_last=True, pin_memory=device.type == "cuda"
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
    if checkpoint and Path(checkpoint).exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["run"] != run:
            raise ValueError(f"{checkpoint} is of another run ({saved['run']}, not {run}): move it away to start anew")
        model.load_state_dict(saved["model"])
        for part, name in ((optim, "optimizer"), (schedule, "schedule"), (scaler, "scaler")):
            part.load_state_dict(saved[name])
        history = saved["history"]
    for epoch in range(len(history), min(epochs, stop_after or epochs)):
        model.train()
        sampler.epoch = epoch
        torch.manual_seed(sampler.seed * 100_003 + epoch)  # dropout continues the same after a resume
        total = torch.zeros((), device=device)
        bar = tqdm(loader, f"epoch {epoch + 1}/{epochs}", unit="batch", disable=not progress, leave=False)
        for step, batch in enumerate(bar):
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
            scaler.step(optim)
            scaler.update()
            schedule.step()
            total += loss.detach()
            if step % 20 == 0:
                bar.set_postfix(
                    loss=f"{loss.item():.4g}", images_per_s=f"{(bar.format_dict['rate'] or 0) * batch_size:.0f}"
                )
        row = {"epoch": epoch + 1, "loss": (total / steps).item(), "learning_rate": schedule.get_last_lr()[0]}
        if validate:
            model.eval()
            row |= validate(epoch)
        history.append(row)
        if checkpoint:
            state = {"run": run, "model": model.state_dict(), "history": history}
            state |= {"optimizer": optim.state_dict(), "schedule": schedule.state_dict(), "scaler": scaler.state_dict()}
            _replace(state, Path(checkpoint))
        if progress:
            print("  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    model.eval()
    return history


def _replace(state: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)
