"""calibrate: rates from a folder of one's own photos, with a stand-in for the networks, and once with them."""

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facelib.cli import calibrate, calibration_people, runs
from facelib.cli.main import main
from facelib.datasets.sources import load_orl
from facelib.recognition import match_rates
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import load_calibration, save_calibration, user_calibrations_folder
from facelib.recognition.cohort import make_cohort
from facelib.runtime.manifest import default_model_id
from facelib.types import Face, Faces, ImageError

SIZE = 24


@dataclass
class StandIn:
    """A pipeline whose embeddings follow from the name of a photo and of its folder.

    issues: name of a photo -> what is wrong with it: "broken", "nobody", "several", or a quality issue.
    """

    model_id: str = "stand-in"
    issues: dict = field(default_factory=dict)

    def stream(self, photos, batch_size):
        for photo in photos:
            issue = self.issues.get(photo.name, "")
            if issue in ("broken", "nobody"):
                yield None, Faces(error=ImageError(f"{photo}: broken") if issue == "broken" else None)
                continue
            quality_issue = issue.replace("several", "")
            face = Face(
                box=np.zeros(4),
                score=1.0,
                landmarks=np.zeros((5, 2)),
                aligned=np.zeros((112, 112, 3), np.uint8),
                embedding=self.embedding(photo),
                landmark_confidence=np.ones(5),
                quality=1.0,
                quality_issue=quality_issue,
            )
            yield None, Faces([face, face] if issue == "several" else [face])

    @staticmethod
    def embedding(photo):
        name = photo.parent.name
        person = np.random.default_rng(list(name.encode()))
        centre = person.normal(size=SIZE) if name.startswith("p") else np.zeros(SIZE)
        vector = centre + 0.6 * np.random.default_rng(list(f"{name}/{photo.name}".encode())).normal(size=SIZE)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def networks(monkeypatch, tmp_path):
    """Commands use the stand-in, and the user's calibrations lie in a folder of the test."""
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    pipeline = StandIn()
    monkeypatch.setattr(runs, "make_pipeline", lambda options: pipeline)
    return pipeline


def make_people(folder, people, photos):
    """A folder for each of the people; with `photos` 0 one folder with a photo of each."""
    for number in range(people):
        for photo in range(max(photos, 1)):
            path = folder / (f"p{number:03d}/{photo}.png" if photos else f"{number:03d}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return folder


def run(capsys, *arguments):
    code = main(["calibrate", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def answer(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out), [json.loads(line) for line in err.splitlines()]


def test_people_in_folders(networks, tmp_path, capsys):
    folder = make_people(tmp_path / "mine", 60, 3)
    code, out, err = run(capsys, "--photos", folder)
    assert code == 0
    header, *lines = out.splitlines()
    assert " ".join(header.split()) == "target FMR score 95 % interval of the FMR true match rate"
    assert [line.split()[0] for line in lines[:3]] == ["0.1", "0.01", "0.001"]  # of 16,000 pairs
    path = user_calibrations_folder() / "calibration_stand-in.json"
    assert f"saved: {path}." in out and "`facelib calibrate --reset` removes it" in out
    assert "180 photos of 60 people of own_mine_" in out and "15,930 impostor pairs" in out
    assert "rates below 0.00063 are not known: 0.0001 needs 448 people with one photo of each" in out
    assert "no cohort: one needs 200 people, there are 60; the score is the cosine" in err
    calibration = load_calibration("stand-in")
    value, _ = answer(capsys, "--photos", folder)
    assert (value["people"], value["photos"], value["cohort"]) == (60, 180, None)
    assert [row["target_fmr"] for row in value["rates"]] == [0.1, 0.01, 0.001]
    for row, line in zip(value["rates"], lines):
        assert row["score"] == pytest.approx(calibration.score_at(row["target_fmr"]), rel=1e-2)
        low, high = row["false_match_interval"]
        assert low <= row["target_fmr"] * 1.01 and row["target_fmr"] * 0.99 <= high
        assert 0 < row["true_match_rate"] <= 1
        assert f"{row['score']:.3f}" in line and f"{row['true_match_rate']:.1%}" in line


def test_photos_alone_are_impostors(networks, tmp_path, capsys):
    folder = make_people(tmp_path / "mine", 150, 0)
    value, _ = answer(capsys, "--photos", folder)
    assert (value["people"], value["impostor_pairs"]) == (150, 150 * 149 // 2)
    assert [row["true_match_rate"] for row in value["rates"]] == [None, None, None]
    assert load_calibration("stand-in").true_match_rates == []
    _, out, _ = run(capsys, "--photos", folder)
    assert "unknown" in out
    assert "true match rates are unknown, and nobody who is there twice was noticed" in out


def test_a_cohort_of_half_of_the_people(networks, tmp_path, capsys):
    folder = make_people(tmp_path / "mine", 240, 2)
    value, notices = answer(capsys, "--photos", folder)
    assert {"notice": "120 of 240 people make the cohort, the others are measured"} in notices
    assert value["people"] == 120
    calibration = load_calibration("stand-in")
    assert calibration.cohort.id == value["cohort"]
    embeddings = np.stack([networks.embedding(path) for path in folder.glob("*/*")])
    assert (embeddings @ calibration.cohort.centres.T).max() < 0.98  # no centre is anybody's embedding
    stored = (user_calibrations_folder() / "cohort_stand-in.npz").read_bytes()
    for embedding in embeddings:
        assert embedding.tobytes() not in stored and embedding.astype(np.float16).tobytes() not in stored
    again, _ = answer(capsys, "--photos", folder)
    assert again == value  # chosen by name, not at random


def test_the_shipped_cohort_is_used(networks, tmp_path, capsys, monkeypatch):
    cohort = make_cohort("stand-in", np.stack([networks.embedding(Path(f"x/{n}")) for n in range(100)]))
    shipped = Calibration("stand-in", [-2, 1], [1, 0.001], [], [], {}, 0.001, "shipped", cohort=cohort)
    monkeypatch.setattr("facelib.io.records.RESULTS", tmp_path / "results")
    save_calibration(shipped, tmp_path / "results")
    folder = make_people(tmp_path / "mine", 210, 1)
    value, _ = answer(capsys, "--photos", folder)
    assert (value["cohort"], value["people"]) == (cohort.id, 210)
    value, _ = answer(capsys, "--photos", folder, "--new-cohort")
    assert value["cohort"] != cohort.id and value["people"] == 105
    small = make_people(tmp_path / "small", 50, 2)
    value, notices = answer(capsys, "--photos", small, "--new-cohort")
    assert value["cohort"] is None and "no cohort: one needs 200 people" in notices[0]["notice"]
    assert not (user_calibrations_folder() / "cohort_stand-in.npz").exists()


def test_photos_that_are_skipped_are_named(networks, tmp_path, capsys):
    folder = make_people(tmp_path / "mine", 60, 2)
    networks.issues |= {"0.png": ""}
    for person, issue in (("p000", "broken"), ("p001", "nobody"), ("p002", "too blurred"), ("p003", "several")):
        (folder / person / "0.png").rename(folder / person / f"{issue}.png")
        networks.issues[f"{issue}.png"] = issue
    code, out, err = run(capsys, "--photos", folder)
    assert code == 1 and "117 photos of 60 people" in out
    assert f"error: {folder}/p000/broken.png: broken" in err
    assert f"skipped: {folder}/p001/nobody.png: no face found" in err
    assert f"skipped: {folder}/p002/too blurred.png: the face is too blurred" in err
    assert "of 1 photo with several faces the largest is taken" in err


@pytest.mark.parametrize(
    ("people", "photos", "says"),
    [
        (10, 40, "10 people with 72,000 impostor pairs are too few: at least 20 people"),
        (40, 0, "40 people with 780 impostor pairs are too few"),
        (1, 3, "1 people with 0 impostor pairs are too few"),
    ],
)
def test_too_few_people(networks, tmp_path, capsys, monkeypatch, people, photos, says):
    """Said before networks are loaded, with how many are needed."""
    monkeypatch.setattr(runs, "make_pipeline", None)
    code, _, err = run(capsys, "--photos", make_people(tmp_path / "mine", people, photos))
    assert code == 2 and says in err
    assert "1,000 pairs are needed to measure a false match rate of 0.01; with one photo of each, 46 people" in err
    assert not user_calibrations_folder().exists()


def test_too_few_faces(networks, tmp_path, capsys):
    folder = make_people(tmp_path / "mine", 46, 0)
    networks.issues["007.png"] = "nobody"
    code, _, err = run(capsys, "--photos", folder)
    assert code == 2 and "45 people with 990 impostor pairs are too few" in err
    networks.issues.clear()
    assert run(capsys, "--photos", folder)[0] == 0


def test_what_few_pairs_cannot_bear(networks, tmp_path, capsys):
    code, out, _ = run(capsys, "--photos", make_people(tmp_path / "mine", 60, 0))
    assert code == 0 and [line.split()[0] for line in out.splitlines()[1:3]] == ["0.1", "0.01"]
    assert "rates below 0.0056 are not known: 0.001 needs 142 people" in out
    assert "commands use the rate 0.001 unless told otherwise: give them --fmr 0.01 or higher" in out


def test_layouts_that_are_unclear(networks, tmp_path, capsys):
    folder = make_people(tmp_path / "mine", 50, 1)
    (folder / "alone.png").write_bytes(b"")
    for photos, says in (
        (folder, "has photos in folders and 1 photo beside them, e.g. alone.png: put each person's into a folder"),
        (tmp_path / "none", "none: no such folder"),
        (folder / "alone.png", "alone.png: no such folder"),
    ):
        code, _, err = run(capsys, "--photos", photos)
        assert code == 2 and says in err
    code, _, err = run(capsys)
    assert code == 2 and "--photos FOLDER is needed, or --reset" in err
    (folder / "alone.png").unlink()
    (folder / "p000/deeper").mkdir()
    (folder / "p000/deeper/1.png").write_bytes(b"")
    value, _ = answer(capsys, "--photos", folder)
    assert (value["people"], value["photos"]) == (50, 51)


def test_many_photos(networks, tmp_path, capsys, monkeypatch):
    """Whole people are chosen, the same ones at every run."""
    monkeypatch.setattr(calibration_people, "MAX_PHOTOS", 100)
    folder = make_people(tmp_path / "mine", 100, 2)
    value, notices = answer(capsys, "--photos", folder)
    assert {"notice": "100 of 200 photos are measured, chosen by person"} in notices
    assert (value["people"], value["photos"]) == (50, 100)
    assert answer(capsys, "--photos", folder)[0] == value


def test_groups(networks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(match_rates, "MIN_PEOPLE", 40)
    folder = make_people(tmp_path / "mine", 150, 2)
    table = tmp_path / "groups.csv"
    of_person = {f"p{n:03d}": "men" if n < 50 else "women" if n < 100 else f"small {n % 2}" for n in range(140)}

    def write():
        rows = [f"{person},{group}" for person, group in of_person.items()]
        table.write_text("\n".join(["person,group", *rows]), "utf-8-sig")

    write()
    value, notices = answer(capsys, "--photos", folder, "--groups", table)
    said = [line["notice"] for line in notices]
    assert "fewer than 40 people, counted as others: small 0 (20), small 1 (20)" in said
    assert set(value["rates"][0]["group_fmrs"]) == {"men", "women", "others"}
    assert value["impostor_pairs"] == 3 * (100 * 99 // 2 - 50)
    assert set(load_calibration("stand-in").group_fmrs) == {"men", "women", "others"}
    worst = next(iter(value["rates"][1]["group_fmrs"]))
    _, out, _ = run(capsys, "--photos", folder, "--groups", table)
    assert out.splitlines()[0].endswith("highest in".ljust(20)) and out.splitlines()[2].endswith(worst)
    of_person |= {f"p{n:03d}": "men" for n in range(115, 150)}
    write()
    value, notices = answer(capsys, "--photos", folder, "--groups", table)
    assert "others are 15 people, too few for a rate of their own: they are not measured" in notices[-1]["notice"]
    assert value["people"] == 135 and set(value["rates"][0]["group_fmrs"]) == {"men", "women"}
    monkeypatch.setattr(match_rates, "MIN_PEOPLE", 100)
    value, notices = answer(capsys, "--photos", folder, "--groups", table)
    assert "no group has 100 people: everybody is in one group" in notices[-1]["notice"]
    assert set(value["rates"][0]["group_fmrs"]) == {"all"} and value["people"] == 150


def test_groups_of_photos_alone_have_their_names(networks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(match_rates, "MIN_PEOPLE", 40)
    folder = make_people(tmp_path / "mine", 100, 0)
    table = tmp_path / "groups.csv"
    table.write_text("person,group\n" + "".join(f"{n:03d}.png,{'ab'[n % 2]}\n" for n in range(100)))
    value, _ = answer(capsys, "--photos", folder, "--groups", table)
    assert set(value["rates"][0]["group_fmrs"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name,group\na,b\n", "is no table of groups"),
        (b"person;group\na;b\n", "expected CSV in UTF-8, separated by commas, with the columns person and group"),
        ("person,group\nJürgen,b\n".encode("cp1252"), "is no table of groups (UnicodeDecodeError"),
        (b"person,group\na\n", "is no table of groups"),
        (b'person,group\n"a,b\n', "is no table of groups (Error: unexpected end of data)"),
        (b"person,group\na,b\na,c\n", "a is in two groups, b and c"),
    ],
)
def test_tables_that_are_none(networks, tmp_path, capsys, monkeypatch, content, says):
    monkeypatch.setattr(runs, "make_pipeline", None)
    (tmp_path / "groups.csv").write_bytes(content)
    code, _, err = run(capsys, "--photos", make_people(tmp_path / "mine", 50, 1), "--groups", tmp_path / "groups.csv")
    assert code == 2 and says in err
    assert run(capsys, "--photos", tmp_path / "mine", "--groups", tmp_path / "none.csv")[0] == 2


def test_groups_find_names_in_any_unicode_form(networks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(match_rates, "MIN_PEOPLE", 40)
    folder, table = tmp_path / "mine", tmp_path / "groups.csv"
    for number in range(100):
        (folder / f"p{number}e\u0301").mkdir(parents=True)
        (folder / f"p{number}e\u0301/0.png").write_bytes(b"")
    table.write_text("person,group\n" + "".join(f"p{n}\u00e9 ,{'ab'[n % 2]}\n" for n in range(100)))
    value, _ = answer(capsys, "--photos", folder, "--groups", table)
    assert set(value["rates"][0]["group_fmrs"]) == {"a", "b"}


@pytest.mark.skipif(os.name != "posix", reason="rights of files")
def test_the_files_are_private(networks, tmp_path, capsys):
    answer(capsys, "--photos", make_people(tmp_path / "mine", 200, 2))
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").rglob("*")}
    assert found == {"calibrations": 0o700, "calibration_stand-in.json": 0o600, "cohort_stand-in.npz": 0o600}


def test_reset(networks, tmp_path, capsys, monkeypatch):
    """Prints what it removes, also what is damaged; afterwards the shipped calibration is used."""
    shipped = load_calibration(default_model_id())
    networks.model_id = default_model_id()
    monkeypatch.setattr(
        calibrate, "_cohort", lambda _, people, *__: (None, np.ones(len(people), bool))
    )  # of 640 numbers
    code, out, _ = run(capsys, "--reset")
    assert code == 0 and "there is no calibration of your own of" in out
    answer(capsys, "--photos", make_people(tmp_path / "mine", 60, 2))
    assert load_calibration(default_model_id()) != shipped
    code, out, _ = run(capsys, "--reset")
    assert code == 0 and "target FMR" in out and "measured on 120 photos of 60 people of own_mine_" in out
    assert f"removed: {user_calibrations_folder()}" in out
    assert load_calibration(default_model_id()) == shipped or shipped.cohort
    assert not list(user_calibrations_folder().iterdir())
    path = user_calibrations_folder() / f"calibration_{default_model_id()}.json"
    path.write_text("{")
    value, _ = answer(capsys, "--reset")
    assert value["removed"] == [str(path)] and not path.exists()


def test_forget_removes_what_was_measured_on_a_folder(networks, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    folder = make_people(tmp_path / "mine", 200, 2)
    answer(capsys, "--photos", folder)
    assert main(["forget", str(tmp_path / "other"), "--yes"]) == 0
    assert len(list(user_calibrations_folder().iterdir())) == 2
    capsys.readouterr()
    assert main(["forget", str(folder), "--yes", "--json"]) == 0
    forgotten = json.loads(capsys.readouterr().out)["forgotten"]
    files = [user_calibrations_folder() / name for name in ("calibration_stand-in.json", "cohort_stand-in.npz")]
    assert forgotten == [f"calibration {file}" for file in files]
    assert not list(user_calibrations_folder().iterdir())
    assert len(list(folder.glob("*/*.png"))) == 400


def test_with_the_networks(pipeline, tmp_path, capsys, monkeypatch):
    """ORL, two photos of 24 people; afterwards `compare` prints rates of these photos."""
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runs, "make_pipeline", lambda options: pipeline)
    orl = load_orl()
    for person in np.unique(orl.people)[:24]:
        (tmp_path / "mine" / person).mkdir(parents=True)
        for photo in np.flatnonzero(orl.people == person)[[0, 4]]:
            picture = Image.open(orl.files[photo]).convert("RGB").resize((276, 336))
            picture.save(tmp_path / "mine" / person / f"{photo}.png")
    value, _ = answer(capsys, "--photos", tmp_path / "mine")
    assert value["people"] == 24 and value["embedder"] == pipeline.model_id
    assert [row["target_fmr"] for row in value["rates"]] == [0.1, 0.01]
    assert value["rates"][0]["true_match_rate"] > 0.9
    assert load_calibration(pipeline.model_id).data.startswith("48 photos of 24 people of own_mine_")
