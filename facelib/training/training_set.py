"""The photos that an embedder's recipe names: cleaned, held apart, and as many as it wants."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facelib.alignment.align import METHODS, SIZE
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import aligned_open_set, cut_faces
from facelib.datasets.face_list import FaceList
from facelib.datasets.splits import balanced_subset, hash_order, open_set_faces, open_set_is_here
from facelib.datasets.training_crops import TrainingCrops, crops_of_people, crops_of_sets, realigned_crops
from facelib.training.configuration import EmbedderConfig


def sources_of(faces: FaceList) -> Tensor:
    """`MarginLoss.groups`: (people,) number of the source of each person's first photo, in the order of
    np.unique(faces.people).

    Raises:
        ValueError: the table of the faces has no column `source`.
    """
    if faces.sources is None:
        raise ValueError("within_source_weight: faces.csv has no column source")
    first = np.unique(faces.people, return_index=True)[1]
    return torch.from_numpy(np.unique(faces.sources, return_inverse=True)[1][first])


@dataclass
class TrainingSet:
    """The photos of a recipe. labels (n,): places in `names`; unseen: aligned faces and people of open_val, or none
    where faces_unseen is not there."""

    pictures: TrainingCrops
    faces: FaceList
    unseen: tuple[np.ndarray, np.ndarray]

    def __post_init__(self):
        self.names, self.labels = np.unique(self.faces.people, return_inverse=True)

    def rows(self, split: str) -> np.ndarray:
        """Of "train", "val" or "test"."""
        return np.flatnonzero(self.faces.splits == split)


def load_training_set(recipe: EmbedderConfig, landmarker: HourglassLandmarker) -> TrainingSet:
    """The faces that the recipe wants, cleaned and held apart.

    Raises:
        FileNotFoundError, ValueError: see `crops_of_sets` and `crops_of_people`.
    """
    method = recipe.alignment if recipe.alignment in METHODS else "five_points"  # others are cut below
    if recipe.folder:
        pictures, faces = crops_of_people(Path(recipe.folder), landmarker, method)
    else:
        pictures, faces = crops_of_sets(recipe.faces, landmarker, method)
    if recipe.exclude_sources:
        there = set() if faces.sources is None else set(faces.sources.tolist())
        if unknown := sorted(set(recipe.exclude_sources) - there):
            raise ValueError(
                f"exclude_sources: no photo is of {unknown[0]!r}; there are {', '.join(sorted(there)) or 'none'}"
            )
        rows = np.flatnonzero(~np.isin(faces.sources, recipe.exclude_sources))
        pictures, faces = pictures.select(rows), faces.select(rows)
    if recipe.photos:
        train = np.flatnonzero(faces.splits == "train")
        if recipe.people:
            chosen = train[balanced_subset(faces.select(train), recipe.people, recipe.photos)]
        else:
            chosen = train[np.sort(hash_order(faces.select(train))[: recipe.photos])]
        people = np.isin(faces.people, faces.people[chosen])
        rows = np.union1d(chosen, np.flatnonzero((faces.splits != "train") & people))
        pictures, faces = pictures.select(rows), faces.select(rows)
    if recipe.alignment not in METHODS:
        pictures = realigned_crops(pictures, faces, recipe.alignment)
    return TrainingSet(pictures, faces, _unseen(recipe.alignment, landmarker))


def _unseen(alignment: str, landmarker: HourglassLandmarker) -> tuple[np.ndarray, np.ndarray]:
    if not open_set_is_here():
        return np.zeros((0, SIZE, SIZE, 3), np.uint8), np.zeros(0, str)
    if alignment in METHODS:
        aligned, faces = aligned_open_set("open_val", landmarker, alignment)
    else:
        aligned, faces = cut_faces(open_set_faces("open_val"), alignment, landmarker)
    return aligned, faces.people
