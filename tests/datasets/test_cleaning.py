import numpy as np

from facelib.datasets.cleaning import clean, cosines_to_others, same_people
from facelib.settings import MODELS


def test_a_person_with_two_ids_is_found():
    """Six people with five photos each: one has two IDs, two of one source look the same, one has a wrong photo."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 32))
    centres[5] = centres[4]
    names = ["a", "b", "c", "d", "fiw_1_1", "fiw_1_2"]
    embeddings = centres.repeat(5, 0) + 0.3 * rng.normal(size=(30, 32))
    people = np.repeat(names, 5)
    people[3:5] = "e"  # two photos are too few for a mean
    embeddings = np.concatenate([embeddings, centres[[1, 1, 1, 3]] + 0.3 * rng.normal(size=(4, 32))])
    people = np.concatenate([people, ["other_b"] * 3, ["c"]])
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    (pair,) = same_people(embeddings, people, 0.7)
    assert pair[:2] == ("b", "other_b")
    assert pair[2] > 0.9
    cosines = cosines_to_others(embeddings, people)
    assert np.nanargmin(cosines) == 33
    assert cosines[33] < 0.5
    assert np.isnan(cosines[people == "e"]).all()


def test_the_command_prints_candidates_and_writes_dropped_photos(prepared, tmp_path, capsys):
    """One person has IDs in two sources and a third in an evaluation set."""
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
