"""Own photos that show several people: which face is taken."""

import numpy as np
import pytest
from PIL import Image

from facelib.datasets.face_choice import agreeing_faces, choose_faces
from facelib.datasets.sources import load_people_folder
from facelib.datasets.training_crops import crops_of_people


def test_the_face_that_the_other_photos_agree_on():
    ann, bob, cy = np.eye(3, dtype=np.float32)
    assert agreeing_faces([np.stack([bob, ann]), np.stack([ann]), np.stack([cy, bob, ann])]) == [1, 0, 2]
    assert agreeing_faces([np.stack([bob, ann])]) == [0]  # nothing to agree with: the largest


@pytest.fixture
def folder(tmp_path, photo, pipeline, monkeypatch):
    """Ann alone, and beside somebody whose face is larger; Bob alone, and a broken photo of his."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facelib.datasets.training_crops.load_detector", lambda: pipeline.detector)
    portraits = []
    for face in pipeline(photo)[:3]:
        x1, y1, x2, y2 = (face.box + [-60, -60, 60, 60]).clip(0).astype(int).tolist()
        portraits.append(Image.fromarray(photo[y1:y2, x1:x2]).resize((300, 300)))
    ann, bob, other = portraits
    both = Image.new("RGB", (1000, 600))
    both.paste(other.resize((500, 500)), (0, 0))
    both.paste(ann, (600, 100))
    for person in ("Ann", "Bob"):
        (tmp_path / "people" / person).mkdir(parents=True)
    ann.save(tmp_path / "people/Ann/alone.png")
    both.save(tmp_path / "people/Ann/both.png")
    bob.save(tmp_path / "people/Bob/alone.png")
    (tmp_path / "people/Bob/broken.jpg").write_bytes(b"no photo")
    return tmp_path / "people"


def test_of_several_people_in_a_photo_its_person_is_taken(folder, pipeline):
    faces = load_people_folder(folder)
    with pytest.warns(UserWarning, match=r"1 of 4 photos show several faces: .* in 1 of them not the largest"):
        boxes = choose_faces(faces, pipeline.detector, pipeline.landmarker)
    assert [file.name for file in faces.files] == ["alone.png", "both.png", "alone.png", "broken.jpg"]
    assert [len(box) for box in boxes] == [1, 1, 1, 0]
    assert boxes[1][0, 0] > 550  # Ann, on the right


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_crops_are_of_the_chosen_faces_and_private(folder, pipeline, tmp_path):
    crops, faces = crops_of_people(folder, pipeline.landmarker)
    assert [file.name for file in faces.files] == ["alone.png", "both.png", "alone.png"]
    alone, both, bob = crops.take(np.arange(3)).astype(float)
    assert np.abs(alone - both)[30:-30, 30:-30].mean() < 15 < np.abs(bob - both)[30:-30, 30:-30].mean()
    cache = tmp_path / "data/cache"
    assert cache.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in cache.iterdir()} == {0o600}
