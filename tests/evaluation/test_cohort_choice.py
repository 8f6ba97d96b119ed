"""The choice of the cohort, on synthetic people."""

from types import SimpleNamespace

import numpy as np
from people import synthetic_embeddings

from facelib.evaluation import cohort_choice
from facelib.io.records import read_table
from facelib.recognition.match_rates import MeasuredFaces


def test_a_row_for_each_cohort(tmp_path, monkeypatch):
    sets = {name: MeasuredFaces(name, *synthetic_embeddings(seed=seed)) for seed, name in enumerate("abc")}
    embeddings, people = synthetic_embeddings(people=300, photos=1, seed=5)
    groups = np.where(np.arange(300) % 2, "white men", "black women")
    strangers = synthetic_embeddings(people=1200, photos=1, seed=6)[0]
    world = SimpleNamespace(aligned=sets["a"].embeddings, faces=SimpleNamespace(people=sets["a"].people))
    monkeypatch.setattr(cohort_choice, "load_landmarker", lambda: None)
    monkeypatch.setattr(
        cohort_choice,
        "load_embedder",
        lambda name: SimpleNamespace(model_id="abc", crop_mode="five_points", embed=lambda rows: rows),
    )
    monkeypatch.setattr(cohort_choice, "world_faces", lambda *_: world)
    monkeypatch.setattr(cohort_choice, "open_set_collection", lambda *_: sets["b"])
    monkeypatch.setattr(cohort_choice, "families_collection", lambda *_: sets["c"])
    monkeypatch.setattr(
        cohort_choice, "group_collections", lambda *_: [MeasuredFaces("made", embeddings, people, groups)]
    )
    monkeypatch.setattr(cohort_choice, "group_faces", lambda *_: SimpleNamespace(aligned=strangers))
    monkeypatch.setattr(cohort_choice, "NEIGHBOURS", (3,))
    monkeypatch.setattr("sys.argv", ["cohort_choice", "--out", str(tmp_path / "choice.csv")])
    cohort_choice.main()
    rows = read_table(tmp_path / "choice.csv")
    assert [row["weight"] for row in rows] == [0.0, *cohort_choice.WEIGHTS * 2]
    assert "centres" not in rows[0] and rows[1]["centres"] < rows[-1]["centres"] and rows[1]["neighbours"] == 3
    for row in rows:
        assert 0 < row["open_val_0.001"] <= row["open_val_0.01"] <= 1
        assert 0 < row["world_worst_group"] <= 1
    assert len({row["families_worst_group"] for row in rows}) > 3


def test_the_worst_group_sets_the_threshold():
    """One group lies close together: at its threshold fewer genuine pairs are accepted than at the other's."""
    sets = {"open_val": MeasuredFaces("open_val", *synthetic_embeddings())}
    spread = synthetic_embeddings(people=120, photos=1, seed=1)[0]
    close = spread + np.eye(32, dtype=np.float32)[0] * 1.5
    close /= np.linalg.norm(close, axis=1, keepdims=True)
    people = np.arange(240).astype(str)
    easy, hard = (
        cohort_choice.cohort_row(None, sets, [MeasuredFaces("made", np.concatenate(both), people, groups)])
        for both, groups in (
            ((spread, spread[::-1]), np.repeat(["a", "b"], 120)),
            ((spread, close), np.repeat(["a", "b"], 120)),
        )
    )
    assert hard["open_val_worst_group"] < easy["open_val_worst_group"]
    assert hard["open_val_0.01"] == easy["open_val_0.01"]
