import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facelib import compare_embedders, evaluate
from facelib.checkpoints import MODELS, read_manifest, write_manifest
from facelib.datasets import FaceList
from facelib.embedding import SIDE_BY_SIDE

NETWORKS = [*SIDE_BY_SIDE, "model_cross_entropy.pt"]


def list_of(people, splits=None, sets=None):
    files = [Path(person) / f"{i}.webp" for i, person in enumerate(people)]
    splits = np.full(len(people), "train") if splits is None else np.array(splits)
    return FaceList(files, np.array(people), splits, sets=sets if sets is None else np.array(sets))


def test_relatives_by_hand(monkeypatch):
    """One family of two people who look alike, one person of another family who does not."""
    faces = list_of(["fiw_1_1", "fiw_1_1", "fiw_1_2", "fiw_2_1", "fiw_2_1"])
    angles = np.deg2rad([0, 10, 25, 90, 150])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    monkeypatch.setattr(evaluate, "family_faces", lambda _: (np.arange(5), faces))
    figures = evaluate.relatives_figures(
        SimpleNamespace(embed=lambda rows: vectors[rows]), None, np.cos(np.deg2rad(20))
    )
    # Genuine: 10 and 60 degrees; relatives: 25 and 15; strangers: six pairs, all beyond 60.
    assert figures == {"same_person": 0.5, "relatives": 0.5, "strangers": 0.0, "people": 3, "families": 2}


def test_choice_by_hand(monkeypatch):
    """Two networks, each of which sees one coordinate: neither alone tells all people apart, both together do."""
    places = np.array([[0, 0], [0, 0], [90, 0], [90, 0], [0, 90], [0, 90]])  # degrees that each network sees
    faces = list_of(["a", "a", "b", "b", "c", "c"])
    for name in ("open_set_faces", "family_faces"):
        monkeypatch.setattr(evaluate, name, lambda *_: (places, faces))

    def sees(k):
        return SimpleNamespace(
            embed=lambda seen: np.stack([np.cos(np.radians(seen[:, k])), np.sin(np.radians(seen[:, k]))], 1)
        )

    figures = evaluate.choice_figures({"first": sees(0), "second": sees(1)}, None)
    assert list(figures) == ["first", "second", "first + second"]
    assert {name: rates["families"]["0.001"] for name, rates in figures.items()} == {
        "first": 0.0,
        "second": 0.0,
        "first + second": 1.0,
    }
    assert figures["first + second"]["open_val"] == figures["first + second"]["families"]


def test_robustness_by_hand():
    """Vectors that see colour alone: in grey nobody is found again, and what is smaller or turned does not matter."""
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

    figures = evaluate.robustness_figures(SimpleNamespace(embed=embed), aligned, faces, 0.9)
    assert figures["as they are"] == {"tpr": 1.0, "fpr": 0.0, "genuine_pairs": 3}
    assert figures["28 pixels wide"]["tpr"] == figures["a third of the light"]["tpr"] == 1
    assert figures["grey"] == {"tpr": 0.0, "fpr": 0.0, "genuine_pairs": 3}
    assert (figures["frontal"]["genuine_pairs"], figures["far turned"]["genuine_pairs"]) == (2, 1)


def test_open_set_figures_hold_what_the_course_asks():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 8)).repeat(4, 0) + 0.4 * rng.normal(size=(80, 8))
    figures = evaluate.open_set_figures(vectors, np.arange(20).repeat(4).astype(str))
    rates = {row["fpr"]: row for row in figures["identification_rate"]}
    assert set(rates) == {0.5, 0.2, 0.1, 0.05, 0.01, 0.001, 0.0001}
    assert all(row["interval_95"][0] <= row["tpr"] <= row["interval_95"][1] for row in rates.values())
    assert rates[0.5]["tpr"] >= rates[0.01]["tpr"]
    assert set(figures["distractors"]) == {"0.5", "0.2", "0.1", "0.05", "0.01", "0.001", "0.0001"}
    assert 0.5 < figures["rank_1"] <= 1
    assert figures["people"] == 20


def test_equal_photos_for_any_number_of_people(monkeypatch):
    monkeypatch.setattr(compare_embedders, "FEW_PHOTOS", 12)
    people = [f"p{i % 8}" for i in range(60)]
    sets = ["celeba_low" if person in ("p0", "p1") else "pins" for person in people]
    splits = ["val" if i >= 52 else "train" for i in range(60)]
    faces = list_of(people, splits, sets)
    for count in (2, 4, 6):
        rows = compare_embedders.choose_rows(faces, count, low=True)
        assert np.unique(faces.people[rows], return_counts=True)[1].tolist() == [12 // count] * count
        assert set(faces.splits[rows]) == {"train"}
        assert (rows == compare_embedders.choose_rows(faces, count, low=True)).all()
    assert not {"p0", "p1"} & set(faces.people[compare_embedders.choose_rows(faces, 6, low=False)])
    with pytest.raises(ValueError, match="only 6 people have 1 photos"):
        compare_embedders.choose_rows(faces, 12, low=False)


def test_comparison_runs(prepared, monkeypatch):
    """One run of each kind on a handful of photos: what was seen, and that every figure is there."""
    for name, value in (("PHOTOS", 12), ("FEW_PHOTOS", 8), ("EPOCHS", 2), ("ALL_EPOCHS", 1), ("BATCH_SIZE", 4)):
        monkeypatch.setattr(compare_embedders, name, value)
    prepared("faces_train", {person: (person, 6) for person in ("s1", "s2", "s3")})
    held_out = {f"fiw_0008_{i}": (f"s{i}", 3) for i in (11, 12)}  # a family that the hash holds out
    prepared("faces_more", {person: (person, 6) for person in ("s4", "s5")} | held_out)
    prepared("faces_unseen", {"s31": ("s31", 4), "s32": ("s32", 4)}, "open_val")
    material = compare_embedders.Material.load(MODELS / "model_arcface.pt", "cpu")
    assert material.faces.people.tolist() == [f"s{i}" for i in range(1, 6) for _ in range(6)]
    for name, seen, people in (("by_source", 12, 5), ("box", 16, 2), ("fine_64", 16, 2), ("all_faces_train", 18, 3)):
        changes = compare_embedders.RUNS[name][2] | {"size": 32}
        changes |= {"people": 2} if seen == 16 else {}
        result = compare_embedders.run(material, device="cpu", **changes)
        assert (result["photos_seen"], result["people"]) == (seen, people)
        assert np.isfinite(result["loss"])
        assert set(result["open_val"]) == set(result["open_val_flip"]) == {"0.1", "0.01", "0.001", "0.0001"}
        assert ("families" in result) == (name != "box")


@pytest.mark.parametrize(
    "only, measured",
    [
        (["embedder"], {"embedder": 2}),
        (["model_arcface.pt"], {"model_arcface.pt": 1}),
        (["model_cross_entropy.pt", "embedder"], {"model_cross_entropy.pt": 1, "embedder": 2}),
        ([], {**dict.fromkeys(NETWORKS, 1), "embedder": 2}),
    ],
)
def test_evaluate_each_network_and_both_side_by_side(only, measured, monkeypatch, tmp_path):
    for file in MODELS.glob("*.pt"):
        shutil.copy(file, tmp_path)
    before = read_manifest()
    write_manifest({name: entry for name, entry in before.items() if name != "embedder"}, tmp_path)
    monkeypatch.setattr(
        evaluate, "embedder_entry", lambda embedder, _: {"figures": {"networks": len(embedder.embedders)}}
    )
    monkeypatch.setattr(evaluate, "landmark_figures", lambda *_: {})
    monkeypatch.setattr(evaluate, "choice_figures", lambda embedders, _: list(embedders))
    _evaluate(monkeypatch, tmp_path, *["--only", *only] * bool(only))
    after = read_manifest(tmp_path)
    assert {n: e["figures"]["networks"] for n, e in after.items() if "networks" in e["figures"]} == measured
    assert after.get("embedder", {}).get("files") == (list(SIDE_BY_SIDE) if "embedder" in measured else None)
    assert after.get("embedder", {}).get("choice") == (NETWORKS if "embedder" in measured else None)
    kept = before["model_arcface.pt"]["figures"]["closed_set_test_top1"]  # measured in training, not here
    assert after["model_arcface.pt"]["figures"]["closed_set_test_top1"] == kept


def test_evaluate_weights_of_ones_own(monkeypatch, tmp_path, capsys):
    shutil.copy(MODELS / "model_arcface.pt", tmp_path / "my_model.pt")
    write_manifest({"my_model.pt": read_manifest()["model_arcface.pt"]}, tmp_path)
    monkeypatch.setattr(
        evaluate, "embedder_entry", lambda embedder, _: {"figures": {"networks": len(embedder.embedders)}}
    )
    _evaluate(monkeypatch, tmp_path)
    assert read_manifest(tmp_path)["my_model.pt"]["figures"]["networks"] == 1
    with pytest.raises(SystemExit):
        _evaluate(monkeypatch, tmp_path, "--only", "my_modl.pt")
    assert "my_modl.pt" in (said := capsys.readouterr().err) and "has my_model.pt" in said


def _evaluate(monkeypatch, folder, *options):
    monkeypatch.setattr("sys.argv", ["evaluate", "--device", "cpu", "--models", str(folder), *options])
    evaluate.main()
