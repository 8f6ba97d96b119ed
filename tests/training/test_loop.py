"""The loop that trains all networks."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from facelib.datasets.training_crops import TrainingCrops
from facelib.embedding.losses import ArcFace
from facelib.embedding.network import EmbeddingNetwork
from facelib.training.embedder_task import EmbeddingClassifier, embedding_task
from facelib.training.face_batches import FaceAugmentation, FaceBatches
from facelib.training.loop import RunConfig, Task, fit
from facelib.training.sampling import EpochDataset


def small_model(classes=4):
    torch.manual_seed(0)
    return EmbeddingClassifier(EmbeddingNetwork(embedding_size=16), ArcFace(16, classes))


def small_run(**options):
    return RunConfig(
        **{"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "device": "cpu", "progress": False} | options
    )


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(0)
    return TrainingCrops.from_aligned(rng.integers(0, 255, (16, 112, 112, 3), dtype=np.uint8)), np.arange(16) % 4


def noisy(noise):
    return FaceBatches(*noise, size=32, augment=FaceAugmentation())


@pytest.mark.parametrize(("precision", "ema"), [("no", True), ("bf16", False)])
def test_resume_continues_exactly(noise, tmp_path, precision, ema):
    """Two epochs of two steps at once equal one and one."""
    whole, parts = small_model(), small_model()
    dataset = noisy(noise)
    history = fit(embedding_task(whole, dataset), small_run(epochs=2, precision=precision, ema=ema))
    resumable = {"epochs": 2, "precision": precision, "ema": ema, "checkpoint": tmp_path / "run.pt"}
    assert len(fit(embedding_task(parts, dataset), small_run(stop_after=1, **resumable))) == 1
    torch.manual_seed(99)  # a new process starts anywhere
    parts = small_model()
    second = fit(embedding_task(parts, dataset), small_run(**resumable))
    for row in (*second, *history):
        del row["images_per_s"], row["waiting"], row["minutes"]  # times differ
    assert second == history
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_precision_is_that_of_the_training_alone(noise):
    """bfloat16 reaches the network while it trains, and the model that comes back computes in float32 again."""
    model, kinds = small_model(), []
    model.network.backbone.register_forward_hook(lambda _, inputs, output: kinds.append(output.dtype))
    for precision in ("bf16", "no"):
        fit(embedding_task(model, noisy(noise)), small_run(precision=precision))
    model(torch.zeros(2, 3, 32, 32))
    assert kinds == [torch.bfloat16] * 2 + [torch.float32] * 3


def test_what_is_prepared_knows_how_far_the_run_is():
    """Batches are made from what the loader gives and the share of the run that is done."""
    shares = []

    def prepare(given, progress):
        shares.append(progress)
        return [given[0] * 2]

    task = Task(model=torch.nn.Linear(1, 1), dataset=Numbers(), loss=lambda out, *_: out.mean(), prepare=prepare)
    fit(task, small_run(epochs=2, batch_size=4))
    assert shares == [0, 0.25, 0.5, 0.75]


def test_a_run_by_the_clock(tmp_path):
    """It ends when its minutes are over, in the middle of an epoch too, and what it took before a stop counts."""

    def loss_of(outputs, batch, progress):
        time.sleep(0.05)
        rates.append(progress)
        return outputs.mean()

    rates, model = [], torch.nn.Linear(1, 1)
    clock = {"epochs": None, "minutes": 0.02, "batch_size": 1, "checkpoint": tmp_path / "run.pt"}
    history = fit(Task(model=model, dataset=Numbers(), loss=loss_of), small_run(**clock, stop_after=1))
    assert len(history) == 1
    assert 0.3 < rates[-1] < 0.6
    start = time.monotonic()
    history = fit(Task(model=model, dataset=Numbers(), loss=loss_of), small_run(**clock))
    assert 0.4 < time.monotonic() - start < 1.2
    assert len(history) == 3
    assert rates == sorted(rates)
    assert rates[-1] > 0.9
    assert history[-1]["minutes"] >= 0.02
    with pytest.raises(ValueError, match="for epochs or for minutes: give one"):
        small_run(minutes=3)


def test_the_average_smooths_and_is_what_comes_out():
    """Weights that jump from 0 to 1 and back end near the middle; what is validated is what comes out."""
    model, seen = torch.nn.Linear(1, 1, bias=False), []

    class Jumping(torch.optim.SGD):
        def step(self, closure=None):
            with torch.no_grad():
                model.weight.copy_(1 - model.weight.round())

    model.weight.data.zero_()
    task = Task(
        model=model,
        dataset=Numbers(),
        loss=lambda out, *_: out.mean(),
        validate=lambda _: {"weight": model.weight.item()},
    )
    original, torch.optim.SGD = torch.optim.SGD, Jumping
    try:
        run = small_run(epochs=20, batch_size=2, ema=True, optimizer="sgd")
        seen = [row["weight"] for row in fit(task, run)]
    finally:
        torch.optim.SGD = original
    assert 0.3 < seen[-1] < 0.7
    assert model.weight.item() == seen[-1]


def test_checkpoint_of_another_run_is_refused(noise, tmp_path):
    dataset, run = noisy(noise), {"checkpoint": tmp_path / "run.pt"}
    fit(embedding_task(small_model(), dataset), small_run(**run))
    for other in ({"epochs": 3}, {"description": "other photos"}, {"learning_rate": 0.5}):
        with pytest.raises(ValueError, match=r"run\.pt is of another run"):
            fit(embedding_task(small_model(), dataset), small_run(**run | other))
    larger = EmbeddingClassifier(EmbeddingNetwork(embedding_size=16), ArcFace(16, 9))
    with pytest.raises(ValueError, match=r"run\.pt is of another"):
        fit(embedding_task(larger, dataset), small_run(**run))


@pytest.mark.parametrize("content", [b"short", None])
def test_a_checkpoint_that_is_none(noise, tmp_path, content):
    """A file that was cut, and one that holds something else, are named; they are not removed."""
    path = tmp_path / "run.pt"
    path.write_bytes(content) if content else torch.save({"weight": torch.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"run\.pt is no checkpoint"):
        fit(embedding_task(small_model(), noisy(noise)), small_run(checkpoint=path))
    assert path.read_bytes() == before


def test_stopping_before_the_first_epoch(noise):
    assert fit(embedding_task(small_model(), noisy(noise)), small_run(stop_after=0)) == []


class Numbers(EpochDataset):
    """Eight items, each a one; `slow` seconds to prepare each."""

    def __init__(self, slow=0.0):
        self.slow = slow

    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(self.slow)
        return (torch.ones(1),)


def test_nan_stops_with_step_and_rate_and_keeps_the_checkpoint(tmp_path):
    model = torch.nn.Linear(1, 1)

    def loss_of(outputs, batch, progress):
        return outputs.mean() * (float("nan") if progress > 0.7 else 1.0)

    run = small_run(epochs=2, batch_size=4, learning_rate=0.1, checkpoint=tmp_path / "run.pt")
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 2, at learning rate 0\.022"):
        fit(Task(model=model, dataset=Numbers(), loss=loss_of), run)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert len(saved["history"]) == 1
    assert torch.isfinite(saved["model"]["weight"]).all()


def test_too_few_photos_for_a_batch(noise):
    with pytest.raises(ValueError, match="16 items are fewer than one batch of 64"):
        fit(embedding_task(small_model(), noisy(noise)), small_run(batch_size=64))


def test_class_vectors_learn(noise):
    """The mistake that breaks many ArcFace trainings: class vectors that no optimizer holds."""
    model = small_model()
    held = [p for group in model.parameter_groups() for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    before = model.loss.class_embeddings().clone()
    fit(embedding_task(model, noisy(noise)), small_run(optimizer="sgd", learning_rate=0.05))
    assert (model.loss.class_embeddings() - before).norm(dim=1).min() > 1e-3


def test_the_waiting_share_is_that_of_slow_photos():
    """A loader that takes nearly all of the time, and one that takes hardly any."""
    model, shares = torch.nn.Linear(1, 1), []
    for slow, work in ((0.02, 0.0), (0.0, 0.04)):

        def loss_of(outputs, batch, progress, work=work):
            time.sleep(work)
            return outputs.mean()

        shares.append(
            fit(Task(model=model, dataset=Numbers(slow), loss=loss_of), small_run(batch_size=4))[0]["waiting"]
        )
    assert shares[0] > 0.8
    assert shares[1] < 0.2


TWO_PROCESSES = """
import sys, torch
torch.set_num_threads(1)
from facelib.training.loop import RunConfig, Task, end_processes, fit
from facelib.training.sampling import EpochDataset
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
inputs = torch.randn(64, 6)

class Rows(EpochDataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return inputs[index], index % 3

def loss_of(outputs, batch, progress):
    return torch.nn.functional.cross_entropy(outputs, batch[1])

run = RunConfig(epochs=4, batch_size=16, learning_rate=0.05, progress=False, device="cpu", checkpoint=sys.argv[1])
if len(sys.argv) > 2:
    run = RunConfig(epochs=4, batch_size=15, learning_rate=0.05, progress=False, device="cpu")
fit(Task(model=model, dataset=Rows(), loss=loss_of), run)
end_processes()
"""


def launch(processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def test_two_processes_give_the_curve_of_one(tmp_path):
    (tmp_path / "job.py").write_text(TWO_PROCESSES)
    curves = []
    for count in (1, 2):
        done = launch(count, tmp_path / "job.py", tmp_path / f"{count}.pt")
        assert done.returncode == 0, done.stderr
        curves.append([row["loss"] for row in torch.load(tmp_path / f"{count}.pt", weights_only=True)["history"]])
    assert curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(*curves, rtol=1e-4)
    done = launch(2, tmp_path / "job.py", "-", "15 a batch")
    assert "a batch of 15 cannot be divided equally among 2 processes" in done.stderr
