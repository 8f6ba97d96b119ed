"""Who may be where: every rule about people and photos that are held out.

open_val (60 people) chooses models and thresholds, open_test (150 others) only reports; a twelfth of the families
of Families in the Wild is for choosing and for the figure of relatives; LFW only reports. None of them is in a
training. What is left to chance is decided by the hash of a key, so it is the same wherever it is asked.
"""

import csv
import hashlib
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from facelib.datasets.face_list import FaceList, load_faces, photo_key
from facelib.io.files import printable
from facelib.settings import LISTS, data_folder

UNSEEN = "faces_unseen"  # the set whose splits are open_val and open_test
EVALUATION_SETS = (UNSEEN, "lfw")
FAMILIES = "faces_more"  # the set with Families in the Wild


def open_set_faces(split: str) -> FaceList:
    """The photos of "open_val" or "open_test".

    Raises:
        FileNotFoundError: faces_unseen is not there. ValueError: another split.
    """
    if split not in ("open_val", "open_test"):
        raise ValueError(f"split={split!r}: expected 'open_val' or 'open_test'")
    faces = load_faces(UNSEEN)
    return faces.select(faces.splits == split)


def open_set_photos() -> dict[str, dict[str, str]]:
    """Photo of CelebA -> its "split" and "person", of all photos of open_val and open_test."""
    with open(LISTS / "open_set.csv", newline="") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


def open_set_is_here() -> bool:
    """Whether there are people of open_val to validate on."""
    return (data_folder() / UNSEEN).is_dir()


def stable_hash(key: str) -> bytes:
    """32 bytes that look random and are always the same."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def hash_order(faces: FaceList) -> np.ndarray:
    """(n,) indices of the photos, in an order that looks random and is always the same."""
    return np.array(sorted(range(len(faces)), key=lambda i: stable_hash(photo_key(faces.files[i]))), int)


def assert_people_apart(**groups: FaceList) -> None:
    """Raise ValueError when a person is in two of the named lists."""
    names = list(groups)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = sorted(set(groups[a].people) & set(groups[b].people))
            if both:
                raise ValueError(
                    f"{a} and {b} share {len(both)} people, e.g. {both[0]}: open-set figures would be wrong"
                )


def clean_faces(faces: FaceList, lists: Path = LISTS) -> FaceList:
    """Without the people and photos of the frozen lists, and with one key for each person.

    `excluded_people.txt`: people who are also in an evaluation set. `same_people.txt`: two keys a line,
    the second becomes the first. `dropped_photos.txt`: photos that do not show their person.
    """
    excluded, dropped = ((lists / f"{name}.txt").read_text().split() for name in ("excluded_people", "dropped_photos"))
    same = dict(line.split()[::-1] for line in (lists / "same_people.txt").read_text().splitlines())
    keys = np.array([photo_key(file) for file in faces.files])
    faces = replace(faces, people=np.array([same.get(person, person) for person in faces.people.tolist()]))
    return faces.select(~np.isin(faces.people, excluded) & ~np.isin(keys, dropped))


def other_keys(people: set[str], lists: Path = LISTS) -> set[str]:
    """The keys under which `same_people.txt` knows these people too."""
    pairs = [line.split() for line in (lists / "same_people.txt").read_text().splitlines()]
    return {a for a, b in pairs if b in people} | {b for a, b in pairs if a in people}


def training_list(sets: dict[str, FaceList]) -> FaceList:
    """What of these sets may be trained on: cleaned by the frozen lists, without the held-out families.

    A key is one person in all of them: "celeba_00001" may have photos in two.

    Raises:
        ValueError: a person is in an evaluation set that is here.
    """
    faces = FaceList.join(list(sets.values()))
    held_out = {person for person in faces.people.tolist() if in_held_out_family(person)}
    faces = clean_faces(faces.select(~np.isin(faces.people, list(held_out | other_keys(held_out)))))
    there = [name for name in EVALUATION_SETS if (data_folder() / name).is_dir()]
    assert_people_apart(training=faces, **{name: load_faces(name) for name in there})
    warn_of_single_photos(faces)
    return faces


def family(person: str) -> str:
    """The family of a person of Families in the Wild; of others the person itself."""
    return "_".join(person.split("_")[:2]) if person.startswith("fiw_") else person


def in_held_out_family(person: str) -> bool:
    """Whether a person belongs to the twelfth of the families that no training sees."""
    return family(person) != person and stable_hash(family(person))[0] % 12 == 0


def landmark_splits(rows: list[dict[str, str]]) -> np.ndarray:
    """(n,) splits of the rows of a table of landmarks: "train", "val" or "test".

    Of sets without a validation split (all but CelebA) an eighth of the training people, or photos, becomes one.
    """
    splits = []
    for row in rows:
        moves = row["split"] == "train" and row["dataset"] != "celeba"
        held_out = moves and stable_hash(row["person_or_photo"])[0] % 8 == 0
        splits.append("val" if held_out else row["split"])
    return np.array(splits)


def pseudo_labelled(crops: FaceList, labelled: FaceList, per_person: int = 4) -> FaceList:
    """Of face crops with a detector's points those that may stand in for labels, as the set "detector": up to
    `per_person` photos of each person who is in no validation or test of the landmarks.

    Raises:
        ValueError: the crops have no points.
    """
    if crops.points is None:
        raise ValueError(f"{crops.files[0].parent.parent}/faces.csv has no columns left_eye_x ... right_mouth_y")
    held_out = set(labelled.people[labelled.splits != "train"].tolist())
    keep = sample_per_person(crops, per_person) & ~np.isin(crops.people, list(held_out))
    return replace(crops, sets=np.full(len(crops), "detector")).select(keep)


def orl_splits(keys: list[tuple[int, int]]) -> np.ndarray:
    """(n,) splits of the ORL faces (person, photo), counted from 1: people 31 to 40 are "unseen"; of the others
    photos 1 to 7 are "train" and 8 to 10 "test"."""
    return np.array(["unseen" if person > 30 else "train" if photo <= 7 else "test" for person, photo in keys])


def hold_out_photos(faces: FaceList, held_out: float) -> FaceList:
    """Of people with ten photos or more, make a share of the photos "val", always the same.

    Where nobody has ten, one photo of everyone who has three or more, so that there is an accuracy to see.
    """
    _, who, counts = np.unique(faces.people, return_inverse=True, return_counts=True)
    place = np.argsort(hash_order(faces))
    splits = np.full(len(faces), "train")
    least = 10 if (counts >= 10).any() else 3
    for person in np.flatnonzero(counts >= least):
        photos = np.flatnonzero(who == person)
        number = round(held_out * len(photos)) if least == 10 else min(1, math.ceil(held_out))
        splits[photos[np.argsort(place[photos])][:number]] = "val"
    warn_of_single_photos(faces)
    return replace(faces, splits=splits)


def warn_of_single_photos(faces: FaceList) -> None:
    """Say how many people have one photo only: nothing shows the training what their photos share."""
    names, counts = np.unique(faces.people, return_counts=True)
    if (counts == 1).any():
        single = names[counts == 1]
        example = printable(single[0])
        warnings.warn(f"{len(single)} people have a single photo, e.g. {example}: they teach little", stacklevel=3)


def sample_per_person(faces: FaceList, per_person: int) -> np.ndarray:
    """(n,) bool: up to `per_person` photos of each person, always the same ones."""
    taken: dict[str, int] = {}
    keep = np.zeros(len(faces), bool)
    for i in hash_order(faces):
        person = faces.people[i]
        taken[person] = taken.get(person, 0) + 1
        keep[i] = taken[person] <= per_person
    return keep


def balanced_subset(faces: FaceList, people: int, photos: int) -> np.ndarray:
    """Rows of `photos` photos, equally many of each of `people` people, always the same ones.

    Raises:
        ValueError: fewer people have as many photos.
    """
    each = photos // people
    mine: dict[str, list[int]] = {}
    for i in hash_order(faces):
        mine.setdefault(str(faces.people[i]), []).append(i)
    rows = [own[:each] for own in mine.values() if len(own) >= each][:people]
    if len(rows) < people:
        raise ValueError(f"only {len(rows)} people have {each} photos or more, {people} are asked for")
    return np.sort(np.concatenate(rows))
