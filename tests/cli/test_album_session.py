"""Table, gallery and later runs follow what people do on the page of an album, and the page follows the table."""

import os
from contextlib import closing

import pytest
from albums import CALIBRATION, SCORE, Library, results_of
from served import do, library_of, people_of, session_of

from facelib.cli.album_builder import make_album
from facelib.cli.album_table import backups, read_people, table_bytes
from facelib.cli.forgotten_results import find_forgotten, forget_results
from facelib.recognition.gallery import Gallery
from facelib.server.store import STORE_FILE, AlbumStore


@pytest.fixture
def library(tmp_path):
    """Person 1 in 0.jpg to 2.jpg, Person 2 in 3.jpg and 4.jpg."""
    return library_of(tmp_path, 0, 0, 0, 1, 1)


@pytest.fixture
def gallery(tmp_path):
    with Gallery(tmp_path / "people.gallery", "abc", CALIBRATION) as opened:
        yield opened


def table(library):
    return list(dict(sorted(library.people().items())).values())


def test_the_table_follows_and_a_later_run_keeps_everything(library):
    with session_of(library) as session:
        do(session.album, "name", people=["Person 1"], name="Ann")
        do(session.album, "move", faces=[1], name="Bob")
        do(session.album, "not_a_face", faces=[4])
        session.follow()
        expected = ["Ann", "Bob", "Ann", "Person 2", "?"]
        assert people_of(session.album) == table(library) == expected
        assert not session.album.problem
    library.add("5.jpg", 0)
    assert not library.album().notices
    assert table(library) == [*expected, "Ann"]
    with session_of(library) as session:
        assert people_of(session.album) == [*expected, "Ann"]
        for _ in range(3):
            do(session.album, "undo")  # steps of the session before
        session.follow()
    assert table(library) == 3 * ["Person 1"] + 2 * ["Person 2"] + ["Ann"]


def test_a_name_that_was_taken_back_does_not_return_in_later_runs(library):
    with session_of(library) as session:
        do(session.album, "name", people=["Person 1"], name="Ann")
        session.follow()
        do(session.album, "not_this_person", faces=[1])
        session.follow()
    library.edit({("1.jpg", 10): ""})  # sorted again
    library.add("5.jpg", 0)
    library.album()
    assert table(library) == ["Ann", "Person 4", "Ann", "Person 2", "Person 2", "Ann"]
    with session_of(library) as session:
        assert session.album.states[1].refused == {"Ann"}


def test_what_the_table_lacks_after_a_kill_comes_with_the_next_run(library):
    with session_of(library) as session:
        do(session.album, "name", people=["Person 1"], name="Ann")
        session.follow()
        do(session.album, "move", faces=[1], name="Bob")
        do(session.album, "name", people=["Person 2"], name="Cy")
    assert table(library) == 3 * ["Ann"] + 2 * ["Person 2"]
    library.edit({("3.jpg", 10): "Dan"})  # after the kill: it is newer
    for _ in range(2):
        library.album()
        assert table(library) == ["Ann", "Bob", "Ann", "Dan", "Cy"]
    library.edit({"Cy": "Person 2"})  # as before, and on purpose
    library.album()
    assert table(library)[4] == "Person 2"
    with session_of(library) as session:
        assert people_of(session.album) == ["Ann", "Bob", "Ann", "Dan", "Person 2"]


def test_copies_of_a_photo_are_faces_of_their_own(library):
    (library.folder / "copy.jpg").write_bytes((library.folder / "0.jpg").read_bytes())
    library.photos[library.folder / "copy.jpg"] = library.photos[library.folder / "0.jpg"]
    library.album()
    with session_of(library) as session:
        do(session.album, "move", faces=[5], name="Bob")
    library.album()
    assert library.people()["0.jpg", 10] == "Person 1" and library.people()["copy.jpg", 10] == "Bob"


def test_edits_of_the_table_become_a_step(library):
    with session_of(library) as session:
        do(session.album, "name", people=["Person 2"], name="Cy")
        session.follow()
        library.edit({("0.jpg", 10): "Ann", ("3.jpg", 10): ""})
        session.follow()
        assert people_of(session.album)[0] == "Person 1"  # it may not be written to the end
        session.follow()
        assert people_of(session.album) == ["Ann", "Person 1", "Person 1", "Person 3", "Cy"] == table(library)
        assert session.album.states[3].refused == {"Cy"}
        assert session.album.content()["undo"] == "people.csv was edited"
        do(session.album, "undo")
        session.follow()
        assert people_of(session.album) == 3 * ["Person 1"] + 2 * ["Cy"] == table(library)


def test_a_table_that_was_opened_some_steps_ago_undoes_nothing(library):
    """A spreadsheet keeps the table that it has opened, and saves all of it."""
    opened = (library.out / "people.csv").read_bytes()
    with session_of(library) as session:
        do(session.album, "name", people=["Person 2"], name="Cy")
        session.follow()
        do(session.album, "move", faces=[2], name="Bob")
        session.follow()
        lines = opened.decode("utf-8-sig").splitlines(keepends=True)
        edited = [line.replace("Person 1", "Ann") if "0.jpg" in line else line for line in lines]
        (library.out / "people.csv").write_text("".join(edited), encoding="utf-8-sig")
        session.follow(at_once=True)
        assert people_of(session.album) == ["Ann", "Person 1", "Bob", "Cy", "Cy"] == table(library)


def test_own_columns_and_rows_of_other_photos_stay(library):
    with session_of(library) as session:
        read = read_people(library.out)
        rows = [type(row)(row.photo, row.face, row.person, row.box, row.cells, ("mine",)) for row in read.rows]
        remark = type(rows[0])("", -1, "", (), {}, ("a remark",))
        (library.out / "people.csv").write_bytes(table_bytes([*rows, remark], ("note",)))
        session.follow(at_once=True)
        do(session.album, "name", people=["Person 1"], name="Ann")
        session.follow()
    assert [row.own for row in read_people(library.out).rows] == 5 * [("mine",)] + [("a remark",)]


def test_a_table_that_is_none_is_told_and_stays(library):
    good = (library.out / "people.csv").read_bytes()
    with session_of(library) as session:
        (library.out / "people.csv").write_text("no table")
        do(session.album, "name", people=["Person 1"], name="Ann")
        for _ in range(3):
            session.follow()
        assert "is no table of people" in session.album.problem and "people.sqlite" in session.album.problem
        assert (library.out / "people.csv").read_text() == "no table"
        (library.out / "people.csv").write_bytes(good)
        session.follow(at_once=True)
        assert not session.album.problem and table(library)[0] == "Ann"
        (library.out / "people.csv").unlink()
        session.follow(at_once=True)
        assert table(library)[0] == "Ann"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told(library):
    with session_of(library) as session:
        library.out.chmod(0o500)
        do(session.album, "name", people=["Person 1"], name="Ann")
        session.follow()
        library.out.chmod(0o700)
        assert "people.csv does not follow" in session.album.problem


def test_a_disk_that_is_full_for_a_while_loses_nothing(library, monkeypatch):
    with session_of(library) as session:
        do(session.album, "name", people=["Person 1"], name="Ann")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("facelib.cli.album_table.atomic_write", full)
        session.follow()
        assert "No space left" in session.album.problem and table(library)[0] == "Person 1"
        monkeypatch.undo()
        session.follow()
        assert not session.album.problem and table(library)[0] == "Ann"


def test_edits_are_not_lost_where_the_log_cannot_be_written(library, monkeypatch):
    with session_of(library) as session:
        library.edit({("0.jpg", 10): "Ann"})

        def full(*_):
            raise OSError("people.sqlite: database or disk is full")

        monkeypatch.setattr(session.album.store, "add", full)
        session.follow(at_once=True)
        assert "disk is full" in session.album.problem
        monkeypatch.undo()
        session.follow(at_once=True)
        assert people_of(session.album)[0] == "Ann" == table(library)[0]


def test_a_session_leaves_one_backup(library):
    first = (library.out / "people.csv").read_bytes()
    with session_of(library) as session:
        for name in ("Ann", "Bob", "Cy"):
            do(session.album, "move", faces=[0], name=name)
            session.follow()
        library.edit({("1.jpg", 10): "Dan"})
        edited = (library.out / "people.csv").read_bytes()
        session.follow(at_once=True)
    assert [path.read_bytes() for path in backups(library.out)] == [first, edited]


def test_the_gallery_follows(library, gallery):
    with session_of(library, gallery) as session:
        album = session.album
        do(album, "name", people=["Person 1"], name="Ann")
        session.follow()
        assert gallery.people() == {"Ann": 3} and album.content()["names"] == ["Ann"]
        do(album, "name", people=["Ann"], name="Anne")
        session.follow()
        assert gallery.people() == {"Anne": 3}
        do(album, "move", faces=[2], name="Bob")
        session.follow()
        assert gallery.people() == {"Anne": 2, "Bob": 1}
        do(album, "not_a_face", faces=[1])
        session.follow()
        assert gallery.people() == {"Anne": 1, "Bob": 1}
        assert "corrected in the gallery as in the table: removed 1 photo of Anne" in album.messages
        for _ in range(4):
            do(album, "undo")
        session.follow()
        assert gallery.people() == {}
    library.album(gallery=gallery)
    assert table(library) == 3 * ["Person 1"] + 2 * ["Person 2"]


def test_an_album_without_a_face(tmp_path):
    library = Library(tmp_path)
    library.add("blank.jpg")
    library.album()
    with session_of(library) as session:
        assert session.album.content()["people"] == []
        assert session.album.suggestions()["suggestions"] == []
        session.follow()


def test_a_damaged_log_ends_a_run_with_clear_words(library):
    (library.out / STORE_FILE).write_bytes(b"no database" * 100)
    before = (library.out / "people.csv").read_bytes()
    with pytest.raises(ValueError, match=r"people\.sqlite is damaged.*move it away"):
        make_album(results_of(library.photos, library.out), SCORE)
    assert (library.out / "people.csv").read_bytes() == before
    assert (library.out / STORE_FILE).read_bytes() == b"no database" * 100


def test_photos_that_are_forgotten_leave_the_log(library):
    with session_of(library) as session:
        do(session.album, "name", people=["Person 1"], name="Ann")
        session.follow()
    forget_results(find_forgotten(library.out, library.folder), library.folder)
    assert not (library.out / STORE_FILE).exists()
    (library.out / STORE_FILE).write_bytes(b"no database" * 100)
    forget_results(find_forgotten(library.out, library.folder), library.folder)
    assert not (library.out / STORE_FILE).exists()


def test_numbers_of_undone_people_are_not_given_again(library):
    with session_of(library) as session:
        do(session.album, "move", faces=[0], name="")
        do(session.album, "undo")
        do(session.album, "name", people=["Person 2"], name="Bob")
        session.follow()
    library.add("new.jpg", 7)
    library.album()
    assert library.people()["new.jpg", 10] == "Person 4"
    with closing(AlbumStore(library.out / STORE_FILE)) as store:
        assert store.highest >= 3
