"""Training configurations: dataclasses with defaults; a TOML file names only what differs from them.

A released default never changes (a test pins all of them), so that the hash of a configuration, which covers what
differs from the defaults, stays valid when options are added.
"""

import copy
import dataclasses
import hashlib
import json
import logging
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from facelib.io.files import atomic_write
from facelib.settings import MODELS
from facelib.training.embedder_config import EmbedderConfig
from facelib.training.landmark_config import LandmarkConfig, Stage
from facelib.types import ConfigurationError

logger = logging.getLogger(__name__)
RECIPES = MODELS / "recipes"
GENERATED = "# Written by python -m facelib.training: all settings that the weights beside it were trained with."
TrainingConfig = LandmarkConfig | EmbedderConfig
KINDS: dict[str, Any] = {"landmarks": LandmarkConfig, "embedder": EmbedderConfig}
# Keys of version 0.2 -> today's; files with the old keys are still read. "out" is an option of the command now.
RENAMED_KEYS = {
    "landmarks": {
        "start": "initial_weights",
        "teacher": "label_network",
        "sets": "train_sets",
        "pseudo": "pseudo_label_sets",
        "label_sets": "annotation_sets",
        "far_turned": "large_rotation_probability",
        "half_out": "truncation_probability",
        "pseudo_share": "pseudo_label_fraction",
        "relabel": "refresh_pseudo_labels",
    },
    "embedder": {
        "start": "initial_weights",
        "faces": "train_sets",
        "folder": "people_folder",
        "people": "num_people",
        "photos": "num_photos",
        "without_sources": "exclude_sources",
        "teacher_share": "distill_loss_weight",
        "taught_weight": "distill_head_scale",
        "taught_centre": "distill_centering",
        "label_share": "label_loss_weight",
        "by_source": "within_source_weight",
        "margin_before": "initial_margin",
        "epoch_photos": "epoch_size",
        "head_rate": "head_lr_mult",
        "warm_up": "warmup_fraction",
        "clip": "gradient_clip_norm",
        "average": "ema",
        "start_share": "weight_average_alpha",
        "strength": "augmentation_strength",
        "tight_crop": "tight_crop_probability",
        "pose": "pose_std",
        "light": "side_light_std",
    },
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """A configuration from its TOML file.

    Args:
        overrides: "key=value", the value as in TOML, text without quotes too; "stages.0.epochs=1" reaches into lists.

    Raises:
        FileNotFoundError: no such file.
        ConfigurationError: not TOML; a key that is unknown or of another type; values that do not fit each other.
    """
    path = Path(path)
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in RECIPES.glob("*.toml")))
        raise FileNotFoundError(f"{path}: no such configuration; {RECIPES} has {there}")
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    return make_config(values, overrides, str(path))


def make_config(
    values: dict[str, Any], overrides: Sequence[str] = (), name: str = "the configuration"
) -> TrainingConfig:
    """A configuration from a dict, see `load_config`; `name`: what errors call it."""
    kind = str(values.get("kind"))
    if kind not in KINDS:
        raise ConfigurationError(f"{name}: kind is {values.get('kind')!r}, expected one of {', '.join(KINDS)}")
    values = _with_todays_keys(copy.deepcopy(values), kind)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key == "kind":
            raise ConfigurationError(f"--set {override}: expected key=value, of any key but kind")
        _apply_override(values, key, text, kind, override)
    try:
        return TypeAdapter(KINDS[kind]).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ConfigurationError(f"{name}: {_describe(error, kind)}") from None


def _with_todays_keys(values: dict[str, Any], kind: str) -> dict[str, Any]:
    """Values with the keys of version 0.2 renamed; "" was the hourglass's word for random weights."""
    renamed = RENAMED_KEYS[kind]
    if not {"start", "out"} & values.keys() and not (kind == "embedder" and renamed.keys() & values.keys()):
        return values
    logger.info("a configuration of version 0.2: its keys are renamed")
    values = {renamed.get(key, key): value for key, value in values.items() if key != "out"}
    if kind == "landmarks":
        values["initial_weights"] = values["initial_weights"] or "random"
        values["stages"] = [{renamed.get(k, k): v for k, v in stage.items()} for stage in values.get("stages", [])]
    return values


def _describe(error: ValidationError, kind: str) -> str:
    """The first thing that is wrong, by its key."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if place.startswith("stages") and place[-1].isdigit() and first["type"] in ("missing", "too_long"):
        return f"{place}: expected pairs of input size and epochs, e.g. [[64, 6], [112, 4]]"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place}: unknown key; expected {', '.join(_keys(kind))}"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{place}: {repr(first['input'])[:60]}, {first['msg'].replace('Input should be', 'expected')}"


def _keys(kind: str) -> list[str]:
    return [field.name for field in dataclasses.fields(KINDS[kind])]


def _apply_override(values: dict[str, Any], key: str, text: str, kind: str, override: str) -> None:
    """Put the value of one override where its dotted key leads."""
    *path, name = key.split(".")
    place: Any = values
    last: Any = name
    try:
        for step in path:
            place = place[int(step)] if isinstance(place, list) else place[step]
        last = int(last) if isinstance(place, list) else last
        known = place[last] is not None if isinstance(place, list) else bool(path) or last in _keys(kind)
    except (KeyError, ValueError, IndexError, TypeError):
        known = False
    if not known:
        raise ConfigurationError(f"--set {override}: no such key; there are {', '.join(_keys(kind))}")
    try:
        place[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        place[last] = text  # text without quotes; refused below where a number is expected
    except TypeError:
        raise ConfigurationError(f"--set {override}: {'.'.join(path)} has no keys") from None


def differences(config: TrainingConfig) -> dict[str, Any]:
    """What differs from the defaults, as plain values; `kind` always."""
    values = _plain({name: getattr(config, name) for name in _keys(config.kind)})
    initial = defaults(config.kind)
    if isinstance(config, LandmarkConfig):  # so that a new option of a stage changes no hash either
        stage = _plain(Stage())
        values["stages"] = [{k: v for k, v in one.items() if v != stage[k]} for one in values["stages"]]
    return {key: value for key, value in values.items() if key == "kind" or value != initial[key]}


def defaults(kind: str) -> dict[str, Any]:
    """The default of every key, as plain values."""
    fields = KINDS[kind].__pydantic_fields__
    return _plain({name: field.get_default(call_default_factory=True) for name, field in fields.items()})


def _plain(values: Any) -> dict[str, Any]:
    return json.loads(json.dumps(values, default=dataclasses.asdict))


def config_hash(config: TrainingConfig) -> str:
    """Eight hexadecimal digits of SHA-256 over what differs from the defaults."""
    return hashlib.sha256(json.dumps(differences(config), sort_keys=True).encode()).hexdigest()[:8]


def write_config(config: TrainingConfig, path: Path) -> None:
    """Write every setting, also those at their defaults, so that `load_config` reads the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as new:
        new.write_text(f"{GENERATED}\n{tomli_w.dumps(_plain(config))}")
