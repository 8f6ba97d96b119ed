import numpy as np

from facelib.datasets.cleaning import clean, own_cosines, same_people
from facelib.settings import MODELS


def test_one_person_under_two_keys_is_found():
    """Six people of five photos; one has two keys, two of one source look the same, one has a wrong photo."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 32))
    centres[5] = centres[4]
    names = ["a", "b", "c", "d", "fiw_1_1", "fiw_1_2"]
    vectors = centres.repeat(5, 0) + 0.3 * rng.normal(size=(30, 32))
    people = np.repeat(names, 5)
    people[3:5] = "e"  # two photos of a are too few to be sure
    vectors = np.concatenate([vectors, centres[[1, 1, 1, 3]] + 0.3 * rng.normal(size=(4, 32))])
    people = np.concatenate([people, ["other_b"] * 3, ["c"]])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    (pair,) = same_people(vectors, people, 0.7)
    assert pair[:2] == ("b", "other_b")
    assert pair[2] > 0.9
    own = own_cosines(vectors, people)
    assert np.nanargmin(own) == 33
    assert own[33] < 0.5
    assert np.isnan(own[people == "e"]).all()


def test_the_command_names_and_drops(prepared, tmp_path, capsys):
    """One person of two sources under two keys, and in an evaluation set under a third; a photo of somebody else."""
    same = {"pins_1": ("s1", 6)}
    prepared("faces_train", same)
    prepared("faces_more", {"bolly_1": ("s1", 6), "bolly_2": ("s2", 6)})
    prepared("faces_unseen", {"celeba_1": ("s1", 4)}, "open_val")
    prepared("lfw", {"Ann_Lee": ("s40", 4)}, "lfw")
    clean(MODELS / "model_arcface.pt", 0.65, -1.0, tmp_path, "cpu")
    said = capsys.readouterr().out
    assert "perhaps one person: pins_1 bolly_1 (1.00)" in said or "perhaps one person: bolly_1 pins_1 (1.00)" in said
    assert "perhaps in faces_unseen: bolly_1 is celeba_1" in said or "faces_unseen: pins_1 is celeba_1" in said
    assert "perhaps in lfw" not in said
    assert (tmp_path / "dropped_photos.txt").read_text() == ""
    clean(MODELS / "model_arcface.pt", 0.65, 1.0, tmp_path, "cpu")
    assert len((tmp_path / "dropped_photos.txt").read_text().splitlines()) == 18
