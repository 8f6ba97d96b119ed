"""Rules for running any network: never in a forked process, and in batches."""

import os
from collections.abc import Iterator

from facelib.types import ForkError

_networks_pid: int | None = None  # id of the process that loaded or ran networks


def forbid_fork() -> None:
    """Call before a network is loaded or run: a forked process lacks the threads of its parent and would hang.

    Raises:
        ForkError: this process was forked from one that had loaded networks.
    """
    global _networks_pid
    if _networks_pid not in (None, os.getpid()):
        raise ForkError(
            "this process was forked from one that had loaded networks and lacks their threads: it would hang. Start "
            'workers with multiprocessing.get_context("spawn"), or fork before any network is loaded'
        )
    _networks_pid = os.getpid()


def batches(count: int, size: int, few_sizes: bool = True) -> Iterator[slice]:
    """Slices over `count` items, at most `size` items each.

    Args:
        few_sizes: split the remainder into powers of two, so that 45 items by 32 become 32, 8, 4 and 1. On a CPU,
            PyTorch caches kernels for every batch size: over photos with any number of faces these caches took
            1.4 GB, with few sizes a tenth of it. False: the remainder is one batch.
    """
    start = 0
    while start < count:
        rest = count - start
        step = min(size, 1 << (rest.bit_length() - 1) if few_sizes else rest)
        yield slice(start, start + step)
        start += step
