"""Faces with room around them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from facelib.alignment.align import align_faces
from facelib.datasets.face_list import load_faces
from facelib.datasets.sources import load_orl
from facelib.datasets.training_crops import (
    TrainingCrops,
    crops_of_people,
    crops_of_sets,
    load_training_crops,
    padded_crop,
)


def test_sets_are_joined_in_the_order_of_their_lists(prepared, pipeline):
    """Each picture belongs to the photo beside it, also where a list leaves some out."""
    prepared("some", {"s1": ("s1", 2), "fiw_0008_1": ("s5", 2), "s2": ("s2", 2)})
    prepared("more", {"s3": ("s3", 2)})
    pictures, faces = crops_of_sets(["some", "more"], pipeline.landmarker)
    assert faces.people.tolist() == ["s1", "s1", "s2", "s2", "s3", "s3"]
    crops = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in faces.files])
    np.testing.assert_array_equal(pictures.take(np.arange(6)), crops)
    last = pictures.select([5, 0])
    np.testing.assert_array_equal(last.take([0, 1]), crops[[5, 0]])
    again = TrainingCrops.join([last, pictures.select([2])])
    np.testing.assert_array_equal(again.take([2, 0]), crops[[2, 5]])
    np.testing.assert_array_equal(again.matrices, pictures.matrices[[5, 0, 2]])


def test_they_are_kept_and_made_anew_when_something_changed(prepared, pipeline, tmp_path):
    prepared("some", {"s1": ("s1", 3)})
    faces, cache = load_faces("some"), tmp_path / "cache.bin"
    first, _ = load_training_crops(faces, pipeline.landmarker, cache)
    before = first.take([0])
    made = cache.stat().st_ino
    load_training_crops(faces, pipeline.landmarker, cache)
    assert cache.stat().st_ino == made
    Image.open(load_orl().files[50]).convert("RGB").resize((144, 144)).save(faces.files[0], lossless=True)
    second, _ = load_training_crops(faces, pipeline.landmarker, cache)
    replaced = second.take([0])
    assert (replaced != before).any()
    cache.unlink()  # the file that is mapped stays whole
    cache.write_bytes(b"short")
    third, _ = load_training_crops(faces, pipeline.landmarker, cache)
    np.testing.assert_array_equal(third.take([0]), replaced)


def test_of_a_photo_the_middle_is_the_aligned_face(pipeline, photo):
    points = pipeline(photo)[0].landmarks
    picture, matrix = padded_crop(photo, points, "five_points")
    middle = picture[16:128, 16:128].astype(int)
    assert np.abs(middle - align_faces(photo, points[None])[0]).max() <= 1  # places are rounded anew
    np.testing.assert_array_equal(matrix, [[1, 0, 16], [0, 1, 16]])


def test_one_person_is_not_enough(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facelib.datasets.training_crops.load_detector", lambda: pipeline.detector)
    (tmp_path / "mine/anna").mkdir(parents=True)
    Image.open(load_orl().files[0]).convert("RGB").resize((368, 448)).save(tmp_path / "mine/anna/1.png")
    with pytest.raises(ValueError, match="one person only"):
        crops_of_people(tmp_path / "mine", pipeline.landmarker)


def test_folders_of_one_name_do_not_share_their_faces(own_folder, pipeline, tmp_path):
    """The second of two folders called mine got the faces of the first, and a replaced photo kept its old face."""
    other = tmp_path / "elsewhere" / "mine"
    shutil.copytree(own_folder, other)
    for person in ("s1", "s2"):
        picture = Image.open(load_orl().files[200 if person == "s1" else 300]).convert("RGB").resize((368, 448))
        picture.save(other / person / "0.png")
    with pytest.warns(UserWarning, match="left out"):
        first, _ = crops_of_people(own_folder, pipeline.landmarker)
        second, _ = crops_of_people(other, pipeline.landmarker)
    assert len(first) == len(second)
    assert (first.take([0]) != second.take([0])).any()
    shutil.copy(other / "s1" / "0.png", own_folder / "s1" / "0.png")
    with pytest.warns(UserWarning, match="left out"):
        replaced, _ = crops_of_people(own_folder, pipeline.landmarker)
    np.testing.assert_array_equal(replaced.take([0]), second.take([0]))
