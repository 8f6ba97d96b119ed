import json
import time

import pytest

from facelib.evaluation import speed, timing


def test_rate_of_calls_of_known_duration():
    calls = []

    def work():
        calls.append(time.sleep(0.02))

    measured = timing.rate(work, "cpu", seconds=0.3)
    assert 25 < measured <= 50
    assert len(calls) >= 4 * 3


@pytest.mark.parametrize("benchmark", [speed.benchmark_landmarks, speed.benchmark_embedder])
def test_time_per_face_of_a_batch_and_of_one_face(benchmark, monkeypatch):
    """A face of a batch takes a tenth to four times the time of a face alone: other work may disturb one of them."""
    monkeypatch.setattr(timing, "SECONDS", 0.6)
    figures = benchmark("cpu", batch_size=8)
    for times in figures["milliseconds_per_face"].values():
        assert times["1"] / 10 < times["8"] < 4 * times["1"]
    for network in figures.get("networks", [figures]):
        assert 1e5 < network["parameters"] < 1e7
        assert 0.01 < network["gflops"] < 10
    json.dumps(figures)


def test_the_median_time_of_repeated_calls():
    calls = []

    def work():
        calls.append(time.sleep(0.01))

    assert 10 <= timing.milliseconds(timing.repeated(work, seconds=0.2)) < 40
    assert len(calls) > 2 + 4
    assert len(list(timing.repeated(work, seconds=0))) == 1
