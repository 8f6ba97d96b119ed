"""A calibration measured on data sets, checked on others."""

from types import SimpleNamespace

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.datasets.face_list import FaceList
from facelib.datasets.groups import GroupFaces
from facelib.evaluation import calibration

EMBEDDER = SimpleNamespace(model_id="abc", crop_mode="five_points", embed=lambda rows: rows)


def faces_of(embeddings, people):
    names = np.array([f"fiw_{person}" for person in people])
    return embeddings, FaceList([None] * len(names), names, np.full(len(names), "train"))


def of_different_people(part):
    """Faces of two collections, as `group_faces` returns them."""
    embeddings, people = synthetic_embeddings(people=400, photos=1, seed={"cohort": 5, "calibration": 6}[part])
    sources = np.repeat(["here", "there"], 200)
    faces = FaceList([None] * 400, people, np.full(400, "train"), sources=sources)
    return GroupFaces(embeddings, faces, np.tile(["white men", "black women"], 200))


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Synthetic people in place of every set."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    monkeypatch.setattr(calibration, "aligned_families", lambda *_: faces_of(*synthetic_embeddings(seed=1)))
    monkeypatch.setattr(
        calibration,
        "aligned_open_set",
        lambda split, *_: faces_of(*synthetic_embeddings(seed={"open_val": 2, "open_test": 3}[split])),
    )
    monkeypatch.setattr(calibration, "open_val_tracks", lambda *_: None)
    monkeypatch.setattr(calibration, "add_track_rates", lambda calibrated, _: calibrated)
    monkeypatch.setattr(calibration, "group_faces", lambda part, *_: of_different_people(part))
    world = synthetic_embeddings(people=10, seed=4)
    monkeypatch.setattr(calibration, "world_faces", lambda *_: GroupFaces(*faces_of(*world), np.full(80, "indian men")))
    return tmp_path


def test_what_is_measured_depends_on_the_sets_that_are_there(sets):
    measured = calibration.measure(EMBEDDER, None)
    assert measured.cohort is None and measured.data == "open_val"
    assert calibration.sets_of(measured) == {"faces_unseen"}
    for name in ("faces_groups", "faces_world", "faces_more"):
        (sets / name).mkdir()
    measured = calibration.measure(EMBEDDER, None)
    assert measured.data.endswith("held-out people of faces_world, 400 faces of faces_groups")
    assert calibration.sets_of(measured) == {"faces_unseen", "faces_groups", "faces_world", "faces_more"}
    assert len(measured.cohort.centres) > 50
    assert set(measured.group_fmrs) == {"white men", "black women"}  # others have fewer than a hundred people


def test_a_calibration_holds_for_other_people(sets, monkeypatch):
    pairs = np.array([0.9, 0.2]), np.array([True, False]), np.array([0, 1])
    monkeypatch.setattr(calibration, "lfw_embeddings", lambda *_: None)
    monkeypatch.setattr(calibration, "lfw_pairs", lambda embeddings, cohort: pairs)
    for name in ("faces_unseen", "faces_more", "lfw"):
        (sets / name).mkdir()
    calibrated = calibration.measure(EMBEDDER, None)
    found = calibration.check(calibrated, EMBEDDER, None)
    assert list(found) == ["0.01", "0.001"]
    for target, row in found.items():
        test = row["open_test"]
        assert float(target) / 2.5 < test["false_match_rate"] < float(target) * 2.5
        assert test["interval_95"][0] <= test["false_match_rate"] <= test["interval_95"][1]
        assert row["lfw"] == {"false_match_rate": 0.0, "true_match_rate": 1.0, "impostor_pairs": 1}
    assert found["0.01"]["score"] < found["0.001"]["score"]
    of_lfw = calibration.check(calibrated, EMBEDDER, None, {"lfw"})
    assert of_lfw == {target: {key: row[key] for key in ("score", "lfw")} for target, row in found.items()}


def test_a_collection_for_each_source(sets):
    collections = calibration.group_collections(EMBEDDER, None, "cohort")
    assert [faces.name for faces in collections] == ["here", "there"]
    for faces in collections:
        assert len(faces.embeddings) == len(faces.people) == 200
        assert set(faces.groups) == {"white men", "black women"}
