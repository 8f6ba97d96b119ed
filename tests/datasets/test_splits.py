"""Held-out people and photos, and the frozen lists."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from facelib.datasets.face_list import FaceList, load_faces
from facelib.datasets.sources import load_orl, load_people_folder
from facelib.datasets.splits import (
    alias_ids,
    assert_disjoint_people,
    balanced_subset,
    clean_faces,
    family,
    group_part,
    hold_out_photos,
    in_held_out_family,
    in_world_val,
    landmark_splits,
    open_set_faces,
    pseudo_labelled,
    training_list,
)
from facelib.settings import LISTS, data_folder


def make_face_list(*keys):
    files = [Path("crops") / key for key in keys]
    return FaceList(files, np.array([f.parent.name for f in files]), np.full(len(files), "train"))


def test_frozen_lists_are_applied(tmp_path):
    (tmp_path / "excluded_people.txt").write_text("bad\n")
    (tmp_path / "same_people.txt").write_text("anna anna_again\n")
    (tmp_path / "dropped_photos.txt").write_text("anna/2.webp\n")
    faces = make_face_list("anna/1.webp", "anna/2.webp", "bad/1.webp", "anna_again/2.webp", "zoe/2.webp")
    clean = clean_faces(faces, tmp_path)
    assert [f"{f.parent.name}/{f.name}" for f in clean.files] == ["anna/1.webp", "anna_again/2.webp", "zoe/2.webp"]
    assert clean.people.tolist() == ["anna", "anna", "zoe"]


def test_the_shipped_lists_are_valid():
    """Every line is well formed, excluded people are in no pair, and pairs form no chains."""
    excluded = (LISTS / "excluded_people.txt").read_text().split()
    same = [line.split() for line in (LISTS / "same_people.txt").read_text().splitlines()]
    dropped = (LISTS / "dropped_photos.txt").read_text().split()
    assert len(excluded) == len(set(excluded))
    assert len(excluded) >= 14
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in same)
    main_ids, aliases = {a for a, _ in same}, {b for _, b in same}
    assert len(aliases) == len(same)
    assert not main_ids & aliases
    assert not (main_ids | aliases) & set(excluded)
    assert all(key.count("/") == 1 for key in dropped)
    assert len(dropped) == len(set(dropped))


def test_family():
    assert family("fiw_0123_1") == family("fiw_0123_2") == "fiw_0123"
    assert family("pins_001") == "pins_001"
    held_out = [in_held_out_family(f"fiw_{number:04d}_1") for number in range(1200)]
    assert 70 < sum(held_out) < 130  # a twelfth
    assert not in_held_out_family("pins_0008_1")


def test_one_photo_of_each_person_is_held_out_where_nobody_has_ten(tmp_path):
    for person, count in (("a", 5), ("b", 3), ("c", 2)):
        (tmp_path / person).mkdir()
        for i in range(count):
            (tmp_path / person / f"{i}.png").touch()
    faces = hold_out_photos(load_people_folder(tmp_path), 0.1)
    assert sorted(faces.people[faces.splits == "val"]) == ["a", "b"]


def test_hold_out_photos_is_stable_and_keeps_small_classes(tmp_path):
    for person, count in (("many", 20), ("few", 9), ("one", 1)):
        (tmp_path / person).mkdir()
        for i in range(count):
            (tmp_path / person / f"{i}.png").touch()
    with pytest.warns(UserWarning, match="1 people have a single photo, e.g. one"):
        faces = hold_out_photos(load_people_folder(tmp_path), 0.2)
    held_out = faces.select(faces.splits == "val")
    assert len(held_out) == 4
    assert set(held_out.people) == {"many"}


def test_shared_people_are_refused(tmp_path):
    faces = load_orl()
    with pytest.raises(ValueError, match=r"training and unseen share 40 people, e.g. s1"):
        assert_disjoint_people(training=faces, unseen=faces)


def test_training_list_is_clean_and_disjoint(prepared, tmp_path):
    """A person of an evaluation set is an error, a held-out family is skipped, an ID is one person in all sets."""
    prepared("some", {"s1": ("s1", 2), "s2": ("s2", 1), "fiw_0008_1": ("s5", 2)})
    prepared("more", {"s3": ("s3", 2)})
    sets = {name: load_faces(name) for name in ("some", "more")}
    with pytest.warns(UserWarning, match=r"1 people have a single photo, e.g. s2"):
        faces = training_list(sets)
    assert faces.people.tolist() == ["s1", "s1", "s2", "s3", "s3"]
    both = training_list({"some": load_faces("some"), "again": load_faces("some")})
    assert both.people.tolist() == 2 * ["s1", "s1", "s2"]
    prepared("faces_unseen", {"s3": ("s3", 1)}, "open_val")
    with pytest.raises(ValueError, match=r"training and faces_unseen share 1 people.*s3"):
        training_list(sets)


def test_held_out_families_are_skipped_under_all_their_ids(prepared, tmp_path, monkeypatch):
    """A person of a held-out family has a second ID of another source: both are skipped."""
    (family_member,) = [f"fiw_{n:04d}_1" for n in range(99) if in_held_out_family(f"fiw_{n:04d}_1")][:1]
    for name, text in (("same_people", f"s1 {family_member}"), ("excluded_people", ""), ("dropped_photos", "")):
        (tmp_path / f"{name}.txt").write_text(text)
    monkeypatch.setattr(clean_faces, "__defaults__", (tmp_path,))
    monkeypatch.setattr(alias_ids, "__defaults__", (tmp_path,))
    prepared("some", {"s1": ("s1", 2), "s2": ("s2", 2), family_member: ("s1", 3)})
    assert set(training_list({"some": load_faces("some")}).people) == {"s2"}


def test_aliases_of_held_out_people_are_known():
    """`alias_ids` finds the second ID of each person of a held-out family in the shipped list."""
    pairs = [line.split() for line in (LISTS / "same_people.txt").read_text().splitlines()]
    split = [(a, b) for a, b in pairs if in_held_out_family(a) != in_held_out_family(b)]
    for a, b in split:
        member = a if in_held_out_family(a) else b
        assert alias_ids({member}) == {a, b} - {member}


def test_open_set_faces(prepared):
    with pytest.raises(FileNotFoundError, match="faces_unseen"):
        open_set_faces("open_val")
    prepared("faces_unseen", {"s31": ("s31", 4)}, "open_val")
    assert len(open_set_faces("open_val")) == 4
    assert len(open_set_faces("open_test")) == 0
    with pytest.raises(ValueError, match="split='val': expected 'open_val' or 'open_test'"):
        open_set_faces("val")


def test_landmark_faces_are_held_out_by_person():
    rows = [
        {"dataset": ("celeba", "ytf")[i % 2], "split": "train", "person_or_photo": f"p{i // 4}"} for i in range(400)
    ]
    splits = landmark_splits(rows)
    held_out = {row["person_or_photo"] for row, split in zip(rows, splits) if split == "val"}
    assert 10 < (splits == "val").sum() < 50
    for row, split in zip(rows, splits):
        if row["dataset"] == "ytf":
            assert (row["person_or_photo"] in held_out) == (split == "val")
        else:
            assert split == "train"


def test_pseudo_labels_skip_held_out_people():
    crops = make_face_list(*(f"{person}/{i}.webp" for person in "abc" for i in range(6)))
    points = np.zeros((18, 5, 2), np.float32)
    labelled = FaceList([Path("x"), Path("y")], np.array(["b", "c"]), np.array(["test", "train"]))
    with pytest.raises(ValueError, match="no columns left_eye_x"):
        pseudo_labelled(crops, labelled)
    chosen = pseudo_labelled(FaceList(crops.files, crops.people, crops.splits, points=points), labelled, per_person=4)
    assert np.unique(chosen.people, return_counts=True)[1].tolist() == [4, 4]
    assert set(chosen.people) == {"a", "c"}
    assert set(chosen.sets) == {"detector"}


def test_balanced_subset_has_equally_many_photos_of_each_person():
    faces = make_face_list(*(f"p{i % 8}/{i}.webp" for i in range(52)))
    for count in (2, 4, 6):
        rows = balanced_subset(faces, count, 12)
        assert np.unique(faces.people[rows], return_counts=True)[1].tolist() == [12 // count] * count
        assert (rows == balanced_subset(faces, count, 12)).all()
    with pytest.raises(ValueError, match="only 8 people have 1 photos"):
        balanced_subset(faces, 12, 12)


def test_parts_of_the_faces_of_different_people():
    """A fifth for cohorts, three tenths for calibration; frozen by a hash, so that no face changes its part."""
    parts = [group_part(f"g{number:05d}") for number in range(10_000)]
    shares = {part: parts.count(part) / len(parts) for part in set(parts)}
    assert shares == pytest.approx({"cohort": 0.2, "calibration": 0.3, "train": 0.5}, abs=0.02)
    assert parts[:6] == ["train", "cohort", "cohort", "calibration", "calibration", "calibration"]


def test_held_out_people_of_faces_world():
    held_out = [in_world_val(f"world_{number:03d}") for number in range(900)]
    assert 0.28 < np.mean(held_out) < 0.38
    assert not any(in_world_val(f"celeba_{number:05d}") for number in range(300))


def test_training_skips_people_held_out_of_the_sets_of_groups(prepared):
    """Those for cohorts and calibration, those of faces_world for choosing, and those who are in its test split; a
    single photo of each is no reason to warn."""
    different = [f"g{number}" for number in range(20)]
    world = [f"world_{number}" for number in range(8)]
    prepared("faces_groups", {person: ("s1", 1) for person in different})
    prepared("faces_world", {person: ("s2", 2) for person in world})
    prepared("some", {"s3": ("s3", 2)})
    table = data_folder() / "faces_world/faces.csv"
    (shown, *_) = [person for person in world if not in_world_val(person)]
    table.write_text(table.read_text().replace(f",{shown},orl,train", f",{shown},orl,test"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faces = training_list({name: load_faces(name) for name in ("faces_groups", "faces_world", "some")})
    expected = {person for person in different if group_part(person) == "train"}
    expected |= {person for person in world if not in_world_val(person)} - {shown}
    assert set(faces.people) == expected | {"s3"}
    assert 0 < len(expected & set(different)) < 20
