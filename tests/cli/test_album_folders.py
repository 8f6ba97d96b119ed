"""One folder for each person: nothing of the user's is replaced or removed."""

import contextlib
import os
import shutil

import pytest
from albums import SCORE, faces_of

from facelib.cli.album import assign_people
from facelib.cli.album_folders import MARKER, write_folders


@pytest.fixture
def faces(tmp_path):
    found = faces_of([0, 0, 1, -1], tmp_path)
    assign_people(found, SCORE)
    return found


def written(target):
    return sorted(str(path.relative_to(target)) for path in target.rglob("*.jpg"))


@pytest.mark.parametrize("links", [False, True])
def test_folders_of_people(tmp_path, faces, links):
    faces[2].person = "Ann/../../B: ?"
    for _ in range(2):
        assert write_folders(faces, tmp_path / "people", links) == []
    assert written(tmp_path / "people") == ["Ann_.._.._B_ _/photo2.jpg", "Person 1/photo0.jpg", "Person 1/photo1.jpg"]
    assert (tmp_path / "people/Person 1/photo0.jpg").is_symlink() == links
    faces[0].person = "\u092e\u0940\u0930\u093e"
    faces[1].person = "CON"
    write_folders(faces, tmp_path / "people", not links)
    assert written(tmp_path / "people") == [
        "Ann_.._.._B_ _/photo2.jpg", "_CON/photo1.jpg", "\u092e\u0940\u0930\u093e/photo0.jpg"
    ]  # fmt: skip
    assert not (tmp_path / "people/Person 1").exists()
    assert {os.path.islink(path) for path in (tmp_path / "people").rglob("*.jpg")} == {not links}


def test_a_folder_of_the_users_is_refused(tmp_path, faces):
    (tmp_path / "people").mkdir()
    (tmp_path / "people/mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is a folder of yours"):
        write_folders(faces, tmp_path / "people", links=False)
    assert (tmp_path / "people/mine.txt").exists()


@pytest.mark.parametrize("links", [False, True])
def test_files_of_the_users_stay(tmp_path, faces, links):
    target = tmp_path / "people"
    write_folders(faces, target, links)
    person = target / "Person 1"
    mine = {
        person / "for the calendar.txt": "print these",
        person / "photo1.jpg": "edited",  # in place of what was written
        target / "Ann/photo2.jpg": "of the user's own folder",
    }
    for path, text in mine.items():
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    faces[2].person = "Ann"
    for _ in range(3):
        write_folders(faces, target, links)
    for face in faces:
        face.person = "Bob"
    for _ in range(2):
        write_folders(faces, target, links)
    assert {path: path.read_text() for path in mine} == mine
    assert [name for name in written(target) if name.startswith("Bob")] == [f"Bob/photo{n}.jpg" for n in range(4)]
    assert not (person / "photo0.jpg").exists() and not (target / "Ann/photo2-2.jpg").exists()


def test_a_photo_that_is_gone_leaves_all_copies_there(tmp_path, faces):
    target = tmp_path / "people"
    write_folders(faces, target, links=False)
    (tmp_path / "photo0.jpg").unlink()
    assert write_folders(faces, target, links=False) == []  # its copy is there
    assert written(target) == ["Person 1/photo0.jpg", "Person 1/photo1.jpg", "Person 2/photo2.jpg"]
    for _ in range(2):  # also when the photo is no longer in the album, and when others have its name
        [line] = write_folders(faces[1:], target, links=False)
        assert "people/Person 1/photo0.jpg is kept" in line
    assert (target / "Person 1/photo0.jpg").exists()
    faces[0].person = "Ann"
    lines = write_folders(faces, target, links=False)
    assert lines[0].startswith("not copied: ") and "photo0.jpg" in lines[0]
    assert (target / "Person 1/photo0.jpg").exists()


def test_killed_at_each_file(tmp_path, faces, monkeypatch):
    """Whatever was written until then is known, and the next run leaves nothing too many."""
    target = tmp_path / "people"
    copy = shutil.copy2
    for last in range(4):
        copies = iter(range(last))

        def killed(*arguments):
            if next(copies, None) is None:  # noqa: B023
                raise KeyboardInterrupt
            copy(*arguments)

        for face in faces:
            face.person = f"Person {last}" if face.person != "?" else "?"
        monkeypatch.setattr(shutil, "copy2", killed)
        with contextlib.suppress(KeyboardInterrupt):
            write_folders(faces, target, links=False)
    monkeypatch.undo()
    write_folders(faces, target, links=False)
    assert written(target) == [f"Person 3/photo{number}.jpg" for number in range(3)]


@pytest.mark.parametrize("content", ["", "[", '[{"file": 1}]', "[3]"])
def test_a_damaged_list_removes_nothing(tmp_path, faces, content):
    target = tmp_path / "people"
    write_folders(faces, target, links=False)
    (target / MARKER).write_text(content)
    before = written(target)
    for _ in range(2):
        write_folders(faces, target, links=False)
        assert written(target) == before
