"""Training crops: faces with a margin."""

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
    """Each crop belongs to the photo of the same index, also where `training_list` skips some."""
    prepared("some", {"s1": ("s1", 2), "fiw_0008_1": ("s5", 2), "s2": ("s2", 2)})
    prepared("more", {"s3": ("s3", 2)})
    loaded, faces = crops_of_sets(["some", "more"], pipeline.landmarker)
    assert faces.people.tolist() == ["s1", "s1", "s2", "s2", "s3", "s3"]
    crops = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in faces.files])
    np.testing.assert_array_equal(loaded.take(np.arange(6)), crops)
    last = loaded.select([5, 0])
    np.testing.assert_array_equal(last.take([0, 1]), crops[[5, 0]])
    again = TrainingCrops.join([last, loaded.select([2])])
    np.testing.assert_array_equal(again.take([2, 0]), crops[[2, 5]])
    np.testing.assert_array_equal(again.matrices, loaded.matrices[[5, 0, 2]])


def test_crops_are_cached_until_something_changes(prepared, pipeline, tmp_path):
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
    cache.unlink()  # the file that is mapped stays intact
    cache.write_bytes(b"short")
    third, _ = load_training_crops(faces, pipeline.landmarker, cache)
    np.testing.assert_array_equal(third.take([0]), replaced)


def test_the_middle_of_a_padded_crop_is_the_aligned_face(pipeline, photo):
    points = pipeline(photo)[0].landmarks
    crop, matrix = padded_crop(photo, points, "five_points")
    middle = crop[16:128, 16:128].astype(int)
    assert np.abs(middle - align_faces(photo, points[None])[0]).max() <= 1  # interpolation rounds differently
    np.testing.assert_array_equal(matrix, [[1, 0, 16], [0, 1, 16]])


def test_one_person_is_not_enough(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facelib.datasets.training_crops.load_detector", lambda: pipeline.detector)
    (tmp_path / "mine/anna").mkdir(parents=True)
    Image.open(load_orl().files[0]).convert("RGB").resize((368, 448)).save(tmp_path / "mine/anna/1.png")
    with pytest.raises(ValueError, match="one person only"):
        crops_of_people(tmp_path / "mine", pipeline.landmarker)


def test_folders_of_one_name_do_not_share_a_cache(own_folder, pipeline, tmp_path):
    """Two folders called mine have a cache each, and a replaced photo is noticed."""
    other = tmp_path / "elsewhere" / "mine"
    shutil.copytree(own_folder, other)
    for person in ("s1", "s2"):
        picture = Image.open(load_orl().files[200 if person == "s1" else 300]).convert("RGB").resize((368, 448))
        picture.save(other / person / "0.png")
    with pytest.warns(UserWarning, match="photos skipped"):
        first, _ = crops_of_people(own_folder, pipeline.landmarker)
        second, _ = crops_of_people(other, pipeline.landmarker)
    assert len(first) == len(second)
    assert (first.take([0]) != second.take([0])).any()
    shutil.copy(other / "s1" / "0.png", own_folder / "s1" / "0.png")
    with pytest.warns(UserWarning, match="photos skipped"):
        replaced, _ = crops_of_people(own_folder, pipeline.landmarker)
    np.testing.assert_array_equal(replaced.take([0]), second.take([0]))
