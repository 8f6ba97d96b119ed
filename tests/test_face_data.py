from pathlib import Path

import numpy as np
import pytest

from facelib.datasets import FaceList, load_orl
from facelib.face_data import LISTS, clean_faces, cut_faces, own_faces


def faces_of(*keys):

    files = [Path("crops") / key for key in keys]
    return FaceList(files, np.array([f.parent.name for f in files]), np.full(len(files), "train"))


def test_frozen_lists_are_applied(tmp_path):
    (tmp_path / "excluded_people.txt").write_text("bad\n")
    (tmp_path / "same_people.txt").write_text("anna anna_again\n")
    (tmp_path / "dropped_photos.txt").write_text("anna/2.webp\n")
    faces = faces_of("anna/1.webp", "anna/2.webp", "bad/1.webp", "anna_again/2.webp", "zoe/2.webp")
    clean = clean_faces(faces, tmp_path)
    assert [f"{f.parent.name}/{f.name}" for f in clean.files] == ["anna/1.webp", "anna_again/2.webp", "zoe/2.webp"]
    assert clean.people.tolist() == ["anna", "anna", "zoe"]


def test_the_shipped_lists_are_whole():
    """Every line has its form, nobody is merged with somebody excluded, and no chain of merges is left."""
    excluded = (LISTS / "excluded_people.txt").read_text().split()
    same = [line.split() for line in (LISTS / "same_people.txt").read_text().splitlines()]
    dropped = (LISTS / "dropped_photos.txt").read_text().split()
    assert len(excluded) == len(set(excluded))
    assert len(excluded) >= 14
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in same)
    kept, gone = {a for a, _ in same}, {b for _, b in same}
    assert len(gone) == len(same)
    assert not kept & gone
    assert not (kept | gone) & set(excluded)
    assert all(key.count("/") == 1 for key in dropped)
    assert len(dropped) == len(set(dropped))


def test_cuts_for_comparison(pipeline):
    orl = load_orl().where(np.arange(3))
    for how in ("box", "eyes", "five_points"):
        cut, kept = cut_faces(orl, how, pipeline.landmarker)
        assert cut.shape == (3, 112, 112, 3)
        assert len(kept) == 3
    with pytest.raises(ValueError, match="how='nose': expected 'box'"):
        cut_faces(orl, "nose", pipeline.landmarker)


def test_one_person_is_not_enough(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facelib.face_data.load_detector", lambda: pipeline.detector)
    (tmp_path / "mine/anna").mkdir(parents=True)
    from PIL import Image

    Image.open(load_orl().files[0]).convert("RGB").resize((368, 448)).save(tmp_path / "mine/anna/1.png")
    with pytest.raises(ValueError, match="one person only"):
        own_faces(tmp_path / "mine", pipeline.landmarker)
