"""PyTorch networks behind the same interface as `OnnxNetwork`; PyTorch is imported when one is made."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn


def require_torch(what: str) -> None:
    """Check that PyTorch can be imported.

    Args:
        what: the subject of the error text, e.g. "models/a.pt".

    Raises:
        RuntimeError: it cannot; says what needs it and how to install it.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise RuntimeError(f'{what} needs PyTorch: install the extra "train" (pip install -e ".[train]")') from None


class TorchNetwork:
    """A PyTorch module in evaluation mode: images (n, 3, s, s) float32 -> outputs float32, both NumPy arrays.

    Args:
        model: runs on the device of its parameters, in float32 also where the caller uses autocast.
    """

    few_sizes = True  # on a CPU every batch size costs memory, see `batches`

    def __init__(self, model: nn.Module):
        self.model = model.eval()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import torch

        device = next(self.model.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            batch = torch.from_numpy(np.ascontiguousarray(images, np.float32))
            outputs = self.model(batch.to(device, memory_format=torch.channels_last))
            return outputs.float().cpu().numpy()

    def fingerprint(self) -> str:
        """SHA-256 of the weights as they are now."""
        digest = hashlib.sha256()
        for value in self.model.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()
