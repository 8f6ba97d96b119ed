"""Faces with labels of origin, sex and age: the sets faces_groups and faces_world.

The labels are those of the collections: annotators' guesses from the photo, not what people say of themselves.
"""

from dataclasses import dataclass

import numpy as np

from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import aligned_set
from facelib.datasets.face_list import FaceList, read_rows
from facelib.datasets.splits import GROUPS, WORLD, group_part, in_world_val
from facelib.settings import data_folder

SEXES = {"male": "men", "female": "women"}
ORIGINS = {"asian": "east asian"}  # UTKFace has no finer label; its Indians are a group of their own
AGE_GROUPS = {"0-12": "children to 12", "10-19": "10 to 19", "13-17": "13 to 17", "61+": "over 60"}


@dataclass(frozen=True)
class GroupFaces:
    """n aligned faces with labels.

    aligned: (n, s, s, 3) RGB uint8, mapped from a file.
    faces: the photos.
    groups: (n,) str, origin and sex of adults ("black women"), the age of others ("children to 12").
    """

    aligned: np.ndarray
    faces: FaceList
    groups: np.ndarray

    def select(self, rows: np.ndarray) -> "GroupFaces":
        """The faces with the given indices (m,)."""
        return GroupFaces(self.aligned[rows], self.faces.select(rows), self.groups[rows])


def group_name(origin: str, sex: str, age: str) -> str:
    """The group of a face, from the columns `origin`, `sex` and `group` of faces.csv."""
    return AGE_GROUPS.get(age) or f"{ORIGINS.get(origin, origin)} {SEXES.get(sex, sex)}"


def group_title(group: str) -> str:
    """A group as it is written in a text: "East Asian women", "children to 12"."""
    small = ("men", "women", "children", "to", "over")
    return " ".join(word if word in small else word.capitalize() for word in group.split())


def group_faces(part: str, landmarker: HourglassLandmarker, crop_mode: str = "five_points") -> GroupFaces:
    """Aligned faces of different people of faces_groups.

    Args:
        part: "test", or one of "cohort", "calibration" and "train", see `group_part`.
        crop_mode: a key of `CROP_MODES`.

    Raises:
        FileNotFoundError: the set does not exist.
    """
    everyone = _labelled(GROUPS, landmarker, crop_mode)
    people, splits = everyone.faces.people.tolist(), everyone.faces.splits.tolist()
    parts = [split if split == "test" else group_part(person) for person, split in zip(people, splits)]
    return everyone.select(np.flatnonzero(np.array(parts) == part))


def world_faces(part: str, landmarker: HourglassLandmarker, crop_mode: str = "five_points") -> GroupFaces:
    """Aligned faces of the public figures of faces_world, several of each person, as `group_faces`.

    Args:
        part: "test", "val" (people held out for choosing) or "train".
    """
    everyone = _labelled(WORLD, landmarker, crop_mode)
    people, splits = everyone.faces.people.tolist(), everyone.faces.splits.tolist()
    parts = [
        split if split == "test" else "val" if in_world_val(person) else "train"
        for person, split in zip(people, splits)
    ]
    return everyone.select(np.flatnonzero(np.array(parts) == part))


def _labelled(name: str, landmarker: HourglassLandmarker, crop_mode: str) -> GroupFaces:
    rows = read_rows(data_folder() / name / "faces.csv", "face crops")
    groups = {row["file"]: group_name(row["origin"], row["sex"], row["group"]) for row in rows}
    aligned, faces = aligned_set(name, landmarker, crop_mode)
    folder = data_folder() / name
    return GroupFaces(aligned, faces, np.array([groups[file.relative_to(folder).as_posix()] for file in faces.files]))
