"""The hourglass's trainer: a configuration in, weights out, whatever interrupts it."""

import json
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

from facelib import load_landmarker
from facelib.datasets.sources import load_landmark_list
from facelib.io.records import read_table
from facelib.runtime.manifest import read_manifest
from facelib.training.configuration import RECIPES, load_config, make_config
from facelib.training.landmark_data import training_faces
from facelib.training.run import run, train

POINTS = [f"{n}_{c}" for n in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for c in "xy"]


@pytest.fixture
def labelled(pipeline, photo, tmp_path, monkeypatch):
    """Six labelled faces, two of them for validation, and six crops with a detector's points."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    faces = pipeline(photo)
    for folder in ("landmarks", "some"):
        (tmp_path / folder).mkdir()
        Image.fromarray(photo).save(tmp_path / folder / "photo.png")
    rows = [
        [
            f"photo.png,{'celeba' if i % 2 else 'helen'},{'val' if i > 3 else 'train'},q{i}",
            *face.box,
            *face.landmarks.ravel(),
        ]
        for i, face in enumerate(faces)
    ]
    head = "file,dataset,split,person_or_photo,box_x1,box_y1,box_x2,box_y2," + ",".join(POINTS)
    table = "\n".join([head, *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "landmarks/landmarks.csv").write_text(table)
    crops = [f"photo.png,q{i},train," + ",".join(map(str, faces[i].landmarks.ravel())) for i in range(6)]
    (tmp_path / "some/faces.csv").write_text("\n".join(["file,person,split," + ",".join(POINTS), *crops]))
    return faces


def small_config(*overrides):
    """The shipped configuration, reduced to two short stages of a tiny network."""
    stage = {"epochs": 1, "learning_rate": 1e-3, "pseudo_label_fraction": 0.5}
    second = stage | {"input_size": 64, "seed": 1, "refresh_pseudo_labels": True, "unify_labels": True}
    values = {"stages": [stage | {"input_size": 32}, second], "pseudo_label_sets": ["some"], "loss": "distribution"}
    values |= {"stacks": 1, "channels": 16, "epoch_size": 8, "batch_size": 4}
    values |= {"train_sets": ["landmarks"], "label_offsets": {}, "precision": "no"}
    base = tomllib.loads((RECIPES / "hourglass_keypoints.toml").read_text())
    return make_config(base | values, overrides)


def test_a_configuration_becomes_weights(labelled, photo, tmp_path, capsys):
    """Two stages with pseudo-labels, labels moved and predicted again; then once more from the checkpoints."""
    config, out = small_config(), tmp_path / "models/out.pt"
    _, training = train(config, out, device="cpu", progress=False)
    run(config, out, device="cpu", progress=False)  # both stages are done: nothing is trained again, only saved
    folder = tmp_path / "models"
    entry = read_manifest(folder)["out.pt"]
    assert entry["preprocessing"]["input_size"] == 64
    assert load_config(folder / entry["configuration"]) == config  # everything that was set, and loadable
    assert [row["loss"] for row in read_table(folder / "out_history.csv")] == [
        pytest.approx(row["loss"], rel=1e-3) for row in training.history
    ]
    assert [row["epoch"] for row in read_table(folder / "out_history.csv")] == [1, 1]
    record = json.loads((folder / "out_training.json").read_text())
    assert "pseudo-labelled faces of some" in record["measured"]["data"]
    assert record["measured"]["weights"] == {"out.pt": entry["sha256"][:8]}
    assert list(record["label_offsets"]) == ["helen"]
    assert list((tmp_path / "checkpoints").iterdir()) == []  # the next time it starts from the beginning
    found = load_landmarker(folder / "out.pt", "cpu").predict([photo], [labelled[0].box[None]])
    assert found[0].shape == (1, 5, 2)
    assert "use it with load_landmarker(" in capsys.readouterr().out


def test_validation_faces_are_asked_for_before_the_first_epoch(labelled, tmp_path):
    table = tmp_path / "landmarks/landmarks.csv"
    table.write_text(table.read_text().replace(",val,", ",test,"))
    with pytest.raises(ValueError, match="no validation faces"):
        run(small_config(), tmp_path / "models/out.pt", device="cpu", progress=False)


def test_fine_tuning_of_weights_named_by_their_hash(labelled, tmp_path):
    run(small_config(), tmp_path / "models/out.pt", device="cpu", progress=False)
    initial = "initial_weights=" + read_manifest(tmp_path / "models")["out.pt"]["sha256"]
    stages = "stages=[{input_size=64, epochs=1, learning_rate=1e-3, unify_labels=true}]"
    more = tmp_path / "models/more.pt"
    run(small_config(initial, stages), more, device="cpu", progress=False)
    manifest = read_manifest(tmp_path / "models")
    assert manifest["more.pt"]["arguments"] == manifest["out.pt"]["arguments"]
    with pytest.raises(
        ValueError, match="stacks: the initial weights have 1, the configuration says 3; --set stacks=1"
    ):
        train(small_config(initial, "stacks=3"), more, device="cpu", progress=False)
    with pytest.raises(ValueError, match="were not trained with the loss mse"):
        train(small_config(initial, "loss=mse"), more, device="cpu", progress=False)
    with pytest.raises(FileNotFoundError, match=r"initial weights 4c8523c549.* not here.*Not all"):
        train(small_config("initial_weights=4c8523c549" + 54 * "0"), more, device="cpu", progress=False)


def test_stopped_anywhere_it_ends_as_if_it_had_not(labelled, tmp_path):
    """A stage that was cut off, also one whose labels the network computes again, continues with its labels and seeds."""
    models = []
    for name, stops in (("whole", [None]), ("parts", [1, 2, 3, None])):
        long, out = small_config("stages.0.epochs=2", "stages.1.epochs=2"), tmp_path / f"{name}.pt"
        for stop in stops:
            _, training = train(long, out, device="cpu", progress=False, stop_after=stop)
            assert len(training.history) == (stop or 4)
        models.append(training.model.state_dict())
    for a, b in zip(models[0].values(), models[1].values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_checkpoint_of_other_labels_is_refused(labelled, tmp_path):
    train(small_config(), tmp_path / "out.pt", device="cpu", progress=False, stop_after=1)
    table = tmp_path / "landmarks/landmarks.csv"
    table.write_text(table.read_text().replace("train,q0", "val,q0"))
    with pytest.raises(ValueError, match="is of another run"):
        train(small_config(), tmp_path / "out.pt", device="cpu", progress=False)


def test_only_some_sets_of_labels(labelled):
    faces = load_landmark_list()
    with pytest.raises(ValueError, match="annotation_sets: no labels of 'heln'; there are celeba, helen"):
        training_faces(faces, [], ["heln"])
    assert set(training_faces(faces, ["some"], ["helen"]).sets) == {"helen", "detector"}
    pseudo = training_faces(faces, ["some"], [])
    held_out = set(faces.people[faces.splits != "train"])
    assert held_out
    assert not held_out & set(pseudo.people[pseudo.sets == "detector"])


def test_a_label_network_moves_the_labels_of_the_first_stage(labelled, tmp_path):
    """Named by its hash, another network finds the points that the labels are compared with."""
    shipped = read_manifest()["hourglass_keypoints.pt"]["sha256"]
    stages = "stages=[{input_size=32, epochs=1, learning_rate=1e-3, unify_labels=true}]"
    with pytest.raises(ValueError, match=r"stages\.0: refresh_pseudo_labels and unify_labels need a trained network"):
        small_config(stages)
    _, training = train(
        small_config(stages, f"label_network={shipped}"), tmp_path / "out.pt", device="cpu", progress=False
    )
    assert np.abs(training.offsets["helen"]).max() < 0.05  # its own points are the labels here
