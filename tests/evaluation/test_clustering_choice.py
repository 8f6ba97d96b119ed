"""Sets and rows by which the scores are chosen from which groups merge."""

from types import SimpleNamespace

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.evaluation import clustering_choice
from facelib.io.records import read_table
from facelib.recognition.calibration import Calibration
from facelib.recognition.match_rates import MeasuredFaces


def test_the_choice_is_measured_on_sets_for_choosing(tmp_path, monkeypatch):
    embeddings, people = synthetic_embeddings(40, 5, spread=0.5, size=64)
    strangers = synthetic_embeddings(90, 1, spread=0.5, size=64, seed=5)[0]
    made = {name: MeasuredFaces(name, embeddings, np.char.add(name, people)) for name in ("open_val", "families")}
    world = SimpleNamespace(aligned=embeddings, faces=SimpleNamespace(people=np.char.add("world", people)))
    embedder = SimpleNamespace(model_id="abc", crop_mode="five_points", embed=lambda aligned: aligned)
    calibration = Calibration("abc", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [], {}, 1e-6, "none")
    for name, value in {
        "open_set_collection": lambda *_: made["open_val"],
        "families_collection": lambda *_: made["families"],
        "world_faces": lambda *_: world,
        "group_faces": lambda *_: SimpleNamespace(aligned=strangers),
        "load_landmarker": lambda: None,
        "load_embedder": lambda _: embedder,
        "load_calibration": lambda _: calibration,
        "SINGLE_FMRS": (1e-3, 1e-5),
    }.items():
        monkeypatch.setattr(clustering_choice, name, value)
    sets = clustering_choice.choosing_sets(embedder, None)
    assert [len(draws) for draws in sets.values()] == [1, 1, 1, 3, 5, 1, 1]
    assert all(len(set(names)) == len(names) == 40 for _, names in sets["one photo each"])
    assert all(len(set(names)) == 15 and len(names) == 75 for _, names in sets["15 people"])
    [(mixed, names)] = sets["mixed"]
    assert len(mixed) == 600 + 90 and len(set(names)) == 120 + 90
    assert len(sets["few"][0][1]) < 500

    monkeypatch.setattr("sys.argv", ["clustering_choice", "--embedders", "one", "--out", str(tmp_path / "choice.csv")])
    clustering_choice.main()
    rows = read_table(tmp_path / "choice.csv")
    ratios = len(clustering_choice.RATIOS)
    assert [row["single_fmr"] for row in rows] == [1e-3] * (2 * ratios - 1) + [1e-5] * (2 * ratios - 1)
    first, last = rows[0], rows[-1]
    assert first["embedder"] == "one" and first["open_val_recall"] > last["open_val_recall"]
    precision, recall = ((first[f"open_val_{key}"] + first[f"families_{key}"]) / 2 for key in ("precision", "recall"))
    assert first["f1"] == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-3)
