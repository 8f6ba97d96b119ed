import numpy as np
import pytest
from PIL import Image

from facelib import read_image
from facelib.alignment.crop import crop_matrix, transform_points
from facelib.datasets.crops import prepare_crops
from facelib.datasets.face_list import load_faces
from facelib.datasets.sources import load_people_folder


def test_landmarks_in_a_crop_are_those_in_the_photo(people, detector, pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match=r"1 of 7 photos skipped.*broken\.jpg"):
        folder = prepare_crops(load_people_folder(people), "own", detector)
    assert folder == tmp_path / "own"
    faces = load_faces("own")
    assert sorted(set(faces.people)) == ["person0", "person1", "person2"]
    assert len(faces) == 6
    assert read_image(faces.files[0]).shape == (144, 144, 3)
    # The landmarker finds the same points in the crop and in the photo.
    original = read_image(people / "person0" / "one.png")
    boxes, _ = detector.detect(original)
    direct = pipeline.landmarker.predict([original], [boxes[:1]])[0][0]
    index = [f.as_posix().endswith("person0/one.webp") for f in faces.files].index(True)
    crop = read_image(faces.files[index])
    in_crop = pipeline.landmarker.predict([crop], [faces.boxes[index : index + 1]])[0][0]
    expected = transform_points(direct, crop_matrix(boxes[0], 144))
    assert np.linalg.norm(in_crop - expected, axis=1).mean() < 1.5


def test_photos_that_differ_in_their_suffix_become_two_crops(people, detector, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    photo = Image.open(people / "person0" / "two.jpg")
    photo.save(people / "person0" / "one.jpg")
    (people / "person0" / "broken.jpg").unlink()
    prepare_crops(load_people_folder(people), "own", detector)
    names = sorted(file.name for file in (tmp_path / "own" / "person0").iterdir())
    assert names == ["one-2.webp", "one.webp", "two.webp"]
    assert len({file.read_bytes() for file in (tmp_path / "own" / "person0").iterdir()}) == 3
    with pytest.raises(ValueError, match="expected a name"):
        prepare_crops(load_people_folder(people), "../own", detector)
