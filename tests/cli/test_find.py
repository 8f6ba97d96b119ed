"""find: which photos of a folder show a person, what is known already, what is copied."""

import json
import os
import shutil

import numpy as np
import pytest
from albums import CALIBRATION, DIMENSIONS, embedding_of
from PIL import Image

from facelib.cli import find_matches, runs
from facelib.cli.find import split_paths
from facelib.cli.find_copies import copy_photos
from facelib.cli.find_matches import Person, search_fmr
from facelib.cli.known_faces import PhotoFaces, SearchCache
from facelib.cli.main import main
from facelib.cli.options import DecisionOptions
from facelib.cli.saved_results import read_results
from facelib.datasets.sources import load_orl
from facelib.settings import search_cache


def run(capsys, *arguments):
    code = main([*map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def embedded(monkeypatch, pipeline):
    """Commands use the pipeline of the tests; the number of photos that went through it."""
    photos = []
    stream = type(pipeline).stream

    def counted(self, paths, batch_size):
        photos.extend(paths)
        yield from stream(self, paths, batch_size)

    monkeypatch.setattr(runs, "make_pipeline", lambda networks: pipeline)
    monkeypatch.setattr(type(pipeline), "stream", counted)
    return photos


@pytest.fixture
def place(tmp_path, monkeypatch, embedded):
    """Photos of Ann, three of her and two of others in a folder, one of them deeper, and one that is broken."""
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    orl = load_orl()
    for name, person, photo in (
        ("ann0.png", "s1", 0),
        ("ann1.png", "s1", 2),
        ("bob.png", "s2", 0),
        ("all/a.png", "s1", 4),
        ("all/b.png", "s2", 2),
        ("all/deeper/a.png", "s1", 6),
        ("all/c.png", "s9", 4),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(orl.files[np.flatnonzero(orl.people == person)[photo]]).convert("RGB")
        picture.resize((276, 336), Image.Resampling.LANCZOS).save(tmp_path / name)
    return tmp_path


FOUND = ["all/a.png", "all/deeper/a.png"]


def found(out):
    return sorted(match["photo"] for match in json.loads(out)["found"])


def test_matches_only_nearest_first(capsys, place, embedded):
    code, out, err = run(capsys, "find", "ann0.png", "ann1.png", "all")
    lines = out.splitlines()
    assert code == 0
    assert sorted(line.split(" face ")[0] for line in lines[:-1]) == FOUND
    assert lines[-1] == "found in 2 photos of 4"
    assert "FMR of the search" in lines[0] and str(search_cache(place / "all")) in err
    code, out, _ = run(capsys, "find", "ann0.png", "ann1.png", "all", "--json")
    rows = json.loads(out)["found"]
    assert code == 0 and [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert all(0 < row["false_match_rate"] <= 0.3 and row["reason"] == "" for row in rows)
    assert len(embedded) == 2 + 4 + 2, "the second search knows the folder"


def test_nobody_is_found(capsys, place):
    code, out, _ = run(capsys, "find", "ann0.png", "all", "--threshold", 1.5)
    assert (code, out) == (1, "found in 0 photos of 4\n")


def test_results_are_used_while_they_are_current(capsys, place, embedded):
    assert run(capsys, "detect", "all", "--out", "results")[0] == 0
    assert run(capsys, "album", "all", "--out", "album")[0] == 0
    shutil.move(place / "all/b.png", place / "all/renamed.png")
    os.utime(place / "all/a.png", (1, 1))
    del embedded[:]
    code, out, err = run(capsys, "find", "ann0.png", "ann1.png", "all", "--json")
    assert (code, found(out)) == (0, FOUND)
    assert [path.name for path in embedded] == ["ann0.png", "ann1.png"], "known by content"
    assert not search_cache(place / "all").exists(), "nothing was computed, so nothing is kept"
    Image.open(place / "all/renamed.png").save(place / "all/a.png", compress_level=0)
    del embedded[:]
    code, out, _ = run(capsys, "find", "ann0.png", "ann1.png", "all", "--json")
    assert (code, found(out)) == (0, ["all/deeper/a.png"])
    assert [path.name for path in embedded][2:] == ["a.png"], "it shows somebody else now"
    shutil.rmtree(place / "results")
    del embedded[:]
    (place / "all/a.png").unlink()
    code, out, err = run(capsys, "find", "ann0.png", "ann1.png", "album", "--json")
    assert code == 0 and found(out) == [str(place / "all/deeper/a.png")]
    assert "album: 2 photos that it knows are no longer there" in err
    assert len(embedded) == 2
    (place / "clips/facelib_tracks").mkdir(parents=True)
    code, _, err = run(capsys, "find", "ann0.png", "clips")
    assert code == 2 and "clips: results without photos" in err


def test_an_interrupted_search_resumes(capsys, place, embedded, monkeypatch):
    add, done = SearchCache.add, []

    def interrupted(self, photo, faces):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(photo)
        return add(self, photo, faces)

    with monkeypatch.context() as patched:
        patched.setattr(SearchCache, "add", interrupted)
        assert run(capsys, "find", "ann0.png", "ann1.png", "all")[0] == 130
    cache = search_cache(place / "all") / "faces.part.jsonl"
    with open(cache, "ab") as file:
        file.write(b'{"record": {"pho')  # as a kill leaves it
    assert cache.stat().st_mode & 0o077 == 0 and cache.parent.stat().st_mode & 0o077 == 0
    del embedded[:]
    code, out, _ = run(capsys, "find", "ann0.png", "ann1.png", "all", "--json")
    assert (code, found(out)) == (0, FOUND)
    assert len(embedded) == 2 + 2


def test_what_is_kept_of_photos_that_are_gone_goes(capsys, place):
    run(capsys, "find", "ann0.png", "all")
    assert len(read_results(search_cache(place / "all"))) == 4
    (place / "all/c.png").unlink()
    run(capsys, "find", "ann0.png", "all")
    assert len(read_results(search_cache(place / "all"))) == 3


def test_forget_removes_what_is_kept(capsys, place, embedded):
    run(capsys, "find", "ann0.png", "ann1.png", "all")
    code, out, _ = run(capsys, "forget", "all/deeper", "--yes")
    assert code == 0 and "1 face of 1 photo" in out
    assert sorted(read_results(search_cache(place / "all"))) == ["all/a.png", "all/b.png", "all/c.png"]
    del embedded[:]
    assert run(capsys, "find", "ann0.png", "ann1.png", "all")[0] == 0
    assert len(embedded) == 3 and len(read_results(search_cache(place / "all"))) == 4
    assert run(capsys, "forget", "all", "--yes")[0] == 0
    assert not search_cache(place / "all").exists()


def test_a_cache_that_cannot_be_written(capsys, place, monkeypatch):
    (place / "cache").write_text("a file")
    code, out, err = run(capsys, "find", "ann0.png", "ann1.png", "all", "--json")
    assert (code, found(out)) == (0, FOUND)
    assert "the faces are not kept for the next search" in err


def test_photos_that_cannot_be_read_and_photos_of_the_person_among_them(capsys, place):
    shutil.copy("ann0.png", "all/query.png")
    (place / "all/broken.jpg").write_text("no photo")
    code, out, err = run(capsys, "find", "all/query.png", "ann1.png", "all", "--json")
    assert code == 1 and "broken.jpg" in err
    assert found(out) == FOUND, "the person's own photo is none that was found"


def test_photos_of_the_person_are_checked(capsys, place, photo):
    Image.fromarray(photo).save(place / "six.png")
    Image.new("RGB", (200, 200)).save(place / "blank.png")
    code, _, err = run(capsys, "find", "ann0.png", "ann1.png", "all/deeper/a.png", "bob.png", "six.png", "all")
    assert "six.png: 6 faces, the largest is taken" in err
    assert "bob.png: is far from the other photos of the person" in err
    assert "ann0.png: is far" not in err
    code, out, err = run(capsys, "find", "blank.png", "all")
    assert (code, out) == (2, "") and "no photo of the person shows a face" in err


def test_copies(capsys, place):
    (place / "copies").mkdir()
    (place / "copies/a.png").write_text("of the user")
    code, out, _ = run(capsys, "find", "ann0.png", "ann1.png", "all", "--copy-to", "copies")
    assert code == 0 and "2 photos copied to copies" in out
    names = sorted(path.name for path in (place / "copies").iterdir())
    assert names == ["a-2.png", "a-3.png", "a.png"] and (place / "copies/a.png").read_text() == "of the user"
    code, out, _ = run(capsys, "find", "ann0.png", "ann1.png", "all", "--copy-to", "copies")
    assert code == 0 and "0 photos copied" in out
    assert sorted(path.name for path in (place / "copies").iterdir()) == names
    code, out, _ = run(capsys, "find", "ann0.png", "ann1.png", "all", "--copy-to", "all/found", "--json")
    assert code == 0 and json.loads(out)["copied"] == 2
    _, out, _ = run(capsys, "find", "ann0.png", "ann1.png", "all", "--copy-to", "all/found", "--json")
    assert found(out) == FOUND, "copies are not searched"
    assert run(capsys, "find", "ann0.png", "all", "--copy-to", "all")[0] == 2


def test_a_photo_that_vanishes_is_not_copied(tmp_path):
    (tmp_path / "a.jpg").write_text("a")
    copied, problems = copy_photos([tmp_path / "gone.jpg", tmp_path / "a.jpg"], tmp_path / "copies")
    assert copied == 1 and len(problems) == 1 and "gone.jpg" in problems[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ann0.png",), "which folder is to be searched?"),
        (("ann0.png", "ann1.png"), "which folder is to be searched?"),
        (("ann0.png", "gone"), "gone: no such folder"),
        (("all",), "which photos show the person?"),
        (("gone.png", "all"), "gone.png: no such file"),
        (("ann0.png", "empty"), "no photos in empty"),
    ],
)
def test_unclear_arguments(arguments, message, capsys, place, monkeypatch):
    (place / "empty").mkdir()
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: pytest.fail("networks were loaded"))
    code, out, err = run(capsys, "find", *arguments)
    assert (code, out) == (2, "") and message in err


def test_folders_may_stand_anywhere(tmp_path):
    (tmp_path / "a").mkdir()
    photos, folders = split_paths([tmp_path / "a", tmp_path / "p.jpg", tmp_path / "q*.jpg"])
    assert folders == [tmp_path / "a"] and [path.name for path in photos] == ["p.jpg", "q*.jpg"]


def searched(*photos):
    """Photos with faces of people given by number; -1: of person 1, with a quality issue."""
    rng = np.random.default_rng(0)
    return [
        PhotoFaces(
            f"{number}.jpg",
            np.array([embedding_of(abs(person), rng) for person in people]).reshape(-1, DIMENSIONS),
            [[0, 0, 1, 1]] * len(people),
            ["too blurred" * (person < 0) for person in people],
        )
        for number, people in enumerate(photos)
    ]


def matches(faces, **decision):
    person = Person(embedding_of(1, np.random.default_rng(5)), 1, False)
    return find_matches.find_matches(person, faces, CALIBRATION, DecisionOptions(**decision))


def test_a_photo_matches_by_its_best_face():
    rows = matches(searched((2, 1), (3,), (), (-1,), (-1, 1)), fmr=0.1)
    assert {(row.photo, row.face, row.reason) for row in rows} == {
        ("0.jpg", 1, ""),
        ("3.jpg", 0, "too blurred"),
        ("4.jpg", 1, ""),
    }
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)


def test_the_rate_is_that_of_the_whole_search():
    alone, among = (
        {row.photo: row.false_match_rate for row in matches(searched((1,), *others), fmr=0.9)}["0.jpg"]
        for others in ((), [(2, 3)] * 50)
    )
    assert among == pytest.approx(1 - (1 - alone) ** 101, rel=1e-6)
    assert matches(searched((1,)), fmr=alone * 2) and not matches(searched((1,), *[(2, 3)] * 50), fmr=alone * 2)
    assert search_fmr(1e-12, 10) == pytest.approx(1e-11) and search_fmr(1.0, 3) == pytest.approx(1)


def test_a_threshold_needs_no_calibration():
    assert [row.photo for row in matches(searched((1,), (2,)), threshold=0.6)] == ["0.jpg"]
    assert not matches([], threshold=-2)
