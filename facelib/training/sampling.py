"""Which photos an epoch shows, in which order, and how they are augmented: functions of seed and epoch, so that a run
sees the same images after a resume, and with any number of workers or processes."""

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler


class EpochDataset(Dataset):
    """A dataset whose index counts repetitions too: `index % len(self)` is the item, `index // len(self)` how often it
    was shown before in this epoch. (The method is not called set_epoch, because Accelerate would call it with a count
    of its own, which starts again at 0 after a resume.)"""

    epoch = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def start_epoch(self, epoch: int) -> None:
        """Call before an epoch begins, with a number that no other epoch, of this seed or another, has."""
        self.epoch = epoch

    def augmentation_seed(self, index: int) -> int:
        """The seed of one image's augmentation in this epoch."""
        return int(np.random.SeedSequence([self.epoch, index]).generate_state(1)[0] >> 1)


class EpochSampler(Sampler[int]):
    """The indices of one epoch, see `EpochDataset`.

    Args:
        items: length of the dataset.
        weights: (items,) relative frequency of each item; None: all equally often.
        length: indices in an epoch; None: as many as there are items.
        labels: (items,) people; `samples_per_class` photos of a person follow each other.
    """

    def __init__(
        self,
        items: int,
        weights: np.ndarray | None = None,
        length: int | None = None,
        labels: np.ndarray | None = None,
        samples_per_class: int = 1,
    ):
        self.items, self.weights, self.length = items, weights, length or items
        self.labels, self.samples_per_class, self.epoch = labels, samples_per_class, 0

    def start_epoch(self, epoch: int) -> None:
        """As `EpochDataset.start_epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        if self.weights is None:
            passes = -(-self.length // self.items)  # more than one where an epoch is longer than the dataset
            order = torch.cat([torch.randperm(self.items, generator=generator) for _ in range(passes)]).numpy()
        else:
            weights = torch.from_numpy(self.weights).double()
            order = torch.multinomial(weights, self.length, replacement=True, generator=generator).numpy()
        if self.samples_per_class > 1:
            order = self._grouped_by_class(order, generator)
        order = order[: self.length]
        return iter((order + self.items * rank_among_equals(order)).tolist())

    def _grouped_by_class(self, order: np.ndarray, generator: torch.Generator) -> np.ndarray:
        order = order[np.argsort(self.labels[order], kind="stable")]
        starts = np.flatnonzero(rank_among_equals(self.labels[order]) % self.samples_per_class == 0)
        groups = np.split(order, starts[1:])
        return np.concatenate([groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()])


def rank_among_equals(values: np.ndarray) -> np.ndarray:
    """(n,): how many equal values came before each, e.g. [5, 7, 5, 5] -> [0, 0, 1, 2]."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    ranks = np.empty(len(values), int)
    ranks[order] = np.arange(len(values)) - np.repeat(first, counts)
    return ranks
