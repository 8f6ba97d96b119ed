"""The archive's table: nothing half, nothing twice, found again, and gone when it is removed."""

from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from people import made_up

from facelib.archive import communities as grouping
from facelib.archive import people, run
from facelib.archive.table import PHOTO, Archive, read
from facelib.io.files import digest
from facelib.metrics import bcubed
from facelib.recognition.calibration import Calibration

CALIBRATION = Calibration("abc", [0, 0.2, 1, 2], [1e-6, 1e-3, 0.5, 1], [], [0, 0.8, 1, 1], [], {}, 1_000_000, "made up")


def face(photo, number, vector):
    fields = dict(
        box=[0, 0, 9, 9], score=0.9, landmarks=[1.0] * 10, landmark_confidence=0.5, quality=0.4, quality_issue=""
    )
    return {"photo": photo, "face": number, "vector": vector.astype(np.float16), **fields}


def rows_of(photos):
    """name -> vectors, or an error; as `Worker` gives them."""
    rows = []
    for name, found in photos.items():
        broken = isinstance(found, str)
        faces = [] if broken else [face(name, number, vector) for number, vector in enumerate(found)]
        rows.append(dict(photo=name, width=9, height=9, error=found if broken else "", faces=faces))
    return pa.Table.from_pylist(rows, PHOTO)


@pytest.fixture
def archive(tmp_path):
    return Archive(str(tmp_path / "archive"), "abc", 32)


def test_written_and_read_by_others(archive):
    vectors, _ = made_up(5, 2)
    archive.write(rows_of({"a.jpg": vectors[:2], "it's.jpg": vectors[2:3], "none.jpg": [], "bad.jpg": "damaged"}))
    assert (archive.faces.count_rows(), archive.photos.count_rows()) == (3, 4)
    assert archive.done() == {"a.jpg", "it's.jpg", "none.jpg", "bad.jpg"}
    frame = lancedb.connect(archive.place).open_table("faces").to_pandas()  # by whoever knows pandas and not us
    assert frame.groupby("photo").size().to_dict() == {"a.jpg": 2, "it's.jpg": 1}
    np.testing.assert_allclose(np.stack(frame["vector"]), vectors[:3], atol=1e-3)
    counts = read(archive.photos, "photo", "count", "error").to_pylist()
    assert {row["photo"]: row["count"] for row in counts} == {"a.jpg": 2, "it's.jpg": 1, "none.jpg": 0, "bad.jpg": 0}


def test_a_write_that_was_cut_off_leaves_nothing(archive, monkeypatch):
    vectors, _ = made_up(5, 2)
    archive.write(rows_of({"a.jpg": vectors[:2]}))
    monkeypatch.setattr(archive, "photos", None)  # the process ends between the two tables
    with pytest.raises(AttributeError):
        archive.write(rows_of({"b.jpg": vectors[2:4]}))
    again = Archive(archive.place)
    assert again.faces.count_rows() == 4
    assert again.repair() == 2
    assert again.repair() == 0
    assert again.done() == {"a.jpg"}
    assert again.faces.count_rows() == 2


def test_a_name_that_comes_twice_is_written_once(archive):
    vectors, _ = made_up(5, 2)
    tables = [rows_of({"a.jpg": vectors[:1]}), rows_of({"a.jpg": vectors[:1], "b.jpg": vectors[1:2]})]
    assert [(part.photos, part.again) for part in run.written(iter(tables), archive, {"c.jpg"}, 60)] == [(2, 1)]
    assert sorted(read(archive.faces, "photo")["photo"].to_pylist()) == ["a.jpg", "b.jpg"]


def test_a_run_that_ends_while_it_tells_what_it_wrote_writes_nothing_twice(archive):
    """`| head`, or Ctrl-C between two parts."""
    vectors, _ = made_up(5, 2)
    tables = iter([rows_of({"a.jpg": vectors[:2]}), rows_of({"b.jpg": vectors[2:3]})])
    running = run.written(tables, archive, set(), 0)
    next(running)
    running.close()
    assert read(archive.photos, "photo")["photo"].to_pylist() == ["a.jpg"]
    assert archive.faces.count_rows() == 2
    held = run.written(iter([rows_of({"b.jpg": vectors[2:3]}), None]), archive, archive.done(), 60)
    with pytest.raises(TypeError):  # what was not written yet is, before the error goes on
        next(held)
    assert archive.done() == {"a.jpg", "b.jpg"}


def test_trying_again_touches_the_errors_of_these_photos_alone(archive):
    vectors, _ = made_up(5, 2)
    archive.write(rows_of({"a.jpg": "damaged", "b.jpg": "damaged", "c.jpg": vectors[:1]}))
    assert archive.done(without_errors=True) == {"c.jpg"}
    archive.write(rows_of({"b.jpg": vectors[1:3], "d.jpg": []}))
    rows = read(archive.photos, "photo", "error", "count").to_pylist()
    found = sorted((row["photo"], row["error"], row["count"]) for row in rows)
    assert found == [("a.jpg", "damaged", 0), ("b.jpg", "", 2), ("c.jpg", "", 1), ("d.jpg", "", 0)]


def test_another_embedder_is_refused(archive):
    with pytest.raises(ValueError, match=r"vectors of the embedder abc, not other"):
        Archive(archive.place, "other", 32)
    with pytest.raises(FileNotFoundError, match="no archive is there"):
        Archive(archive.place + "-none")


def test_nearest_by_hand_and_through_the_index(archive):
    vectors, names = made_up(60, 10)
    run.write([rows_of({f"{name}-{i}.jpg": [v] for i, (name, v) in enumerate(zip(names, vectors))})], archive)
    stored = np.stack([np.float16(v).astype(np.float32) for v in vectors])
    exact = np.argsort(1 - stored @ vectors[7], kind="stable")[:5]
    found = archive.nearest(vectors[7], 5)
    assert [row["photo"] for row in found] == [f"{names[i]}-{i}.jpg" for i in exact]
    np.testing.assert_allclose([row["distance"] for row in found], 1 - stored[exact] @ vectors[7], atol=2e-3)
    archive.index()
    hits = sum(archive.nearest(v, 2, exact=False)[1]["photo"].startswith(n) for v, n in zip(vectors[::10], names[::10]))
    assert hits >= 57  # of 60


def test_neighbours_in_cells_are_those_of_comparing_with_all(monkeypatch):
    vectors, names = made_up(400, 10, spread=0.4)
    monkeypatch.setattr(grouping, "CELL", 200)

    def neighbours(found):
        return {row: set(near) for rows, numbers, _ in found for row, near in zip(rows, numbers.tolist())}

    cells, compared = neighbours(grouping.by_cells(vectors)), neighbours(grouping.by_comparing(vectors))
    assert sorted(cells) == sorted(compared) == list(range(len(vectors)))
    same = [len({n for n in cells[row] & compared[row] if names[n] == names[row]}) for row in cells]
    assert np.mean(same) > 7.5  # of 10: 8 of 20 cells are looked at
    found = bcubed(names, grouping.communities(np.float16(vectors), 0.3, compared=0))
    assert found["precision"] > 0.98 and found["recall"] > 0.9


def test_faces_that_were_left_over_go_to_whom_they_are_like():
    """But not two of one photo to one person, and not a stranger."""
    [person, *others] = np.eye(6, dtype=np.float32)

    def at(distance, other):
        angle = np.arccos(1 - distance)
        return np.cos(angle) * person + np.sin(angle) * other

    vectors = np.stack(
        [person] * 10 + [at(0.1, others[0]), at(0.11, others[1]), at(0.1, others[2]), at(0.6, others[3])]
    )
    groups, photos = np.array([0] * 10 + [1, 2, 3, 4]), np.array([*range(11), 10, 9, 11])
    rates = [1e-6, 1e-3, 0.5, 1]  # at 0, 0.2, 1 and 2
    calibration = Calibration("abc", [0, 0.2, 1, 2], rates, [], [0, 0.8, 1, 1], [], {"10": rates}, 1_000_000, "made up")
    found = grouping.with_left_over(vectors, groups, calibration, photos)
    assert found.tolist() == [0] * 10 + [0, 1, 2, 3]


def test_people_keep_their_names_and_leave_without_a_trace(archive, monkeypatch):
    monkeypatch.setattr(people, "load_calibration", lambda key: CALIBRATION)
    monkeypatch.setattr(CALIBRATION.__class__, "distance_at", lambda self, rate: 0.35)
    vectors, names = made_up(50, 6, spread=0.3)  # an index needs 256 rows
    photos = [f"{name}-{i}.jpg" for i, name in enumerate(names)]
    archive.write(rows_of({photo: [vector] for photo, vector in zip(photos, vectors)}))
    assert people.cluster_people(archive) == 50
    before = people.persons_of(archive)
    groups = [
        {before[photo, 0].person for photo, own in zip(photos, names) if own == name} for name in np.unique(names)
    ]
    assert all(len(group) == 1 for group in groups)
    first = before[photos[0], 0].person
    assert people.name_person(archive, first, "Ann's aunt") == 6
    archive.write(rows_of({"new.jpg": [vectors[0] + 0.05 * vectors[1]], "other.jpg": [vectors[70]]}))
    people.cluster_people(archive)
    after = people.persons_of(archive)
    assert after["new.jpg", 0] == people.Row("Ann's aunt", False)
    assert after[photos[0], 0] == people.Row("Ann's aunt", True)
    assert all(after[photo, 0].person == before[photo, 0].person for photo in photos[6:])  # numbers stay
    assert after["other.jpg", 0].person == before[photos[70], 0].person
    assert archive.nearest(vectors[0], 1)[0]["person"] == "Ann's aunt"
    with pytest.raises(ValueError, match="no face of"):
        people.name_person(archive, "nobody", "x")
    with pytest.raises(ValueError, match="too little is seen"):
        people.name_person(archive, "?", "x")

    archive.index()
    old_index = {path.name for path in Path(archive.place, "faces.lance/_indices").iterdir()}
    deleted_ids = np.float16(vectors[2]).tobytes()
    assert any(deleted_ids in path.read_bytes() for path in Path(archive.place).rglob("*") if path.is_file())
    assert people.remove_person(archive, "Ann's aunt") == 7
    assert people.remove_photos(archive, [photos[10]]) == 1
    assert not old_index & {path.name for path in Path(archive.place, "faces.lance/_indices").iterdir()}
    left = {(row["photo"], row["face"]) for row in archive.nearest(vectors[0], 400)}
    assert len(left) == archive.faces.count_rows() == 302 - 8
    assert "Ann's aunt" not in {row.person for row in people.persons_of(archive).values()}
    assert read(archive.removed, "digest")["digest"].to_pylist() == [digest(photos[10])]
    with pytest.raises(ValueError, match="no photo of that name"):
        people.remove_photos(archive, ["nowhere.jpg"])
    for vector in (vectors[2], vectors[10]):  # in no file, of no version
        needle = np.float16(vector).tobytes()
        assert not [p for p in Path(archive.place).rglob("*") if p.is_file() and needle in p.read_bytes()]


@pytest.mark.parametrize("step", ["deleted", "forgotten"])
def test_a_removal_that_is_killed_is_brought_to_its_end(archive, monkeypatch, step):
    vectors, _ = made_up(6, 2)
    archive.write(rows_of({"kept.jpg": vectors[:2], "gone.jpg": vectors[2:3], "faceless and gone.jpg": []}))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "facelib.archive.table.delete" if step == "deleted" else "facelib.archive.table.Archive.forget", killed
        )
        people.remove_photos(archive, ["gone.jpg", "faceless and gone.jpg"])
    again = Archive(archive.place)
    assert digest("gone.jpg") in again.deleted_ids()
    assert people.remove_photos(again, ["gone.jpg", "faceless and gone.jpg"]) == (step == "deleted")
    assert again.done() == {"kept.jpg"}
    needles = [np.float16(vectors[2]).tobytes(), b"gone.jpg"]
    files = [path.read_bytes() for path in Path(archive.place).rglob("*") if path.is_file()]
    assert not [1 for needle in needles for file in files if needle in file]
    with again.writing():
        assert again.deleted_ids() == {digest("gone.jpg"), digest("faceless and gone.jpg")}


def test_somebody_with_very_many_photos_stays_one():
    many, _ = made_up(1, 1500, spread=0.3)
    others, _ = made_up(60, 6, spread=0.3, seed=1)
    groups = grouping.communities(np.concatenate([many, others]).astype(np.float16), 0.4)
    assert np.unique(groups[:1500], return_counts=True)[1].max() > 1450
    assert len(set(groups[:1500])) < 10
    assert not set(groups[:1500]) & set(groups[1500:])
    assert len(set(groups[1500:])) == 60


def test_faces_of_one_photo_and_doubtful_ones_are_not_tied(archive, monkeypatch):
    monkeypatch.setattr(people, "load_calibration", lambda key: CALIBRATION)
    monkeypatch.setattr(CALIBRATION.__class__, "distance_at", lambda self, rate: 0.5)
    assert people.cluster_people(archive) == 0
    vectors, _ = made_up(2, 2, spread=0.1)
    table = rows_of({"two.jpg": [vectors[0], vectors[1]], "blurred.jpg": [vectors[0]]}).to_pylist()
    table[1]["faces"][0]["quality_issue"] = "too blurred"
    archive.write(pa.Table.from_pylist(table, PHOTO))
    assert people.cluster_people(archive) == 2
    assert people.persons_of(archive)["blurred.jpg", 0].person == people.DOUBTFUL


def test_one_writer_at_a_time(archive):
    with (
        archive.writing(),
        pytest.raises(OSError, match="another process is writing"),
        Archive(archive.place).writing(),
    ):
        pass
    with archive.writing():
        pass


def test_names_of_groups():
    groups = np.array([0, 0, 0, 1, 1, 2, 0, 2])
    before = [
        None,
        people.Row("Ann", True),
        None,
        None,
        people.Row("Person 9", False),
        None,
        people.Row("Bob", True),
        None,
    ]
    rows = people.named(groups, before)
    assert [row.person for row in rows] == ["Ann", "Ann", "Ann", "Person 9", "Person 9", "Person 1", "Bob", "Person 1"]
    assert [row.given for row in rows] == [False, True, False, False, False, False, True, False]
