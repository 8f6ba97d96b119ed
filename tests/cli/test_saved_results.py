"""Results that a kill or a power cut has damaged: those photos are processed again, the others are not."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from facelib.cli.results import Results
from facelib.embedding.similarity import unit_vectors
from facelib.io.files import file_hash
from facelib.recognition.cohort import Cohort


@pytest.fixture(scope="module")
def done(tmp_path_factory, photo, pipeline):
    """Three photos with results of one face or more each."""
    folder = tmp_path_factory.mktemp("results")
    photos = [folder / f"{name}.png" for name in ("a", "b", "back\\slash")]
    for path in photos:
        Image.fromarray(photo[::2, ::2]).save(path)
    (folder / "out").mkdir()
    results = Results(folder / "out", "weights", "retinaface", photos).resume()
    faces = pipeline(photo[::2, ::2])
    for path in photos:
        results.add(path, photo[::2, ::2], faces)
    results.close()
    return photos


def pending(photos, out, cohort=None):
    results = Results(out, "weights", "retinaface", photos, cohort=cohort).resume()
    names = [photo.name for photo in results.pending()]
    results.close()
    return names


@pytest.fixture
def out(done, tmp_path):
    shutil.copytree(done[0].parent / "out", tmp_path / "out")
    return tmp_path / "out"


def test_whole_results_are_taken_over(done, out):
    assert pending(done, out) == []
    records = json.loads((out / "faces.json").read_text())
    assert [record["sha256"] for record in records] == [file_hash(photo) for photo in done]


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncated, zeroed, empty, os.unlink])
@pytest.mark.parametrize("name", ["b_face0.png", "b_annotated.jpg"])
def test_damaged_pictures(done, out, damage, name):
    damage(out / name)
    assert pending(done, out) == ["b.png"]


FIELDS = ["photo", "name", "path", "bytes", "modified", "annotated", "faces", "pipeline_id", "detector"]


@pytest.mark.parametrize("field", FIELDS)
def test_records_without_a_field(done, out, field):
    records = json.loads((out / "faces.json").read_text())
    del records[1][field]
    (out / "faces.json").write_text(json.dumps(records))
    assert pending(done, out) == ["b.png"]


@pytest.mark.parametrize("field", ["box", "score", "landmarks", "quality", "quality_issue", "aligned"])
@pytest.mark.parametrize("value", ["missing", None, float("nan"), "text", [1, 2], {}])
def test_faces_with_a_wrong_field(done, out, field, value):
    if field in ("quality_issue", "aligned") and value == "text":
        value = 3
    records = json.loads((out / "faces.json").read_text())
    records[1]["faces"][0][field] = value
    if value == "missing":
        del records[1]["faces"][0][field]
    (out / "faces.json").write_text(json.dumps(records))
    assert pending(done, out) == ["b.png"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_damaged_embeddings(done, out, value):
    with np.load(out / "embeddings.npz") as saved:
        arrays = dict(saved)
    rows = np.flatnonzero(arrays["photo"] == str(done[1]))
    arrays["embeddings"][rows[0]] = value
    np.savez(out / "embeddings.npz", **arrays)
    assert pending(done, out) == ["b.png"]


def test_records_from_before_there_were_hashes_are_taken_over(done, out):
    records = json.loads((out / "faces.json").read_text())
    for record in records:
        del record["sha256"]
    (out / "faces.json").write_text(json.dumps(records))
    assert pending(done, out) == []
    assert all("sha256" in record for record in json.loads((out / "faces.json").read_text()))


def test_cohort_similarities_are_always_those_of_the_cohort_of_today(done, out):
    """Results of an earlier version have none, and those of another cohort are no longer true."""
    with np.load(out / "embeddings.npz") as saved:
        embeddings = saved["embeddings"]
    for seed in (0, 1, None):
        centres = unit_vectors(np.random.default_rng(seed).normal(size=(9, embeddings.shape[1])))
        cohort = None if seed is None else Cohort("abc", centres, 3)
        assert pending(done, out, cohort) == []
        faces = [face for record in json.loads((out / "faces.json").read_text()) for face in record["faces"]]
        if cohort:
            expected = cohort.similarity(embeddings)
            np.testing.assert_allclose([face["cohort_similarity"] for face in faces], expected, atol=1e-4)
        assert any("cohort_similarity" in face for face in faces) == (cohort is not None)


def test_new_results_have_the_cohort_similarity(done, tmp_path, photo, pipeline):
    faces = pipeline(photo[::2, ::2])
    centres = unit_vectors(np.random.default_rng(0).normal(size=(9, faces[0].embedding.size)))
    results = Results(tmp_path, "weights", "retinaface", done[:1], cohort=Cohort("abc", centres, 3)).resume()
    record = results.add(done[0], photo[::2, ::2], faces)
    results.close()
    expected = results.cohort.similarity(np.stack([face.embedding for face in faces]))
    np.testing.assert_allclose([face["cohort_similarity"] for face in record["faces"]], expected, atol=1e-4)


def test_damaged_lines_of_a_run_that_was_killed(done, out, photo, pipeline):
    shutil.rmtree(out)
    out.mkdir()
    results = Results(out, "weights", "retinaface", done).resume()
    for path in done:
        results.add(path, photo[::2, ::2], pipeline(photo[::2, ::2]))
    lines = (out / "faces.part.jsonl").read_bytes().splitlines(keepends=True)
    results.close()
    for name in ("faces.json", "embeddings.npz"):
        (out / name).unlink()
    lines[1] = bytes(len(lines[1]) - 1) + b"\n"
    (out / "faces.part.jsonl").write_bytes(b"".join(lines) + lines[0][:50])
    assert pending(done, out) == ["b.png"]


@pytest.mark.parametrize("name", ["faces.json", "embeddings.npz"])
def test_lost_tables(done, out, name):
    for content in (b"", b"{}", b"[1, null]", b"PK", io.BytesIO().getvalue()):
        (out / name).write_bytes(content)
        assert len(pending(done, out)) == 3


@pytest.mark.parametrize("name", ["faces.json", "distances.png", "album.html", "a_annotated.jpg", "a_face0.png"])
def test_files_of_the_user_are_not_replaced(done, tmp_path, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / "other_face0.png").write_text("mine, and in nobody's way")
    with pytest.raises(FileExistsError, match=name):
        pending(done, tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    (tmp_path / name).rename(tmp_path / "notes.txt")
    assert len(pending(done, tmp_path)) == len(done)
    assert len(pending(done, tmp_path)) == len(done)  # the folder is one of results now
    assert (tmp_path / "other_face0.png").read_text() == "mine, and in nobody's way"
