"""Names in an archive: of a person, of one face, and taken back."""

import sys

import numpy as np
import pytest
from archive_rows import CALIBRATION, photo_rows
from people import synthetic_embeddings

from facelib.archive import naming, people
from facelib.archive.table import Archive


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Two people of three photos each, Person 1 and Person 2, and one photo that shows both."""
    monkeypatch.setattr(people, "load_calibration", lambda model_id: CALIBRATION)
    archive = Archive(str(tmp_path / "archive"), "abc", 32)
    embeddings, _ = synthetic_embeddings(2, 4, spread=0.2)
    photos = {f"{person}-{n}.jpg": [embeddings[4 * person + n]] for person in (0, 1) for n in range(3)}
    archive.write(photo_rows(photos | {"both.jpg": [embeddings[3], embeddings[7]]}))
    assert people.cluster_people(archive) == 2
    return archive


def names(archive):
    return {photo + str(face): label.person for (photo, face), label in people.read_people(archive).items()}


def test_two_people_with_one_name_by_mistake_are_parted(archive):
    """Case 103: the second name was a mistake; it is taken back, and the faces become two people again."""
    first, second = names(archive)["0-0.jpg0"], names(archive)["1-0.jpg0"]
    assert naming.rename_person(archive, first, "Ann") == 4
    assert naming.rename_person(archive, second, "Ann") == 3  # both.jpg shows Ann already
    assert names(archive)["both.jpg1"] == second
    people.cluster_people(archive)
    assert names(archive)["1-0.jpg0"] == "Ann"
    assert names(archive)["both.jpg1"] != "Ann"
    count, free = naming.unname_person(archive, "Ann")
    assert count == 7 and free not in (first, second, "Ann")
    assert people.cluster_people(archive) == 2
    now = names(archive)
    assert "Ann" not in now.values()
    assert len({now[f"0-{n}.jpg0"] for n in range(3)} | {now["both.jpg0"]}) == 1
    assert len({now[f"1-{n}.jpg0"] for n in range(3)} | {now["both.jpg1"]}) == 1
    assert now["0-0.jpg0"] != now["1-0.jpg0"]


def test_one_face_gets_another_name(archive):
    naming.rename_person(archive, names(archive)["0-0.jpg0"], "Ann")
    assert naming.name_face(archive, "0-1.jpg", 0, " Zoe\u0308 ") == "Ann"
    people.cluster_people(archive)
    assert names(archive)["0-1.jpg0"] == "Zo\u00eb"  # NFC, and kept
    assert names(archive)["0-2.jpg0"] == "Ann"
    with pytest.raises(ValueError, match=r"face 0 of both\.jpg is called Ann already"):
        naming.name_face(archive, "both.jpg", 1, "Ann")
    with pytest.raises(ValueError, match=r"no face 7 .* faces: 0, 1"):
        naming.name_face(archive, "both.jpg", 7, "Ann")
    assert naming.rename_person(archive, "Zoe\u0308", "Zoe") == 1  # an old name is found in any form


@pytest.mark.parametrize("name", ["?", "Person 3", "", "a\nb"])
def test_names_that_are_refused(archive, name):
    before = names(archive)
    for change in (lambda: naming.name_face(archive, "0-1.jpg", 0, name), lambda: naming.unname_person(archive, "x")):
        with pytest.raises(ValueError):
            change()
    with pytest.raises(ValueError):
        naming.rename_person(archive, before["0-0.jpg0"], name)
    assert names(archive) == before


def test_the_command(archive, monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["people", archive.location, *arguments])
        return people.main(), capsys.readouterr()

    code, said = command("--name-face", "0-1.jpg", "0", "Ann")
    assert code == 0 and said.out.startswith("face 0 of 0-1.jpg: Ann, before Person ")
    code, said = command("--unname", "Ann")
    assert code == 0 and said.out.startswith("1 faces of Ann are Person ")
    code, said = command("--unname", "Ann")
    assert code == 1 and "no face of" in said.err
    with pytest.raises(SystemExit):
        command("--name-face", "0-1.jpg", "first", "Ann")
    assert np.isin(list(names(archive).values()), "Ann").sum() == 0
