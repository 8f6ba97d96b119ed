"""Faces with labels of origin, sex and age as their authors publish them, to the layout of faces_groups.

Each photo is a person of its own.
"""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from facelib.datasets.crop_tables import FaceToCrop, face_table
from facelib.datasets.crops import crop_published
from facelib.datasets.groups import group_name
from facelib.datasets.published_files import PublishedFiles
from facelib.datasets.splits import GROUPS, group_test_people

UTKFACE_ORIGINS = ("white", "black", "asian", "indian")  # 4, "others", is no group
FAIRFACE_AGES = {
    **dict.fromkeys(("0-2", "3-9"), "0-12"),
    "10-19": "10-19",
    **dict.fromkeys(("20-29", "30-39", "40-49", "50-59"), "18-60"),
    **dict.fromkeys(("60-69", "more than 70"), "61+"),
}
AAF_WOMEN = 7381  # the first so many numbers of All-Age-Faces are women
SCUT_ORIGINS = {"A": "asian", "C": "white"}


def age_band(age: int) -> str:
    """The column `group` of an age in years."""
    return "0-12" if age <= 12 else "13-17" if age <= 17 else "18-60" if age <= 60 else "61+"


def utkface_faces(files: PublishedFiles) -> list[FaceToCrop]:
    """UTKFace: photos AGE_SEX_ORIGIN_DATE.jpg. Those of origin "others", and with incomplete names, are left out."""
    faces: dict[str, FaceToCrop] = {}
    for name, path in files.photos():
        if match := re.fullmatch(r"(\d{1,3})_([01])_([0-3])_(\d+)\.jpg(\.chip\.jpg)?", path.name):
            age, sex, origin = int(match[1]), ("male", "female")[int(match[2])], UTKFACE_ORIGINS[int(match[3])]
            stem = path.name.split(".")[0]  # Kaggle's copy has some photos twice
            faces.setdefault(stem, _face(name, "utkface", stem, (str(age), sex, origin, age_band(age))))
    return list(faces.values())


def fairface_faces(files: PublishedFiles) -> list[FaceToCrop]:
    """FairFace: fairface_label_train.csv and _val.csv, and the photos that they name, train/1.jpg ..."""
    faces = []
    for part in ("train", "val"):
        table = files.require(f"fairface_label_{part}.csv", "FairFace's labels, fairface_label_train.csv and _val.csv")
        rows = list(csv.DictReader(files.text(table).splitlines()))
        if not rows or not {"file", "age", "gender", "race"} <= rows[0].keys():
            raise ValueError(f"{table}: expected the columns file, age, gender and race")
        for row in rows:
            if name := files.find(row["file"]):
                origin = row["race"].lower().replace("latino_hispanic", "latino")
                labels = (row["age"], row["gender"].lower(), origin, FAIRFACE_AGES[row["age"]])
                faces.append(_face(name, "fairface", f"{part}_{Path(row['file']).stem}", labels))
    return faces


def aaf_faces(files: PublishedFiles) -> list[FaceToCrop]:
    """All-Age-Faces: photos NUMBERAage.jpg in "original images"; women have the lower numbers."""
    faces = []
    for name, path in files.photos():
        match = re.fullmatch(r"(\d{5})A(\d+)\.jpg", path.name)
        if match and path.parent.name == "original images":
            age, sex = int(match[2]), "female" if int(match[1]) < AAF_WOMEN else "male"
            faces.append(_face(name, "aaf", match[1], (str(age), sex, "east asian", age_band(age))))
    return faces


def scut_faces(files: PublishedFiles) -> list[FaceToCrop]:
    """SCUT-FBP5500: photos AF1.jpg ..., origin Asian or Caucasian and sex, of people from 15 to 60."""
    faces = []
    for name, path in files.photos():
        if match := re.fullmatch(r"([AC])([FM])\d+\.jpg", path.name):
            labels = ("", {"F": "female", "M": "male"}[match[2]], SCUT_ORIGINS[match[1]], "18-60")
            faces.append(_face(name, "scut", path.stem, labels))
    return faces


def _face(photo: str, source: str, stem: str, labels: tuple[str, str, str, str]) -> FaceToCrop:
    """A face without a split; `labels`: age, sex, origin, group."""
    columns = {"person": f"{source}_{stem}", "source": source, "split": ""}
    return FaceToCrop(photo, f"{source}/{stem}.webp", columns | dict(zip(("age", "sex", "origin", "group"), labels)))


def with_test_faces(faces: list[FaceToCrop]) -> list[FaceToCrop]:
    """The faces of one collection, some of them with the split "test", see `group_test_people`."""
    rows = [face.columns for face in faces]
    groups = [group_name(row["origin"], row["sex"], row["group"]) for row in rows]
    test = group_test_people(rows, groups)
    for row in rows:
        row["split"] = "test" if row["person"] in test else "train"
    return faces


# Data set -> how its faces are read, and what the photos are called.
GroupReader = Callable[[PublishedFiles], list[FaceToCrop]]
GROUP_SETS: dict[str, tuple[GroupReader, str]] = {
    "utkface": (utkface_faces, "AGE_SEX_ORIGIN_DATE.jpg or .jpg.chip.jpg, such as 26_1_0_20170116174525125.jpg"),
    "fairface": (fairface_faces, "train/1.jpg and val/1.jpg, as in fairface_label_train.csv and _val.csv"),
    "aaf": (aaf_faces, "'original images/00000A02.jpg'"),
    "scut": (scut_faces, "AF1.jpg, AM1.jpg, CF1.jpg and CM1.jpg"),
}


def convert_groups(dataset: str, paths: Sequence[Path], name: str = GROUPS, replace: bool = False) -> Path:
    """Crops of the faces of one of `GROUP_SETS`, added to a set with the columns of faces_groups.

    Args:
        paths: archives of the authors, or folders with them, packed or not.
        name: of the set.
        replace: whether faces of the same collection that it has already are replaced.

    Returns:
        The folder of the set.

    Raises:
        FileNotFoundError: there are no photos, or no labels.
        ValueError: an archive is damaged, or the set has faces of this collection already.
    """
    read_faces, names = GROUP_SETS[dataset]
    with PublishedFiles(paths) as files:
        faces = with_test_faces(read_faces(files))
        if not faces:
            raise FileNotFoundError(f"{files}: no photo of {dataset} there: expected photos named {names}")
        return crop_published(files, faces, face_table(name, merge=True, replace=replace))
