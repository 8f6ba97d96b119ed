import csv

import numpy as np
import pytest
from PIL import Image

from facelib import read_image
from facelib.datasets import (
    assert_people_apart,
    load_celeba,
    load_faces,
    load_landmark_list,
    load_lfw_pairs,
    load_orl,
    load_people_folder,
)
from facelib.images import crop_matrix
from facelib.landmarks import transform_points
from facelib.preparation import align_photos, prepare_crops, split_photos


@pytest.fixture
def people(tmp_path, photo, detector):
    """A folder of three people, cut out of the sample photo, with one broken file."""
    boxes, _ = detector.detect(photo)
    for person, box in enumerate(boxes[:3].round().astype(int)):
        folder = tmp_path / "people" / f"person{person}"
        folder.mkdir(parents=True)
        x1, y1, x2, y2 = box + [-60, -60, 60, 60]
        crop = photo[max(y1, 0) : y2, max(x1, 0) : x2]
        Image.fromarray(crop).save(folder / "one.png")
        Image.fromarray(crop[:, ::-1]).save(folder / "two.jpg", quality=95)
    (tmp_path / "people" / "person0" / "broken.jpg").write_text("no picture")
    return tmp_path / "people"


def test_orl():
    faces = load_orl()
    assert len(faces) == 400
    assert {s: int((faces.splits == s).sum()) for s in ("train", "test", "unseen")} == {
        "train": 210,
        "test": 90,
        "unseen": 100,
    }
    assert_people_apart(train=faces.where(faces.splits == "train"), unseen=faces.where(faces.splits == "unseen"))
    assert read_image(faces.files[123]).shape == (112, 92, 3)


def test_folder_to_crops_to_aligned(people, detector, pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match=r"1 of 7 photos left out.*broken\.jpg"):
        folder = prepare_crops(load_people_folder(people), "own", detector)
    assert folder == tmp_path / "own"
    faces = load_faces("own")
    assert sorted(set(faces.people)) == ["person0", "person1", "person2"]
    assert len(faces) == 6
    assert read_image(faces.files[0]).shape == (144, 144, 3)
    # The crop shows to the landmarker what the photo itself would: the points agree.
    original = read_image(people / "person0" / "one.png")
    boxes, _ = detector.detect(original)
    direct = pipeline.landmarker.predict([original], [boxes[:1]])[0][0]
    index = [f.as_posix().endswith("person0/one.webp") for f in faces.files].index(True)
    crop = read_image(faces.files[index])
    in_crop = pipeline.landmarker.predict([crop], [faces.boxes[index : index + 1]])[0][0]
    expected = transform_points(direct, crop_matrix(boxes[0], 144))
    assert np.linalg.norm(in_crop - expected, axis=1).mean() < 1.5

    aligned, kept = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert aligned.shape == (6, 112, 112, 3)
    again, _ = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    np.testing.assert_array_equal(aligned, again)
    # Another list is not answered from the cache of this one.
    fewer, kept = align_photos(faces.where([0, 2]), pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert len(fewer) == len(kept) == 2
    # A broken note, a cut array, a photo replaced under its name: made anew.
    (tmp_path / "cache.json").write_text("{")
    align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    (tmp_path / "cache.npy").write_bytes(b"")
    Image.fromarray(np.asarray(Image.open(faces.files[0]))[:, ::-1]).save(faces.files[0], lossless=True)
    mirrored, _ = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert np.abs(mirrored[0].astype(int) - again[0]).mean() > 3
    # The same picture, up to the rounding that another batch brings.
    assert np.abs(fewer[1].astype(int) - again[2].astype(int)).max() <= 2


def test_align_without_boxes_leaves_out_and_names(people, detector, pipeline):
    Image.new("RGB", (100, 100)).save(people / "person1" / "blank.png")
    with pytest.warns(UserWarning, match=r"2 of 8 photos left out.*broken\.jpg.*blank\.png: no face"):
        aligned, kept = align_photos(load_people_folder(people), pipeline.landmarker, detector, progress=False)
    assert len(aligned) == len(kept) == 6
    assert not any(f.name in ("blank.png", "broken.jpg") for f in kept.files)


def test_bad_folders(tmp_path, monkeypatch, pipeline, detector):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"nowhere.*FACELIB_DATA"):
        load_faces("nowhere")
    with pytest.raises(FileNotFoundError, match="gone"):
        load_people_folder(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no photo"):
        load_people_folder(tmp_path)
    for load in (load_landmark_list, load_lfw_pairs, load_celeba):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            load()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").touch()
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ValueError, match="none of 1 photos"):
        align_photos(load_people_folder(tmp_path), pipeline.landmarker, detector, progress=False)


def test_photos_of_one_stem_become_two_crops(people, detector, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    picture = Image.open(people / "person0" / "two.jpg")
    picture.save(people / "person0" / "one.jpg")
    (people / "person0" / "broken.jpg").unlink()
    prepare_crops(load_people_folder(people), "own", detector)
    names = sorted(file.name for file in (tmp_path / "own" / "person0").iterdir())
    assert names == ["one-2.webp", "one.webp", "two.webp"]
    assert len({file.read_bytes() for file in (tmp_path / "own" / "person0").iterdir()}) == 3
    with pytest.raises(ValueError, match="expected a name"):
        prepare_crops(load_people_folder(people), "../own", detector)


@pytest.mark.parametrize(
    "file", ["../secret.webp", "/etc/secret.webp", "a/../../b.webp", "C:\\b.webp", "..\\b.webp", ""]
)
def test_tables_that_lead_elsewhere_are_refused(tmp_path, file):
    (tmp_path / "some").mkdir()
    (tmp_path / "some/faces.csv").write_text(f"file,person,split\ngood/1.webp,a,train\n{file},b,train\n")
    with pytest.raises(ValueError, match=r"faces\.csv, line 3"):
        load_faces("some", tmp_path)


def test_a_photo_a_person_is_held_out_where_nobody_has_ten(tmp_path):
    for person, count in (("a", 5), ("b", 3), ("c", 2)):
        (tmp_path / person).mkdir()
        for i in range(count):
            (tmp_path / person / f"{i}.png").touch()
    faces = split_photos(load_people_folder(tmp_path), 0.1)
    assert sorted(faces.people[faces.splits == "val"]) == ["a", "b"]


def test_split_photos_is_stable_and_spares_small_classes(tmp_path):
    for person, count in (("many", 20), ("few", 9), ("one", 1)):
        (tmp_path / person).mkdir()
        for i in range(count):
            (tmp_path / person / f"{i}.png").touch()
    with pytest.warns(UserWarning, match="1 people have a single photo, e.g. one"):
        faces = split_photos(load_people_folder(tmp_path), 0.2)
    held_out = faces.where(faces.splits == "val")
    assert len(held_out) == 4
    assert set(held_out.people) == {"many"}


def test_people_must_not_meet(tmp_path):
    faces = load_orl()
    with pytest.raises(ValueError, match=r"training and unseen share 40 people, e.g. s1"):
        assert_people_apart(training=faces, unseen=faces)


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
    with pytest.raises(ValueError, match="cut short"):
        load_lfw_pairs(tmp_path)
    (folder / "pairs.txt").write_text("1\t1\nAnn_Lee\t1\t7\n")
    with pytest.raises(ValueError, match="Ann_Lee_0007"):
        load_lfw_pairs(tmp_path)


def test_celeba_layout(tmp_path):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    (folder / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 7\n")
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n")
    header = (
        "2\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y\n"
    )
    lines = "000001.jpg 69 109 106 113 77 142 73 152 108 154\n000002.jpg 69 110 107 112 81 135 70 151 108 153\n"
    (folder / "list_landmarks_align_celeba.txt").write_text(header + lines)
    faces = load_celeba(tmp_path)
    assert faces.people.tolist() == ["celeba_02880", "celeba_00007"]
    assert faces.splits.tolist() == ["train", "test"]
    assert faces.points[0].tolist() == [[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]]


def test_landmark_list_holds_out_whole_people(tmp_path):
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
    held_out = faces.where(faces.splits == "val")
    assert 10 < len(held_out) < 50
    assert set(held_out.sets) == {"ytf"}
    train = faces.where((faces.splits == "train") & (faces.sets == "ytf"))
    assert not set(train.people) & set(held_out.people)
    assert faces.points[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
