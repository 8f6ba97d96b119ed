"""Who is who: durable, exact, and forgetting what it is told to forget."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from facelib.recognition.calibration import Calibration
from facelib.recognition.gallery import Gallery

CALIBRATION = Calibration("abc", [0, 0.5, 1, 2], [1e-6, 1e-3, 0.5, 1], [], [0, 0.8, 1, 1], {}, 1_000_000, "made up")


def people_at(count, photos=2, size=32, seed=0):
    """count people, each with some vectors near to each other."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 1, size))
    vectors = centres + 0.1 * rng.normal(size=(count, photos, size))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path):
    with_file = Gallery(tmp_path / "people.gallery", "abc", CALIBRATION)
    yield with_file
    with_file.close()


def test_enrol_identify_verify(gallery):
    vectors = people_at(6)
    for number in range(5):
        assert gallery.enrol(f"person {number}", list(vectors[number])) == 2
    assert gallery.people() == {f"person {number}": 2 for number in range(5)}
    found = gallery.identify(vectors[:, 0] + 0.02)
    assert [one.name for one in found] == [*(f"person {number}" for number in range(5)), None]
    assert found[0].distance < 0.1
    assert found[0].nearest[0][0] == "person 0"
    assert len(found[0].nearest) == 3
    # Five people are five times as many who may be taken for.
    alone = CALIBRATION.false_match_rate(found[0].distance)
    assert found[0].false_match_rate == pytest.approx(5 * alone, rel=0.01)
    assert gallery.verify("person 3", vectors[3, 1]).verdict == "same"
    assert gallery.verify("person 3", vectors[2, 1]).verdict == "different"
    assert gallery.enrol("person 3", vectors[5, 0]) == 3
    gallery.rename("person 3", "Ann")
    gallery.rename("person 4", "Ann")
    assert gallery.people() == {"Ann": 5, "person 0": 2, "person 1": 2, "person 2": 2}
    export = gallery.export()
    assert export["model_id"] == "abc"
    assert export["people"]["Ann"].shape == (5, 32)


def test_what_is_wrong_is_said(gallery, tmp_path):
    gallery.enrol("Ann", people_at(1)[0, 0])
    for call, error, says in (
        (lambda: gallery.enrol(" ", people_at(1)[0]), ValueError, "needs a name"),
        (lambda: gallery.enrol("Bob", []), ValueError, "no face"),
        (lambda: gallery.enrol("Bob", np.ones(16)), ValueError, "16 numbers, the gallery has 32"),
        (lambda: gallery.enrol("Bob", np.full(32, np.nan)), ValueError, "no direction"),
        (lambda: gallery.identify(np.ones(16)), ValueError, "16 numbers, the gallery has 32"),
        (lambda: gallery.verify("Bob", np.ones(32)), KeyError, "nobody is called 'Bob'"),
        (lambda: gallery.remove("Bob"), KeyError, "nobody is called 'Bob'"),
        (lambda: Gallery(gallery.path, "other", CALIBRATION), ValueError, "of the embedder abc, not of other"),
        (lambda: Gallery(tmp_path / "none.gallery", any_embedder=True), FileNotFoundError, "no such gallery"),
        (lambda: Gallery(gallery.path), ValueError, "holds vectors of the embedder abc, not of "),
        (lambda: Gallery(tmp_path / "no/folder.gallery", "abc", CALIBRATION), FileNotFoundError, "no such folder"),
    ):
        with pytest.raises(error, match=says):
            call()
    assert gallery.people() == {"Ann": 1}


def test_files_that_are_none(gallery, tmp_path):
    gallery.enrol("Ann", people_at(1, 200)[0])
    gallery.close()
    whole = gallery.path.read_bytes()
    gallery.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        Gallery(gallery.path, "abc", CALIBRATION)
    assert gallery.path.read_bytes() == whole[: len(whole) // 2]  # and it stays as it is
    (tmp_path / "text").write_text("no database at all, but long enough to be one" * 100)
    with pytest.raises(ValueError, match="text is no gallery, or damaged"):
        Gallery(tmp_path / "text", "abc", CALIBRATION)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    with pytest.raises(ValueError, match=r"other\.db is a database but no gallery"):
        Gallery(tmp_path / "other.db", "abc", CALIBRATION)


def test_who_is_removed_leaves_no_vector_behind(gallery):
    vectors = people_at(3, 4)
    for number, name in enumerate(("Ann", "Bob", "Cid")):
        gallery.enrol(name, list(vectors[number]))
    gallery.remove("Bob")
    gallery.close()
    left = b"".join(path.read_bytes() for path in gallery.path.parent.glob("people.gallery*"))
    assert vectors[0, 0].tobytes() in left
    for vector in vectors[1]:
        assert vector.tobytes() not in left
        assert vector[:8].tobytes() not in left
    assert b"Bob" not in left


WRITER = """
import sys, numpy as np
sys.path.insert(0, {tests!r})
from test_gallery import CALIBRATION, people_at
from facelib.recognition.gallery import Gallery
gallery = Gallery({path!r}, "abc", CALIBRATION)
for number in range(int(sys.argv[2])):
    gallery.enrol(f"{{sys.argv[1]}} {{number}}", people_at(1, seed=number)[0, 0])
    print(number, flush=True)
"""


def writer(gallery, name, count):
    code = WRITER.format(tests=os.path.dirname(__file__), path=str(gallery.path))
    return subprocess.Popen([sys.executable, "-c", code, name, str(count)], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system does not kill")
def test_killed_in_the_middle_of_a_write_nothing_is_lost(gallery):
    job = writer(gallery, "person", 100_000)
    last = 0
    end = time.monotonic() + 20
    while last < 30 and time.monotonic() < end:
        last = int(job.stdout.readline())
    job.kill()
    job.wait()
    again = Gallery(gallery.path, "abc", CALIBRATION)
    assert last >= 30
    assert {f"person {number}" for number in range(last + 1)} <= set(again.people())
    again.close()


def test_two_processes_and_eight_threads_write_at_once(gallery):
    jobs = [writer(gallery, name, 20) for name in ("one", "two")]

    def work(number):
        for photo in range(5):
            gallery.enrol(f"thread {number}", people_at(1, seed=100 * number + photo)[0, 0])
            gallery.identify(people_at(1)[0, 0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    for job in jobs:
        job.communicate()
        assert job.returncode == 0
    there = gallery.people()  # what others have written is read again
    assert {name: there[name] for name in there if name.startswith("thread")} == {f"thread {n}": 5 for n in range(8)}
    assert sum(name.startswith(("one", "two")) for name in there) == 40


def test_a_hundred_thousand_faces_are_searched_at_once(gallery):
    vectors = people_at(100_000, 1, 64)[:, 0]
    with sqlite3.connect(gallery.path) as connection:  # one by one it would take minutes
        connection.execute("UPDATE about SET size = 64")
        connection.executemany("INSERT INTO people VALUES (?, ?)", [(i, f"p{i}") for i in range(len(vectors))])
        rows = [(i, i, vector.tobytes(), 1.0) for i, vector in enumerate(vectors)]
        connection.executemany("INSERT INTO vectors VALUES (?, ?, ?, ?)", rows)
    gallery.identify(vectors[0])  # loads them
    times = []
    for _ in range(5):
        start = time.perf_counter()
        gallery.identify(vectors[7])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def test_a_large_gallery_still_names(tmp_path):
    """Rates below one of the pairs that were looked at go on falling, so that the identical photo gets its name."""
    calibration = Calibration(
        "abc", [0.2, 0.3, 0.5, 2], [1e-6, 1e-5, 1e-3, 1], [], [0.1, 0.3, 0.8, 1], {}, 1_000_000, "made up"
    )
    assert calibration.extrapolated_fmr(0.1) == pytest.approx(1e-7)
    assert calibration.false_match_rate(0.1) == pytest.approx(1e-6)
    vectors = people_at(5000, photos=1)
    with Gallery(tmp_path / "large.gallery", "abc", calibration) as gallery:
        for number, own in enumerate(vectors[:3000]):
            gallery.enrol(f"person {number}", own[0])
        (found,) = gallery.identify(vectors[7, 0])
        assert found.name == "person 7"
        assert gallery.identify([]) == []
        with pytest.raises(ValueError, match="a person needs a name"):
            gallery.rename("person 7", " ")


def test_removing_while_another_program_reads(gallery):
    gallery.enrol("Ann", people_at(1)[0, 0])
    reader = sqlite3.connect(gallery.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM vectors").fetchone()
    with pytest.raises(OSError, match="another program is reading"):
        gallery.remove("Ann")
    assert gallery.people() == {}
    reader.execute("COMMIT")
    with pytest.raises(KeyError):
        gallery.remove("Ann")  # nobody any more, but now the log is emptied too
    assert not gallery.path.with_name(gallery.path.name + "-wal").stat().st_size
    reader.close()
