"""How long a call takes: medians and rates, shared by `speed` and the benchmarks."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

SECONDS = 3.0  # per measurement


def rate(work: Callable[[], object], device: str, seconds: float | None = None) -> float:
    """Calls per second: the best of three rounds of a third of `seconds` (default: `SECONDS`), after a warm-up."""
    seconds = SECONDS if seconds is None else seconds
    rates = []
    for _ in range(4):
        count = 0
        start = time.perf_counter()
        while count == 0 or time.perf_counter() - start < seconds / 3:
            work()
            count += 1
        if device == "cuda":
            import torch

            torch.cuda.synchronize()
        rates.append(count / (time.perf_counter() - start))
    return max(rates[1:])


def milliseconds(calls: Iterable[Callable[[], object]]) -> float:
    """Median time of the calls in milliseconds."""
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def repeated(work: Callable[[], object], seconds: float | None = None) -> Iterator[Callable[[], object]]:
    """`work` as often as `seconds` (default: `SECONDS`) allow, at least once; two calls warm up first."""
    work()
    work()
    end = time.perf_counter() + (SECONDS if seconds is None else seconds)
    yield work
    while time.perf_counter() < end:
        yield work
