"""Recipes leave nothing open and nothing unchecked."""

import dataclasses
import tomllib

import pytest

from facelib.runtime.manifest import read_manifest
from facelib.settings import MODELS
from facelib.training.configuration import RECIPES, config_hash, load_config, make_config, write_config

SHIPPED = sorted(path for path in RECIPES.glob("*.toml") if path.name != "comparisons.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_whole_and_come_back_as_they_are(path, tmp_path):
    recipe = load_config(path)
    write_config(recipe, tmp_path / "again.toml")
    assert load_config(tmp_path / "again.toml") == recipe
    assert set(tomllib.loads(path.read_text())) == {field.name for field in dataclasses.fields(recipe)}


def test_shipped_recipes_make_what_the_manifest_says():
    """The networks' arguments and the size of the pictures."""
    for name, entry in read_manifest().items():
        if "recipe" not in entry:
            continue
        recipe = load_config(MODELS / entry["recipe"])
        assert recipe.out == f"models/{name}"
        for key, value in entry["arguments"].items():
            assert getattr(recipe, key, value) == value, key
        last = recipe.stages[-1]
        assert entry["preprocessing"]["input_size"] == (last[0] if isinstance(last, tuple) else last.input_size)


def values(name="own_people"):
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"margn": 0.3}, "margn: unknown key; expected kind, out"),
        ({"margin": None}, "margin: missing key"),
        ({"margin": "much"}, "margin: 'much', expected a valid number"),
        ({"seed": 1.5}, "seed: 1.5, expected a valid integer"),
        ({"within_source_weight": True}, "within_source_weight: True, expected a valid number"),
        ({"faces": "faces_train"}, "faces: 'faces_train', expected a valid array"),
        ({"stages": [[64, 6], [112]]}, r"stages\.1\.1: expected pairs of input size and epochs"),
        ({"stages": []}, "stages: .*at least 1 item"),
        ({"loss": "softmax"}, "loss: 'softmax', expected 'arcface', 'cosface'"),
        ({"optimizer": "adam"}, "optimizer: 'adam', expected 'adamw' or 'sgd'"),
        ({"precision": "half"}, "precision: 'half', expected 'no', 'bf16' or 'fp16'"),
        ({"alignment": "nose"}, "alignment: 'nose'"),
        ({"faces": ["faces_train"]}, "give one of them, prepared sets or a folder"),
        ({"loss": "cross_entropy", "within_source_weight": 1.0}, "cross_entropy has no class margins"),
        ({"out": "weights"}, "out: 'weights', expected the name of a file that ends in .pt"),
        ({"stages": [[16, 2]]}, r"stages\.0\.0: 16, expected greater than or equal to 32"),
        ({"stages": [[64, 0]]}, r"stages\.0\.1: 0, expected greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size: 0, expected greater than or equal to 1"),
        ({"learning_rate": float("nan")}, "learning_rate: nan, expected a finite number"),
        ({"start": ""}, "start: .*at least 1 character"),
        ({"people": 5, "photos": 3}, "people, photos: 3 photos of 5 people"),
        ({"alignment": "box"}, "alignment: box is for prepared sets"),
        ({"teacher": "dlib"}, "teacher, distill_loss_weight, distill_head_scale: all of them, or none"),
        ({"distill_centering": 0.4}, "distill_centering: 0.4, and there is no teacher"),
        ({"teacher": "facenet"}, "teacher: 'facenet', expected '' or 'dlib'"),
        ({"label_loss_weight": 0.0}, "label_loss_weight: 0, and there is no teacher"),
        ({"kind": ["embedder"]}, "expected one of landmarks, embedder"),
        ({"kind": "detector"}, "kind is 'detector', expected one of landmarks, embedder"),
    ],
)
def test_what_is_wrong_is_named(change, says):
    given = {key: value for key, value in (values() | change).items() if value is not None}
    with pytest.raises(ValueError, match=says):
        make_config(given)


def test_stages_are_checked_to_their_keys():
    given = values("hourglass_keypoints")
    del given["stages"][1]["seed"]
    with pytest.raises(ValueError, match=r"stages\.1\.seed: missing key"):
        make_config(given)
    given = values("hourglass_keypoints")
    given["stages"][0]["relabel"] = True
    with pytest.raises(ValueError, match=r"stages\.0: relabel and unify_labels need a network"):
        make_config(given)
    for change, says in (
        ({"input_size": 100}, r"stages\.0\.input_size: 100 is no multiple of 32"),
        ({"pseudo_label_share": 3.0}, r"stages\.0\.pseudo_label_share: 3\.0"),
        ({"epochs": 0}, r"stages\.0\.epochs: 0"),
    ):
        given = values("hourglass_keypoints")
        given["stages"][0] |= change
        with pytest.raises(ValueError, match=says):
            make_config(given)
    with pytest.raises(ValueError, match="start: 'imagenet', expected the SHA-256"):
        make_config(values("hourglass_keypoints") | {"start": "imagenet"})
    with pytest.raises(ValueError, match="a pseudo_label_share above 0 needs folders under pseudo"):
        make_config(values("hourglass_keypoints"), ["stages.0.pseudo_label_share=0.3"])


def test_overrides():
    recipe = make_config(
        values(),
        [
            "margin=0.3",
            "folder=my people/here",
            'out="x.pt"',
            "stages=[[64, 2]]",
            "within_source_weight=0.5",
            "scale=16",
        ],
    )
    assert (recipe.margin, recipe.folder, recipe.out, recipe.epochs) == (0.3, "my people/here", "x.pt", 2)
    assert (recipe.within_source_weight, recipe.scale) == (0.5, 16.0)
    assert make_config(values("hourglass_keypoints"), ["stages.1.epochs=1"]).epochs == 14 + 1
    for override, says in (
        ("margn=1", "margn=1: no such key; there are kind, out"),
        ("margin", "expected key=value"),
        ("kind=landmarks", "of any key but kind"),
        ("margin=much", "margin: 'much', expected a valid number"),
        ("stages.9.epochs=1", "no such key"),
        ("margin.x=1", "no such key"),
    ):
        with pytest.raises(ValueError, match=says):
            make_config(values(), [override])


def test_sizes_by_the_share_of_the_run():
    recipe = make_config(values() | {"stages": [[64, 6], [80, 6], [112, 4]]})
    assert [recipe.size(share) for share in (0, 0.37, 0.375, 0.74, 0.75, 1)] == [64, 64, 80, 80, 112, 112]
    assert recipe.epochs == 16
    assert make_config(values() | {"minutes": 3.0}).epochs is None


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml: no such recipe; .*own_people\.toml"):
        load_config(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("margin = = 3")
    with pytest.raises(ValueError, match=r"bad\.toml is not valid TOML"):
        load_config(tmp_path / "bad.toml")


def test_a_hash_tells_recipes_apart_but_not_where_the_weights_go():
    recipe = make_config(values())
    assert config_hash(recipe) == config_hash(dataclasses.replace(recipe, out="elsewhere.pt"))
    assert config_hash(recipe) != config_hash(dataclasses.replace(recipe, margin=0.5))
