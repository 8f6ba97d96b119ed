"""Workers: rows, crashes of the process, skipped photos; and the names of photos in a source."""

import os

import numpy as np
import pyarrow as pa
import pytest
from people import calibration_with_cohort

from facelib.archive import worker
from facelib.archive.source import _parquet_photos, content_name
from facelib.archive.stores import open_store
from facelib.archive.worker import KnownPhotos, Worker, rows_id_of
from facelib.embedding.similarity import unit_vectors
from facelib.io.files import digest
from facelib.io.sample import sample_photo
from facelib.types import ModelMismatchError


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def start_worker(pipeline, tmp_path, monkeypatch):
    """start_worker(crashing) -> a new worker, as Ray would start it; `crashing`: names that crash the process."""
    monkeypatch.setattr(worker, "limit_threads", lambda threads: None)
    monkeypatch.setattr(worker.FacePipeline, "from_pretrained", lambda **_: pipeline)
    (tmp_path / "marks").mkdir()

    def start(crashing=()):
        started = Worker({}, rows_id_of(pipeline), str(tmp_path / "marks"), 1)
        process_batch = started.process_batch

        def process_or_crash(names, contents):
            if set(names) & set(crashing):
                raise Crash
            return process_batch(names, contents)

        started.process_batch = process_or_crash
        return started

    return start


def table_of(names, contents):
    return pa.table({"photo": names, "content": pa.array(contents, pa.binary())})


def test_rows_are_those_of_the_pipeline(start_worker, pipeline, photo, tmp_path):
    content = sample_photo().read_bytes()
    found = start_worker()(
        table_of(["a", "b", str(sample_photo()), "d"], [content, b"no photo", None, b""])
    ).to_pylist()
    assert [len(row["faces"]) for row in found] == [6, 0, 6, 0]
    assert found[0]["error"] == found[2]["error"] == ""
    assert found[1]["error"].startswith("b: ") and "not an image" in found[1]["error"] and found[3]["error"]
    faces = pipeline(photo)
    for row, face in zip(found[0]["faces"], faces):
        np.testing.assert_allclose(row["vector"], face.embedding, atol=1e-3)
        np.testing.assert_allclose(row["box"], face.box, atol=1e-3)
    assert not list((tmp_path / "marks").iterdir())


def test_a_photo_that_crashes_the_process_is_skipped(start_worker, tmp_path):
    content = sample_photo().read_bytes()
    table = table_of(["a", "crash", "c"], [content] * 3)
    for _ in range(3):  # once with the batch, then twice with the photo alone
        with pytest.raises(Crash):
            start_worker({"crash"})(table)
    rows = start_worker({"crash"})(table).to_pylist()
    assert [len(row["faces"]) for row in rows] == [6, 0, 6]
    assert "crashed more than once" in rows[1]["error"]


def test_a_worker_that_was_killed_once_loses_nothing(start_worker, tmp_path):
    table = table_of(["a", "b"], [sample_photo().read_bytes()] * 2)
    (tmp_path / "marks" / digest("a\nb")).touch()
    (tmp_path / "marks" / digest("a")).write_bytes(b".")
    assert [len(row["faces"]) for row in start_worker()(table).to_pylist()] == [6, 6]
    assert not (tmp_path / "marks" / digest("a\nb")).exists()


def test_another_pipeline_on_a_machine_is_refused(start_worker, tmp_path):
    with pytest.raises(ModelMismatchError, match="the pipeline of this machine"):
        Worker({}, "other", str(tmp_path / "marks"), 1)


def test_rows_have_the_similarity_to_the_cohort(start_worker, pipeline, monkeypatch, tmp_path):
    own_id = rows_id_of(pipeline)
    size = pipeline(sample_photo())[0].embedding.size
    centres = unit_vectors(np.random.default_rng(0).normal(size=(8, size)))
    calibration = calibration_with_cohort(pipeline.model_id, centres)
    monkeypatch.setitem(pipeline.__dict__, "calibration", calibration)
    (row,) = start_worker()(table_of([str(sample_photo())], [None])).to_pylist()
    embeddings = np.array([face["vector"] for face in row["faces"]], np.float32)
    found = [face["cohort_similarity"] for face in row["faces"]]
    np.testing.assert_allclose(found, calibration.cohort.similarity(embeddings), atol=1e-3)
    with pytest.raises(ModelMismatchError, match="calibrations on all machines"):
        Worker({}, own_id, str(tmp_path / "marks"), 1)


def test_known_photos_are_skipped(start_worker, pipeline, tmp_path):
    started = Worker({}, rows_id_of(pipeline), str(tmp_path / "marks"), 1, KnownPhotos({"a"}, {digest("b")}))
    content = sample_photo().read_bytes()
    rows = started(table_of(["a", "b", "c"], [content] * 3)).to_pylist()
    assert [row["photo"] for row in rows] == ["c"]
    assert len(started(table_of(["a"], [content]))) == 0


@pytest.mark.parametrize("name", ["https://example.invalid/y.jpg", "ftp://x/a b.jpg"])
def test_an_address_that_cannot_be_fetched_is_reported(start_worker, name):
    rows = start_worker()(table_of([name, "b"], [None, sample_photo().read_bytes()])).to_pylist()
    assert [len(row["faces"]) for row in rows] == [0, 6]
    assert rows[0]["error"].startswith(f"{name}: cannot be fetched") and "object store" in rows[0]["error"]


def test_addresses_may_have_any_characters():
    _, path = open_store("s3://bucket/a b/é.jpg?region=eu-west-1")
    assert path == "bucket/a b/é.jpg"


def test_columns_of_parquet():
    by_path = _parquet_photos(pa.table({"path": ["a.jpg"], "more": [1]}))
    assert by_path.to_pylist() == [{"photo": os.path.abspath("a.jpg"), "content": None}]
    both = _parquet_photos(pa.table({"path": ["/1.jpg", "s3://b/2.jpg"], "name": ["Ann", "Ann"]}))
    assert both["photo"].to_pylist() == ["/1.jpg", "s3://b/2.jpg"]
    named = _parquet_photos(pa.table({"name": ["x"], "bytes": [b"1"]}))
    assert named.to_pylist() == [{"photo": "x", "content": b"1"}]
    no_path = _parquet_photos(pa.table({"path": pa.array([None, None], pa.string()), "name": ["x", None]}))
    assert no_path["photo"].to_pylist() == ["(no path) x", "(no path)"]
    assert "neither a path nor bytes" in str(worker.fetch("(no path) x"))
    unnamed = _parquet_photos(pa.table({"bytes": [b"1", b"1", b"2"]}))["photo"].to_pylist()
    assert unnamed[0] == unnamed[1] == content_name(b"1") != unnamed[2]
