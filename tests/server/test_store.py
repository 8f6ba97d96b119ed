"""The log of steps: nothing is lost by a kill, and every step can be undone."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from facelib.server.store import AlbumStore, FaceState, Step, mark_all_written, pending_people

SHA = "ab" * 32


@pytest.fixture
def store(tmp_path):
    with closing(AlbumStore(tmp_path / "people.sqlite")) as opened:
        opened.add_faces({f"{SHA} 0": FaceState("Person 1"), f"{SHA} 1": FaceState("Person 2")}, 2)
        yield opened


def people(store):
    return [state.person for _, state in sorted(store.faces().items())]


def name(store, number, person, *refused):
    store.add(Step(f"is {person}", {f"{SHA} {number}": FaceState(person, frozenset(refused))}))


def test_steps_are_undone_and_done_again(store):
    name(store, 0, "Ann")
    name(store, 0, "Bob", "Ann")
    name(store, 1, "Cy")
    seen = [people(store)]
    for _ in range(3):
        store.undo()
        seen.append(people(store))
    assert seen == [["Bob", "Cy"], ["Bob", "Person 2"], ["Ann", "Person 2"], ["Person 1", "Person 2"]]
    assert store.labels() == ("", "is Ann")
    with pytest.raises(LookupError, match="nothing to undo"):
        store.undo()
    for expected in reversed(seen[:-1]):
        store.redo()
        assert people(store) == expected
    assert store.faces()[f"{SHA} 0"].refused == {"Ann"}
    assert store.labels() == ("is Cy", "")
    with pytest.raises(LookupError, match="nothing to do again"):
        store.redo()


def test_a_new_step_ends_what_could_be_done_again(store):
    name(store, 0, "Ann")
    store.undo()
    name(store, 0, "Bob")
    assert store.labels() == ("is Bob", "")
    store.undo()
    assert people(store)[0] == "Person 1"


def test_versions_only_grow(store):
    versions = [store.version]
    for change in (lambda: name(store, 0, "Ann"), store.undo, store.redo, store.undo):
        change()
        versions.append(store.version)
    assert versions == sorted(set(versions))


def test_pairs_that_differ_are_undone_too(store):
    pair = (f"{SHA} 0", f"{SHA} 1")
    store.add(Step("differ", {}, [pair]))
    assert store.apart() == [pair]
    store.undo()
    assert store.apart() == []
    store.redo()
    assert store.apart() == [pair]


def test_what_the_table_lacks_is_known(store, tmp_path):
    name(store, 0, "Ann")
    assert pending_people(tmp_path) == {f"{SHA} 0": ("Person 1", "Ann")}
    store.mark_written({f"{SHA} 0": "Ann"})
    assert not pending_people(tmp_path)
    name(store, 1, "Bob")
    mark_all_written(tmp_path)
    assert not store.pending()
    assert pending_people(tmp_path / "elsewhere") == {}


KILLED = """
import os, signal, sys
from pathlib import Path
from facelib.server.store import AlbumStore, FaceState, Step
store = AlbumStore(Path(sys.argv[1]))
for number in range(10_000):
    store.add(Step("", {sys.argv[2] + " 0": FaceState(f"Name {number}")}))
    print(number, flush=True)
"""


def test_a_kill_loses_no_step_that_was_answered(store, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(store.path), SHA], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(20)]
    process.kill()
    rest, _ = process.communicate()
    last = int([*lines, *rest.splitlines()][-1])
    with closing(AlbumStore(store.path)) as again:
        number = int(again.faces()[f"{SHA} 0"].person.removeprefix("Name "))
        assert number in (last, last + 1)  # the one that was kept, and not answered
        again.undo()
        assert again.faces()[f"{SHA} 0"].person == f"Name {number - 1}"


def test_a_step_that_cannot_be_kept_changes_nothing(store):
    before = store.faces(), store.version
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        store._connection.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(OSError, match=r"people\.sqlite: database is locked"):
            name(store, 0, "Ann")
    assert (store.faces(), store.version) == before
    name(store, 0, "Ann")
    assert people(store)[0] == "Ann"


@pytest.mark.parametrize("damage", ["text", "middle", "cut", "other"])
def test_a_damaged_file_is_named_and_stays(tmp_path, damage):
    path = tmp_path / "people.sqlite"
    with closing(AlbumStore(path)) as store:
        store.add_faces({f"{SHA} {number}": FaceState("Person 1") for number in range(500)}, 1)
    content = path.read_bytes()
    if damage == "other":
        path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE mine (x)")
    else:
        middle = content[:5000] + bytes(20000) + content[25000:]
        path.write_bytes({"text": b"my people" * 100, "middle": middle, "cut": content[: len(content) // 2]}[damage])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"people\.sqlite is damaged, or no log of an album .*move it away"):
        AlbumStore(path)
    assert path.read_bytes() == before


def test_a_folder_without_rights(tmp_path):
    with pytest.raises(OSError, match="missing"):
        AlbumStore(tmp_path / "missing" / "people.sqlite")


def test_the_file_is_private(store):
    assert stat.S_IMODE(os.stat(store.path).st_mode) == 0o600


def test_forgotten_photos_leave_nothing(store):
    other = "cd" * 32
    store.add_faces({f"{other} 0": FaceState("Person 3")}, 3)
    name(store, 0, "Annabella")
    store.add(Step("", {}, [(f"{SHA} 0", f"{other} 0")]))
    store.forget([SHA])
    assert list(store.faces()) == [f"{other} 0"]
    content = store.path.read_bytes()
    assert SHA.encode() not in content and b"Annabella" not in content and other.encode() in content
    assert store.labels() == ("", "")
