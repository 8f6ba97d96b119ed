"""`facelib forget`: what was derived from a folder of photos goes, and nothing else."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from facelib import Gallery
from facelib.cli.album_table import read_people
from facelib.cli.main import main
from facelib.settings import own_cache_name

NETWORKS = ("--detector", "retinaface", "--device", "cpu")


@pytest.fixture
def place(tmp_path, photo, pipeline, monkeypatch):
    """Folders one and two with a portrait each, an album of both, results of one, and a gallery with two people."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for folder, file, face in zip(("one", "two"), ("a.png", "b.png"), pipeline(photo)):
        (tmp_path / folder).mkdir()
        x1, y1, x2, y2 = (face.box + [-60, -60, 60, 60]).clip(0).astype(int).tolist()
        Image.fromarray(photo[y1:y2, x1:x2]).save(tmp_path / folder / file)
    assert run("album", "one", "two", "--out", "album", "--folders", "copies") == 0
    assert run("detect", "one", "--out", "elsewhere/results") == 0
    for name, folder in (("Ann", "one"), ("Bob", "two")):
        assert run("enrol", name, folder, "--gallery", "g") == 0
    (tmp_path / "data/cache").mkdir(parents=True)
    (tmp_path / "data/cache" / f"{own_cache_name(tmp_path / 'one')}.bin").touch()
    (tmp_path / "data/cache/own_two_12345678.bin").touch()
    (tmp_path / "album/notes.txt").write_text("of the user")
    return tmp_path


def run(*arguments, networks=True):
    return main([*map(str, arguments), *(NETWORKS if networks else ())])


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_that_is_derived_from_a_folder_goes(place, capsys):
    before = files(place)
    capsys.readouterr()
    assert run("forget", "one", "--album", "elsewhere/results", "--gallery", "g", "--yes") == 0
    said = capsys.readouterr().out
    said = said.replace(f"{place}/", "")
    assert "removed: results album: 1 face of 1 photo, 1 row of its tables, 1 copied photo" in said
    assert "gallery g: 1 face (Ann 1)" in said
    assert not (place / "elsewhere/results").exists()
    left = files(place)
    assert {name: left[name] for name in ("one/a.png", "two/b.png", "album/notes.txt")} == {
        name: before[name] for name in ("one/a.png", "two/b.png", "album/notes.txt")
    }
    assert [name for name in left if name.startswith("data/cache")] == ["data/cache/own_two_12345678.bin"]
    with Gallery(place / "g") as gallery:
        assert gallery.people() == {"Bob": 1}
    assert [row.photo for row in read_people(place / "album").rows] == [str(place / "two/b.png")]
    (record,) = json.loads((place / "album/faces.json").read_text())
    assert record["photo"] == "two/b.png"
    pictures = [name for name in left if name.startswith("album/") and name.endswith(("png", "jpg"))]
    assert len(pictures) == 3  # annotated, aligned, copied
    names = [b"one/a.png", np.load(io.BytesIO(before["elsewhere/results/embeddings.npz"]))["embeddings"].tobytes()]
    assert not [name for name, content in left.items() for needle in names if needle in content]
    assert run("album", "two", "--out", "album", "--json") == 0  # the rest is whole
    assert "1 of 1 photos are done already" in capsys.readouterr().err


def test_nothing_goes_unasked(place, capsys, monkeypatch):
    before = files(place)
    assert run("forget", "one") == 2
    assert "--yes is needed" in capsys.readouterr().err
    monkeypatch.setattr("facelib.cli.forget._is_confirmed", lambda plan, console: False)
    assert run("forget", "one") == 1
    assert run("forget", "three", "--yes") == 0
    assert "nothing was found that is derived from three" in capsys.readouterr().out
    assert files(place) == before


def test_a_folder_that_is_gone_can_be_forgotten(place, capsys):
    shutil.rmtree(place / "one")
    assert run("forget", "one", "--gallery", "g", "--yes") == 0
    with Gallery(place / "g") as gallery:
        assert gallery.people() == {"Bob": 1}
    shutil.rmtree(place / "two")
    assert run("forget", "two", "--yes") == 0
    assert [path.name for path in (place / "album").iterdir()] == ["notes.txt"]
    assert "stays, with notes.txt" in capsys.readouterr().err
