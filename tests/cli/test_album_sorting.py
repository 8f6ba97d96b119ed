"""Photos that come later: sorted as all at once, without a change of names or of what somebody has moved."""

import numpy as np
import pytest
from albums import DIMENSIONS, SCORE, Library, embedding_of, results_of
from served import do, session_of

from facelib.cli.album_builder import make_album
from facelib.cli.album_state import STATE_FILE, read_state
from facelib.metrics import bcubed


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path)


def add_people(library, people, noise):
    """Photos of people who are hard to tell apart."""
    for number, person in enumerate(people):
        path = library.add(f"{number}.jpg", person)
        library.photos[path] = [(embedding_of(person, library.rng, noise), library.photos[path][0][1])]


def test_photos_that_come_later_are_sorted_as_all_at_once(library, tmp_path):
    people = np.random.default_rng(0).integers(0, 12, 90)
    add_people(library, people, 0.75)
    photos = dict(library.photos)
    at_once = library.people() if library.album() else {}
    assert 12 < len(set(at_once.values())) < 60, "not easy"
    library.out = tmp_path / "in parts"
    for end in (20, 50, 51, 90):
        library.photos = dict(list(photos.items())[:end])
        library.album()
    in_parts = library.people()
    names = [[found[key] for key in sorted(at_once)] for found in (at_once, in_parts)]
    assert bcubed(names[0], names[1])["f"] == 1


def test_a_number_stays_with_most_of_its_faces(library):
    """Two photos of a person are too different, until others come that lie between."""
    first, second = np.eye(DIMENSIONS, dtype=np.float32)[:2]
    turned = 0.5 * first + np.sqrt(0.75) * second
    for name, vector in (("a.jpg", first), ("b.jpg", first), ("c.jpg", turned)):
        path = library.add(name, 0)
        library.photos[path] = [(vector, library.photos[path][0][1])]
    library.album()
    assert library.people() == {("a.jpg", 10): "Person 1", ("b.jpg", 10): "Person 1", ("c.jpg", 10): "Person 2"}
    between = (first + turned) / np.linalg.norm(first + turned)
    for name in ("d.jpg", "e.jpg", "f.jpg"):
        path = library.add(name, 0)
        library.photos[path] = [(between, library.photos[path][0][1])]
    made = library.album()
    assert set(library.people().values()) == {"Person 1"}
    assert made.notices == ["with the new photos, 1 face of people without a name went to somebody else: of Person 2"]
    library.add("g.jpg", 7)
    library.album()
    assert library.people()["g.jpg", 10] == "Person 3", "a number is not given twice"


def test_who_has_a_name_or_was_moved_is_not_sorted_anew(library):
    for number in range(6):
        library.add(f"{number}.jpg", number // 2)
    library.album()
    assert sorted(set(library.people().values())) == ["Person 1", "Person 2", "Person 3"]
    # Two people who differ become one, and one is parted; Ann is in a photo of somebody else.
    library.edit({("2.jpg", 10): "Person 1", ("3.jpg", 10): "Person 1", ("4.jpg", 10): "Person 9"})
    library.edit({("0.jpg", 10): "Ann"})
    library.album()
    kept = library.people()
    for number in range(6, 12):
        library.add(f"{number}.jpg", number // 2)
    assert library.album().notices == []
    assert {key: library.people()[key] for key in kept} == kept
    # The next run still knows it.
    library.add("12.jpg", 6)
    library.album()
    assert {key: library.people()[key] for key in kept} == kept


@pytest.mark.parametrize("told", [True, False])
def test_people_who_were_said_to_differ_on_the_page_are_not_joined(library, told):
    """Although photos that come later lie between them."""
    first, second = np.eye(DIMENSIONS, dtype=np.float32)[:2]
    turned = 0.5 * first + np.sqrt(0.75) * second
    between = (first + turned) / np.linalg.norm(first + turned)

    def add(name, vector):
        path = library.add(name, 0)
        library.photos[path] = [(vector, library.photos[path][0][1])]

    for name, vector in (("a.jpg", first), ("b.jpg", first), ("c.jpg", turned)):
        add(name, vector)
    library.album()
    if told:
        with session_of(library) as session:
            do(session.album, "different", people=["Person 1", "Person 2"])
    for name in ("d.jpg", "e.jpg", "f.jpg"):
        add(name, between)
    library.album()
    names = library.people()
    assert (names["a.jpg", 10] == names["c.jpg", 10]) is not told


def test_without_the_state_nobody_is_sorted_anew(library):
    """It cannot be told what somebody has moved."""
    for number in range(4):
        library.add(f"{number}.jpg", number // 2)
    library.album()
    library.edit({("2.jpg", 10): "Person 1", ("3.jpg", 10): "Person 1"})
    (library.out / STATE_FILE).unlink()
    library.add("4.jpg", 5)
    library.album()
    assert [library.people()[f"{number}.jpg", 10] for number in range(4)] == ["Person 1"] * 4
    assert "Person 1" in read_state(library.out, "p").edited
    # One that was written before this was kept.
    with np.load(library.out / STATE_FILE) as saved:
        old = {name: saved[name] for name in saved.files if name != "edited"}
    np.savez(library.out / STATE_FILE, **old)
    assert read_state(library.out, "p").edited == set(library.people().values())


def test_no_new_face_no_new_sorting(library, monkeypatch):
    people = np.random.default_rng(0).integers(0, 6, 40)
    add_people(library, people, 0.75)
    make_album(results_of(library.photos, library.out), SCORE)
    before = library.people()
    monkeypatch.setattr("facelib.cli.album.cluster_faces", None)
    library.photos = dict(list(library.photos.items())[:-5])
    library.album()
    assert library.people() == before
