import numpy as np
import pytest

from facelib.recognition.gallery import Gallery
from facelib.recognition.gallery_faces import move_faces


def test_single_faces_are_moved_and_removed(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with Gallery(tmp_path / "g", "abc") as gallery:
        gallery.enrol("Ann", list(vectors[:3]), [0.2, 0.4, 0.6])
        gallery.enrol("Bob", vectors[3])
        assert move_faces(gallery, "Ann", vectors[1:2], "Cy") == 1
        assert move_faces(gallery, "Ann", vectors[2:], "Bob") == 1
        assert gallery.people() == {"Ann": 1, "Bob": 2, "Cy": 1}
        np.testing.assert_array_equal(gallery.export()["people"]["Cy"], vectors[1:2])
        assert move_faces(gallery, "Nobody", vectors, "Cy") == move_faces(gallery, "Ann", vectors[3:], "Cy") == 0
        assert move_faces(gallery, "Ann", vectors, None) == 1
        assert gallery.people() == {"Bob": 2, "Cy": 1}  # Ann has no photo left
    assert vectors[0].tobytes() not in (tmp_path / "g").read_bytes()


def test_moves_are_made_completely_or_not_at_all(tmp_path, monkeypatch):
    vectors = np.eye(2, 16, dtype=np.float32)
    with Gallery(tmp_path / "g", "abc") as gallery:
        gallery.enrol("Ann", list(vectors))
        monkeypatch.setattr("facelib.recognition.gallery_faces.add_embeddings", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            move_faces(gallery, "Ann", vectors[:1], "Bob")
        assert gallery.people() == {"Ann": 2}
