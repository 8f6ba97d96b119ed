"""What people do in an album that is served: naming, merging, splitting, taking back, and undoing all of it."""

import pytest
from served import do, library_of, people_of, session_of

from facelib.server.album import OutdatedError


@pytest.fixture
def album(tmp_path):
    """Person 1 has three faces, Person 2 two, and Person 3 one."""
    with session_of(library_of(tmp_path, 0, 0, 0, 1, 1, 2)) as session:
        yield session.album


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """The same, for tests that change nothing."""
    with session_of(library_of(tmp_path_factory.mktemp("album"), 0, 0, 0, 1, 1, 2)) as session:
        yield session.album


def test_a_person_is_named_and_the_step_undone(album):
    before = people_of(album)
    do(album, "name", people=["Person 1"], name=" Zoe\u0308 ")
    assert people_of(album) == 3 * ["Zo\u00eb"] + before[3:]
    assert album.content()["undo"] == "Person 1 is Zo\u00eb"
    do(album, "undo")
    assert people_of(album) == before
    do(album, "redo")
    assert people_of(album)[0] == "Zo\u00eb"


def test_the_name_of_another_person_merges(album):
    do(album, "name", people=["Person 1"], name="Ann")
    do(album, "name", people=["Person 2", "Person 3"], name="Ann")
    assert set(people_of(album)) == {"Ann"}
    assert album.content()["undo"] == "Person 2, Person 3 merged into Ann"
    do(album, "undo")
    assert people_of(album) == 3 * ["Ann"] + 2 * ["Person 2"] + ["Person 3"]


def test_faces_are_split_off_and_numbers_never_used_again(album):
    do(album, "move", faces=[0, 3], name="")
    assert people_of(album) == ["Person 4", "Person 1", "Person 1", "Person 4", "Person 2", "Person 3"]
    do(album, "undo")
    do(album, "move", faces=[5], name="")
    assert people_of(album)[5] == "Person 5"
    do(album, "move", faces=[5], name="Person 70")
    do(album, "move", faces=[4], name="")
    assert people_of(album)[4] == "Person 71"


def test_faces_that_are_none(album):
    do(album, "not_a_face", faces=[1])
    assert people_of(album)[1] == "?"
    assert album.content()["people"][-1] == {"name": "?", "named": False, "faces": [1]}
    with pytest.raises(ValueError, match="nobody's"):
        do(album, "not_this_person", faces=[1])
    do(album, "move", faces=[1], name="Person 1")
    assert people_of(album)[1] == "Person 1"


def test_a_face_whose_name_is_taken_back_does_not_get_it_again(album):
    do(album, "name", people=["Person 1"], name="Ann")
    do(album, "not_this_person", faces=[1])
    assert people_of(album)[:3] == ["Ann", "Person 4", "Ann"]  # though its embedding is that of Ann
    pairs = {(each["first"], each["second"]) for each in album.suggestions()["suggestions"]}
    assert ("Ann", "Person 4") not in pairs
    do(album, "name", people=["Ann"], name="Bea")
    pairs = {(each["first"], each["second"]) for each in album.suggestions()["suggestions"]}
    assert ("Bea", "Person 4") not in pairs
    do(album, "undo")
    do(album, "undo")
    assert people_of(album)[1] == "Ann" and not album.states[1].refused
    do(album, "not_this_person", faces=[1])
    do(album, "move", faces=[1], name="Ann")  # given again
    assert not album.states[1].refused


def test_a_suggestion_that_was_declined_does_not_return(album):
    do(album, "move", faces=[0], name="")
    [suggestion] = album.suggestions()["suggestions"]
    assert (suggestion["first"], suggestion["second"], suggestion["faces"]) == ("Person 1", "Person 4", 1)
    do(album, "different", people=["Person 1", "Person 4"])
    assert album.suggestions()["suggestions"] == []
    do(album, "name", people=["Person 4"], name="Bea")
    assert album.suggestions()["suggestions"] == []
    do(album, "undo")
    do(album, "undo")
    assert album.suggestions() == {"version": album.version, "suggestions": [suggestion]}


def test_a_change_on_an_old_version_is_refused(album):
    version = album.version
    do(album, "name", people=["Person 1"], name="Ann")
    with pytest.raises(OutdatedError, match="has changed meanwhile"):
        album.change({"version": version, "kind": "name", "people": ["Person 2"], "name": "Bob"})
    assert people_of(album)[3] == "Person 2"


def test_people_are_ordered_as_people_count(tmp_path):
    with session_of(library_of(tmp_path, *range(11), 0)) as session:
        names = [person["name"] for person in session.album.content()["people"]]
    assert names == [f"Person {number}" for number in range(1, 12)]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"kind": "explode"}, "unknown kind"),
        ({"kind": []}, "unknown kind"),
        ({"kind": "name", "people": ["Person 1"], "name": " "}, "needs a name"),
        ({"kind": "name", "people": ["Person 1"], "name": "a\nb"}, "control character"),
        ({"kind": "name", "people": ["Person 1"], "name": "?"}, "not a face"),
        ({"kind": "name", "people": ["Person 1"], "name": 300 * "a"}, "at most 200"),
        ({"kind": "name", "people": ["Person 1"], "name": 7}, "expected a name"),
        ({"kind": "name", "people": ["Person 1"], "name": "Person 1"}, "called so already"),
        ({"kind": "name", "people": ["Ann"], "name": "Bob"}, "nobody is called 'Ann'"),
        ({"kind": "name", "people": "Person 1", "name": "Bob"}, "no people"),
        ({"kind": "name", "people": [[]], "name": "Bob"}, "no people"),
        ({"kind": "move", "faces": [], "name": "Bob"}, "no faces"),
        ({"kind": "move", "faces": [True], "name": "Bob"}, "no faces"),
        ({"kind": "not_a_face", "faces": [6]}, "no such face"),
        ({"kind": "not_a_face", "faces": [-1]}, "no such face"),
        ({"kind": "different", "people": ["Person 1"]}, "two different"),
        ({"kind": "undo"}, "nothing to undo"),
    ],
)
def test_what_cannot_be_done_is_named_and_changes_nothing(unchanged, request_, error):
    before = unchanged.content()
    with pytest.raises((ValueError, LookupError), match=error):
        unchanged.change({"version": unchanged.version, **request_})
    assert unchanged.content() == before
