"""An album and a gallery: names come, names go, and the table corrects the gallery."""

import numpy as np
import pytest
from albums import CALIBRATION, LEFT, SCORE, Library, embedding_of, faces_of

from facelib.cli.album import assign_people
from facelib.cli.album_gallery import name_by_gallery
from facelib.cli.options import DecisionOptions
from facelib.recognition.gallery import Gallery, Identification


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path)


@pytest.fixture
def gallery(tmp_path):
    with Gallery(tmp_path / "people.gallery", "abc", CALIBRATION) as opened:
        yield opened


def test_names_come_from_a_gallery_and_go_there(library, gallery):
    gallery.enrol("Ann", [face.embedding for face in faces_of([0, 0], seed=5)])
    for number, person in enumerate((0, 0, 1, 1)):
        library.add(f"{number}.jpg", person)
    library.album()
    library.edit({("2.jpg", 10): "Bob", ("3.jpg", 10): "Bob"})
    assert not library.album(gallery=gallery).notices
    assert list(library.people().values()) == ["Ann", "Ann", "Bob", "Bob"]
    assert gallery.people() == {"Ann": 2, "Bob": 2}


def test_a_name_of_the_gallery_comes_once_per_photo(gallery):
    gallery.enrol("Ann", [face.embedding for face in faces_of([0, 0], seed=5)])
    faces = faces_of([0, 0, 0])
    faces[1].photo = faces[0].photo
    assign_people(faces, SCORE)
    name_by_gallery(faces, gallery, DecisionOptions())
    assert sorted(face.person == "Ann" for face in faces[:2]) == [False, True]


def test_corrections_in_the_table_reach_the_gallery(library, gallery):
    for number, person in enumerate((0, 0, 1, 1)):
        library.add(f"{number}.jpg", person)
    library.album()
    library.edit({"Person 1": "Ann", "Person 2": "Ann"})  # the second by mistake
    library.album(gallery=gallery)
    assert gallery.people() == {"Ann": 4}
    library.edit({("0.jpg", 10): "Anne", ("1.jpg", 10): "Anne", ("2.jpg", 10): "Bob", ("3.jpg", 10): "Bob"})
    library.album()  # without the gallery, which is corrected later all the same
    made = library.album(gallery=gallery)
    assert gallery.people() == {"Anne": 2, "Bob": 2}
    assert [line for line in made.notices if "2 photos of Ann to Bob" in line]
    library.edit({("3.jpg", 10): "Cy"})  # one face is split off
    library.album(gallery=gallery)
    assert gallery.people() == {"Anne": 2, "Bob": 1, "Cy": 1}
    np.testing.assert_allclose(
        gallery.export()["people"]["Cy"], [library.photos[library.folder / "3.jpg"][0][0]], atol=1e-6
    )


def test_a_name_that_is_taken_back_leaves_the_gallery_and_does_not_return(library, gallery):
    for number in range(3):
        library.add(f"{number}.jpg", 0)
    library.album()
    library.edit({"Person 1": "Ann"})
    library.album(gallery=gallery)
    assert gallery.people() == {"Ann": 3}
    library.edit({("2.jpg", 10): ""})
    made = library.album(gallery=gallery)
    assert gallery.people() == {"Ann": 2}
    assert "corrected in the gallery as in the table: removed 1 photo of Ann" in made.notices
    for _ in range(2):
        assert library.people()["2.jpg", 10] == "Person 2"
        library.album(gallery=gallery)


def test_photos_of_other_sources_stay_and_are_named(library, gallery):
    gallery.enrol("Ann", embedding_of(0, np.random.default_rng(7)))
    library.add("a.jpg", 0)
    library.album(gallery=gallery)
    assert library.people() == {("a.jpg", 10): "Ann"}
    library.edit({"Ann": "Bob"})  # the gallery was wrong
    made = library.album(gallery=gallery)
    assert gallery.people() == {"Ann": 1, "Bob": 1}
    assert made.notices == ["Ann is no longer in the table, and still in the gallery, by 1 other photo"]


def test_a_copy_of_a_photo_under_another_name_moves_nothing(library, gallery):
    library.add("a.jpg", 0)
    library.album()
    library.edit({"Person 1": "Ann"})
    library.album(gallery=gallery)
    library.photos[library.folder / "a.jpg"] *= 2
    library.photos[library.folder / "a.jpg"][1] = (library.photos[library.folder / "a.jpg"][0][0], (200, 0, 250, 50))
    library.album(gallery=gallery)
    library.edit({("a.jpg", 200): "Bea"})
    library.album(gallery=gallery)
    assert gallery.people()["Ann"] == 1 and library.people()["a.jpg", LEFT[0]] == "Ann"


def test_of_two_people_the_one_with_the_higher_score_gets_the_name(gallery, monkeypatch):
    gallery.enrol("Ann", embedding_of(0, np.random.default_rng(5)))
    faces = faces_of([0, 0])
    faces[1].photo = faces[0].photo
    faces[0].person, faces[1].person = "Person 1", "Person 2"
    answers = {0: Identification("Ann", 0.1, 1e-4, [], score=0.5), 1: Identification("Ann", 0.2, 1e-4, [], score=0.6)}

    def identify(gallery, embeddings, decision):
        return [answers[next(n for n in (0, 1) if (faces[n].embedding == one).all())] for one in embeddings]

    monkeypatch.setattr("facelib.cli.album_gallery.identify_faces", identify)
    name_by_gallery(faces, gallery, DecisionOptions())
    assert [face.person for face in faces] == ["Person 1", "Ann"]
