"""Landmark labels in the layouts of 300-W, WFLW and MTFL."""

import numpy as np
import pytest
from published import jpeg, write_archive, write_files

from facelib.datasets.face_list import FaceList
from facelib.datasets.landmark_sets import FROM_68, FROM_98, convert_landmarks, five_points
from facelib.datasets.sources import load_landmark_list

FIVE = np.array([[40, 45], [60, 45], [50, 55], [42, 65], [58, 65]], float)


def spread(groups, count):
    """`count` points whose means over the groups are `FIVE`; all others are far away."""
    points = np.full((count, 2), 1000.0)
    for group, point in zip(groups, FIVE):
        offsets = np.random.default_rng(0).normal(size=(len(group), 2))
        points[group] = point + offsets - offsets.mean(0)
    return points


def pts(points):
    lines = "\n".join(f"{x:.4f} {y:.4f}" for x, y in points + 1)  # counted from 1
    return f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n"


def in_photo(faces: FaceList) -> np.ndarray:
    """Labels (n, 5, 2) in pixels of the photo of 100 x 100, whose middle half is the face box."""
    return (faces.points - 95.5) * (1.8 * 50) / 192 + 49.5


def test_five_points_of_more():
    assert five_points(spread(FROM_68, 68), FROM_68) == pytest.approx(FIVE, abs=1e-4)
    assert five_points(spread(FROM_98, 98), FROM_98) == pytest.approx(FIVE, abs=1e-4)


def test_300w_archives(tmp_path, middle_detector):
    label = pts(spread(FROM_68, 68))
    faces = {f"helen/{path}.{suffix}": content for path in ("trainset/1_1", "trainset/1_2", "testset/7_1",
             "trainset/1_1_mirror") for suffix, content in (("jpg", jpeg()), ("pts", label))}  # fmt: skip
    helen = write_archive(tmp_path / "helen.zip", faces | {"helen/trainset/lonely.pts": label})
    night = write_files(tmp_path / "300w", {"02_Outdoor/outdoor_001.png": jpeg(), "02_Outdoor/outdoor_001.pts": label})
    afw = write_files(tmp_path / "afw", {"12_1.jpg": jpeg(0), "12_1.pts": label})
    convert_landmarks("helen", [helen])
    convert_landmarks("300w", [night])
    convert_landmarks("afw", [afw])
    loaded = load_landmark_list()
    found = sorted(zip(loaded.sets.tolist(), loaded.people.tolist(), [file.name for file in loaded.files]))
    assert found == [
        ("300w", "outdoor_001", "outdoor_001.webp"),
        ("afw", "12", "12_1.webp"),
        ("helen", "1", "1_1.webp"),
        ("helen", "1", "1_2.webp"),
        ("helen", "7", "7_1.webp"),
    ]
    splits = dict(zip(loaded.people.tolist(), loaded.splits.tolist()))
    assert splits["7"] == splits["outdoor_001"] == "test"
    detected = loaded.select(loaded.sets != "afw")
    assert in_photo(detected) == pytest.approx(np.tile(FIVE, (4, 1, 1)), abs=0.01)
    # In the black photo no face is found: its box is made from the labels, and lies around them.
    box, points = (loaded.select(loaded.sets == "afw").boxes[0], loaded.select(loaded.sets == "afw").points[0])
    assert (points > box[:2] + 5).all() and (points < box[2:] - 5).all()


def test_wflw(tmp_path, middle_detector):
    values = " ".join(f"{value:.4f}" for value in spread(FROM_98, 98).ravel())
    line = f"{values} 25 25 75 75 0 0 0 0 0 0 0--Parade/0_Parade_1.jpg\n"
    folder = "WFLW_annotations/list_98pt_rect_attr_train_test"
    lists = {f"{folder}/list_98pt_rect_attr_{part}.txt": line * count for part, count in (("train", 2), ("test", 1))}
    labels = write_archive(tmp_path / "WFLW_annotations.tar.gz", lists)
    with pytest.raises(FileNotFoundError, match=r"no 0--Parade/0_Parade_1\.jpg there.*WFLW_images\.tar\.gz"):
        convert_landmarks("wflw", [labels])
    photos = write_archive(tmp_path / "WFLW_images.tar.gz", {"WFLW_images/0--Parade/0_Parade_1.jpg": jpeg()})
    convert_landmarks("wflw", [labels, photos], name="wild")
    faces = load_landmark_list(name="wild")
    assert sorted(file.name for file in faces.files) == ["test0000.webp", "train0000.webp", "train0001.webp"]
    assert in_photo(faces) == pytest.approx(np.tile(FIVE, (3, 1, 1)), abs=0.01)


def test_mtfl_without_the_photos_of_lfw(tmp_path, middle_detector):
    values = " ".join(map(str, [*(FIVE[:, 0] + 1), *(FIVE[:, 1] + 1), 1, 2, 2, 3]))
    training = f" lfw_5590\\Ann_Lee_0001.jpg {values}\n net_7876\\10002_0.jpg {values}\n \n"
    files = {
        "training.txt": training,
        "testing.txt": f" AFLW\\0001-image20056.jpg {values}\n",
        "net_7876/10002_0.jpg": jpeg(),
        "AFLW/0001-image20056.jpg": jpeg(),
    }
    convert_landmarks("mtfl", [write_archive(tmp_path / "MTFL.zip", files)])
    faces = load_landmark_list()
    assert sorted(zip(faces.sets.tolist(), faces.people.tolist())) == [("aflw", "image20056"), ("net", "10002_0")]
    assert faces.splits[faces.sets == "aflw"].tolist() == ["test"]
    assert in_photo(faces) == pytest.approx(np.tile(FIVE, (2, 1, 1)), abs=0.01)


@pytest.mark.parametrize(
    ("dataset", "files", "message"),
    [
        ("helen", {"helen/1_1.jpg": "x", "helen/1_1.pts": "x"}, r"beside it below trainset/ or testset/"),
        ("afw", {"a.jpg": "x", "a.pts": "version: 1\n{\n1 2\n3 4\n}"}, r"a\.pts has 2 points: expected 68"),
        ("wflw", {"readme": ""}, r"no list_98pt_rect_attr_train\.txt there.*WFLW_annotations"),
        ("wflw", {"list_98pt_rect_attr_train.txt": "1 2 a.jpg"}, r"train\.txt, line 1: 2 numbers, expected 206"),
        ("mtfl", {"testing.txt": ""}, r"no training\.txt there.*MTFL\.zip"),
        ("mtfl", {"training.txt": r"net_7876\a.jpg 1 2", "testing.txt": ""}, r"training\.txt, line 1: 2 numbers"),
    ],
)
def test_other_files_are_refused(tmp_path, middle_detector, dataset, files, message):
    source = write_files(tmp_path / "source", files)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert_landmarks(dataset, [source])
    assert not (tmp_path / "data" / "landmarks" / "landmarks.csv").exists()
