import csv

import pytest

from facelib import read_image
from facelib.datasets.face_list import load_faces
from facelib.datasets.sources import load_landmark_list, load_lfw_pairs, load_orl, load_people_folder
from facelib.datasets.splits import assert_disjoint_people


def test_orl():
    faces = load_orl()
    assert len(faces) == 400
    assert {s: int((faces.splits == s).sum()) for s in ("train", "test", "unseen")} == {
        "train": 210,
        "test": 90,
        "unseen": 100,
    }
    assert_disjoint_people(train=faces.select(faces.splits == "train"), unseen=faces.select(faces.splits == "unseen"))
    assert read_image(faces.files[123]).shape == (112, 92, 3)


def test_missing_sets_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"nowhere.*FACELIB_DATA"):
        load_faces("nowhere")
    with pytest.raises(FileNotFoundError, match="gone"):
        load_people_folder(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no photo"):
        load_people_folder(tmp_path)
    for load in (load_landmark_list, load_lfw_pairs):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            load()


@pytest.mark.parametrize(
    "file", ["../secret.webp", "/etc/secret.webp", "a/../../b.webp", "C:\\b.webp", "..\\b.webp", ""]
)
def test_paths_out_of_the_folder_are_refused(tmp_path, file):
    (tmp_path / "some").mkdir()
    (tmp_path / "some/faces.csv").write_text(f"file,person,split\ngood/1.webp,a,train\n{file},b,train\n")
    with pytest.raises(ValueError, match=r"faces\.csv, line 3"):
        load_faces("some", tmp_path)


def test_lfw_pairs(tmp_path):
    folder = tmp_path / "lfw"
    folder.mkdir()
    rows = [("Ann_Lee", 1), ("Ann_Lee", 2), ("Bob_Ray", 1)]
    with open(folder / "faces.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "person", "split"])
        writer.writerows([f"{name}/{name}_{i:04d}.webp", name, "lfw"] for name, i in rows)
    (folder / "pairs.txt").write_text(
        "2\t1\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBob_Ray\t1\nAnn_Lee\t1\t2\nBob_Ray\t1\tAnn_Lee\t2\n"
    )
    first, second, same, fold = load_lfw_pairs(tmp_path)
    assert first.tolist() == [0, 0, 0, 2]
    assert second.tolist() == [1, 2, 1, 1]
    assert same.tolist() == [True, False, True, False]
    assert fold.tolist() == [0, 0, 1, 1]
    (folder / "pairs.txt").write_text("2\t1\nAnn_Lee\t1\t2\n")
    with pytest.raises(ValueError, match="truncated"):
        load_lfw_pairs(tmp_path)
    (folder / "pairs.txt").write_text("1\t1\nAnn_Lee\t1\t7\n")
    with pytest.raises(ValueError, match="Ann_Lee_0007"):
        load_lfw_pairs(tmp_path)


def test_landmark_list_holds_out_people(tmp_path):
    folder = tmp_path / "landmarks"
    folder.mkdir()
    points = [
        f"{name}_{axis}" for name in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"
    ]
    with open(folder / "landmarks.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["file", "dataset", "split", "person_or_photo", "box_x1", "box_y1", "box_x2", "box_y2", *points]
        )
        for i in range(400):
            dataset = ("celeba", "ytf")[i % 2]
            writer.writerow([f"{i}.webp", dataset, "train", f"p{i // 4}", 40, 40, 150, 150, *range(10)])
    faces = load_landmark_list(tmp_path)
    held_out = faces.select(faces.splits == "val")
    assert 10 < len(held_out) < 50
    assert set(held_out.sets) == {"ytf"}
    train = faces.select((faces.splits == "train") & (faces.sets == "ytf"))
    assert not set(train.people) & set(held_out.people)
    assert faces.points[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
