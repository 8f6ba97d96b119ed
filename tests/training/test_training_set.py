"""Who is a class, and which photos are shown more often."""

from pathlib import Path

import numpy as np
import pytest

from facelib.datasets.face_list import FaceList
from facelib.datasets.training_crops import TrainingCrops
from facelib.training.configuration import RECIPES, load_config
from facelib.training.training_set import TrainingSet, sampling_weights

PEOPLE = ["ann", "bob", "ann", "cy", "bob", "ann", "dora"]
SPLITS = ["train", "train", "train", "train", "val", "val", "train"]
SOURCES = ["x", "y", "x", "y", "y", "x", "z"]


def training_set(min_class_photos=1, sources=SOURCES):
    files = [Path(f"{person}/{i}.webp") for i, person in enumerate(PEOPLE)]
    faces = FaceList(files, np.array(PEOPLE), np.array(SPLITS), sources=None if sources is None else np.array(sources))
    crops = TrainingCrops.from_aligned(np.zeros((len(PEOPLE), 112, 112, 3), np.uint8))
    return TrainingSet(crops, faces, (np.zeros((0, 112, 112, 3), np.uint8), np.zeros(0, str)), min_class_photos)


def test_people_with_few_photos_are_no_classes():
    """Photos that are held out do not count: bob has one."""
    everybody = training_set()
    assert everybody.names.tolist() == ["ann", "bob", "cy", "dora"]
    assert everybody.labels.tolist() == [0, 1, 0, 2, 1, 0, 3]
    some = training_set(2)
    assert some.names.tolist() == ["ann"]
    assert some.labels.tolist() == [0, -1, 0, -1, -1, 0, -1]
    assert len(everybody.sources()) == 4 and some.sources().tolist() == [0]
    assert training_set(3).names.tolist() == []


def test_sources_are_weighted():
    config = load_config(RECIPES / "model_arcface.toml")
    assert sampling_weights(config, training_set()) is None
    object.__setattr__(config, "source_weights", {"y": 2.5, "z": 0.5})
    assert sampling_weights(config, training_set()).tolist() == [1, 2.5, 1, 2.5, 0.5]  # of the training photos
    object.__setattr__(config, "source_weights", {"q": 2.0})
    with pytest.raises(ValueError, match="source_weights: no photo is of 'q'; there are x, y, z"):
        sampling_weights(config, training_set())
    with pytest.raises(ValueError, match="source_weights: no photo is of 'q'"):
        sampling_weights(config, training_set(sources=None))
