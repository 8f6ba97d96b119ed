"""enrol and backup: photos of somebody else, names, copies."""

import json

import numpy as np
import pytest
from PIL import Image

from facelib.cli import runs
from facelib.cli.main import main
from facelib.datasets.sources import load_orl


def run(capsys, *arguments):
    code = main([*map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def loaded(monkeypatch, pipeline):
    """Commands use the pipeline of the tests."""
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: pipeline)


@pytest.fixture
def gallery(tmp_path, loaded, capsys):
    """Bob is enrolled; a photo of Bob and one of a stranger lie among those of Ann."""
    orl = load_orl()
    for folder, person, photos in (
        ("ann", "s1", (0, 2, 4)),
        ("bob", "s2", (0, 2, 4)),
        ("ann", "s2", (6,)),
        ("ann", "s9", (8,)),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        for photo in photos:
            picture = Image.open(orl.files[np.flatnonzero(orl.people == person)[photo]]).convert("RGB")
            picture.resize((276, 336), Image.Resampling.LANCZOS).save(tmp_path / folder / f"{person}-{photo}.png")
    code, _, err = run(capsys, "enrol", "Bob", tmp_path / "bob", "--gallery", tmp_path / "people.gallery")
    assert code == 0 and "score" not in err
    return tmp_path / "people.gallery"


def test_enrol_names_photos_of_somebody_else(gallery, capsys):
    code, out, err = run(capsys, "enrol", "Ann", gallery.with_name("ann"), "--gallery", gallery)
    assert code == 0 and out.startswith("Ann: 5 photos")
    said = [line for line in err.splitlines() if "score" in line]
    assert len(said) == 2
    assert "s2-6.png: is nearer to Bob (score 0." in said[0] and "than to the other photos of Ann (" in said[0]
    assert "s9-8.png: is far from the other photos of Ann (score " in said[1]
    assert all("remove Ann and enrol the right photos" in line for line in said)
    code, _, err = run(capsys, "enrol", "Cid", gallery.with_name("bob") / "s2-0.png", "--gallery", gallery, "--json")
    assert "may show Bob, who is enrolled already" in json.loads(err.splitlines()[-1])["notice"]


def test_backup(gallery, capsys):
    copy = gallery.with_name("copy.gallery")
    command = ("backup", "--gallery", gallery, "--out", copy, "--json")
    assert json.loads(run(capsys, *command)[1]) == {"backup": str(copy), "people": 1}
    assert json.loads(run(capsys, "people", "--gallery", copy, "--json")[1]) == {"Bob": 3}
    before = copy.read_bytes()
    code, _, err = run(capsys, *command)
    assert code == 2 and "copy.gallery exists, and is not overwritten" in err
    assert run(capsys, "backup", "--gallery", gallery, "--out", gallery)[0] == 2
    assert copy.read_bytes() == before
    code, _, err = run(capsys, "backup", "--gallery", gallery.with_name("none"), "--out", copy)
    assert code == 2 and "no such gallery" in err


def test_names_on_the_command_line(gallery, capsys, monkeypatch):
    photo = gallery.with_name("ann") / "s1-0.png"
    for name in (" Zoe\u0308", "Zo\u00eb "):
        _, out, _ = run(capsys, "enrol", name, photo, "--gallery", gallery)
        assert out.startswith("Zo\u00eb: 1 photo ")
    assert run(capsys, "remove", "Zoe\u0308", "--gallery", gallery)[0] == 0
    monkeypatch.setattr(runs, "make_pipeline", None)  # refused before networks are loaded
    code, _, err = run(capsys, "enrol", "Ann\nBob", photo, "--gallery", gallery)
    assert code == 2 and "control character U+000A" in err
