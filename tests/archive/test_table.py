"""Tables of an archive: interrupted writes, duplicates, search, clustering and removal."""

import sys
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from archive_rows import CALIBRATION, face_row, photo_rows
from people import synthetic_embeddings

from facelib.archive import neighbours, people, run
from facelib.archive.__main__ import parse_arguments
from facelib.archive.schema import PHOTO_SCHEMA, read_columns
from facelib.archive.table import Archive
from facelib.io.files import digest
from facelib.metrics import bcubed
from facelib.recognition.clustering import MergeScores
from facelib.types import ModelMismatchError


@pytest.fixture
def archive(tmp_path):
    return Archive(str(tmp_path / "archive"), "abc", 32)


def fmr_at(score):
    return CALIBRATION.extrapolated_fmr(score)


def test_tables_are_readable_without_this_package(archive):
    embeddings, _ = synthetic_embeddings(5, 2)
    archive.write(
        photo_rows({"a.jpg": embeddings[:2], "it's.jpg": embeddings[2:3], "none.jpg": [], "bad.jpg": "damaged"})
    )
    assert (archive.faces.count_rows(), archive.photos.count_rows()) == (3, 4)
    assert archive.processed() == {"a.jpg", "it's.jpg", "none.jpg", "bad.jpg"}
    frame = lancedb.connect(archive.location).open_table("faces").to_pandas()
    assert frame.groupby("photo").size().to_dict() == {"a.jpg": 2, "it's.jpg": 1}
    np.testing.assert_allclose(np.stack(frame["vector"]), embeddings[:3], atol=1e-3)
    counts = read_columns(archive.photos, "photo", "count", "error").to_pylist()
    assert {row["photo"]: row["count"] for row in counts} == {"a.jpg": 2, "it's.jpg": 1, "none.jpg": 0, "bad.jpg": 0}


def test_an_interrupted_write_is_repaired(archive, monkeypatch):
    embeddings, _ = synthetic_embeddings(5, 2)
    archive.write(photo_rows({"a.jpg": embeddings[:2]}))
    monkeypatch.setattr(archive, "photos", None)  # the process ends between the two tables
    with pytest.raises(AttributeError):
        archive.write(photo_rows({"b.jpg": embeddings[2:4]}))
    again = Archive(archive.location)
    assert again.faces.count_rows() == 4
    assert again.repair() == 2
    assert again.repair() == 0
    assert again.processed() == {"a.jpg"}
    assert again.faces.count_rows() == 2


def test_duplicate_names_are_written_once(archive):
    embeddings, _ = synthetic_embeddings(5, 2)
    tables = [photo_rows({"a.jpg": embeddings[:1]}), photo_rows({"a.jpg": embeddings[:1], "b.jpg": embeddings[1:2]})]
    assert [(part.photos, part.duplicates) for part in run.write_tables(iter(tables), archive, {"c.jpg"}, 60)] == [
        (2, 1)
    ]
    assert sorted(read_columns(archive.faces, "photo")["photo"].to_pylist()) == ["a.jpg", "b.jpg"]


def test_a_run_that_is_stopped_writes_each_photo_once(archive):
    """`| head`, or Ctrl-C between two parts."""
    embeddings, _ = synthetic_embeddings(5, 2)
    tables = iter([photo_rows({"a.jpg": embeddings[:2]}), photo_rows({"b.jpg": embeddings[2:3]})])
    running = run.write_tables(tables, archive, set(), 0)
    next(running)
    running.close()
    assert read_columns(archive.photos, "photo")["photo"].to_pylist() == ["a.jpg"]
    assert archive.faces.count_rows() == 2
    held = run.write_tables(iter([photo_rows({"b.jpg": embeddings[2:3]}), None]), archive, archive.processed(), 60)
    with pytest.raises(TypeError):  # buffered rows are written before the error is raised
        next(held)
    assert archive.processed() == {"a.jpg", "b.jpg"}


def test_a_retry_replaces_only_errors_of_the_same_photos(archive):
    embeddings, _ = synthetic_embeddings(5, 2)
    archive.write(photo_rows({"a.jpg": "damaged", "b.jpg": "damaged", "c.jpg": embeddings[:1]}))
    assert archive.processed(without_errors=True) == {"c.jpg"}
    archive.write(photo_rows({"b.jpg": embeddings[1:3], "d.jpg": []}))
    rows = read_columns(archive.photos, "photo", "error", "count").to_pylist()
    found = sorted((row["photo"], row["error"], row["count"]) for row in rows)
    assert found == [("a.jpg", "damaged", 0), ("b.jpg", "", 2), ("c.jpg", "", 1), ("d.jpg", "", 0)]


def test_another_embedder_is_refused(archive):
    with pytest.raises(ModelMismatchError, match=r"embeddings of the embedder abc, not of other"):
        Archive(archive.location, "other", 32)
    with pytest.raises(FileNotFoundError, match="no archive is there"):
        Archive(archive.location + "-none")


def test_an_archive_of_version_0_2_is_opened(tmp_path):
    """Its column `quality_issue` was called `doubt`, and `pipeline_id` in the metadata `made_by`."""
    embeddings, _ = synthetic_embeddings(1, 2)
    old = Archive(str(tmp_path / "archive"), "abc", 32, "pipeline detector")
    row = face_row("a.jpg", 0, embeddings[0]) | {"quality_issue": "too blurred"}
    old.write(pa.Table.from_pylist([dict(photo="a.jpg", width=9, height=9, error="", faces=[row])], PHOTO_SCHEMA))
    table = old.faces.to_arrow()
    columns = ["doubt" if name == "quality_issue" else name for name in table.column_names]
    metadata = {"embedder": "abc", "made_by": "pipeline detector"}
    table = table.rename_columns(columns).replace_schema_metadata(metadata)
    old.database.create_table("faces", table, mode="overwrite")
    assert "doubt" in lancedb.connect(old.location).open_table("faces").schema.names
    for _ in range(2):  # the second time the column has its new name
        archive = Archive(old.location, "abc", 32, "pipeline detector")
        assert "doubt" not in archive.faces.schema.names
        (found,) = archive.nearest_by_distance(embeddings[0], 1)
        assert (found["photo"], found["quality_issue"]) == ("a.jpg", "too blurred")
    archive.write(photo_rows({"b.jpg": embeddings[1:2]}))
    assert archive.faces.count_rows() == 2
    with pytest.raises(ModelMismatchError, match="rows of the pipeline pipeline detector, not of another"):
        Archive(old.location, "abc", 32, "another")


@pytest.mark.parametrize("option", ["--in-progress-dir", "--marks"])
def test_in_progress_dir_has_an_alias(monkeypatch, capsys, option):
    command = ["x", "photos", "--out", "archive", "--address", "auto"]
    monkeypatch.setattr(sys, "argv", [*command, option, "shared"])
    assert parse_arguments().in_progress_dir == "shared"
    for more, message in ((["--marks", "s3://bucket/x"], "expected a folder"), ([], "name a folder with")):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        with pytest.raises(SystemExit):
            parse_arguments()
        assert message in capsys.readouterr().err


def test_nearest_faces_are_those_of_comparing_all(archive):
    embeddings, names = synthetic_embeddings(60, 10)
    run.write_part(
        [photo_rows({f"{name}-{i}.jpg": [v] for i, (name, v) in enumerate(zip(names, embeddings))})], archive
    )
    stored = np.stack([np.float16(v).astype(np.float32) for v in embeddings])
    exact = np.argsort(1 - stored @ embeddings[7], kind="stable")[:5]
    found = archive.nearest(embeddings[7], 5)
    assert [row["photo"] for row in found] == [f"{names[i]}-{i}.jpg" for i in exact]
    np.testing.assert_allclose([row["distance"] for row in found], 1 - stored[exact] @ embeddings[7], atol=2e-3)
    archive.build_index()
    hits = sum(
        archive.nearest(v, 2, exact=False)[1]["photo"].startswith(n) for v, n in zip(embeddings[::10], names[::10])
    )
    assert hits >= 57  # of 60


def test_people_found_in_cells_are_those_of_all_pairs(monkeypatch):
    embeddings, names = synthetic_embeddings(400, 10, spread=0.4)
    monkeypatch.setattr(neighbours, "CELL_SIZE", 200)
    offsets = np.random.default_rng(0).uniform(0, 0.1, len(names)).astype(np.float32)
    pairs = np.concatenate(list(neighbours.cell_pairs(embeddings, offsets, 0.5)))
    scores = (embeddings[pairs[:, 0]] * embeddings[pairs[:, 1]]).sum(1) - offsets[pairs].sum(1)
    assert scores.min() > 0.5 - 1e-6 and (pairs[:, 0] != pairs[:, 1]).mean() > 0.8
    assert np.bincount(pairs[:, 0]).max() <= neighbours.NEIGHBOURS + 1

    photos, groups = np.arange(len(names)), []
    for limit in (len(names), 0):
        found = neighbours.cluster_archive(np.float16(embeddings), MergeScores(0.6, 0.4), photos, offsets, limit)
        groups.append(found)
    all_pairs, cells = (bcubed(names, found) for found in groups)
    assert all_pairs["precision"] > 0.95 and all_pairs["recall"] > 0.7
    assert cells["precision"] == pytest.approx(all_pairs["precision"], abs=0.01)
    assert cells["recall"] == pytest.approx(all_pairs["recall"], abs=0.01)


def test_people_keep_their_names_and_are_removed_from_all_files(archive, monkeypatch):
    monkeypatch.setattr(people, "load_calibration", lambda model_id: CALIBRATION)
    embeddings, names = synthetic_embeddings(50, 6, spread=0.3)  # an index needs 256 rows
    photos = [f"{name}-{i}.jpg" for i, name in enumerate(names)]
    archive.write(photo_rows({photo: [embedding] for photo, embedding in zip(photos, embeddings)}))
    assert people.cluster_people(archive, fmr_at(0.85)) == 50
    before = people.read_people(archive)
    groups = [
        {before[photo, 0].person for photo, own in zip(photos, names) if own == name} for name in np.unique(names)
    ]
    assert all(len(group) == 1 for group in groups)
    first = before[photos[0], 0].person
    assert people.rename_person(archive, first, "Ann's aunt") == 6
    archive.write(photo_rows({"new.jpg": [embeddings[0] + 0.05 * embeddings[1]], "other.jpg": [embeddings[70]]}))
    people.cluster_people(archive, fmr_at(0.85))
    after = people.read_people(archive)
    assert after["new.jpg", 0] == people.PersonLabel("Ann's aunt", False)
    assert after[photos[0], 0] == people.PersonLabel("Ann's aunt", True)
    assert all(after[photo, 0].person == before[photo, 0].person for photo in photos[6:])  # numbers stay
    assert after["other.jpg", 0].person == before[photos[70], 0].person
    assert archive.nearest(embeddings[0], 1)[0]["person"] == "Ann's aunt"
    with pytest.raises(ValueError, match="no face of"):
        people.rename_person(archive, "nobody", "x")
    with pytest.raises(ValueError, match="reserved for faces of low quality"):
        people.rename_person(archive, "?", "x")

    archive.build_index()
    old_index = {path.name for path in Path(archive.location, "faces.lance/_indices").iterdir()}
    needle = np.float16(embeddings[2]).tobytes()
    assert any(needle in path.read_bytes() for path in Path(archive.location).rglob("*") if path.is_file())
    assert people.remove_person(archive, "Ann's aunt") == 7
    assert people.remove_photos(archive, [photos[10]]) == 1
    assert not old_index & {path.name for path in Path(archive.location, "faces.lance/_indices").iterdir()}
    left = {(row["photo"], row["face"]) for row in archive.nearest(embeddings[0], 400)}
    assert len(left) == archive.faces.count_rows() == 302 - 8
    assert "Ann's aunt" not in {row.person for row in people.read_people(archive).values()}
    assert read_columns(archive.removed, "digest")["digest"].to_pylist() == [digest(photos[10])]
    with pytest.raises(ValueError, match="no photo of this name"):
        people.remove_photos(archive, ["nowhere.jpg"])
    for embedding in (embeddings[2], embeddings[10]):  # in no file of any version
        needle = np.float16(embedding).tobytes()
        assert not [p for p in Path(archive.location).rglob("*") if p.is_file() and needle in p.read_bytes()]


@pytest.mark.parametrize("step", ["delete", "purge"])
def test_an_interrupted_removal_is_finished(archive, monkeypatch, step):
    embeddings, _ = synthetic_embeddings(6, 2)
    archive.write(photo_rows({"kept.jpg": embeddings[:2], "gone.jpg": embeddings[2:3], "faceless and gone.jpg": []}))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "facelib.archive.table.delete_rows" if step == "delete" else "facelib.archive.table.Archive.purge", killed
        )
        people.remove_photos(archive, ["gone.jpg", "faceless and gone.jpg"])
    again = Archive(archive.location)
    assert digest("gone.jpg") in again.deleted_ids()
    assert people.remove_photos(again, ["gone.jpg", "faceless and gone.jpg"]) == (step == "delete")
    assert again.processed() == {"kept.jpg"}
    needles = [np.float16(embeddings[2]).tobytes(), b"gone.jpg"]
    files = [path.read_bytes() for path in Path(archive.location).rglob("*") if path.is_file()]
    assert not [1 for needle in needles for file in files if needle in file]
    with again.write_lock():
        assert again.deleted_ids() == {digest("gone.jpg"), digest("faceless and gone.jpg")}


def test_a_person_with_very_many_photos_is_one_group(monkeypatch):
    """More photos than neighbours of a face, so that the groups of the first round have neighbours of their own."""
    monkeypatch.setattr(neighbours, "CELL_SIZE", 400)
    many, _ = synthetic_embeddings(1, 1500, spread=0.3)
    others, _ = synthetic_embeddings(60, 6, spread=0.3, seed=1)
    embeddings = np.concatenate([many, others]).astype(np.float16)
    zeros = np.zeros(len(embeddings), np.float32)
    groups = neighbours.cluster_archive(embeddings, MergeScores(0.6, 0.6), np.arange(len(embeddings)), zeros, 0)
    assert np.bincount(groups[:1500]).max() > 1450
    assert not set(groups[:1500]) & set(groups[1500:])
    assert len(set(groups[1500:])) == 60


def test_faces_of_one_photo_or_of_low_quality_are_not_linked(archive, monkeypatch):
    monkeypatch.setattr(people, "load_calibration", lambda model_id: CALIBRATION)
    assert people.cluster_people(archive) == 0
    embeddings, _ = synthetic_embeddings(2, 2, spread=0.1)
    table = photo_rows({"two.jpg": [embeddings[0], embeddings[1]], "blurred.jpg": [embeddings[0]]}).to_pylist()
    table[1]["faces"][0]["quality_issue"] = "too blurred"
    archive.write(pa.Table.from_pylist(table, PHOTO_SCHEMA))
    assert people.cluster_people(archive) == 2
    assert people.read_people(archive)["blurred.jpg", 0].person == people.LOW_QUALITY


def test_one_writer_at_a_time(archive):
    with (
        archive.write_lock(),
        pytest.raises(OSError, match="another run is writing"),
        Archive(archive.location).write_lock(),
    ):
        pass
    with archive.write_lock():
        pass


def test_assign_names():
    groups = np.array([0, 0, 0, 1, 1, 2, 0, 2])
    before = [
        None,
        people.PersonLabel("Ann", True),
        None,
        None,
        people.PersonLabel("Person 9", False),
        None,
        people.PersonLabel("Bob", True),
        None,
    ]
    rows = people.assign_names(groups, before, np.arange(8))
    assert [row.person for row in rows] == ["Ann", "Ann", "Ann", "Person 9", "Person 9", "Person 1", "Bob", "Person 1"]
    assert [row.given for row in rows] == [False, True, False, False, False, False, True, False]


def test_two_faces_of_one_photo_get_two_names():
    """Also where a name that was given in two groups would spread to both; what a user named stays."""
    ann = people.PersonLabel("Ann", True)
    groups, photos = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 2, 1, 3])
    rows = people.assign_names(groups, [ann, None, ann, None, None], photos)
    assert [row.person for row in rows] == ["Ann", "Ann", "Ann", "Person 1", "Ann"]
    rows = people.assign_names(groups, [None, None, ann, ann, None], photos)
    assert [row.person for row in rows] == ["Person 1", "Person 1", "Ann", "Ann", "Ann"]
    rows = people.assign_names(np.array([0, 1]), [ann, ann], np.array([5, 5]))
    assert [row.person for row in rows] == ["Ann", "Ann"]


@pytest.mark.parametrize("lost", ["faces", "photos"])
def test_a_lost_table_does_not_empty_the_other_one(archive, lost):
    embeddings, _ = synthetic_embeddings(1, 2)
    archive.write(photo_rows({"a.jpg": embeddings[:1], "b.jpg": embeddings[1:]}))
    archive.database.drop_table(lost)
    for dim in (None, 32):
        with pytest.raises(ValueError, match=f"the table {lost} is missing"):
            Archive(archive.location, "abc", dim)
    (kept,) = {"faces", "photos"} - {lost}
    assert archive.database.open_table(kept).count_rows() == 2


def test_an_archive_is_private(archive):
    assert Path(archive.location).stat().st_mode & 0o777 == 0o700


def test_errors_are_listed_with_their_reason(archive):
    written = run.write_part([photo_rows({"a.jpg": "a.jpg: truncated", "b.jpg": []})], archive)
    assert written.errors == ["a.jpg: truncated"]
