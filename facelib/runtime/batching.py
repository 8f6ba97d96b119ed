"""How every network is run: never in a forked process, and in batches of few sizes."""

import os
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_NETWORKS_IN: int | None = None  # the process that loaded or ran networks


def forbid_fork() -> None:
    """Called before a network is loaded or run: their threads do not exist in a forked process, which would hang.

    Raises:
        RuntimeError: this process was forked from one that had loaded networks.
    """
    global _NETWORKS_IN
    if _NETWORKS_IN not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked from one that had loaded networks, whose threads are not here: it would wait "
            'for ever. Start workers with multiprocessing.get_context("spawn"), or fork before anything is loaded'
        )
    _NETWORKS_IN = os.getpid()


def batches(count: int, size: int, few_sizes: bool = True) -> Iterator[slice]:
    """Slices over `count` items, at most `size` at a time, the rest in powers of two: 45 by 32 are 32, 8, 4 and 1.

    On a CPU, PyTorch keeps a set of prepared kernels for every batch size it has met. Over photos with all numbers
    of faces these took 1.4 GB; with these few sizes they take a tenth. Without `few_sizes` the rest is one batch.
    """
    start = 0
    while start < count:
        rest = count - start
        step = min(size, 1 << (rest.bit_length() - 1) if few_sizes else rest)
        yield slice(start, start + step)
        start += step


def network_cost(model: nn.Module, input_size: int) -> dict[str, float]:
    """Parameters, and floating-point operations (two for each multiplication with addition) of one picture."""
    image = torch.zeros(1, 3, input_size, input_size, device=next(model.parameters()).device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(image)
    return {"parameters": sum(p.numel() for p in model.parameters()), "gflops": counter.get_total_flops() / 1e9}
