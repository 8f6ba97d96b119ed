"""Configurations have defaults, and nothing in them is unchecked."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from facelib.runtime.manifest import read_manifest
from facelib.settings import MODELS
from facelib.training.configuration import (
    RECIPES,
    RENAMED_KEYS,
    config_hash,
    defaults,
    differences,
    load_config,
    make_config,
    write_config,
)

SHIPPED = sorted(path for path in RECIPES.glob("*.toml") if path.name != "comparisons.toml")
RELEASED = json.loads((Path(__file__).parent / "released_defaults.json").read_text())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_name_only_what_differs(path, tmp_path):
    config = load_config(path)
    write_config(config, tmp_path / "resolved.toml")
    assert load_config(tmp_path / "resolved.toml") == config
    assert set(tomllib.loads((tmp_path / "resolved.toml").read_text())) == {f.name for f in dataclasses.fields(config)}
    assert set(tomllib.loads(path.read_text())) == set(differences(config))


@pytest.mark.parametrize("kind", RELEASED)
def test_released_defaults_never_change(kind):
    """A new option is added to the file; what is in it stays, because hashes of configurations rest on it."""
    assert defaults(kind) == RELEASED[kind]


def test_a_new_option_changes_no_hash():
    """The hash covers what differs from the defaults; this one was computed when the defaults were released."""
    assert config_hash(make_config(values())) == "e72ab4d1"
    before = config_hash(make_config(values()))
    assert before == config_hash(make_config(values() | {"augmentation_strength": 0.7}))  # said again, as it is
    assert before != config_hash(make_config(values() | {"augmentation_strength": 0.71}))
    landmarks = values("hourglass_keypoints")
    again = json.loads(json.dumps(landmarks))
    again["stages"][1]["learning_rate"] = 1.5e-3  # the default
    assert config_hash(make_config(landmarks)) == config_hash(make_config(again))


def test_shipped_configurations_train_what_the_manifest_says():
    """The networks' arguments and the input size."""
    for name, entry in read_manifest().items():
        if "configuration" not in entry:
            continue
        config = load_config(MODELS / entry["configuration"])
        assert Path(entry["configuration"]).stem == Path(name).stem
        for key, value in entry["arguments"].items():
            assert getattr(config, key, value) == value, key
        last = config.stages[-1]
        assert entry["preprocessing"]["input_size"] == (last[0] if isinstance(last, tuple) else last.input_size)


def test_keys_of_version_0_2_are_read():
    """A file that lies beside somebody's weights has all 43 keys by their old names."""
    old = {"kind": "embedder", "out": "my.pt", "start": "imagenet", "faces": [], "folder": "people", "strength": 0.3}
    old |= {"by_source": 0.5, "head_rate": 2.0, "average": False, "epoch_photos": 7, "clip": 0.0, "warm_up": 0.2}
    config = make_config(old)
    assert (config.people_folder, config.augmentation_strength, config.within_source_weight) == ("people", 0.3, 0.5)
    assert (config.head_lr_mult, config.ema, config.epoch_size, config.warmup_fraction) == (2.0, False, 7, 0.2)
    stage = {"input_size": 96, "epochs": 1, "learning_rate": 1e-3, "seed": 0, "relabel": False, "pseudo_share": 0.0}
    landmarks = make_config({"kind": "landmarks", "start": "", "teacher": "", "sets": ["a"], "stages": [stage]})
    assert (landmarks.initial_weights, landmarks.train_sets, landmarks.stages[0].epochs) == ("random", ["a"], 1)
    for kind, renamed in RENAMED_KEYS.items():
        assert set(renamed.values()) <= {*defaults(kind), "pseudo_label_fraction", "refresh_pseudo_labels"}


def values(name="own_people"):
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"margn": 0.3}, "margn: unknown key; expected kind, train_sets"),
        ({"margin": "much"}, "margin: 'much', expected a valid number"),
        ({"seed": 1.5}, "seed: 1.5, expected a valid integer"),
        ({"within_source_weight": True}, "within_source_weight: True, expected a valid number"),
        ({"train_sets": "faces_train"}, "train_sets: 'faces_train', expected a valid array"),
        ({"stages": [[64, 6], [112]]}, r"stages\.1\.1: expected pairs of input size and epochs"),
        ({"stages": []}, "stages: .*at least 1 item"),
        ({"loss": "softmax"}, "loss: 'softmax', expected 'arcface', 'cosface'"),
        ({"optimizer": "adam"}, "optimizer: 'adam', expected 'adamw' or 'sgd'"),
        ({"precision": "half"}, "precision: 'half', expected 'no', 'bf16' or 'fp16'"),
        ({"alignment": "nose"}, "alignment: 'nose'"),
        ({"train_sets": ["faces_train"]}, "set one of them, prepared sets or a folder"),
        ({"loss": "cross_entropy", "within_source_weight": 1.0}, "cross_entropy has no class margins"),
        ({"stages": [[16, 2]]}, r"stages\.0\.0: 16, expected greater than or equal to 32"),
        ({"stages": [[64, 0]]}, r"stages\.0\.1: 0, expected greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size: 0, expected greater than or equal to 1"),
        ({"learning_rate": float("nan")}, "learning_rate: nan, expected a finite number"),
        ({"initial_weights": ""}, "initial_weights: .*at least 1 character"),
        ({"num_people": 5, "num_photos": 3}, "num_people, num_photos: 3 photos of 5 people"),
        ({"alignment": "box"}, "alignment: box is for prepared sets"),
        ({"teacher": "dlib"}, "teacher, distill_loss_weight, distill_head_scale: set all of them, or none"),
        ({"distill_centering": 0.4}, "distill_centering: there is no teacher"),
        ({"teacher": "facenet"}, "teacher: 'facenet', expected '' or 'dlib'"),
        ({"label_loss_weight": 0.0}, "label_loss_weight: 0, and there is no teacher"),
        ({"margin_ramp_start": 0.5}, "margin_ramp_start: must be below margin_ramp_end"),
        ({"weight_average_alpha": 0.5}, "weight_average_alpha: imagenet has no trained embedder"),
        ({"frozen_stages": 3}, "frozen_stages: imagenet has no trained embedder whose stages could be kept"),
        ({"min_class_photos": 2}, "min_class_photos: without a teacher nothing would be learned from the other photos"),
        ({"distill_density_exponent": 1.0}, "distill_density_exponent: there is no teacher"),
        ({"source_weights": {"orl": 0}}, r"source_weights\.orl: 0, expected greater than 0"),
        ({"kind": ["embedder"]}, "expected one of landmarks, embedder"),
        ({"kind": "detector"}, "kind is 'detector', expected one of landmarks, embedder"),
    ],
)
def test_what_is_wrong_is_named(change, says):
    with pytest.raises(ValueError, match=says):
        make_config(values() | change)


def test_stages_are_checked_to_their_keys():
    given = values("hourglass_keypoints")
    given["stages"][0]["refresh_pseudo_labels"] = True
    with pytest.raises(ValueError, match=r"stages\.0: refresh_pseudo_labels and unify_labels need a trained network"):
        make_config(given)
    for change, says in (
        ({"input_size": 100}, r"stages\.0\.input_size: 100 is no multiple of 32"),
        ({"pseudo_label_fraction": 3.0}, r"stages\.0\.pseudo_label_fraction: 3\.0"),
        ({"epochs": 0}, r"stages\.0\.epochs: 0"),
        ({"sed": 1}, r"stages\.0\.sed: unknown key"),
    ):
        given = values("hourglass_keypoints")
        given["stages"][0] |= change
        with pytest.raises(ValueError, match=says):
            make_config(given)
    with pytest.raises(ValueError, match="initial_weights: the hourglass has no ImageNet weights"):
        make_config(values("hourglass_keypoints") | {"initial_weights": "imagenet"})
    with pytest.raises(ValueError, match="a pseudo_label_fraction above 0 needs pseudo_label_sets"):
        make_config(values("hourglass_keypoints"), ["stages.0.pseudo_label_fraction=0.3"])


def test_overrides():
    config = make_config(
        values(),
        ["margin=0.3", "people_folder=my people/here", "stages=[[64, 2]]", "within_source_weight=0.5", "scale=16"],
    )
    assert (config.margin, config.people_folder, config.epochs) == (0.3, "my people/here", 2)
    assert (config.within_source_weight, config.scale) == (0.5, 16.0)
    assert make_config(values(), ["seed=3"]).seed == 3  # a key that the file leaves at its default
    assert make_config(values("hourglass_keypoints"), ["stages.1.epochs=1"]).epochs == 14 + 1
    for override, says in (
        ("margn=1", "margn=1: no such key; there are kind, train_sets"),
        ("margin", "expected key=value"),
        ("kind=landmarks", "of any key but kind"),
        ("margin=much", "margin: 'much', expected a valid number"),
        ("stages.9.epochs=1", "no such key"),
        ("margin.x=1", "no such key|has no keys"),
    ):
        with pytest.raises(ValueError, match=says):
            make_config(values(), [override])


def test_input_size_by_progress():
    config = make_config(values() | {"stages": [[64, 6], [80, 6], [112, 4]]})
    sizes = [config.input_size(progress) for progress in (0, 0.37, 0.375, 0.74, 0.75, 1)]
    assert sizes == [64, 64, 80, 80, 112, 112]
    assert config.epochs == 16
    assert make_config(values() | {"minutes": 3.0}).epochs is None


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml: no such configuration; .*own_people\.toml"):
        load_config(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("margin = = 3")
    with pytest.raises(ValueError, match=r"bad\.toml is not valid TOML"):
        load_config(tmp_path / "bad.toml")
