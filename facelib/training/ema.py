"""Exponential moving average (EMA) of the weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class EMA:
    """Weights averaged over the steps of a training.

    The newest weights enter with (steps + 2) ** -0.75, at least 0.001, so that the average follows quickly at first
    and over the last thousand steps later. It smooths what single batches do, and is better than the weights
    themselves while the learning rate is high.
    """

    def __init__(self, model: nn.Module):
        self.model, self.steps = model, 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call after each optimizer step."""
        weight = max(1e-3, (self.steps + 2) ** -0.75)
        self.steps += 1
        current = self.model.state_dict()
        names = [name for name, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in names], [current[name] for name in names], weight)
        for name in current.keys() - set(names):
            self.state[name].copy_(current[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights within the block."""
        own = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.state)
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    def apply(self) -> None:
        """The model has the averaged weights from now on."""
        self.model.load_state_dict(self.state)

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state, "steps": self.steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for name, value in saved["state"].items():
            self.state[name].copy_(value)
        self.steps = saved["steps"]
