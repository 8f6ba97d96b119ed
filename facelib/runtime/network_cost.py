"""Parameters and floating-point operations of a PyTorch network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def network_cost(model: nn.Module, input_size: int) -> dict[str, float]:
    """ "parameters", and "gflops" (two operations for each multiplication with addition) of one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(1, 3, input_size, input_size, device=next(model.parameters()).device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(image)
    return {"parameters": sum(p.numel() for p in model.parameters()), "gflops": counter.get_total_flops() / 1e9}
