"""Names belong to faces: photos that are renamed, moved, cropped and saved anew between runs of an album."""

import csv
import shutil

import numpy as np
import pytest
from albums import LEFT, RIGHT, SCORE, Library, embedding_of, results_of

from facelib.cli.album_builder import make_album
from facelib.cli.album_table import read_people, table_bytes
from facelib.recognition.cohort import Cohort


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path)


def test_renamed_and_moved_photos_keep_their_names(library):
    library.add("in/2019/a.jpg", 0, 1)
    library.add("in/2019/b.jpg", 2)
    library.album()
    library.edit({("a.jpg", 10): "Ann", ("a.jpg", 110): "Bob", ("b.jpg", 10): "Cy"})
    library.move("in/2019/a.jpg", "in/2019 summer/c.jpg")
    library.move("in/2019/b.jpg", "in/2019 summer/a.jpg")  # under the name of another photo
    made = library.album()
    assert library.people() == {("c.jpg", 10): "Ann", ("c.jpg", 110): "Bob", ("a.jpg", 10): "Cy"}
    assert not made.notices and not library.unmatched()


def test_two_photos_that_change_their_names(library):
    library.add("a.jpg", 0)
    library.add("b.jpg", 1)
    library.album()
    library.edit({("a.jpg", 10): "Ann", ("b.jpg", 10): "Bob"})
    for name, to in (("a.jpg", "x"), ("b.jpg", "a.jpg"), ("x", "b.jpg")):
        library.move(name, to)
    library.album()
    assert library.people() == {("a.jpg", 10): "Bob", ("b.jpg", 10): "Ann"}


@pytest.mark.parametrize("moved", [False, True])
def test_photos_that_were_saved_anew_cropped_or_resized(library, moved):
    library.add("same.jpg", 0, 1)
    library.add("half.jpg", 2, 3)
    library.add("crop.jpg", 4, 5)
    library.album()
    names = {
        ("same.jpg", 10): "A", ("same.jpg", 110): "B", ("half.jpg", 10): "C", ("half.jpg", 110): "D",
        ("crop.jpg", 10): "E", ("crop.jpg", 110): "F",
    }  # fmt: skip
    library.edit(names)
    library.save_anew("same.jpg")
    library.save_anew("half.jpg", boxes=[(5, 5, 30, 30), (55, 5, 80, 30)])
    library.save_anew("crop.jpg", boxes=[(0, 0, 1, 1), (11, 9, 61, 59)], kept=[1])
    if moved:
        for name in ("same.jpg", "half.jpg", "crop.jpg"):
            library.move(name, f"moved/{name}")
    made = library.album()
    assert library.people() == {
        ("same.jpg", 10): "A", ("same.jpg", 110): "B", ("half.jpg", 5): "C", ("half.jpg", 55): "D",
        ("crop.jpg", 11): "F",
    }  # fmt: skip
    assert library.unmatched() == ["E"]
    assert [line for line in made.notices if line.startswith("E: not found again on ") and "crop.jpg" in line]


def test_twins_in_a_photo_that_was_resized_are_told_by_their_places(library):
    path = library.add("a.jpg", 0, 0)
    library.album()
    library.edit({("a.jpg", 10): "Ann", ("a.jpg", 110): "Bea"})
    (first, _), (second, _) = library.photos[path]
    middle = library.near(first + second)
    library.photos[path] = [(library.near(middle), RIGHT), (library.near(middle), LEFT)]
    library.save_anew("a.jpg", boxes=[(55, 5, 80, 30), (5, 5, 30, 30)])
    library.album()
    assert library.people() == {("a.jpg", 5): "Ann", ("a.jpg", 55): "Bea"}


def test_another_photo_under_the_same_name_gets_no_name(library):
    library.add("a.jpg", 0)
    library.album()
    library.edit({("a.jpg", 10): "Ann"})
    library.add("a.jpg", 1)  # somebody else at the same place
    made = library.album()
    assert library.people() == {("a.jpg", 10): "Person 2"}
    assert library.unmatched() == ["Ann"] and "Ann" in made.notices[0]
    library.add("b.jpg", 0)
    library.photos[library.folder / "b.jpg"] = [(library.near(embedding_of(0, np.random.default_rng(0))), LEFT)]
    library.album()
    assert library.people()["b.jpg", 10] == "Ann"  # found again, later, by the embedding


def test_names_of_photos_that_are_gone_or_show_no_face_stay_in_the_table(library):
    library.add("gone.jpg", 0).touch()
    library.add("blurred.jpg", 1)
    library.add("kept.jpg", 2)
    library.album()
    library.edit({("gone.jpg", 10): "Ann", ("blurred.jpg", 10): "Bob"})
    content = (library.folder / "gone.jpg").read_bytes()
    faces = library.photos.pop(library.folder / "gone.jpg")
    (library.folder / "gone.jpg").unlink()
    library.photos[library.folder / "blurred.jpg"] = []
    for _ in range(3):
        made = library.album()
        assert library.unmatched() == ["Ann", "Bob"]
        assert [line.split(":")[0] for line in made.notices] == ["Ann", "Bob"]
    (library.folder / "back.jpg").write_bytes(content)
    library.photos[library.folder / "back.jpg"] = faces
    library.album()
    assert library.people()["back.jpg", 10] == "Ann" and library.unmatched() == ["Bob"]


def test_a_copy_has_the_names_too_and_rows_of_other_folders_stay(library):
    library.add("2019/a.jpg", 0)
    library.add("2020/b.jpg", 1)
    library.album()
    library.edit({("a.jpg", 10): "Ann"})
    shutil.copy(library.folder / "2019/a.jpg", library.folder / "2020/copy.jpg")
    library.photos[library.folder / "2020/copy.jpg"] = library.photos[library.folder / "2019/a.jpg"]
    made = library.album("2020")
    assert library.people() == {("copy.jpg", 10): "Ann", ("b.jpg", 10): "Person 2", ("a.jpg", 10): "Ann"}
    assert not made.notices and not library.unmatched()


def test_numbers_are_given_once_whatever_was_run(library):
    library.add("2019/a.jpg", 0)
    library.add("2020/b.jpg", 1)
    library.album("2019")
    library.album("2020")
    library.album()
    assert library.people() == {("a.jpg", 10): "Person 1", ("b.jpg", 10): "Person 2"}
    (library.out / "people.csv").unlink()  # "sort all faces again"
    library.album()
    assert set(library.people().values()) == {"Person 3", "Person 4"}
    (library.out / "people.npz").unlink()
    (library.out / "people.csv").unlink()
    library.album()
    assert not set(library.people().values()) & {"Person 1", "Person 2"}  # in the backups


def test_own_columns_follow_the_face(library):
    library.add("a.jpg", 0)
    library.add("b.jpg", 1)
    library.album()
    table = read_people(library.out)
    rows = [type(row)(row.photo, row.face, row.person, row.box, row.cells, (row.photo[-5],)) for row in table.rows]
    (library.out / "people.csv").write_bytes(table_bytes(rows, ("note",)))
    library.move("a.jpg", "c.jpg")
    for _ in range(2):
        library.album()
        with open(library.out / "people.csv", newline="", encoding="utf-8-sig") as file:
            notes = {row["photo"][-5:]: row["note"] for row in csv.DictReader(file)}
        assert notes == {"c.jpg": "a", "b.jpg": "b"}


def test_an_emptied_cell_takes_the_name_back_and_a_deleted_row_does_not(library):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        library.add(name, 0)
    library.album()
    library.edit({"Person 1": "Ann"})
    library.album()
    library.edit({("b.jpg", 10): ""})
    for _ in range(2):
        library.album()
        assert library.people() == {("a.jpg", 10): "Ann", ("b.jpg", 10): "Person 2", ("c.jpg", 10): "Ann"}
    table = read_people(library.out)
    (library.out / "people.csv").write_bytes(table_bytes([r for r in table.rows if "c.jpg" not in r.photo], ()))
    library.album()
    assert library.people()["c.jpg", 10] == "Ann"
    library.edit({("b.jpg", 10): "Ann"})  # given again
    library.album()
    assert set(library.people().values()) == {"Ann"}


def test_a_table_of_an_older_version_is_taken_over(library):
    path = library.add("a.jpg", 0, 1)
    library.out.mkdir()
    (library.out / "people.csv").write_text(
        f"photo,face,person,distance,quality,box\n{path},0,Bob,0.1,0.9,112 11 158 60\n{path},1,Ann,0.1,0.9,10 10 60 60\n"
    )
    library.album()
    assert library.people() == {("a.jpg", 10): "Ann", ("a.jpg", 110): "Bob"}
    (library.out / "people.csv").write_text(f"photo,face,person\n{path},1,Cy\n")  # by number, without a box
    library.album()
    assert library.people() == {("a.jpg", 10): "Person 1", ("a.jpg", 110): "Cy"}


def test_edits_during_the_run_are_kept(library, monkeypatch):
    library.add("a.jpg", 0)
    library.album()

    def edited_meanwhile(*arguments):
        library.edit({"Person 1": "Ann"})
        return []

    monkeypatch.setattr("facelib.cli.album_builder.match_rows", edited_meanwhile)
    made = library.album()
    assert "stays as it is" in made.notices[0] and "people.new.csv" in made.notices[0]
    monkeypatch.undo()
    assert library.people() == {("a.jpg", 10): "Ann"}
    library.album()
    assert library.people() == {("a.jpg", 10): "Ann"}


def test_another_picture_of_somebody_in_a_crowd_is_not_the_same_picture(library):
    """Where all faces are alike, one that would be a version of the picture elsewhere is another picture."""
    crowd = np.stack([embedding_of(0, np.random.default_rng(seed), 0.05) for seed in range(5)])
    path = library.add("a.jpg", 0)
    for cohort, person in ((None, "Ann"), (Cohort("abc", crowd, 5, 0.38), "Person 2")):
        [(before, _)] = library.photos[path] = [(embedding_of(0, np.random.default_rng(1)), LEFT)]
        for name in ("people.csv", "people.npz"):
            (library.out / name).unlink(missing_ok=True)
        path.write_bytes(b"before")
        make_album(results_of(library.photos, library.out, cohort), SCORE)
        library.edit({"Person 1": "Ann"})
        library.photos[path] = [(embedding_of(0, np.random.default_rng(2), 0.3), LEFT)]
        assert 0.03 < 1 - before @ library.photos[path][0][0] < 0.2
        path.write_bytes(b"another")
        make_album(results_of(library.photos, library.out, cohort), SCORE)
        assert library.people() == {("a.jpg", 10): person}
        assert [row.cells["score"] != "" for row in read_people(library.out).rows if row.cells["matched"] == "yes"] == [
            True
        ]
