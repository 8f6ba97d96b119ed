"""The photos that an embedder's configuration names: cleaned, held-out people removed, subsampled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facelib.alignment.align import METHODS, SIZE
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import aligned_open_set, crop_faces
from facelib.datasets.face_list import FaceList
from facelib.datasets.splits import balanced_subset, has_open_set, hash_order, open_set_faces, stable_hash
from facelib.datasets.training_crops import TrainingCrops, crops_of_people, crops_of_sets, realigned_crops
from facelib.training.embedder_config import EmbedderConfig


@dataclass
class TrainingSet:
    """The photos of a configuration.

    crops: faces with room around them, for augmentation.
    faces: where each crop comes from.
    open_val: aligned faces and people of open_val, none where faces_unseen is not there.
    min_class_photos: training photos of a person who is a class.
    names: (classes,) people in alphabetical order.
    labels: (n,) index into `names` of each crop; -1: the person is no class.
    """

    crops: TrainingCrops
    faces: FaceList
    open_val: tuple[np.ndarray, np.ndarray]
    min_class_photos: int = 1

    def __post_init__(self):
        people, person = np.unique(self.faces.people, return_inverse=True)
        photos = np.bincount(person[self.rows("train")], minlength=len(people))
        is_class = photos >= self.min_class_photos
        self.names = people[is_class]
        self.labels = np.where(is_class, np.cumsum(is_class) - 1, -1)[person]

    def rows(self, split: str) -> np.ndarray:
        """Indices of the crops of a split: "train", "val" or "test"."""
        return np.flatnonzero(self.faces.splits == split)

    def sources(self) -> Tensor:
        """(classes,) int, the source of each person's first photo, for `MarginLoss.groups`.

        Raises:
            ValueError: faces.csv has no column `source`.
        """
        if self.faces.sources is None:
            raise ValueError("within_source_weight: faces.csv has no column source")
        people, first = np.unique(self.faces.people, return_index=True)
        first = first[np.isin(people, self.names)]
        return torch.from_numpy(np.unique(self.faces.sources, return_inverse=True)[1][first])


def load_training_set(config: EmbedderConfig, landmarker: HourglassLandmarker) -> TrainingSet:
    """The photos of a configuration, aligned by the landmarker.

    Raises:
        FileNotFoundError, ValueError: see `crops_of_sets` and `crops_of_people`.
    """
    method = config.alignment if config.alignment in METHODS else "five_points"  # other alignments follow below
    if config.people_folder:
        crops, faces = crops_of_people(Path(config.people_folder), landmarker, method)
    else:
        crops, faces = crops_of_sets(config.train_sets, landmarker, method)
    if config.exclude_sources:
        rows = _without_sources(faces, config.exclude_sources)
        crops, faces = crops.select(rows), faces.select(rows)
    if config.people_fraction < 1:
        rows = np.flatnonzero([_is_chosen(person, config) for person in faces.people.tolist()])
        crops, faces = crops.select(rows), faces.select(rows)
    if config.num_photos:
        rows = _subset(faces, config.num_people, config.num_photos)
        crops, faces = crops.select(rows), faces.select(rows)
    if config.alignment not in METHODS:
        crops = realigned_crops(crops, faces, config.alignment)
    return TrainingSet(crops, faces, _open_val(config.alignment, landmarker), config.min_class_photos)


def _is_chosen(person: str, config: EmbedderConfig) -> bool:
    number = int.from_bytes(stable_hash(f"{config.people_seed} {person}")[:4], "big")
    return number < config.people_fraction * 2**32


def sampling_weights(config: EmbedderConfig, training_set: TrainingSet) -> np.ndarray | None:
    """(n,) how often each crop of the training split is sampled, relative to the others; None: all equally often.

    Raises:
        ValueError: no photo is of a source of `source_weights`.
    """
    if not config.source_weights:
        return None
    sources = training_set.faces.sources
    sources = np.array([]) if sources is None else sources[training_set.rows("train")]
    weights = np.ones(len(sources))
    for source, weight in config.source_weights.items():
        if not (of_source := sources == source).any():
            raise ValueError(f"source_weights: no photo is of {source!r}; there are {', '.join(np.unique(sources))}")
        weights[of_source] = weight
    return weights


def _without_sources(faces: FaceList, excluded: list[str]) -> np.ndarray:
    """Indices of the photos of all other sources."""
    sources = set() if faces.sources is None else set(faces.sources.tolist())
    if unknown := sorted(set(excluded) - sources):
        known = ", ".join(sorted(sources)) or "none"
        raise ValueError(f"exclude_sources: no photo is of {unknown[0]!r}; there are {known}")
    return np.flatnonzero(~np.isin(faces.sources, excluded))


def _subset(faces: FaceList, people: int, photos: int) -> np.ndarray:
    """Indices of `photos` training photos (of `people` people where that is not 0), and of all held-out photos of
    those people."""
    train = np.flatnonzero(faces.splits == "train")
    if people:
        chosen = train[balanced_subset(faces.select(train), people, photos)]
    else:
        chosen = train[np.sort(hash_order(faces.select(train))[:photos])]
    kept = np.isin(faces.people, faces.people[chosen])
    return np.union1d(chosen, np.flatnonzero((faces.splits != "train") & kept))


def _open_val(alignment: str, landmarker: HourglassLandmarker) -> tuple[np.ndarray, np.ndarray]:
    if not has_open_set():
        return np.zeros((0, SIZE, SIZE, 3), np.uint8), np.zeros(0, str)
    if alignment in METHODS:
        aligned, faces = aligned_open_set("open_val", landmarker, alignment)
    else:
        aligned, faces = crop_faces(open_set_faces("open_val"), alignment, landmarker)
    return aligned, faces.people
