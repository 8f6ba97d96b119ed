"""The gallery: durable, exact, and without a trace of what was removed."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import Cohort
from facelib.recognition.gallery import Gallery
from facelib.types import Face, GalleryError, ModelMismatchError

CALIBRATION = Calibration("abc", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [1, 1, 0.8, 0], {}, 1e-6, "synthetic")


def enrolled(count, photos=2, size=32, seed=0):
    """Embeddings (count, photos, size) of `count` people, those of one person close to each other."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 1, size))
    embeddings = centres + 0.1 * rng.normal(size=(count, photos, size))
    return (embeddings / np.linalg.norm(embeddings, axis=2, keepdims=True)).astype(np.float32)


def face(embedding, quality=1.0, issue="", model_id="abc"):
    nothing = np.zeros((5, 2), np.float32)
    aligned = np.zeros((112, 112, 3), np.uint8)
    return Face(np.zeros(4), 1.0, nothing, aligned, embedding, np.ones(5), quality, model_id, issue)


def insert(gallery, embeddings):
    """Put embeddings (n, d) of n people into the file at once: enrolling them one by one would take minutes."""
    with sqlite3.connect(gallery.path) as connection:
        connection.execute("UPDATE about SET size = ?", (embeddings.shape[1],))
        connection.executemany("INSERT INTO people VALUES (?, ?)", [(i, f"person {i}") for i in range(len(embeddings))])
        rows = [(i, i, embedding.tobytes(), 1.0) for i, embedding in enumerate(embeddings)]
        connection.executemany("INSERT INTO vectors VALUES (?, ?, ?, ?)", rows)


@pytest.fixture
def gallery(tmp_path):
    opened = Gallery(tmp_path / "people.gallery", "abc", CALIBRATION)
    yield opened
    opened.close()


def test_enrol_and_identify(gallery):
    embeddings = enrolled(6)
    for number in range(5):
        assert gallery.enrol(f"person {number}", list(embeddings[number])) == 2
    assert gallery.people() == {f"person {number}": 2 for number in range(5)}
    results = gallery.identify(embeddings[:, 0] + 0.02)
    assert [result.name for result in results] == [*(f"person {number}" for number in range(5)), None]
    assert results[0].distance < 0.1
    assert results[0].score == pytest.approx(1 - results[0].distance)  # without a cohort
    assert results[0].nearest[0][0] == "person 0"
    assert len(results[0].nearest) == 3
    assert len(gallery.identify(embeddings[0, 0], top_k=5)[0].nearest) == 5
    # An impostor can be taken for any of five people: five times the rate of a single pair.
    single_pair = CALIBRATION.false_match_rate(results[0].score)
    assert results[0].false_match_rate == pytest.approx(5 * single_pair, rel=0.01)
    assert gallery.enrol("person 3", embeddings[5, 0]) == 3
    assert gallery.enrol("person 3", embeddings[5, 0]) == 3  # the same photo again


def test_verify(gallery):
    embeddings = enrolled(4)
    gallery.enrol("Ann", list(embeddings[3]))
    assert gallery.verify("Ann", embeddings[3, 1]).verdict == "same"
    assert gallery.verify("Ann", embeddings[2, 1]).verdict == "different"
    unsure = gallery.verify("Ann", face(embeddings[3, 1], issue="too blurred"))
    assert (unsure.verdict, unsure.reason) == ("unsure", "the face is too blurred")


def test_names_follow_scores_not_distances(tmp_path):
    """Ann lies where many strangers do: the probe is nearer to her, but more like Bob than chance is."""
    cohort = Cohort("abc", np.eye(4, dtype=np.float32)[:1], neighbours=1, weight=1.0)
    calibration = replace(CALIBRATION, cohort=cohort)
    ann, bob = np.eye(4, dtype=np.float32)[:2]
    probe = np.array([0.7, 0.6, 0.387, 0], np.float32)
    with Gallery(tmp_path / "g", "abc", calibration) as gallery:
        gallery.enrol("Ann", ann)
        gallery.enrol("Bob", bob)
        (found,) = gallery.identify(probe, fmr=0.9)
        assert found.nearest == [("Bob", pytest.approx(0.4, abs=1e-3)), ("Ann", pytest.approx(0.3, abs=1e-3))]
        assert found.distance == pytest.approx(0.4, abs=1e-3)
        assert found.score == pytest.approx(0.6 - 0.35, abs=1e-3)  # half of the probe's similarity to the cohort
        for name, cosine, offsets in (("Ann", 0.7, 0.35 + 0.5), ("Bob", 0.6, 0.35)):
            decision = gallery.verify(name, probe)
            assert decision.score == pytest.approx(cosine - offsets, abs=1e-3)
            assert decision.distance == pytest.approx(1 - cosine, abs=1e-3)
        gallery.enrol("Ann", np.array([0, 0, 1, 0]))  # her mean moves away from the strangers
        gallery.remove("Bob")
        (found,) = gallery.identify(probe)
        assert found.nearest[0][0] == "Ann" and found.score == pytest.approx(0.7687 - 0.35 - 0.3536, abs=1e-3)


def test_rename_and_export(gallery):
    embeddings = enrolled(3)
    for name, own in zip(("Ann", "Bob", "Cid"), embeddings):
        gallery.enrol(name, list(own))
    gallery.rename("Bob", "Ben")
    assert gallery.people() == {"Ann": 2, "Ben": 2, "Cid": 2}
    gallery.rename("Cid", "Ann")  # both are one person now
    gallery.rename("Ann", "Ann")
    assert gallery.people() == {"Ann": 4, "Ben": 2}
    export = gallery.export()
    assert export["model_id"] == "abc"
    assert set(export["people"]) == {"Ann", "Ben"}
    np.testing.assert_array_equal(export["people"]["Ben"], embeddings[1])
    assert {row.tobytes() for row in export["people"]["Ann"]} == {
        row.tobytes() for row in embeddings[[0, 2]].reshape(4, -1)
    }


def test_faces_weigh_by_quality_and_issues_give_no_name(gallery):
    first, second = enrolled(2)[:, 0]
    gallery.enrol("Ann", [face(first, quality=0.9), face(second, quality=0.1)])
    near_first, near_second = gallery.identify(np.stack([first, second]), fmr=0.5)
    assert near_first.distance < near_second.distance
    (result,) = gallery.identify(face(first, issue="too small"), fmr=0.5)
    assert result.name is None and result.nearest[0][0] == "Ann"
    assert result.reason == "the face is too small"


def test_errors_name_the_cause(gallery, tmp_path):
    gallery.enrol("Ann", enrolled(1)[0, 0])
    for call, error, message in (
        (lambda: gallery.enrol(" ", enrolled(1)[0]), ValueError, "needs a name"),
        (lambda: gallery.enrol("Bob", []), ValueError, "no face"),
        (lambda: gallery.enrol("Bob", np.ones(16)), ModelMismatchError, "16 dimensions, the gallery has 32"),
        (lambda: gallery.enrol("Bob", np.full(32, np.nan)), ValueError, "no direction"),
        (lambda: gallery.enrol("Bob", [np.ones(32), np.ones(16)]), ValueError, "with one d"),
        (lambda: gallery.enrol("Bob", np.ones(32), qualities=[1, 1]), ValueError, "2 qualities for 1 faces"),
        (lambda: gallery.enrol("Bob", face(np.ones(32), model_id="other")), ModelMismatchError, "of the model other"),
        (lambda: gallery.identify(np.ones(16)), ModelMismatchError, "16 dimensions, the gallery has 32"),
        (lambda: gallery.identify(np.ones(32), fmr=0), ValueError, "expected a rate between 0 and 1"),
        (lambda: gallery.identify(np.ones(32), top_k=0), ValueError, "at least 1"),
        (lambda: gallery.verify("Ann", np.ones(16)), ModelMismatchError, "16 dimensions, the gallery has 32"),
        (lambda: gallery.verify("Bob", np.ones(32)), KeyError, "nobody is called 'Bob'"),
        (lambda: gallery.remove("Bob"), KeyError, "nobody is called 'Bob'"),
        (lambda: gallery.rename("Bob", "Ben"), KeyError, "nobody is called 'Bob'"),
        (lambda: gallery.rename("Ann", " "), ValueError, "needs a name"),
        (lambda: Gallery(gallery.path, "other", CALIBRATION), ModelMismatchError, "of the embedder abc, not of other"),
        (lambda: Gallery(tmp_path / "none.gallery", any_embedder=True), FileNotFoundError, "no such gallery"),
        (lambda: Gallery(gallery.path), ModelMismatchError, "holds embeddings of the embedder abc, not of "),
        (lambda: Gallery(tmp_path / "no/folder.gallery", "abc", CALIBRATION), FileNotFoundError, "no such folder"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert gallery.people() == {"Ann": 1}
    with Gallery(gallery.path, any_embedder=True) as opened:
        assert opened.model_id == "abc"


def test_files_that_are_no_galleries(gallery, tmp_path):
    gallery.enrol("Ann", enrolled(1, 200)[0])
    gallery.close()
    content = gallery.path.read_bytes()
    gallery.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(GalleryError, match="damaged"):
        Gallery(gallery.path, "abc", CALIBRATION)
    assert gallery.path.read_bytes() == content[: len(content) // 2]  # and the file is unchanged
    (tmp_path / "text").write_text("no database at all, but long enough to be one" * 100)
    with pytest.raises(GalleryError, match="text is not a gallery, or damaged"):
        Gallery(tmp_path / "text", "abc", CALIBRATION)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    with pytest.raises(GalleryError, match=r"other\.db is a database but not a gallery"):
        Gallery(tmp_path / "other.db", "abc", CALIBRATION)


def test_content_that_no_gallery_has(gallery):
    gallery.enrol("Ann", enrolled(1)[0])
    with sqlite3.connect(gallery.path) as connection:
        connection.execute("UPDATE vectors SET vector = x'0000' WHERE id = 1")
    with pytest.raises(GalleryError, match="embeddings of other sizes than 32"):
        gallery.people()
    with sqlite3.connect(gallery.path) as connection:
        connection.execute("DELETE FROM about")
    with pytest.raises(GalleryError, match="is damaged"):
        Gallery(gallery.path, "abc", CALIBRATION)


def test_the_schema_is_the_one_of_existing_files(gallery):
    with sqlite3.connect(gallery.path) as connection:
        tables = {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for table in ("about", "people", "vectors")
        }
    assert tables == {
        "about": ["embedder", "size"],
        "people": ["id", "name"],
        "vectors": ["id", "person", "vector", "quality"],
    }


def test_removed_people_leave_no_embedding_behind(gallery):
    embeddings = enrolled(3, 4)
    for number, name in enumerate(("Ann", "Bob", "Cid")):
        gallery.enrol(name, list(embeddings[number]))
    gallery.remove("Bob")
    gallery.close()
    left = b"".join(path.read_bytes() for path in gallery.path.parent.glob("people.gallery*"))
    assert embeddings[0, 0].tobytes() in left
    for embedding in embeddings[1]:
        assert embedding.tobytes() not in left
        assert embedding[:8].tobytes() not in left
    assert b"Bob" not in left


WRITER = """
import sys, numpy as np
sys.path.insert(0, {tests!r})
from test_gallery import CALIBRATION, enrolled
from facelib.recognition.gallery import Gallery
gallery = Gallery({path!r}, "abc", CALIBRATION)
for number in range(int(sys.argv[2])):
    gallery.enrol(f"{{sys.argv[1]}} {{number}}", enrolled(1, seed=number)[0, 0])
    print(number, flush=True)
"""


def writer(gallery, name, count):
    code = WRITER.format(tests=os.path.dirname(__file__), path=str(gallery.path))
    return subprocess.Popen([sys.executable, "-c", code, name, str(count)], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_writer_loses_nothing(gallery):
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


def test_two_processes_and_eight_threads_write_concurrently(gallery):
    jobs = [writer(gallery, name, 20) for name in ("one", "two")]

    def work(number):
        for photo in range(5):
            gallery.enrol(f"thread {number}", enrolled(1, seed=100 * number + photo)[0, 0])
            gallery.identify(enrolled(1)[0, 0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        job.communicate()
        assert job.returncode == 0
    people = gallery.people()  # what other processes have written is read again
    assert {name: people[name] for name in people if name.startswith("thread")} == {f"thread {n}": 5 for n in range(8)}
    assert sum(name.startswith(("one", "two")) for name in people) == 40


def test_a_search_of_a_hundred_thousand_faces_is_fast(gallery):
    embeddings = enrolled(100_000, 1, 64)[:, 0]
    insert(gallery, embeddings)
    gallery.identify(embeddings[0])  # loads the gallery
    times = []
    for _ in range(5):
        start = time.perf_counter()
        gallery.identify(embeddings[7])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def test_a_large_gallery_still_gives_names(tmp_path):
    """Below `lowest_rate` the rate is extrapolated, so that an identical photo gets its name among 3,000 people."""
    calibration = Calibration(
        "abc", [-1, 0.5, 0.7, 0.8], [1, 1e-3, 1e-5, 1e-6], [], [1, 0.8, 0.3, 0.1], {}, 1e-6, "synthetic"
    )
    assert calibration.extrapolated_fmr(0.9) == pytest.approx(1e-7)
    assert calibration.false_match_rate(0.9) == pytest.approx(1e-6)
    embeddings = enrolled(5000, photos=1)
    with Gallery(tmp_path / "large.gallery", "abc", calibration) as gallery:
        insert(gallery, embeddings[:3000, 0])
        (result,) = gallery.identify(embeddings[7, 0])
        assert result.name == "person 7"
        assert gallery.identify([]) == []


def test_remove_while_another_program_reads(gallery):
    gallery.enrol("Ann", enrolled(1)[0, 0])
    reader = sqlite3.connect(gallery.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM vectors").fetchone()
    with pytest.raises(OSError, match="another program is reading"):
        gallery.remove("Ann")
    assert gallery.people() == {}
    reader.execute("COMMIT")
    with pytest.raises(KeyError):
        gallery.remove("Ann")  # removed already, but now the log is emptied too
    assert not gallery.path.with_name(gallery.path.name + "-wal").stat().st_size
    reader.close()


def test_names_have_one_form(gallery):
    """A name typed on a Mac (decomposed), or with a blank behind it, is the same person."""
    first, second, third = enrolled(1, 3)[0]
    gallery.enrol("Zo\u00eb", first)
    assert gallery.enrol(" Zoe\u0308 ", second) == 2
    assert gallery.people() == {"Zo\u00eb": 2}
    assert gallery.verify("Zoe\u0308", third).verdict == "same"
    for name in ("Ann\nBob", "Ann\x1b[2J", "Ann\udcff"):
        with pytest.raises(ValueError, match="control character"):
            gallery.enrol(name, third)
        with pytest.raises(ValueError, match="control character"):
            gallery.rename("Zo\u00eb", name)
    gallery.rename("Zoe\u0308", "Zoe\u0301 ")
    assert gallery.people() == {"Zo\u00e9": 2}
    gallery.remove("Zoe\u0301\n")
    assert gallery.people() == {}


def test_names_of_older_versions_get_todays_form(gallery, caplog):
    """Said in the log; a name that is refused now stays, and can be renamed."""
    embeddings = enrolled(3, 2)
    for name, own in zip(("Ann", "Bob", "Cid"), embeddings):
        gallery.enrol(name, list(own))
    with sqlite3.connect(gallery.path) as connection:
        connection.execute("UPDATE people SET name = 'Zoe\u0308 ' WHERE name = 'Ann'")
        connection.execute("UPDATE people SET name = 'Zo\u00eb' WHERE name = 'Bob'")
        connection.execute("UPDATE people SET name = 'C\nd' WHERE name = 'Cid'")
    with Gallery(gallery.path, "abc", CALIBRATION) as opened:
        assert opened.people() == {"C\nd": 2, "Zo\u00eb": 4}
        assert "is now" in caplog.text
        opened.rename("C\nd", "Cid")
        assert opened.people() == {"Cid": 2, "Zo\u00eb": 4}


def test_people_who_become_one_have_each_photo_once(gallery):
    embeddings = enrolled(1, 3)[0]
    gallery.enrol("Ann", list(embeddings[:2]))
    gallery.enrol("Anne", list(embeddings[1:]))
    gallery.rename("Anne", "Ann")
    assert gallery.people() == {"Ann": 3}
    assert len(gallery.export()["people"]["Ann"]) == 3


@pytest.mark.parametrize("quality", [np.inf, -np.inf, np.nan, -1, 1e30, None, "1"])
def test_qualities_that_are_no_weights(gallery, quality):
    first, second = enrolled(1)[0]
    for call in (
        lambda: gallery.enrol("Ann", [first, second], qualities=[1, quality]),
        lambda: gallery.enrol("Ann", [face(first), face(second, quality=quality)]),
    ):
        with pytest.raises(ValueError, match="expected numbers from 0 to 1,000,000"):
            call()
    assert gallery.people() == {}
    assert gallery.enrol("Ann", [first, second], qualities=np.float32([0, 1])) == 2


def test_the_file_is_private_and_complete_after_each_write(gallery, tmp_path):
    for number, (embedding,) in enumerate(enrolled(3, 1)):
        gallery.enrol(f"person {number}", embedding)
        shutil.copy(gallery.path, tmp_path / "copy.gallery")
        with Gallery(tmp_path / "copy.gallery", "abc", CALIBRATION) as copy:
            assert len(copy.people()) == number + 1
    if os.name == "posix":
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("people.gallery*")}
        assert modes == {f"people.gallery{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}


def test_a_reader_does_not_delay_writes(gallery):
    gallery.enrol("Ann", enrolled(1)[0, 0])
    reader = sqlite3.connect(gallery.path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM vectors").fetchone() == (1,)
    start = time.monotonic()
    assert gallery.enrol("Ann", enrolled(1)[0, 1]) == 2
    assert time.monotonic() - start < 5
    assert reader.execute("SELECT count(*) FROM vectors").fetchone() == (1,)  # as it was when the reader began
    reader.close()


def test_backup(gallery, tmp_path):
    gallery.enrol("Ann", list(enrolled(1)[0]))
    gallery.backup(tmp_path / "copy.gallery")
    with Gallery(tmp_path / "copy.gallery", "abc", CALIBRATION) as copy:
        assert copy.people() == {"Ann": 2}
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "copy.gallery").stat().st_mode) == 0o600
    before = (tmp_path / "copy.gallery").read_bytes()
    (tmp_path / "other.gallery-wal").touch()
    for name, exists in (("copy.gallery", "copy.gallery"), ("other.gallery", "other.gallery-wal")):
        with pytest.raises(FileExistsError, match=f"{exists} exists, and is not overwritten"):
            gallery.backup(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        gallery.backup(tmp_path / "none/copy.gallery")
    assert (tmp_path / "copy.gallery").read_bytes() == before
    assert not (tmp_path / "other.gallery").exists()


def with_a_log(gallery, tmp_path, people):
    """The gallery as a crash leaves it: its file and a log that was not emptied, which a reader held."""
    reader = sqlite3.connect(gallery.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM people").fetchone()
    for number in range(people):
        gallery.enrol(f"later {number}", enrolled(1, seed=number)[0, 0])
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{gallery.path}{suffix}", crashed)
    assert (crashed / "people.gallery-wal").stat().st_size
    reader.close()
    return crashed / "people.gallery"


def test_a_log_that_a_crash_left_is_used(gallery, tmp_path):
    gallery.enrol("Ann", enrolled(1)[0, 0])
    with Gallery(with_a_log(gallery, tmp_path, 3), "abc", CALIBRATION) as crashed:
        assert len(crashed.people()) == 4


@pytest.mark.parametrize("older", [True, False])
def test_a_copy_restored_beside_the_log_of_another_file(gallery, tmp_path, older):
    copy = tmp_path / "copy.gallery"
    gallery.enrol("Ann", enrolled(1)[0, 0])
    gallery.backup(copy)
    if older:
        gallery.enrol("Bob", enrolled(1)[0, 1])
    crashed = with_a_log(gallery, tmp_path, 3)
    if not older:
        copy.unlink()
        gallery.enrol("Bob", enrolled(1)[0, 1])
        gallery.backup(copy)
    shutil.copy(copy, crashed)
    restored = crashed.read_bytes()
    with pytest.raises(GalleryError, match=r"gallery-wal is of another file than .* move away people\.gallery-wal"):
        Gallery(crashed, "abc", CALIBRATION)
    assert crashed.read_bytes() == restored
    crashed.with_name("people.gallery-wal").rename(tmp_path / "moved")
    with Gallery(crashed, "abc", CALIBRATION) as opened:
        assert "Ann" in opened.people()


def test_after_close(gallery):
    gallery.enrol("Ann", enrolled(1)[0, 0])
    gallery.close()
    gallery.close()
    probe = enrolled(1)[0, 0]
    for call in (
        lambda: gallery.enrol("Ann", probe),
        lambda: gallery.identify(probe),
        lambda: gallery.verify("Ann", probe),
        lambda: gallery.remove("Ann"),
        lambda: gallery.rename("Ann", "Bob"),
        lambda: gallery.backup(gallery.path.with_name("copy")),
        gallery.people,
        gallery.export,
    ):
        with pytest.raises(GalleryError, match="is closed: open it again"):
            call()
    assert not gallery.path.with_name("copy").exists()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE vectors SET quality = 9e999",
        "UPDATE vectors SET quality = 'good'",
        "UPDATE vectors SET vector = zeroblob(128)",
        "UPDATE vectors SET vector = 'text'",
        "UPDATE vectors SET person = 77",
        "UPDATE about SET size = -1",
        "UPDATE about SET size = 'many'",
        "UPDATE about SET embedder = x'00'",
        "INSERT INTO about SELECT * FROM about",
        "UPDATE people SET name = x'ff00'",
        "UPDATE people SET name = CAST(x'ff41' AS TEXT)",
        "DELETE FROM vectors",
        "ALTER TABLE people RENAME COLUMN name TO person",
        "ALTER TABLE vectors ADD COLUMN more",
        "DROP INDEX of_person",
        "DROP TABLE people",
        "CREATE TRIGGER swap AFTER INSERT ON vectors BEGIN UPDATE people SET name = 'Eve'; END",
        "CREATE VIEW more AS SELECT 1",
    ],
)
def test_tampered_files_are_refused(gallery, tampering):
    gallery.enrol("Ann", enrolled(1)[0, 0])
    gallery.close()
    connection = sqlite3.connect(gallery.path, isolation_level=None)
    connection.execute(tampering)
    connection.close()
    with pytest.raises(GalleryError, match=r"people\.gallery is (damaged|not a gallery, or damaged)"):
        Gallery(gallery.path, "abc", CALIBRATION)


def test_what_is_no_file(gallery, tmp_path):
    (tmp_path / "empty.gallery").touch()
    for path in (tmp_path, tmp_path / "empty.gallery"):
        with pytest.raises(GalleryError, match="not a gallery"):
            Gallery(path, any_embedder=True)


def test_photos_that_may_show_somebody_else(gallery):
    ann, bob, cid = enrolled(3, 5)
    gallery.enrol("Bob", list(bob[:3]))
    assert gallery.enrolment_issue("Bob", bob[0]) == ""
    gallery.enrol("Dan", bob[3])
    assert gallery.enrolment_issue("Dan", bob[3]).startswith("may show Bob, who is enrolled already (score 0.9")
    gallery.remove("Dan")
    gallery.enrol("Ann", [*ann, bob[4], cid[0]])
    assert [gallery.enrolment_issue("Ann", face) for face in ann] == [""] * 5
    assert gallery.enrolment_issue("Ann", bob[4]).startswith("is nearer to Bob (score 0.9")
    assert gallery.enrolment_issue("Ann", cid[0]).startswith("is far from the other photos of Ann (score ")
    with pytest.raises(KeyError):
        gallery.enrolment_issue("Eve", bob[4])
