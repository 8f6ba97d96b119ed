"""The embedder's trainer: a config in, weights out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import torch

from facelib.datasets.aligned_faces import align_photos
from facelib.datasets.sources import load_orl
from facelib.datasets.training_crops import TrainingCrops
from facelib.embedding.embedder import NetworkEmbedder, TrainedNetwork, load_embedder
from facelib.embedding.losses import LOSSES, MARGIN_LOSSES, ArcFace, hyperparameters, make_loss, margin_schedule
from facelib.embedding.network import EmbeddingNetwork
from facelib.io.records import read_table
from facelib.metrics import identification_rate, top_k_accuracy
from facelib.runtime.manifest import read_manifest
from facelib.runtime.weights import load_weights
from facelib.settings import MODELS
from facelib.training import embedder, embedder_model, embedder_task
from facelib.training.configuration import RECIPES, load_config, make_config
from facelib.training.embedder_model import loss_options
from facelib.training.embedder_task import EmbeddingClassifier, Objective, embedding_task, label_embeddings
from facelib.training.face_batches import FaceAugmentation, FaceBatches
from facelib.training.loop import RunConfig, fit
from facelib.training.run import run, train


def small_config(folder, *overrides):
    """The configuration for one's own people, reduced to two passes over small images."""
    base = tomllib.loads((RECIPES / "own_people.toml").read_text())
    values = {"people_folder": str(folder), "stages": [[32, 1], [40, 1]], "batch_size": 4, "margin": 0.2}
    return make_config(base | values | {"learning_rate": 1e-3, "embedding_size": 64}, overrides)


@pytest.mark.filterwarnings("ignore:.*single photo")
def test_a_folder_of_people_becomes_weights(own_folder, tmp_path, capsys):
    """Photos by person in, weights out, the broken photo named, and it can be loaded."""
    config = small_config(own_folder)
    with pytest.warns(UserWarning, match=r"(?s)1 of 6 photos skipped.*s3/1\.png"):
        run(config, tmp_path / "my.pt", device="cpu", progress=False)
    said = capsys.readouterr().out
    assert "The margin rises to 0.2" in said
    assert "No photo is held out" in said
    assert "the cached faces of" in said and "are removed" in said
    assert not list((tmp_path / "data/cache").iterdir())  # no picture of anybody stays
    entry = read_manifest(tmp_path)["my.pt"]
    assert load_config(tmp_path / entry["configuration"]) == config
    assert "5 photos of 3 people of mine" in (tmp_path / "my_training.json").read_text()
    history = read_table(tmp_path / "my_history.csv")
    assert [row["input_size"] for row in history] == [32, 40]
    assert [row["margin"] for row in history] == [0.2, 0.2]
    assert entry["preprocessing"]["input_size"] == 40
    vectors = load_embedder(tmp_path / "my.pt", device="cpu").embed(np.zeros((2, 112, 112, 3), np.uint8))
    assert vectors.shape == (2, 64)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_cached_faces_stay_for_another_training_where_asked(own_folder, tmp_path, capsys):
    run(small_config(own_folder), tmp_path / "my.pt", keep_cache=True, device="cpu", progress=False)
    assert len(list((tmp_path / "data/cache").glob("own_mine_*"))) == 3
    assert f"`facelib forget {own_folder}` removes them" in capsys.readouterr().out
    run(small_config(own_folder), tmp_path / "my.pt", stop_after=1, device="cpu", progress=False)
    assert list((tmp_path / "data/cache").iterdir())  # unfinished: the same command resumes


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_going_on_from_weights(own_folder, tmp_path, monkeypatch):
    """They are named by their hash, the margin is full at once, and class vectors start at the people's centres."""
    run(small_config(own_folder), tmp_path / "my.pt", device="cpu", progress=False)
    margins, started = [], []
    monkeypatch.setattr(
        embedder_task, "margin_schedule", lambda *a, **k: margins.append(margin_schedule(*a, **k)) or margins[-1]
    )
    monkeypatch.setattr(ArcFace, "init_class_centres", lambda self, centres: started.append(centres.shape))
    second = small_config(own_folder, f"initial_weights={tmp_path / 'my.pt'}", "initial_margin=0.2")
    run(second, tmp_path / "second.pt", device="cpu", progress=False)
    assert set(margins) == {0.2}
    assert started == [(3, 64)]
    saved = load_config(tmp_path / "second.toml")
    assert saved.initial_weights == read_manifest(tmp_path)["my.pt"]["sha256"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_share_of_the_start_stays(own_folder, tmp_path):
    """What comes out lies on the line between start and end, and the last figures are of it."""
    run(small_config(own_folder), tmp_path / "my.pt", device="cpu", progress=False)
    start = load_embedder(tmp_path / "my.pt", device="cpu", runtime="torch").networks[0].model.state_dict()
    states = {}
    for share in (0.0, 0.75):
        config = small_config(own_folder, f"initial_weights={tmp_path / 'my.pt'}", f"weight_average_alpha={share}")
        training = train(config, tmp_path / "my.pt", device="cpu", progress=False)[1]
        states[share] = training.network.state_dict()
        assert training.history[-1]["input_size"] == 40
    for name, value in states[0.75].items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * states[0.0][name] + 0.75 * start[name], atol=2e-3, rtol=1e-3)
    assert any(not torch.equal(states[0.0][name], value) for name, value in states[0.75].items())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_second_head_learns_from_a_teacher(own_folder, tmp_path, monkeypatch):
    """It begins at the best reading of what is there, comes nearer to the teacher, and the weights say who it was."""
    run(small_config(own_folder), tmp_path / "my.pt", device="cpu", progress=False)
    teacher_embeddings = torch.nn.functional.normalize(
        torch.randn(5, 128, generator=torch.Generator().manual_seed(0)) + 0.1
    )
    monkeypatch.setattr(embedder, "teacher_embeddings", lambda faces, cache, key: teacher_embeddings)
    told = [
        "teacher=dlib",
        "optimizer=adamw",
        "distill_loss_weight=30",
        "distill_head_scale=6",
        "distill_centering=0.4",
        "initial_margin=0.2",
    ]
    config = small_config(own_folder, f"initial_weights={tmp_path / 'my.pt'}", *told, "learning_rate=1e-9")
    started = train(config, tmp_path / "my.pt", device="cpu", progress=False)[1]
    distilled = small_config(
        own_folder, f"initial_weights={tmp_path / 'my.pt'}", *told, "stages=[[40, 60]]", "augmentation_strength=0.0"
    )
    run(distilled, tmp_path / "distilled.pt", device="cpu", progress=False)
    entry = read_manifest(tmp_path)["distilled.pt"]
    assert entry["learned_from"] == "labels and dlib"
    network = load_embedder(tmp_path / "distilled.pt", device="cpu", runtime="torch").networks[0].model
    torch.testing.assert_close(network.teacher_mean, teacher_embeddings.mean(0), atol=1e-3, rtol=0)
    shown = started.faces.without_augmentation(np.arange(5), 40)
    images = shown.batch(torch.arange(5))[0]
    blank = EmbeddingNetwork(**entry["arguments"]).eval()
    with torch.inference_mode():
        far = [
            float(
                ((torch.nn.functional.normalize(one.eval().heads(images)[1]) - teacher_embeddings) ** 2).sum(1).mean()
            )
            for one in (blank, started.network, network)
        ]
    assert far[2] < far[1] < far[0]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_checkpoint_of_other_photos_is_refused_and_stays(own_folder, tmp_path):
    config = small_config(own_folder)
    train(config, tmp_path / "my.pt", device="cpu", progress=False, stop_after=1)
    (checkpoint,) = (tmp_path / "data/checkpoints").glob("my_*.pt")
    before = checkpoint.read_bytes()
    (own_folder / "s2/1.png").unlink()
    with pytest.raises(ValueError, match=r"my_\w+\.pt is of another run"):
        train(config, tmp_path / "my.pt", device="cpu", progress=False)
    assert checkpoint.read_bytes() == before
    # Another config has a checkpoint of its own; a run that has ended leaves none behind.
    run(small_config(own_folder, "augmentation_strength=0.1"), tmp_path / "my.pt", device="cpu", progress=False)
    assert list((tmp_path / "data/checkpoints").iterdir()) == [checkpoint]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_recipe_written_by_hand_is_never_overwritten(own_folder, tmp_path):
    """The config beside the weights is ours to write, but not where somebody has put another."""
    config = small_config(own_folder)
    for _ in range(2):
        run(config, tmp_path / "my.pt", device="cpu", progress=False)
    changed = small_config(own_folder, "augmentation_strength=0.1")
    run(changed, tmp_path / "my.pt", device="cpu", progress=False)
    assert load_config(tmp_path / "my.toml") == changed
    mine = (tmp_path / "my.toml").read_text().replace("# Written by", "# By me, not by")
    (tmp_path / "my.toml").write_text(mine)
    with pytest.raises(ValueError, match=r"my\.toml exists and says something else \(augmentation_strength\)"):
        run(config, tmp_path / "my.pt", device="cpu", progress=False)
    assert (tmp_path / "my.toml").read_text() == mine


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_could_not_be_saved_is_refused_before_the_first_step(own_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("facelib.training.run.train", None)  # never reached
    (tmp_path / "file").touch()
    (tmp_path / "web").mkdir()
    (tmp_path / "web/manifest.json").write_text('{"name": "my web app"}')
    shutil.copy(MODELS / "model_arcface.pt", tmp_path / "first.pt")
    for out, initial, error, says in (
        ("file/my.pt", "imagenet", OSError, "file"),
        ("web/my.pt", "imagenet", ValueError, "or use another folder"),
        ("first.pt", tmp_path / "first.pt", ValueError, "first.pt is what the training starts from"),
    ):
        with pytest.raises(error, match=says):
            run(small_config(own_folder, f"initial_weights={initial}"), tmp_path / out, device="cpu")
    shipped = (MODELS / "model_arcface.pt").read_bytes()
    with pytest.raises(ValueError, match="shipped with the repository: --force"):
        run(small_config(own_folder), MODELS / "model_arcface.pt", device="cpu")
    assert (MODELS / "model_arcface.pt").read_bytes() == shipped


@pytest.mark.parametrize("loss", LOSSES)
def test_every_hyperparameter_reaches_its_loss(loss, own_folder):
    values = {"scale": 17.0, "group_loss_weight": 0.3, "triplet_margin": 0.6, "triplet_loss_weight": 2.0}
    changes = [
        f"within_source_weight={value}" if name == "group_loss_weight" else f"{name}={value}"
        for name, value in values.items()
    ]
    if loss not in MARGIN_LOSSES:
        changes = [change for change in changes if "within_source" not in change]
    made = make_loss(loss, 8, 4, **loss_options(small_config(own_folder, f"loss={loss}", *changes)))
    assert hyperparameters(loss) or loss == "cross_entropy"
    for name in hyperparameters(loss):
        assert getattr(made, name) == values[name]  # a new hyperparameter is missing here: give it a value


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_faces_are_aligned_as_the_recipe_says(own_folder, tmp_path):
    _, training = train(small_config(own_folder, "alignment=eyes"), tmp_path / "my.pt", device="cpu", progress=False)
    _, other = train(small_config(own_folder), tmp_path / "my.pt", device="cpu", progress=False)
    by_eyes, by_five = (one.training_set.crops.take(np.arange(5)) for one in (training, other))
    assert (by_eyes != by_five).any()
    assert training.manifest_entry()["preprocessing"]["alignment"] == "eyes"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sources_are_asked_for(own_folder, tmp_path):
    with pytest.raises(ValueError, match=r"faces\.csv has no column source"):
        train(small_config(own_folder, "within_source_weight=1.0"), tmp_path / "my.pt", device="cpu", progress=False)


def test_prepared_sets_are_cleaned_cut_and_measured(prepared, tmp_path):
    """Two sets with their sources, fewer people and photos than there are, and held-out photos of those people."""
    prepared("faces_train", {person: (person, 6) for person in ("s1", "s2", "s3")})
    prepared("faces_more", {person: (person, 6) for person in ("s4", "s5")} | {"fiw_0008_1": ("s11", 3)})
    prepared("faces_unseen", {"s31": ("s31", 4), "s32": ("s32", 4)}, "open_val")
    table = tmp_path / "faces_train/faces.csv"
    table.write_text(table.read_text().replace("s1/5.webp,s1,orl,train", "s1/5.webp,s1,orl,test"))
    base = tomllib.loads((RECIPES / "model_arcface_all_sources.toml").read_text())
    values = {"stages": [[32, 1]], "batch_size": 4, "embedding_size": 32}
    config = make_config(base | values | {"within_source_weight": 0.5, "num_people": 4, "num_photos": 16})
    _, training = train(config, tmp_path / "my.pt", device="cpu", progress=False)
    faces = training.training_set.faces
    assert set(faces.people) <= {"s1", "s2", "s3", "s4", "s5"}  # the family is held out
    rows = training.training_set.rows("train")
    assert sorted(np.unique(faces.people[rows], return_counts=True)[1]) == [4, 4, 4, 4]
    assert training.model.loss.groups.shape == (4,)
    assert training.model.loss.group_loss_weight == 0.5
    assert {"tpr_at_0.1", "triplets", "loss", "waiting"} <= set(training.history[0])
    assert ("top1" in training.history[0]) is False  # no photo is "val"
    test = training.closed_set("test", 32, {"closed_set_top1": 1})
    assert test == {} or 0 <= test["closed_set_top1"] <= 1
    assert bool(test) == ("s1" in faces.people)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_people_without_a_class_sources_by_weight_and_frozen_stages(prepared, tmp_path, monkeypatch):
    """From weights to weights: single photos teach through the teacher alone, and the first stages stay as they were."""
    prepared("faces_train", {person: (person, 4) for person in ("s1", "s2")} | {"s3": ("s3", 1), "s4": ("s4", 1)})
    table = tmp_path / "faces_train/faces.csv"
    text = table.read_text().replace("s3,orl", "s3,other").replace("s1/3.webp,s1,orl,train", "s1/3.webp,s1,orl,val")
    table.write_text(text.replace("s4/0.webp,s4,orl,train", "s4/0.webp,s4,orl,val"))
    base = tomllib.loads((RECIPES / "model_arcface_all_sources.toml").read_text())
    base |= {"train_sets": ["faces_train"], "stages": [[32, 1]], "batch_size": 4, "embedding_size": 32}
    run(make_config(base), tmp_path / "my.pt", device="cpu", progress=False)
    taught, sampled = [], []

    def teach(faces, cache, photos):
        taught.extend(photos)
        return torch.nn.functional.normalize(torch.randn(len(photos), 128, generator=torch.Generator().manual_seed(0)))

    monkeypatch.setattr(embedder, "teacher_embeddings", teach)
    original = embedder.sampling_weights
    monkeypatch.setattr(embedder, "sampling_weights", lambda *a: sampled.append(original(*a)) or sampled[-1])
    told = {"teacher": "dlib", "distill_loss_weight": 30.0, "distill_head_scale": 6.0, "optimizer": "adamw"}
    options = {"frozen_stages": 3, "source_weights": {"other": 2.0}, "min_class_photos": 2}
    values = base | told | options | {"distill_density_exponent": 1.0, "initial_weights": str(tmp_path / "my.pt")}
    _, training = train(make_config(values), tmp_path / "next.pt", device="cpu", progress=False)
    assert training.training_set.names.tolist() == ["s1", "s2"]
    assert "s3/0.webp" in taught  # and s4, who has no photo of the training split, is not there
    assert set(training.training_set.faces.people) == {"s1", "s2", "s3"}
    assert sorted(sampled[0]) == [1.0] * 7 + [2.0]
    assert training.objective.photo_weights.shape == (9,)
    labels = training.training_set.labels[training.training_set.rows("val")]
    assert set(labels.tolist()) == {0} and "top1" in training.history[-1]
    start = load_weights(tmp_path / "my.pt", EmbeddingNetwork, "cpu")[0].backbone.state_dict()
    for name, value in training.network.backbone.state_dict().items():
        if name.startswith(("conv_stem.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.")):
            torch.testing.assert_close(value, start[name], atol=2e-3, rtol=1e-3)  # files hold half precision
    training.training_set.faces.splits[training.training_set.labels < 0] = "val"
    assert training.closed_set("val", 32, {"top1": 2}) == {"top1": 1.0}  # people without a class are not asked for


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system does not kill")
def test_killed_in_the_middle_of_an_epoch_it_goes_on_from_the_last(own_folder, tmp_path):
    """kill -9 while an epoch is under way: the epochs before are kept, and the run ends as one that nothing hit."""
    config = RECIPES / "own_people.toml"
    sets = {"people_folder": own_folder, "embedding_size": 32, "learning_rate": 1e-3, "batch_size": 4, "seed": 1}
    long = ["stages=[[32, 6]]", *(f"{key}={value}" for key, value in sets.items())]

    def command(out):
        options = [part for one in long for part in ("--set", one)]
        return [sys.executable, "-m", "facelib.training", str(config), "--device", "cpu", "--out", str(out), *options]

    checkpoints = tmp_path / "data/checkpoints"
    with subprocess.Popen(command(tmp_path / "killed.pt"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        deadline = time.monotonic() + 120
        while not list(checkpoints.glob("killed_*.pt")) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(job.pid, signal.SIGKILL)
    (checkpoint,) = checkpoints.glob("killed_*.pt")
    done = len(torch.load(checkpoint, weights_only=True)["history"])
    assert 1 <= done < 6
    for out in ("killed.pt", "whole.pt"):
        finished = subprocess.run(command(tmp_path / out), capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
    ends = [torch.load(tmp_path / out, weights_only=True) for out in ("killed.pt", "whole.pt")]
    assert all(torch.equal(a, b) for a, b in zip(*(end.values() for end in ends)))
    losses = [[row["loss"] for row in read_table(tmp_path / f"{name}_history.csv")] for name in ("killed", "whole")]
    assert losses[0] == losses[1]
    assert json.loads((tmp_path / "killed_training.json").read_text())["measured"]["command"].startswith("python -m")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_processes_train_as_one(own_folder, tmp_path):
    """The README's command with two processes: one set of files, and a loss for every epoch. (That gradients are
    averaged, test_loop shows; here batch norm sees two photos at a time, and learns something else.)"""
    sets = {
        "people_folder": own_folder,
        "embedding_size": 32,
        "learning_rate": 1e-3,
        "batch_size": 4,
        "stages": "[[32, 2]]",
    }
    sets |= {"augmentation_strength": 0.0, "margin": 0.0, "dropout": 0.0}
    arguments = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    losses = []
    for count, name in ((1, "one"), (2, "two")):
        command = [*launch, f"--nproc-per-node={count}", "-m", "facelib.training"]
        command += [
            str(RECIPES / "own_people.toml"),
            "--device",
            "cpu",
            *arguments,
            "--out",
            f"{tmp_path / name}.pt",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("use it with load_embedder(") == 1
        assert ("2 processes shared every batch" in done.stdout) == (count == 2)
        losses.append([row["loss"] for row in read_table(tmp_path / f"{name}_history.csv")])
    assert len(losses[0]) == 2
    assert np.isfinite(losses).all()
    triplets = small_config(own_folder, "loss=triplet")
    with pytest.raises(ValueError, match="loss: triplet compares the photos of a whole batch"):
        embedder_model.check_network(triplets, None, processes=2)


def test_errors_name_what_is_wrong_and_what_to_do(tmp_path, monkeypatch, capsys):
    from facelib.training.__main__ import main

    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    for options, says in (
        (["nowhere.toml"], "nowhere.toml: no such configuration"),
        (["--set", "stages=[[64]]"], "stages.0.1: expected pairs of input size and epochs"),
        (["--set", f"people_folder={tmp_path / 'gone'}"], "gone: no such folder"),
        (["--set", "margn=0.3"], "margn=0.3: no such key"),
        (["--out", str(tmp_path)], "is a folder"),
        (["--set", "pooling=banana", "--set", f"people_folder={tmp_path}"], "pooling='banana'"),
        (["--set", "backbone=nope", "--set", f"people_folder={tmp_path}"], "backbone 'nope'"),
        (
            ["--set", "initial_weights=4c85", "--set", f"people_folder={tmp_path}"],
            "initial_weights: 4c85: no such file",
        ),
        (["--set", "exclude_sources=['x']", "--set", f"people_folder={tmp_path}"], "holds no photo"),
    ):
        config = [] if options[0].endswith("toml") else [str(RECIPES / "own_people.toml")]
        monkeypatch.setattr("sys.argv", ["training", *config, *options])
        assert main() == 1
        assert says in capsys.readouterr().err


def test_arcface_learns_orl_and_tells_unseen_people_apart(pipeline):
    """Twelve people, a minute on two cores: held-out photos above 0.7, unseen people far above chance."""
    faces = load_orl()
    few = [f"s{i}" for i in range(1, 13)]
    known = faces.select(np.isin(faces.people, few))
    unseen = faces.select(faces.splits == "unseen")
    aligned, known = align_photos(known, pipeline.landmarker, progress=False)
    unseen_faces, unseen = align_photos(unseen, pipeline.landmarker, progress=False)
    _, labels = np.unique(known.people, return_inverse=True)
    train, test = known.splits == "train", known.splits == "test"
    torch.manual_seed(0)
    model = EmbeddingClassifier(EmbeddingNetwork(embedding_size=64, pretrained=True), ArcFace(64, 12, scale=16))
    faces = FaceBatches(TrainingCrops.from_aligned(aligned), labels, np.flatnonzero(train), 64, FaceAugmentation(0.7))
    run = RunConfig(epochs=45, batch_size=16, optimizer="sgd", weight_decay=5e-4, learning_rate=0.01, progress=False)
    history = fit(embedding_task(model, faces, Objective(margin=0.3)), run)
    # The loss rises while the margin does, and falls once the margin stays.
    assert history[-1]["loss"] < history[0]["loss"] / 2
    shown = faces.without_augmentation(np.flatnonzero(test), 64)
    with torch.inference_mode():
        accuracy = top_k_accuracy(model.loss.logits(label_embeddings(model.network, shown)).numpy(), labels[test])
    assert accuracy > 0.7
    rate = identification_rate(
        NetworkEmbedder(TrainedNetwork(model.network, 64)).embed(unseen_faces), unseen.people, fprs=[0.1]
    )[0]["tpr"]
    assert rate > 0.4
