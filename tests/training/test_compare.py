"""Comparisons are overrides of a recipe, run by the same trainer."""

import sys
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from people import synthetic_embeddings
from PIL import Image

from facelib.datasets.face_list import FaceList
from facelib.datasets.groups import GroupFaces
from facelib.io.records import RESULTS, read_table
from facelib.metrics import tpr_at_fprs
from facelib.training import compare
from facelib.training.compare import COMPARISONS, read_comparison, run_comparison
from facelib.training.configuration import config_hash
from facelib.training.run import train

NAMES = list(tomllib.loads(COMPARISONS.read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_every_run_differs_from_the_others(name):
    runs = read_comparison(name)
    configs = [config for _, config in runs.values()]
    assert len({str(config) for config in configs}) == len(configs)
    made = {row["run"]: row["what"] for row in read_table(RESULTS / f"comparison_{name}.csv")}
    assert {run: words["what"] for run, (words, _) in runs.items()} == {run: made[run] for run in runs}


@pytest.mark.parametrize("name", NAMES)
def test_recorded_rows_are_of_todays_configurations_or_say_why_not(name):
    runs = read_comparison(name)
    for row in read_table(RESULTS / f"comparison_{name}.csv"):
        if "note" in row:
            assert "config_hash" not in row
        else:
            assert row["config_hash"] == config_hash(runs[row["run"]][1])


def test_a_comparison_that_is_none():
    with pytest.raises(ValueError, match=r"nowhere: .* has landmarks, embedder_go_on"):
        read_comparison("nowhere")


def test_groups_are_measured_where_their_sets_are(monkeypatch, tmp_path):
    """The FMR of each group at the cosine at which white adults have 0.001, and TPR on held-out people."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    assert compare._measure_groups(None) == {}
    for name in ("faces_groups", "faces_world"):
        (tmp_path / name).mkdir()
    world, world_people = synthetic_embeddings(10, 4)
    everybody = synthetic_embeddings(360, 1)[0]
    everybody[240:, 0] += 0.5  # nearer to each other
    everybody /= np.linalg.norm(everybody, axis=1, keepdims=True)
    groups = np.repeat(["white men", "white women", "black women"], 120)

    def faces(vectors, people, groups=None):
        listed = FaceList([], people, people, sources=np.full(len(people), "x"))
        return GroupFaces(vectors, listed, groups)

    monkeypatch.setattr(compare, "load_landmarker", lambda: None)
    monkeypatch.setattr(compare, "world_faces", lambda part, landmarker: faces(world, world_people))
    monkeypatch.setattr(compare, "group_faces", lambda part, landmarker: faces(everybody, groups, groups))
    row = compare._measure_groups(SimpleNamespace(embed=lambda aligned: aligned))
    assert {name: rate for name, rate in row.items() if name.startswith("world_")} == {
        f"world_{fpr}": rate for fpr, rate in tpr_at_fprs(world, world_people).items()
    }
    assert (row["fmr_white_men"] + row["fmr_white_women"]) / 2 == pytest.approx(0.001, abs=1e-4)
    assert row["fmr_black_women"] > 0.01


def test_the_list_of_runs(monkeypatch, capsys):
    """Every run with its time, where it was recorded, and those that cannot be made again as they were."""
    monkeypatch.setattr(sys, "argv", ["compare", "--list"])
    assert compare.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(NAMES) + sum(len(read_table(RESULTS / f"comparison_{name}.csv")) for name in NAMES)
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == NAMES
    assert all("two CPU cores" in line for line in lines if not line.startswith(" "))
    lines = {line.split()[0]: " ".join(line.split()) for line in lines}
    assert lines["gentle"] == "gentle 392 s ArcFace, margin 0.35, scale 32"
    assert lines["cosface"] == "cosface 18 s, H100 CosFace, margin 0.35"
    assert lines["similarities"].endswith("cosines within a batch; cannot be run again)")
    assert lines["four"].startswith("four - CelebA, HELEN") and "(earlier code" in lines["four"]


SMALL = """
[embedder]
base = "RECIPES/model_arcface_all_sources.toml"

[embedder.set]
embedding_size = 16
stages = [[32, 1]]
batch_size = 4

[embedder.runs]
arcface = {table = "loss", what = "ArcFace"}
triplet = {table = "loss", what = "triplets", loss = "triplet"}
box = {table = "alignment", what = "no alignment", alignment = "box"}
"""


def test_a_run_of_landmarks_has_every_column_of_its_table(pipeline, photo, tmp_path, monkeypatch):
    """What notebook 2 shows of a comparison is in the row of a new run."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    (tmp_path / "landmarks").mkdir()
    Image.fromarray(photo).save(tmp_path / "landmarks/photo.png")
    points = [f"{n}_{c}" for n in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for c in "xy"]
    lines = ["file,dataset,split,person_or_photo,box_x1,box_y1,box_x2,box_y2," + ",".join(points)]
    for i, face in enumerate(pipeline(photo)):
        values = ",".join(map(str, [*face.box, *face.landmarks.ravel()]))
        lines.append(f"photo.png,celeba,{'val' if i > 3 else 'train'},q{i},{values}")
    (tmp_path / "landmarks/landmarks.csv").write_text("\n".join(lines))
    _, config = read_comparison("landmarks")["small"]
    stages = [replace(config.stages[0], epochs=1, input_size=32)]
    config = replace(config, stages=stages, epoch_size=4, batch_size=4, precision="no")
    _, training = train(config, tmp_path / "small.pt", device="cpu", progress=False)
    row = compare.measure(training)
    known = read_table(RESULTS / "comparison_landmarks.csv")[0]
    assert set(known) - {"run", "what", "seconds", "note", "nme_afw", "nme_helen", "nme_ytf"} <= set(row)
    assert (row["stacks"], row["channels"], row["faces_seen"]) == (1, 32, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_runs_are_trained_measured_and_kept(prepared, tmp_path, monkeypatch, capsys):
    prepared("faces_train", {person: (person, 6) for person in ("s1", "s2")})
    prepared("faces_more", {"s3": ("s3", 6)} | {f"fiw_0008_{i}": (f"s{i}", 4) for i in (11, 12)})
    prepared("faces_unseen", {"s31": ("s31", 4), "s32": ("s32", 4)}, "open_val")
    file = tmp_path / "comparisons.toml"
    file.write_text(SMALL.replace("RECIPES", str(compare.RECIPES)))
    settings = {"device": "cpu", "progress": False}
    rows = {row["run"]: row for row in run_comparison("embedder", ["arcface", "box"], settings, file)}
    assert list(rows) == ["arcface", "box"]
    assert (rows["arcface"]["photos_seen"], rows["arcface"]["people"], rows["arcface"]["what"]) == (18, 3, "ArcFace")
    assert {"open_val_0.1", "open_val_flip_0.1", "families_0.1", "triplets", "loss"} <= set(rows["arcface"])
    assert "families_0.1" not in rows["box"]
    assert rows["box"]["device"] == f"{torch.get_num_threads()} CPU threads"
    # Again, all of them: only what is missing is trained, and the table keeps what others made.
    trained = []
    monkeypatch.setattr(
        compare, "train", lambda *a, real=compare.train, **k: trained.append(a[0].loss) or real(*a, **k)
    )
    monkeypatch.setattr(compare, "COMPARISONS", file)
    monkeypatch.setattr(compare.run_comparison, "__defaults__", (file,))
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    (tmp_path / "comparison_embedder.csv").write_text("run,what,loss\nearlier,an earlier run,3\n")
    monkeypatch.setattr(sys, "argv", ["compare", "embedder", "--device", "cpu"])
    assert compare.main() == 0
    assert trained == ["triplet"]
    table = {row["run"]: row for row in read_table(tmp_path / "comparison_embedder.csv")}
    assert list(table) == ["earlier", "arcface", "triplet", "box"]
    assert table["arcface"]["loss"] == pytest.approx(rows["arcface"]["loss"], rel=1e-3)
    for arguments, says in (
        (["nothing"], "nothing: "),
        (["embedder", "--only", "arcfaec"], "--only arcfaec: embedder has"),
    ):
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        assert compare.main() == 1
        assert says in capsys.readouterr().err
