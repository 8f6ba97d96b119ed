"""Collections with labels of origin, sex and age, in their public layouts."""

import csv

import pytest
from published import jpeg, write_archive, write_files

from facelib.datasets.face_list import load_faces
from facelib.datasets.group_sets import convert_groups
from facelib.datasets.groups import group_name

COLUMNS = ("person", "age", "sex", "origin", "group")


def rows(folder):
    with open(folder / "faces.csv", newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: row["file"])


def labels(folder):
    return [tuple(row[name] for name in COLUMNS) for row in rows(folder)]


def test_utkface(tmp_path, middle_detector):
    names = ["26_1_1_20170116174525125.jpg.chip.jpg", "3_0_2_20170110000000001.jpg", "61_0_3_20170110000000002.jpg"]
    others = ["30_0_4_20170110000000003.jpg", "61_1_20170109142408075.jpg", "readme.txt"]
    photos = {f"{folder}/{name}": jpeg() for name in names + others for folder in ("UTKFace", "utkface/UTKFace")}
    folder = convert_groups("utkface", [write_archive(tmp_path / "UTKFace.tar.gz", photos)])
    assert labels(folder) == [
        ("utkface_26_1_1_20170116174525125", "26", "female", "black", "18-60"),
        ("utkface_3_0_2_20170110000000001", "3", "male", "asian", "0-12"),
        ("utkface_61_0_3_20170110000000002", "61", "male", "indian", "61+"),
    ]
    assert load_faces("faces_groups").files[0].is_file()


def fairface(folder):
    table = "file,age,gender,race,service_test\n"
    train = table + "train/1.jpg,3-9,Male,East Asian,True\ntrain/2.jpg,20-29,Female,Latino_Hispanic,False\n"
    val = table + "val/1.jpg,more than 70,Female,Middle Eastern,True\n"
    write_archive(folder / "fairface-img-margin125-trainval.zip", {
        f"fairface-img/{name}": jpeg() for name in ("train/1.jpg", "train/2.jpg", "val/1.jpg")
    })  # fmt: skip
    return write_files(folder, {"fairface_label_train.csv": train, "fairface_label_val.csv": val})


def test_fairface(tmp_path, middle_detector):
    assert labels(convert_groups("fairface", [fairface(tmp_path / "ff")])) == [
        ("fairface_train_1", "3-9", "male", "east asian", "0-12"),
        ("fairface_train_2", "20-29", "female", "latino", "18-60"),
        ("fairface_val_1", "more than 70", "female", "middle eastern", "61+"),
    ]


def test_all_age_faces_and_scut(tmp_path, middle_detector):
    root = "All-Age-Faces Dataset"
    names = [f"{root}/original images/00000A02.jpg", f"{root}/original images/07381A17.jpg"]
    write_files(tmp_path / "aaf", dict.fromkeys([*names, f"{root}/aglined faces/00000A02.jpg"], jpeg()))
    folder = convert_groups("aaf", [tmp_path / "aaf"], "own")
    assert labels(folder) == [
        ("aaf_00000", "2", "female", "east asian", "0-12"),
        ("aaf_07381", "17", "male", "east asian", "13-17"),
    ]
    scut = write_archive(tmp_path / "scut.zip", {f"SCUT-FBP5500_v2/Images/{n}.jpg": jpeg() for n in ("AF1", "CM20")})
    convert_groups("scut", [scut], "own")  # added, with the others kept
    assert labels(folder)[2:] == [
        ("scut_AF1", "", "female", "asian", "18-60"),
        ("scut_CM20", "", "male", "white", "18-60"),
    ]
    assert {group_name(row["origin"], row["sex"], row["group"]) for row in rows(folder)[2:]} == {
        "east asian women",
        "white men",
    }


def test_test_faces_are_at_most_half_of_a_group_and_no_one_elses(tmp_path, middle_detector):
    photos = {f"UTKFace/{20 + i}_0_0_2017011000000{i:04d}.jpg": jpeg() for i in range(11)}
    photos |= {f"original images/{i:05d}A30.jpg": jpeg() for i in range(4)}
    source = write_files(tmp_path / "source", photos)
    folder = convert_groups("utkface", [source])
    convert_groups("aaf", [source])
    first = {row["file"]: row["split"] for row in rows(folder)}
    assert sorted(split for file, split in first.items() if file.startswith("utkface")) == ["test"] * 5 + ["train"] * 6
    assert {split for file, split in first.items() if file.startswith("aaf")} == {"train"}
    convert_groups("utkface", [source], replace=True)
    assert {row["file"]: row["split"] for row in rows(folder)} == first


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("utkface", r"source: no photo of utkface there: expected photos named AGE_SEX_ORIGIN_DATE"),
        ("fairface", r"no fairface_label_train\.csv there"),
        ("aaf", r"expected photos named 'original images/00000A02\.jpg'"),
        ("scut", r"expected photos named AF1\.jpg"),
    ],
)
def test_other_folders_are_refused(tmp_path, middle_detector, dataset, message):
    source = write_files(tmp_path / "source", {"me.jpg": jpeg()})
    with pytest.raises(FileNotFoundError, match=message):
        convert_groups(dataset, [source])


def test_unreadable_photos_are_reported(tmp_path, middle_detector):
    source = fairface(tmp_path / "ff")
    photos = {"train/1.jpg": b"no photo", "train/2.jpg": jpeg(), "val/1.jpg": jpeg(0)}
    write_archive(source / "fairface-img-margin125-trainval.zip", photos)
    with pytest.warns(UserWarning, match=r"2 of 3 photos skipped: .*train/1\.jpg: .*; .*val/1\.jpg: no face found"):
        folder = convert_groups("fairface", [source])
    assert len(rows(folder)) == 1
