import json
import time

import pytest

from facelib.evaluation import speed


def test_a_rate_is_that_of_the_work():
    """A piece of work that sleeps for a known time."""
    calls = []

    def work():
        calls.append(time.sleep(0.02))

    measured = speed.rate(work, "cpu", seconds=0.3)
    assert 25 < measured <= 50
    assert len(calls) >= 4 * 3


@pytest.mark.parametrize("benchmark", [speed.benchmark_landmarks, speed.benchmark_embedder])
def test_a_batch_and_a_single_face_agree(benchmark, monkeypatch):
    """Each face of a batch takes less time than a face alone, and not a tenth of it."""
    monkeypatch.setattr(speed, "SECONDS", 0.6)
    figures = benchmark("cpu", batch_size=8)
    for times in figures["milliseconds_a_face"].values():
        assert times["1"] / 10 < times["8"] < 1.5 * times["1"]
    for network in figures.get("networks", [figures]):
        assert 1e5 < network["parameters"] < 1e7
        assert 0.01 < network["gflops"] < 10
    json.dumps(figures)
