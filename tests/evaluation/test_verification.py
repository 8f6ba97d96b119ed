"""Metrics of embedders, by hand and on a few photos."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facelib.datasets.face_list import FaceList
from facelib.embedding.embedder import load_embedder
from facelib.evaluation import closed_set, verification
from facelib.evaluation.__main__ import main
from facelib.evaluation.calibration import measure
from facelib.evaluation.run import Evaluation
from facelib.io.records import read_table
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.cohort import Cohort
from facelib.runtime.manifest import file_hash, read_manifest, write_manifest
from facelib.settings import MODELS


def list_of(people, splits=None, sources=None):
    files = [Path(person) / f"{i}.webp" for i, person in enumerate(people)]
    splits = np.full(len(people), "train") if splits is None else np.array(splits)
    return FaceList(files, np.array(people), splits, sources=sources if sources is None else np.array(sources))


def test_relatives_by_hand():
    """A family of two people who look alike, and a person of another family."""
    people = np.array(["fiw_1_1", "fiw_1_1", "fiw_1_2", "fiw_2_1", "fiw_2_1"])
    angles = np.deg2rad([0, 10, 25, 90, 150])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1)
    metrics = verification.relatives_metrics(embeddings, people, np.cos(np.deg2rad(20)))
    # Genuine: 10 and 60 degrees; relatives: 25 and 15; impostors: six pairs, all beyond 60.
    assert metrics == {"same_person": 0.5, "relatives": 0.5, "impostors": 0.0, "people": 3, "families": 2}
    offsets = np.array([0, 0, 0.1, 0, 0])  # the relative is near to many strangers
    assert verification.relatives_metrics(embeddings, people, np.cos(np.deg2rad(20)), offsets)["relatives"] == 0


def test_choice_by_hand(monkeypatch):
    """Two networks that each see one coordinate: neither alone distinguishes all people, their ensemble does."""
    degrees = np.array([[0, 0], [0, 0], [90, 0], [90, 0], [0, 90], [0, 90]])  # seen by each network
    faces = list_of(["a", "a", "b", "b", "c", "c"])
    for name in ("aligned_open_set", "aligned_families"):
        monkeypatch.setattr(verification, name, lambda *_: (degrees, faces))

    def sees(*columns):
        def embed(seen):
            angles = np.radians(seen[:, columns])
            return np.concatenate([np.cos(angles), np.sin(angles)], 1) / len(columns) ** 0.5

        return SimpleNamespace(crop_mode="five_points", embed=embed)

    rows = verification.choice_rows({"first": sees(0), "second": sees(1), "both": sees(0, 1)}, None)
    assert [row["embedder"] for row in rows] == ["first", "second", "both"]
    assert [row["families_0.1"] for row in rows] == [0.0, 0.0, 1.0]
    assert [row["open_val_0.1"] for row in rows] == [0.0, 0.0, 1.0]


def test_robustness_by_hand():
    """Embeddings of colour alone: grey accepts no genuine pair; size and head pose do not matter."""
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
    aligned = np.tile(colours.repeat(2, 0)[:, None, None], (1, 112, 112, 1))
    front = np.array([[30, 50], [80, 50], [55, 80], [40, 100], [70, 100]], np.float32)
    points = np.tile(front, (6, 1, 1))
    points[5, 2, 0] += 25  # half an eye distance: far turned
    faces = list_of(["a", "a", "b", "b", "c", "c"])
    faces = FaceList(faces.files, faces.people, faces.splits, points=points)

    def embed(pictures):
        mean = pictures.mean((1, 2))
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    metrics = verification.robustness_metrics(
        SimpleNamespace(alignment="five_points", embed=embed), aligned, faces, 0.9
    )
    assert metrics["unmodified"] == {"tpr": 1.0, "fpr": 0.0, "genuine_pairs": 3}
    assert metrics["28 pixels wide"]["tpr"] == metrics["a third of the brightness"]["tpr"] == 1
    assert metrics["grey"] == {"tpr": 0.0, "fpr": 0.0, "genuine_pairs": 3}
    assert (metrics["frontal"]["genuine_pairs"], metrics["far turned"]["genuine_pairs"]) == (2, 1)
    # With a cohort of red faces, what is red takes half of its cosine from each score.
    cohort = Cohort("abc", np.array([[1, 0, 0]], np.float32), 1, 1.0)
    embedder = SimpleNamespace(alignment="five_points", embed=embed)
    metrics = verification.robustness_metrics(embedder, aligned, faces, 0.9, cohort)
    assert metrics["unmodified"]["tpr"] == pytest.approx(2 / 3)


def test_open_set_metrics_have_what_the_assignment_asks():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(20, 8)).repeat(4, 0) + 0.4 * rng.normal(size=(80, 8))
    metrics = verification.open_set_metrics(embeddings, np.arange(20).repeat(4).astype(str))
    rates = {row["fpr"]: row for row in metrics["identification_rate"]}
    assert set(rates) == {0.5, 0.2, 0.1, 0.05, 0.01, 0.001}  # 0.0001 of 3,040 impostor pairs is less than one
    assert all(row["interval_95"][0] <= row["tpr"] <= row["interval_95"][1] for row in rates.values())
    assert rates[0.5]["tpr"] >= rates[0.01]["tpr"]
    assert set(metrics["distractors"]) == {"0.5", "0.2", "0.1", "0.05", "0.01", "0.001"}
    assert 0.5 < metrics["rank_1"] <= 1
    assert metrics["people"] == 20


@pytest.fixture
def small_sets(prepared, tmp_path, monkeypatch):
    """Every evaluation set with a few photos of ORL, with pairs of LFW; too few photos for tracks."""
    monkeypatch.setattr("facelib.evaluation.calibration.open_val_tracks", lambda *_: None)
    monkeypatch.setattr("facelib.evaluation.calibration.add_track_rates", lambda calibration, _: calibration)
    prepared("faces_unseen", {"a": ("s31", 6), "b": ("s32", 6), "c": ("s33", 6)}, "open_val")
    table = tmp_path / "faces_unseen/faces.csv"
    rows = table.read_text().splitlines()
    points = [f"{n}_{c}" for n in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for c in "xy"]
    shown = ",46,60,98,60,72,84,50,108,94,108"
    prepared("faces_test", {"d": ("s34", 6), "e": ("s35", 6), "f": ("s36", 6)}, "open_test")
    for person in "def":
        shutil.move(tmp_path / "faces_test" / person, tmp_path / "faces_unseen" / person)
    rows += (tmp_path / "faces_test/faces.csv").read_text().splitlines()[1:]
    table.write_text("\n".join([rows[0] + "," + ",".join(points), *(row + shown for row in rows[1:])]))
    families = {f"fiw_0008_{i}": (f"s{i}", 4) for i in (11, 12)} | {"fiw_0030_1": ("s13", 4)}
    prepared("faces_more", families | {"s4": ("s4", 3)})
    prepared("lfw", {"Ann_Lee": ("s21", 4), "Bob_Ray": ("s22", 4)}, "lfw")
    lfw = tmp_path / "lfw/faces.csv"
    lines = ["file,person,split"]
    for person in ("Ann_Lee", "Bob_Ray"):
        for i in range(4):
            (tmp_path / f"lfw/{person}/{i}.webp").rename(tmp_path / f"lfw/{person}/{person}_{i + 1:04d}.webp")
            lines.append(f"{person}/{person}_{i + 1:04d}.webp,{person},lfw")
    lfw.write_text("\n".join(lines))
    pairs = ["2\t2", *(["Ann_Lee\t1\t2", "Bob_Ray\t1\t2", "Ann_Lee\t1\tBob_Ray\t1", "Ann_Lee\t2\tBob_Ray\t3"] * 2)]
    (tmp_path / "lfw/pairs.txt").write_text("\n".join(pairs))
    return tmp_path


def evaluate(monkeypatch, *options):
    monkeypatch.setattr("sys.argv", ["evaluation", "--device", "cpu", *map(str, options)])
    return main()


def test_an_evaluation_from_photos_to_records(small_sets, pipeline, tmp_path, monkeypatch):
    """All metrics of a network on a few photos, some of them computed again."""
    models = tmp_path / "models"
    models.mkdir()
    networks = ["model_cross_entropy.pt", "model_arcface_all_sources.pt"]
    for name in (*networks, "hourglass_keypoints.pt"):
        shutil.copy(MODELS / name, models)
    manifest = {name: {k: v for k, v in e.items() if k != "threshold"} for name, e in read_manifest().items()}
    manifest = {name: manifest[name] for name in (*networks, "hourglass_keypoints.pt")}
    write_manifest(manifest | {"default": {"networks": networks, "flip": True}}, models)
    assert evaluate(monkeypatch, "--models", models, networks[0], "default") == 0
    record = json.loads((models / "default.json").read_text())
    digits = {name: file_hash(models / name)[:8] for name in ("hourglass_keypoints.pt", *networks)}
    assert record["measured"]["weights"] == digits
    assert record["measured"]["data"]["faces_unseen"].startswith("36 photos, faces.csv ")
    assert [row["tpr"] for row in record["open_test_scores"]] == [  # without faces_groups there is no cohort
        row["tpr"] for row in record["open_test"]["identification_rate"]
    ]
    assert record["lfw_scores"] == record["lfw"] and record["families_scores"] == record["families"]
    # The threshold is that of the calibration, and names the weights it is valid for.
    embedder = load_embedder([models / name for name in networks], device="cpu", flip=True)
    calibrated = measure(embedder, pipeline.landmarker)
    threshold = read_manifest(models)["default"]["threshold"]["score"]
    assert threshold == pytest.approx(calibrated.score_at(calibrated.lowest_rate), abs=1e-4)  # ONNX, PyTorch
    assert load_calibration(embedder.model_id).scores == pytest.approx(calibrated.scores, rel=1e-3, abs=1e-3)
    one = json.loads((models / f"{Path(networks[0]).stem}.json").read_text())
    assert one["measured"]["weights"].keys() == {"hourglass_keypoints.pt", networks[0]}
    # Both folds of LFW hold the same pairs, so both have the same accuracy.
    assert record["lfw"]["standard_error"] == 0
    assert record["alignment"].keys() == {"box", "five_points", "eyes", "detector"}
    assert record["robustness"]["unmodified"]["genuine_pairs"] == 3 * 15
    assert record["relatives"]["people"] == len(verification.aligned_families(pipeline.landmarker)[1].people) // 4
    rates = {row["embedder"]: row for row in read_table(models / "embedder_choice.csv")}
    candidates = [
        f"{name}{suffix}" for name in (*networks, " + ".join(networks)) for suffix in ("", ", flip averaging")
    ]
    assert list(rates) == candidates
    assert rates[candidates[-1]]["open_val_0.1"] == pytest.approx(record["open_val"][0]["tpr"], rel=1e-3)
    with open(models / "embedder_choice.csv", newline="") as file:
        values = [value for row in csv.DictReader(file) for key, value in row.items() if key != "embedder"]
    assert max(len(value.replace(".", "").strip("0")) for value in values) <= 4  # significant digits


def test_weights_of_another_folder(small_sets, tmp_path, monkeypatch, capsys):
    """A folder with one network and no hourglass is measured with the shipped hourglass; an unknown name is refused."""
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(MODELS / "model_cross_entropy.pt", own / "my_model.pt")
    write_manifest({"my_model.pt": read_manifest()["model_cross_entropy.pt"]}, own)
    assert Evaluation(own).names == ["my_model.pt", "fairness"]
    assert evaluate(monkeypatch, "--models", own) == 0
    assert (own / "my_model.json").is_file()
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, "--models", own, "my_modl.pt")
    assert "my_modl.pt" in (message := capsys.readouterr().err) and "has my_model.pt" in message
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, "--models", tmp_path)
    assert "manifest.json lists no weights" in capsys.readouterr().err
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "nothing"))
    assert evaluate(monkeypatch, "--models", own) == 1
    assert "error: my_model.pt: nothing was measured" in capsys.readouterr().err


def test_one_set_alone(small_sets, tmp_path, monkeypatch, capsys):
    """LFW alone, by cosine; then what needs a calibration, which stays when LFW is measured again."""
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(MODELS / "model_cross_entropy.pt", own / "my_model.pt")
    write_manifest({"my_model.pt": read_manifest()["model_cross_entropy.pt"]}, own)
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))

    def measure(*options):
        assert evaluate(monkeypatch, "--models", own, *options) == 0
        record = json.loads((own / "my_model.json").read_text())
        return record.pop("measured"), record

    measured, figures = measure("--sets", "lfw", "faces_world")
    missing = f"{tmp_path / 'faces_world'} is missing: "
    assert next(line for line in capsys.readouterr().out.splitlines() if "missing" in line).startswith(missing)
    assert figures.keys() == {"lfw"} and measured["data"].keys() == {"lfw", "lists"}
    measured, everything = measure()
    assert {"open_test", "lfw_scores", "relatives", "calibration"} <= everything.keys() and "earlier" not in measured
    assert measured["environment"]["onnxruntime"]
    written = (tmp_path / "cache/calibrations").glob("calibration_*.json")
    before = {path: path.stat().st_mtime_ns for path in written}
    (tmp_path / "faces_more").rename(tmp_path / "gone")
    measured, figures = measure()  # the calibration of more sets is kept
    assert figures == everything
    assert {"relatives", "families", "families_scores"} == measured["earlier"].keys()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_closed_set_by_class_centres(monkeypatch):
    """Two people with training embeddings in two directions; one test photo is nearer to the other person's centre."""
    people = np.array(["a", "a", "b", "b", "a", "b"])
    faces = list_of(people, ["train"] * 4 + ["test"] * 2)
    degrees = dict(zip(faces.files, [0, 10, 90, 80, 20, 30]))
    monkeypatch.setattr(closed_set, "load_faces", lambda name: faces)
    monkeypatch.setattr(closed_set, "training_list", lambda sets: FaceList.join(list(sets.values())))
    monkeypatch.setattr(
        closed_set, "align_photos", lambda chosen, *_, **__: (np.array([degrees[f] for f in chosen.files]), chosen)
    )
    embed = SimpleNamespace(
        crop_mode="five_points", embed=lambda seen: np.stack([np.cos(np.radians(seen)), np.sin(np.radians(seen))], 1)
    )
    rows = closed_set.closed_set_rows({"one": embed, "two": embed}, ["any"], None)
    assert [row["networks"] for row in rows] == ["one", "two"]
    assert all((row["top1"], row["photos"], row["people"]) == (0.5, 2, 2) for row in rows)


@pytest.mark.parametrize("has_points", [False, True])
def test_a_set_without_landmarks_of_a_detector_is_measured_too(monkeypatch, has_points):
    """As `python -m facelib.datasets open_set` makes it."""
    faces = list_of([*"abcdefghijkl"] * 2)
    if has_points:
        faces = replace(faces, points=np.zeros((24, 5, 2), np.float32))
    vectors = np.tile(np.eye(12, dtype=np.float32), (2, 1))
    monkeypatch.setattr(verification, "open_set_faces", lambda _: faces)
    monkeypatch.setattr(verification, "crop_faces", lambda faces, *_: (vectors, faces))
    found = verification.alignment_metrics(SimpleNamespace(embed=lambda aligned: aligned), None)
    assert list(found) == ["box", "five_points", "eyes"] + ["detector"] * has_points
    assert set(found["eyes"].values()) == {1.0}
