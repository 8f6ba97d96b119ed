"""compare, enrol, identify, remove, people and album, called as from a terminal."""

import json
import sqlite3

import numpy as np
import pytest
from PIL import Image, ImageFilter

from facelib.cli.main import main
from facelib.io.files import printable

NETWORKS = ("--detector", "retinaface", "--device", "cpu")


def run(capsys, *arguments, networks=True):
    code = main([*map(str, arguments), *(NETWORKS if networks else ())])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture(scope="module")
def portraits(tmp_path_factory, photo, pipeline):
    """Each of the six of the sample photo, and the mirror image, a little darker."""
    folder = tmp_path_factory.mktemp("portraits")
    for number, face in enumerate(pipeline(photo)):
        x1, y1, x2, y2 = (face.box + [-60, -60, 60, 60]).round().astype(int).tolist()
        crop = photo[max(y1, 0) : y2, max(x1, 0) : x2]
        Image.fromarray(crop).save(folder / f"{number}.png")
        Image.fromarray((crop[:, ::-1] * 0.8).astype(np.uint8)).save(folder / f"{number}-again.png")
    return folder


def test_compare(capsys, portraits):
    code, out, _ = run(capsys, "compare", portraits / "0.png", portraits / "0-again.png")
    assert code == 0
    assert out.startswith("same: score 0.") and ", distance 0." in out
    assert out.count(": 1 face\n") == 2
    code, out, _ = run(capsys, "compare", portraits / "0.png", portraits / "3.png", "--json")
    answer = json.loads(out)
    assert answer["verdict"] in ("different", "unsure")
    assert code == {"different": 1, "unsure": 3}[answer["verdict"]]
    assert [photo["faces"] for photo in answer["photos"]] == [1, 1]
    assert 0 < answer["false_match_rate"] <= 1
    score = answer["score"]
    for threshold, verdict in ((score - 0.02, "same"), (score + 0.02, "different")):
        code, out, _ = run(
            capsys, "compare", portraits / "0.png", portraits / "3.png", "--threshold", threshold, "--json"
        )
        assert json.loads(out)["verdict"] == verdict
    code, _, err = run(capsys, "compare", portraits / "0.png", portraits / "0-again.png", "--fmr", "1e-12")
    assert code == 2 and "false match rate of 1e-12 is not known" in err
    Image.new("RGB", (300, 300)).save(portraits / "blank.jpg")
    code, _, err = run(capsys, "compare", portraits / "0.png", portraits / "blank.jpg")
    assert code == 2 and "blank.jpg: no face found" in err
    (portraits / "blank.jpg").unlink()


def test_faces_of_low_quality_are_never_the_same(tmp_path, photo, pipeline):
    """Six people blurred, darkened or shrunk: no pair is called one person."""
    image = Image.fromarray(photo)
    small = image.resize((image.width // 12, image.height // 12)).resize(image.size)
    for name, worse in (
        ("blurred by 7 pixels", image.filter(ImageFilter.GaussianBlur(7))),
        ("an eighth of the light", image.point(lambda grey: grey // 8)),
        ("a twelfth of the pixels", small),
    ):
        faces = pipeline(np.asarray(worse))
        verdicts = [pipeline.compare(a, b) for i, a in enumerate(faces) for b in faces[i + 1 :]]
        assert "same" not in {answer.verdict for answer in verdicts}, name
        assert any("is too" in answer.reason for answer in verdicts) or len(faces) < 2, name


def test_a_gallery_from_the_terminal(capsys, tmp_path, portraits):
    gallery = ("--gallery", tmp_path / "people.gallery")
    for number in range(4):
        code, out, _ = run(capsys, "enrol", f"person {number}", portraits / f"{number}.png", *gallery)
        assert (code, out) == (0, f"person {number}: 1 photo in {printable(gallery[1])}\n")
    code, out, _ = run(capsys, "enrol", "person 0", portraits / "0.png", *gallery, "--json")
    assert json.loads(out) == {"name": "person 0", "photos": 1}  # the same photo again: nothing new
    code, out, _ = run(capsys, "identify", portraits / "2-again.png", portraits / "5.png", *gallery, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert rows[0]["name"] == "person 2"
    assert rows[0]["nearest"][0][0] == "person 2"
    assert len(rows[0]["nearest"]) == 3 and rows[0]["score"] > rows[1]["score"]
    assert rows[1]["name"] is None
    code, out, _ = run(capsys, "people", *gallery, networks=False)
    assert out.splitlines() == [f"person {number}: 1" for number in range(4)]
    code, out, _ = run(capsys, "remove", "person 2", *gallery, networks=False)
    assert code == 0 and "no embedding is left" in out
    code, out, err = run(capsys, "remove", "person 2", *gallery, networks=False)
    assert code == 2 and "nobody is called 'person 2'" in err
    code, out, _ = run(capsys, "identify", portraits / "2-again.png", *gallery)
    assert code == 1 and "unknown, score " in out and " (nearest: person " in out
    code, _, err = run(capsys, "identify", portraits / "2.png", "--gallery", tmp_path / "none.gallery")
    assert code == 2 and "no such gallery; the first enrol makes it" in err
    with sqlite3.connect(gallery[1]) as connection:
        connection.execute("UPDATE about SET embedder = 'another'")
    code, _, err = run(capsys, "identify", portraits / "2.png", *gallery)
    assert code == 2 and "another" in err and "embedder" in err


def test_an_album_is_kept_and_resumes(capsys, tmp_path, portraits):
    out = tmp_path / "album"
    # Faces of one photo share its light and are nearer than impostors usually are: a lower rate.
    code, said, _ = run(capsys, "album", portraits, "--out", out, "--json", "--folders", "copies", "--fmr", 0.001)
    answer = json.loads(said.splitlines()[-1])
    assert code == 0
    assert answer["faces"] == 12
    assert 5 <= answer["people"] <= 7
    page = (out / "album.html").read_text()
    assert page.count("<img") == 12 and "://" not in page
    assert len(list((out / "people").rglob("*.png"))) == 12
    table = (out / "people.csv").read_text().replace("Person 1", "Ann")
    (out / "people.csv").write_text(table)
    gallery = tmp_path / "people.gallery"
    code, said, _ = run(capsys, "album", portraits, "--out", out, "--gallery", gallery)
    assert code == 0 and "12 of 12 photos are done already" in said
    assert ">Ann <small>" in (out / "album.html").read_text()
    assert list(json.loads(run(capsys, "people", "--gallery", gallery, "--json", networks=False)[1])) == ["Ann"]
    (portraits / "broken.jpg").write_text("no picture")
    code, _, err = run(capsys, "album", portraits, "--out", out)
    assert code == 1 and "broken.jpg" in err
    (portraits / "broken.jpg").unlink()


def test_the_name_of_a_command_wins_over_a_folder(capsys, tmp_path, portraits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        code, said, err = run(capsys, "album", portraits, "--out", "album", "--json")
        assert code == 0, err
    assert json.loads(said.splitlines()[-1])["faces"] == 12
    code, _, err = run(capsys, "album", portraits, "--out", portraits)
    assert code == 2 and "is a folder of results" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "a.jpg"),
        ("enrol", "Ann", "a.jpg"),
        ("album", "a"),
        ("identify", "a.jpg", "--gallery", "g", "--batch-size", "0"),
        ("compare", "a.jpg", "b.jpg", "--threshold", "3"),
        ("compare", "a.jpg", "b.jpg", "--threshold", "nan"),
        ("compare", "a.jpg", "b.jpg", "--fmr", "1"),
        ("detect", "a.jpg", "--out", "b", "--smallest-face", "0"),
        ("comapre", "a.jpg", "b.jpg"),
        (),
    ],
)
def test_wrong_arguments(arguments, capsys):
    assert main(list(arguments)) == 2
    err = capsys.readouterr().err
    assert "error:" in err or not arguments
    assert "Usage:" in err
