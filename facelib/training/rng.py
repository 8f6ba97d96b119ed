"""Random numbers that are a function of a sample's seed alone, whatever batch, worker or process it is in."""

import numpy as np
import torch
from torch import Tensor


def splitmix64(values: np.ndarray) -> np.ndarray:
    """uint64 -> uint64, well mixed: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class PerSampleRNG:
    """Independent random numbers for each of b samples, on a device. Each call returns new ones.

    Args:
        epoch: any whole number; indices: (b,) of the samples. Both together are the seeds.
    """

    STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that all multiples differ

    def __init__(self, epoch: int, indices: Tensor, device: torch.device | str = "cpu"):
        with np.errstate(over="ignore"):
            start = splitmix64(np.array([epoch], np.uint64) * self.STEP)
            self.seeds = splitmix64(start ^ (indices.cpu().numpy().astype(np.uint64) * self.STEP))
        self.device, self.drawn = device, 0

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(b, *shape) float32 in [low, high)."""
        count = int(np.prod(shape, dtype=int))
        with np.errstate(over="ignore"):
            steps = (np.arange(count, dtype=np.uint64) + np.uint64(self.drawn + 1)) * self.STEP
            bits = splitmix64(self.seeds[:, None] + steps)
        self.drawn += count
        values = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return torch.from_numpy(low + (high - low) * values).to(self.device).reshape(-1, *shape)

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        """(b, *shape) float32 with mean 0 (Box and Muller 1958)."""
        radius = torch.sqrt(-2 * torch.log1p(-self.uniform(*shape)))
        return std * radius * torch.cos(2 * torch.pi * self.uniform(*shape))

    def bernoulli(self, probability: float, *shape: int) -> Tensor:
        """(b, *shape) bool, true with the given probability."""
        return self.uniform(*shape) < probability
