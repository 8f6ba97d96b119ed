"""The hourglass's trainer: a recipe in, weights out, whatever interrupts it."""

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


def small_recipe(tmp_path, *overrides):
    """The shipped recipe, cut to two short stages of a tiny network."""
    stage = {
        "epochs": 1,
        "learning_rate": 1e-3,
        "seed": 0,
        "pseudo_label_share": 0.5,
        "relabel": False,
        "unify_labels": False,
    }
    stages = [stage | {"input_size": 32}, stage | {"input_size": 64, "seed": 1, "relabel": True, "unify_labels": True}]
    values = {"stages": stages, "pseudo": ["some"], "stacks": 1, "channels": 16, "epoch_size": 8, "batch_size": 4}
    values |= {"sets": ["landmarks"], "label_offsets": {}, "loss": "distribution"}
    base = tomllib.loads((RECIPES / "hourglass_keypoints.toml").read_text())
    return make_config(base | values | {"out": str(tmp_path / "models/out.pt"), "precision": "no"}, overrides)


def test_a_recipe_becomes_weights(labelled, photo, tmp_path, capsys):
    """Two stages with pseudo-labels, labels moved and made anew; then again from the checkpoints."""
    recipe = small_recipe(tmp_path)
    _, training = train(recipe, device="cpu", progress=False)
    run(recipe, device="cpu", progress=False)  # both stages are done: nothing is trained again, only saved
    folder = tmp_path / "models"
    entry = read_manifest(folder)["out.pt"]
    assert entry["preprocessing"]["input_size"] == 64
    assert load_config(folder / entry["recipe"]) == recipe  # everything that was set, and loadable
    assert [row["loss"] for row in read_table(folder / "out_history.csv")] == [
        pytest.approx(row["loss"], rel=1e-3) for row in training.history
    ]
    assert [row["epoch"] for row in read_table(folder / "out_history.csv")] == [1, 1]
    record = json.loads((folder / "out_training.json").read_text())
    assert "pseudo-labelled faces of some" in record["measured"]["data"]
    assert record["measured"]["weights"] == {"out.pt": entry["sha256"][:8]}
    assert list(record["label_offsets"]) == ["helen"]
    assert list((tmp_path / "checkpoints").iterdir()) == []  # the next time it begins anew
    found = load_landmarker(folder / "out.pt", "cpu").predict([photo], [labelled[0].box[None]])
    assert found[0].shape == (1, 5, 2)
    assert "use it with load_landmarker(" in capsys.readouterr().out


def test_it_goes_on_from_weights_named_by_their_hash(labelled, tmp_path):
    run(small_recipe(tmp_path), device="cpu", progress=False)
    digits = read_manifest(tmp_path / "models")["out.pt"]["sha256"]
    one = ["out=" + str(tmp_path / "models/more.pt"), "start=" + digits]
    stages = "stages=[{input_size=64, epochs=1, learning_rate=1e-3, seed=0, pseudo_label_share=0.0, relabel=false, unify_labels=true}]"
    run(small_recipe(tmp_path, *one, stages), device="cpu", progress=False)
    manifest = read_manifest(tmp_path / "models")
    assert manifest["more.pt"]["arguments"] == manifest["out.pt"]["arguments"]
    with pytest.raises(ValueError, match="stacks: the weights to start from have 1, the recipe says 3; --set stacks=1"):
        train(small_recipe(tmp_path, *one, "stacks=3"), device="cpu", progress=False)
    with pytest.raises(ValueError, match="was not trained with the loss mse"):
        train(small_recipe(tmp_path, *one, "loss=mse"), device="cpu", progress=False)
    with pytest.raises(FileNotFoundError, match=r"weights 4c8523c549.* not here.*Not all"):
        train(small_recipe(tmp_path, "start=4c8523c549" + 54 * "0"), device="cpu", progress=False)


def test_stopped_anywhere_it_ends_as_if_it_had_not(labelled, tmp_path):
    """A stage that was cut off, also one whose labels the network makes anew, continues with its labels and seeds."""
    models = []
    for name, stops in (("whole", [None]), ("parts", [1, 2, 3, None])):
        long = small_recipe(tmp_path, f"out={tmp_path / name}.pt", "stages.0.epochs=2", "stages.1.epochs=2")
        for stop in stops:
            _, training = train(long, device="cpu", progress=False, stop_after=stop)
            assert len(training.history) == (stop or 4)
        models.append(training.model.state_dict())
    for a, b in zip(models[0].values(), models[1].values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_checkpoint_of_other_labels_is_refused(labelled, tmp_path):
    train(small_recipe(tmp_path), device="cpu", progress=False, stop_after=1)
    table = tmp_path / "landmarks/landmarks.csv"
    table.write_text(table.read_text().replace("train,q0", "val,q0"))
    with pytest.raises(ValueError, match="is of another run"):
        train(small_recipe(tmp_path), device="cpu", progress=False)


def test_only_some_sets_of_labels(labelled):
    faces = load_landmark_list()
    with pytest.raises(ValueError, match="label_sets: no labels of 'heln'; there are celeba, helen"):
        training_faces(faces, [], ["heln"])
    assert set(training_faces(faces, ["some"], ["helen"]).sets) == {"helen", "detector"}
    pseudo = training_faces(faces, ["some"], [])
    held_out = set(faces.people[faces.splits != "train"])
    assert held_out
    assert not held_out & set(pseudo.people[pseudo.sets == "detector"])


def test_a_teacher_moves_the_labels_of_the_first_stage(labelled, tmp_path):
    """Named by its hash, another network finds the points that the labels are compared with."""
    shipped = read_manifest()["hourglass_keypoints.pt"]["sha256"]
    stages = "stages=[{input_size=32, epochs=1, learning_rate=1e-3, seed=0, pseudo_label_share=0.0, relabel=false, unify_labels=true}]"
    with pytest.raises(ValueError, match=r"stages\.0: relabel and unify_labels need a network"):
        small_recipe(tmp_path, stages)
    _, training = train(small_recipe(tmp_path, stages, f"teacher={shipped}"), device="cpu", progress=False)
    assert np.abs(training.offsets["helen"]).max() < 0.05  # its own points are the labels here
