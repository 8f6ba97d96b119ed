"""CelebA as its authors and Kaggle publish it, made of photos of one colour."""

import csv
import hashlib

import numpy as np
import pytest
from published import jpeg, write_archive, write_files
from torchvision.datasets import CelebA

from facelib.datasets.celeba import fetch_celeba, fetch_open_set
from facelib.datasets.face_list import load_faces
from facelib.datasets.landmark_sets import fetch_celeba_landmarks
from facelib.datasets.sources import load_landmark_list
from facelib.datasets.splits import excluded_people, open_set_faces, open_set_photos
from facelib.types import DownloadError

POINTS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
LABELS = "40 45 60 45 50 55 42 65 58 65"


def people_of_test():
    """Photo -> number of its person: ten of one person, two of another, of the open set, and of an excluded one."""
    people = {f"{i:06d}.jpg": 9001 for i in range(1, 11)} | {"000011.jpg": 9002, "000012.jpg": 9002}
    for split in ("open_val", "open_test"):
        photo, row = next((photo, row) for photo, row in open_set_photos().items() if row["split"] == split)
        people[photo] = int(row["person"].removeprefix("celeba_"))
    excluded = next(person for person in sorted(excluded_people()) if person.startswith("celeba_"))
    return people | {"000099.jpg": int(excluded.removeprefix("celeba_"))}


def text_lists(people):
    """The lists of the authors; every other photo is of the validation split."""
    return {
        "identity_CelebA.txt": "".join(f"{photo} {person}\n" for photo, person in people.items()),
        "list_eval_partition.txt": "".join(f"{photo} {i % 2}\n" for i, photo in enumerate(people)),
        "list_landmarks_align_celeba.txt": f"{len(people)}\n{POINTS}\n"
        + "".join(f"{photo}  {LABELS}\n" for photo in people),
    }


def photos(people, folder="img_align_celeba"):
    return {f"{folder}/{photo}": jpeg() for photo in people}


def authors(folder, people):
    write_archive(folder / "img_align_celeba.zip", photos(people))
    return write_files(folder, text_lists(people))


def kaggle(folder, people):
    lists = {
        name.replace("txt", "csv"): content.replace("  ", ",").replace(" ", ",")
        for name, content in text_lists(people).items()
    }
    identities = {"identity_CelebA.txt": text_lists(people)["identity_CelebA.txt"]}
    del lists["identity_CelebA.csv"]
    lists["list_landmarks_align_celeba.csv"] = "image_id," + lists["list_landmarks_align_celeba.csv"].split("\n", 1)[1]
    write_archive(folder / "archive.zip", photos(people, "img_align_celeba/img_align_celeba") | lists)
    return write_files(folder, identities)


@pytest.mark.parametrize("layout", [authors, kaggle])
def test_training_people_and_the_open_set_share_nobody(tmp_path, middle_detector, layout):
    people = people_of_test()
    source = layout(tmp_path / "source", people)
    before = {file: file.read_bytes() for file in source.iterdir()}
    fetch_celeba([source], check=False)
    fetch_open_set([source], check=False)
    training = load_faces("celeba_crops")
    assert sorted(set(training.people.tolist())) == ["celeba_09001", "celeba_09002"]
    assert training.sources.tolist() == ["celeba"] * 12
    assert sorted(training.splits.tolist()) == ["train"] * 11 + ["val"]
    assert [file.name for file in training.files][:2] == ["000001.webp", "000002.webp"]
    for split in ("open_val", "open_test"):
        (person,) = open_set_faces(split).people.tolist()
        assert person == next(row["person"] for row in open_set_photos().values() if row["split"] == split)
    assert before == {file: file.read_bytes() for file in source.iterdir()}


def test_landmarks_are_those_of_one_photo_of_each_person(tmp_path, middle_detector):
    people = people_of_test()
    fetch_celeba_landmarks([authors(tmp_path / "source", people)], check=False)
    faces = load_landmark_list()
    assert len(faces) == len(set(people.values())) == len(set(faces.people.tolist()))
    assert set(faces.splits.tolist()) <= {"train", "val"}
    # The box spans 25 to 75 of 100 pixels: its middle, the edge between pixels 49 and 50, is that of the crop.
    scale = 192 / (1.8 * 50)
    expected = [[(x - 49.5) * scale + 95.5, (y - 49.5) * scale + 95.5] for x, y in ((40, 45), (60, 45), (50, 55))]
    assert np.abs(faces.points[0, :3] - expected).max() < 0.006
    assert faces.boxes[0] == pytest.approx([96 - 96 / 1.8] * 2 + [96 + 96 / 1.8] * 2, abs=0.006)
    with pytest.raises(ValueError, match=r"has 5 faces of celeba already: --replace"):
        fetch_celeba_landmarks([tmp_path / "source"], check=False)
    fetch_celeba_landmarks([tmp_path / "source"], check=False, replace=True)
    assert len(load_landmark_list()) == 5


def test_photos_before_alignment_are_preferred_for_landmarks(tmp_path, middle_detector):
    people = people_of_test()
    source = authors(tmp_path / "source", people)
    write_files(source, photos(people, "img_celeba"))
    wild = f"{len(people)}\n{POINTS}\n" + "".join(f"{photo} {LABELS.replace('40', '41')}\n" for photo in people)
    write_files(source, {"list_landmarks_celeba.txt": wild})
    fetch_celeba_landmarks([source], check=False)
    assert load_landmark_list().points[0, 0, 0] == pytest.approx((41 - 49.5) * 192 / 90 + 95.5, abs=0.006)


def test_files_of_the_authors_are_checked_by_their_md5(tmp_path, middle_detector, monkeypatch):
    source = authors(tmp_path / "source", people_of_test())
    with pytest.raises(ValueError, match=r"identity_CelebA\.txt is not the file that its authors publish.*32bd1bd6"):
        fetch_celeba([source])
    sums = {name: hashlib.md5((source / name).read_bytes()).hexdigest() for name in text_lists({})}
    sums["img_align_celeba.zip"] = hashlib.md5((source / "img_align_celeba.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(CelebA, "file_list", [("id", md5, name) for name, md5 in sums.items()])
    fetch_celeba([source])
    assert len(load_faces("celeba_crops")) == 12


def test_missing_files_are_named(tmp_path, middle_detector):
    source = kaggle(tmp_path / "source", people_of_test())
    (source / "identity_CelebA.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"source: no identity_CelebA\.txt there\. Get identity_CelebA\.txt"):
        fetch_celeba([source])
    with pytest.raises(FileNotFoundError, match=r"no img_align_celeba\.zip and no identity_CelebA\.txt there"):
        fetch_celeba([write_files(tmp_path / "empty", {"readme.txt": "nothing"})])


def test_only_what_is_missing_is_downloaded(tmp_path, middle_detector, monkeypatch):
    asked = []

    def refuse(file_id, root, filename, md5):
        asked.append(filename)
        raise OSError("Too many users have viewed or downloaded this file recently")

    monkeypatch.setattr("torchvision.datasets.utils.download_file_from_google_drive", refuse)
    with pytest.raises(DownloadError, match=r"Too many users.*img_align_celeba\.zip and identity_CelebA\.txt.*celeba"):
        fetch_celeba()
    authors(tmp_path / "data" / "celeba", people_of_test())
    (tmp_path / "data" / "celeba" / "identity_CelebA.txt").unlink()
    with pytest.raises(DownloadError, match=r"by hand: Get identity_CelebA\.txt from"):
        fetch_celeba()
    assert asked == ["img_align_celeba.zip", "identity_CelebA.txt"]
    authors(tmp_path / "data" / "celeba", people_of_test())
    fetch_celeba(check=False)  # everything is there: nothing is asked for
    assert len(asked) == 2


def test_an_interrupted_run_goes_on_where_it_ended(tmp_path, middle_detector, monkeypatch):
    source = authors(tmp_path / "source", people_of_test())
    detect = middle_detector.detect

    def interrupted(image):
        if middle_detector.calls == 5:
            raise KeyboardInterrupt
        return detect(image)

    monkeypatch.setattr(middle_detector, "detect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_celeba([source], check=False)
    folder = tmp_path / "data" / "celeba_crops"
    assert not (folder / "faces.csv").exists()
    monkeypatch.setattr(middle_detector, "detect", detect)
    middle_detector.calls = 0
    fetch_celeba([source], check=False)
    assert middle_detector.calls == 12 - 5
    with open(folder / "faces.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)][4:6] == [
            "celeba_09001/000005.webp",
            "celeba_09001/000006.webp",
        ]
    assert not list(folder.glob(".*"))
