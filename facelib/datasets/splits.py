"""Held-out people and photos: every rule about who may be in which set.

open_val (60 people) is for choosing models and thresholds, open_test (150 other people) and LFW only for reporting.
A twelfth of the families of Families in the Wild is for choosing and for the figure of relatives, a third of the
training people of faces_world for choosing. Of the training faces of faces_groups a fifth is for cohorts, three tenths
for calibration. Nobody in them is in a training set. Random choices are made by the hash of an ID, so that they are the
same on every machine.
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

OPEN_SET = "faces_unseen"  # the set whose splits are open_val and open_test
EVALUATION_SETS = (OPEN_SET, "lfw")
FAMILIES = "faces_more"  # the set with Families in the Wild
FAMILY_SHARE = 12  # one family in so many is held out
GROUPS = "faces_groups"  # the set of different people with labels of origin, sex and age
GROUP_PARTS = ("cohort",) * 2 + ("calibration",) * 3 + ("train",) * 5  # of its training faces, by hash
# Of faces that a converter adds to it: test faces of each group, by collection and age band, at most half of the group.
GROUP_TEST_FACES = {
    "utkface": {"0-12": 500, "13-17": 350, "18-60": 500, "61+": 450},
    "fairface": {"18-60": 220},
    "scut": {"18-60": 500},
}
WORLD = "faces_world"  # the set of public figures from Asia and Africa
WORLD_VAL_SHARE = 3  # one of its training people in so many is held out
LANDMARK_VAL_SHARE = 8  # one person in so many becomes the validation split of a landmark set without one
MANY_PHOTOS, FEW_PHOTOS = 10, 3  # see `hold_out_photos`


def open_set_faces(split: str) -> FaceList:
    """The photos of "open_val" or "open_test".

    Raises:
        FileNotFoundError: the set faces_unseen does not exist.
        ValueError: another split.
    """
    if split not in ("open_val", "open_test"):
        raise ValueError(f"split={split!r}: expected 'open_val' or 'open_test'")
    faces = load_faces(OPEN_SET)
    return faces.select(faces.splits == split)


def open_set_photos() -> dict[str, dict[str, str]]:
    """File name of a photo of CelebA -> its "split" and "person", for all photos of open_val and open_test."""
    with open(LISTS / "open_set.csv", newline="") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


def has_open_set() -> bool:
    """Whether the photos of open_val and open_test exist."""
    return (data_folder() / OPEN_SET).is_dir()


def stable_hash(key: str) -> bytes:
    """32 pseudo-random bytes (SHA-256) that are the same on every machine."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def hash_order(faces: FaceList) -> np.ndarray:
    """(n,) int, indices of the photos in a pseudo-random order that is the same on every machine."""
    return np.array(sorted(range(len(faces)), key=lambda i: stable_hash(photo_key(faces.files[i]))), int)


def assert_disjoint_people(**lists: FaceList) -> None:
    """Check that no person is in two of the lists.

    Raises:
        ValueError: a person is; names the two lists and the person.
    """
    names = list(lists)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            shared = sorted(set(lists[a].people) & set(lists[b].people))
            if shared:
                raise ValueError(
                    f"{a} and {b} share {len(shared)} people, e.g. {shared[0]}: open-set figures would be wrong"
                )


def clean_faces(faces: FaceList, lists: Path = LISTS) -> FaceList:
    """Apply the frozen lists: one ID for each person, and no excluded people and photos.

    Args:
        lists: folder with excluded_people.txt (IDs of people who are in an evaluation set too), same_people.txt (two
            IDs of one person a line; the second becomes the first) and dropped_photos.txt (photos that do not show
            their person, as `photo_key`).
    """
    excluded = list(excluded_people(lists))
    dropped = (lists / "dropped_photos.txt").read_text().split()
    main_id = {alias: person for person, alias in _same_people(lists)}
    photos = np.array([photo_key(file) for file in faces.files])
    faces = replace(faces, people=np.array([main_id.get(person, person) for person in faces.people.tolist()]))
    return faces.select(~np.isin(faces.people, excluded) & ~np.isin(photos, dropped))


def excluded_people(lists: Path = LISTS) -> set[str]:
    """IDs of people who are not used for training, because they are in an evaluation set under another ID."""
    return set((lists / "excluded_people.txt").read_text().split())


def alias_ids(people: set[str], lists: Path = LISTS) -> set[str]:
    """The other IDs that these people have in `same_people.txt`."""
    pairs = _same_people(lists)
    return {a for a, b in pairs if b in people} | {b for a, b in pairs if a in people}


def _same_people(lists: Path) -> list[list[str]]:
    """[ID, second ID] of one person, for each line of `same_people.txt`."""
    return [line.split() for line in (lists / "same_people.txt").read_text().splitlines()]


def training_list(sets: dict[str, FaceList]) -> FaceList:
    """The faces that may be used for training: cleaned by the frozen lists, without held-out families.

    An ID is one person in all sets: "celeba_00001" may have photos in two. Somebody without a photo of the split
    "train" is not among them.

    Args:
        sets: name of a set -> its faces.

    Raises:
        ValueError: a person is in an evaluation set that exists here.
    """
    faces = FaceList.join(list(sets.values()))
    different = sets[GROUPS].people.tolist() if GROUPS in sets else []  # one photo of each
    held_out = {person for person in faces.people.tolist() if in_held_out_family(person) or in_world_val(person)}
    held_out |= {person for person in different if group_part(person) != "train"}
    held_out |= set(faces.people.tolist()) - set(faces.people[faces.splits == "train"].tolist())
    faces = clean_faces(faces.select(~np.isin(faces.people, list(held_out | alias_ids(held_out)))))
    evaluation = {name: load_faces(name) for name in EVALUATION_SETS if (data_folder() / name).is_dir()}
    assert_disjoint_people(training=faces, **evaluation)
    warn_of_single_photos(faces.select(~np.isin(faces.people, different)))
    return faces


def family(person: str) -> str:
    """ID of the family of a person of Families in the Wild; of other people the ID of the person."""
    return "_".join(person.split("_")[:2]) if person.startswith("fiw_") else person


def in_held_out_family(person: str) -> bool:
    """Whether a person is in one of the held-out families (`FAMILY_SHARE`), which are in no training set."""
    return family(person) != person and stable_hash(family(person))[0] % FAMILY_SHARE == 0


def group_part(person: str) -> str:
    """What a face of the training split of faces_groups is for: "train", "cohort" or "calibration"."""
    return GROUP_PARTS[stable_hash(person)[0] % len(GROUP_PARTS)]


def group_test_people(rows: list[dict[str, str]], groups: list[str]) -> set[str]:
    """Who of the faces of a collection is for reporting only, see `GROUP_TEST_FACES`; chosen by the hash of the ID.

    Args:
        rows: with "person", "source" and "group" (age band), of n faces.
        groups: n names of groups, see `groups.group_name`.
    """
    members: dict[str, list[dict[str, str]]] = {}
    for row, group in sorted(zip(rows, groups), key=lambda pair: stable_hash(pair[0]["person"])):
        members.setdefault(group, []).append(row)
    test: set[str] = set()
    for faces in members.values():
        count = GROUP_TEST_FACES.get(faces[0]["source"], {}).get(faces[0]["group"], 0)
        test |= {row["person"] for row in faces[: min(count, len(faces) // 2)]}
    return test


def in_world_val(person: str) -> bool:
    """Whether a training person of faces_world is held out for choosing."""
    return person.startswith("world_") and stable_hash(person)[0] % WORLD_VAL_SHARE == 0


def landmark_splits(rows: list[dict[str, str]]) -> np.ndarray:
    """Splits of landmark faces; holds out people, or photos where people are unknown, from the training split.

    Args:
        rows: of landmarks.csv. An eighth of the training people becomes the validation split of each data set without
            one, which are all but CelebA.

    Returns:
        (n,) str, "train", "val" or "test".
    """
    splits = []
    for row in rows:
        may_move = row["split"] == "train" and row["dataset"] != "celeba"
        held_out = may_move and stable_hash(row["person_or_photo"])[0] % LANDMARK_VAL_SHARE == 0
        splits.append("val" if held_out else row["split"])
    return np.array(splits)


def pseudo_labelled(crops: FaceList, labelled: FaceList, per_person: int = 4) -> FaceList:
    """Face crops whose detector landmarks serve as pseudo-labels, as the label set "detector".

    Args:
        crops: face crops with the landmarks of a detector.
        labelled: landmark faces; people of their validation and test splits are skipped.
        per_person: largest number of photos of each person.

    Raises:
        ValueError: the crops have no landmarks.
    """
    if crops.points is None:
        table = crops.files[0].parent.parent / "faces.csv"
        raise ValueError(f"{table} has no columns left_eye_x ... right_mouth_y: name another set for pseudo-labels")
    held_out = set(labelled.people[labelled.splits != "train"].tolist())
    keep = sample_per_person(crops, per_person) & ~np.isin(crops.people, list(held_out))
    return replace(crops, sets=np.full(len(crops), "detector")).select(keep)


def orl_splits(photos: list[tuple[int, int]]) -> np.ndarray:
    """Splits of the ORL faces: people 31 to 40 are "unseen"; of the others photos 1 to 7 are "train", 8 to 10 "test".

    Args:
        photos: n pairs (person, photo), both counted from 1.

    Returns:
        (n,) str.
    """
    return np.array(["unseen" if person > 30 else "train" if photo <= 7 else "test" for person, photo in photos])


def hold_out_photos(faces: FaceList, held_out: float) -> FaceList:
    """Split photos into "train" and "val", the same on every machine.

    Holds out a share of the photos of people with ten photos or more. Where nobody has ten, it holds out one photo of
    each person who has three or more, so that an accuracy can be computed.

    Args:
        held_out: share of the photos, 0 to 1.
    """
    _, person_of_photo, counts = np.unique(faces.people, return_inverse=True, return_counts=True)
    rank = np.argsort(hash_order(faces))  # position of each photo in the hash order
    splits = np.full(len(faces), "train")
    min_photos = MANY_PHOTOS if (counts >= MANY_PHOTOS).any() else FEW_PHOTOS
    for person in np.flatnonzero(counts >= min_photos):
        photos = np.flatnonzero(person_of_photo == person)
        count = round(held_out * len(photos)) if min_photos == MANY_PHOTOS else min(1, math.ceil(held_out))
        splits[photos[np.argsort(rank[photos])][:count]] = "val"
    warn_of_single_photos(faces)
    return replace(faces, splits=splits)


def warn_of_single_photos(faces: FaceList) -> None:
    """Warn of people with a single photo, from which no training can learn what photos of a person share."""
    people, counts = np.unique(faces.people, return_counts=True)
    single = people[counts == 1]
    if len(single):
        example = printable(single[0])
        warnings.warn(
            f"{len(single)} people have a single photo, e.g. {example}: they contribute little to training",
            stacklevel=3,
        )


def sample_per_person(faces: FaceList, per_person: int) -> np.ndarray:
    """(n,) bool, True for up to `per_person` photos of each person, the same on every machine."""
    counts: dict[str, int] = {}
    keep = np.zeros(len(faces), bool)
    for i in hash_order(faces):
        person = faces.people[i]
        counts[person] = counts.get(person, 0) + 1
        keep[i] = counts[person] <= per_person
    return keep


def balanced_subset(faces: FaceList, people: int, photos: int) -> np.ndarray:
    """Indices of `photos` photos, the same number of each of `people` people, the same on every machine.

    Raises:
        ValueError: fewer people have as many photos.
    """
    per_person = photos // people
    by_person: dict[str, list[int]] = {}
    for i in hash_order(faces):
        by_person.setdefault(str(faces.people[i]), []).append(i)
    chosen = [indices[:per_person] for indices in by_person.values() if len(indices) >= per_person][:people]
    if len(chosen) < people:
        raise ValueError(f"only {len(chosen)} people have {per_person} photos or more, {people} are asked for")
    return np.sort(np.concatenate(chosen))
