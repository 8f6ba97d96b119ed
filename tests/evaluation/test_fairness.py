"""Error rates by group, on synthetic people of whom one group lies close together."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from facelib.datasets.face_list import FaceList
from facelib.datasets.groups import GroupFaces
from facelib.evaluation import calibration as calibrations
from facelib.evaluation import fairness, run
from facelib.evaluation.__main__ import main
from facelib.io import records
from facelib.io.records import read_table
from facelib.recognition.cohort import make_cohort
from facelib.recognition.match_rates import MeasuredFaces, calibrate
from facelib.runtime.manifest import read_manifest, write_manifest
from facelib.types import CalibrationMissingError

CLOSENESS = {"black women": 0.8, "white men": 0.2, "white women": 0.2}  # of a group's faces to their own direction


def group_of_people(count=120, photos=1, seed=0):
    """A collection with `count` people of each group: a group shares a direction, a person most of the rest."""
    rng = np.random.default_rng(seed)
    embeddings, people, groups = [], [], []
    for place, (group, closeness) in enumerate(CLOSENESS.items()):
        own = rng.normal(size=(count, 1, 64)) / 8
        faces = own + rng.normal(size=(count, photos, 64)) / 20
        faces[..., place] += closeness
        embeddings.append(faces.reshape(-1, 64))
        people += [f"{group} {number:03d}" for number in range(count) for _ in range(photos)]
        groups += [group] * count * photos
    stacked = np.concatenate(embeddings).astype(np.float32)
    stacked /= np.linalg.norm(stacked, axis=1, keepdims=True)
    return MeasuredFaces("made", stacked, np.array(people), np.array(groups))


@pytest.fixture(scope="module")
def cohort():
    return make_cohort("abc", group_of_people(400, seed=1).embeddings, 64, 5, 1.0)


@pytest.fixture(scope="module")
def calibration(cohort):
    return calibrate("abc", [group_of_people(150, 2, seed=2)], cohort, "made")


def test_a_cohort_brings_groups_together(calibration):
    """At the cosine where white adults have 0.001, the close group has far more; at the score, nearly as little."""
    rows = {row["group"]: row for row in fairness.group_rows(group_of_people(), calibration, np.array([]))}
    assert list(rows) == ["black women", "white men", "white women"]
    worst = rows["black women"]
    assert (worst["people"], worst["pairs"]) == (120, 120 * 119 // 2)
    assert worst["cosine_white"] > 0.1 and worst["score_white"] < 0.02
    white = [rows[group] for group in fairness.WHITE_ADULTS]
    for kind in ("cosine_white", "score_white"):
        assert np.mean([row[kind] for row in white]) == pytest.approx(0.001, rel=0.2)
    for row in rows.values():
        assert row["fmr_0.001"] <= row["fmr_0.01"] < 0.03
        for name in ("fmr_0.001", "fmr_0.01", "fmr_0.01_all", "score_white", "cosine_white"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_a_person_who_is_there_twice_is_left_out_where_all_embedders_agree(calibration):
    faces = group_of_people()
    twice = faces.embeddings.copy()
    twice[5] = twice[3]  # "black women 005" shows "black women 003" again
    faces = MeasuredFaces("made", twice, faces.people, faces.groups)
    plain = fairness.Measured(calibration, {"made": group_of_people()}, 0.3)
    double = fairness.Measured(calibration, {"made": faces}, 0.3)
    people, counts = fairness.people_twice("made", [double])
    assert people.tolist() == ["black women 005"]
    assert counts == {"black women": 1, "white men": 0, "white women": 0}
    people, counts = fairness.people_twice("made", [double, plain])  # a false match of one of two embedders
    assert not len(people) and not any(counts.values())
    row = fairness.group_rows(faces, calibration, np.array(["black women 005"]))[0]
    assert row["people"] == 119
    assert row["fmr_0.001_all"] > row["fmr_0.001"]


def test_rates_by_hand():
    faces = MeasuredFaces("made", np.eye(3, dtype=np.float32)[[0, 0, 1]], np.array(list("abc")), np.array(["x"] * 3))
    pairs = fairness.split_pairs(faces, None)[1]["x"]
    rates = fairness.rates_at(pairs, {"loose": 0.0, "strict": 0.5})
    assert (rates["loose"], rates["strict"]) == (1.0, pytest.approx(1 / 3))
    assert (rates["strict_low"], rates["strict_high"]) == (0.0, 1.0)


def world(people=6, photos=4):
    """Two groups of faces_world, one of them close together, as `world_faces` returns them."""
    made = group_of_people(people, photos)
    rows = made.groups != "white men"
    origins = {"black women": "black men", "white women": "indian "}  # a face without a label of sex
    groups = np.array([origins[group] for group in made.groups[rows].tolist()])
    names = made.people[rows]
    faces = FaceList([None] * len(names), names, np.full(len(names), "test"))
    return GroupFaces(made.embeddings[rows], faces, groups)


def test_verification_within_the_groups_of_faces_world(calibration, monkeypatch):
    monkeypatch.setattr(fairness, "world_faces", lambda *_: world())
    embedder = SimpleNamespace(crop_mode="five_points", embed=lambda rows: rows)
    found = fairness.world_rates(embedder, None, calibration)
    assert list(found) == ["Black and North African", "South Asian"]
    near = found["Black and North African"]
    assert (near["people"], near["photos"]) == (6, 24)
    assert near["tpr_low"] <= near["tpr"] <= near["tpr_high"]
    for kind in ("score", "cosine"):
        rates = {row["fpr"]: row["tpr"] for row in near[kind]}
        assert 0.5 < rates[0.1] <= rates[0.5] <= 1
    assert near["score"][0]["threshold"] < near["cosine"][0]["threshold"]


def test_embedders_that_cannot_be_loaded_are_named(tmp_path, monkeypatch, capsys):
    def load(name, device):
        if name == "dlib":
            raise RuntimeError("install the extra `teacher`")
        return name

    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fairness, "load_embedder", load)
    (tmp_path / "models/buffalo_l").mkdir(parents=True)
    (tmp_path / "models/buffalo_l/w600k_r50.onnx").write_bytes(b"")
    assert list(fairness.load_embedders()) == ["default", "arcface", "triplet", "buffalo_l"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "dlib is skipped",
        "buffalo_sc is skipped",
        "antelopev2 is skipped",
    ]


def test_the_command_writes_table_and_record(calibration, tmp_path, monkeypatch):
    """All embedders are measured, one of them without a calibration of its own."""

    def load(model_id):
        if model_id == "new":
            raise CalibrationMissingError("none")
        return calibration

    families = MeasuredFaces("families", *two_families())
    embedders = {
        name: SimpleNamespace(model_id=name, crop_mode="five_points", embed=lambda rows: rows)
        for name in ("old", "new")
    }
    monkeypatch.setattr(fairness, "load_embedders", lambda device: embedders)
    monkeypatch.setattr(fairness, "load_calibration", load)
    monkeypatch.setattr(calibrations, "measure", lambda *_: calibration)
    monkeypatch.setattr(fairness, "group_collections", lambda *_: [group_of_people()])
    monkeypatch.setattr(fairness, "open_set_collection", lambda *_: group_of_people(20, 3))
    monkeypatch.setattr(fairness, "families_collection", lambda *_: families)
    monkeypatch.setattr(fairness, "world_faces", lambda *_: world())
    monkeypatch.setattr("facelib.evaluation.run.load_landmarker", lambda *_, **__: None)
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    for name in ("faces_groups", "faces_world", "faces_more", "faces_unseen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "faces.csv").write_text("file\na.webp")
    monkeypatch.setattr("sys.argv", ["evaluation", "fairness"])
    assert main() == 0
    rows = read_table(tmp_path / "results/fairness.csv")
    assert [(row["embedder"], row["collection"]) for row in rows] == [("old", "made")] * 3 + [("new", "made")] * 3
    record = json.loads((tmp_path / "results/fairness.json").read_text())
    assert record["measured"]["command"] == "python -m facelib.evaluation fairness"
    assert record["measured"]["data"]["faces_groups"].startswith("1 photos")
    assert record["duplicates"].keys() == {"made"}
    for figures in record["embedders"].values():
        assert figures["cohort"] == calibration.cohort.id
        assert figures["scores"]["0.001"] > figures["scores"]["0.01"]
        assert figures["families"]["people"] == 3
        assert figures["faces_world"].keys() == {"Black and North African", "South Asian"}


def test_networks_of_ones_own_stand_beside_the_shipped_default(tmp_path, monkeypatch):
    """A second network is needed to find people who are in a collection twice."""
    manifest = {"my_model.pt": read_manifest()["model_cross_entropy.pt"]}
    write_manifest(manifest, tmp_path)
    seen = {}
    monkeypatch.setattr(run.Evaluation, "load", lambda self, name: ([name], name))
    monkeypatch.setattr(run.Evaluation, "landmarker", lambda self: None)
    monkeypatch.setattr(run, "load_embedder", lambda device: "default")
    monkeypatch.setattr(
        fairness, "measure", lambda embedders, *_: seen.update(embedders) or ({"duplicates": {}}, [{"group": "a"}])
    )
    monkeypatch.setattr(run, "describe_set", lambda name: name)
    evaluation = run.Evaluation(tmp_path, sets=frozenset({"faces_groups", "faces_unseen"}))
    assert evaluation.run("fairness")
    assert seen == {"my_model": "my_model.pt", "shipped default": "default"}
    assert read_table(tmp_path / "fairness.csv") == [{"group": "a"}]
    record = json.loads((tmp_path / "fairness.json").read_text())
    assert record["measured"]["data"].keys() == {"faces_groups", "faces_unseen", "lists"}
    assert record["measured"]["weights"].keys() == {"hourglass_keypoints.pt", "my_model.pt"}
    assert not run.Evaluation(tmp_path, sets=frozenset({"faces_unseen"})).run("fairness")


def two_families():
    """Embeddings and people of two families: two relatives, and somebody else, two photos each."""
    return group_of_people(1, 2).embeddings, np.array(["fiw_1_1", "fiw_1_2", "fiw_2_1"]).repeat(2)
