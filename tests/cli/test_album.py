"""Photos sorted by person: the table, the page in a real browser, the folders."""

import csv
import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import chrome
from PIL import Image

from facelib.cli.album import (
    LOW_QUALITY,
    AlbumFace,
    TableRow,
    assign_people,
    measure_distances,
    read_people,
    write_people,
)
from facelib.cli.album_builder import enrol_named, make_album, name_by_gallery
from facelib.cli.album_folders import write_folders
from facelib.cli.album_page import write_page
from facelib.cli.options import DecisionOptions
from facelib.recognition.calibration import Calibration
from facelib.recognition.gallery import Gallery

CALIBRATION = Calibration("abc", [0, 0.5, 1, 2], [1e-6, 1e-3, 0.5, 1], [], [0, 0.8, 1, 1], {}, 1_000_000, "none")


def faces_of(people, folder=Path(), seed=0, photo="photo{}.jpg"):
    """One face a photo, of people given by number; -1: a face with a quality issue."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(10, 32))
    faces = []
    for number, person in enumerate(people):
        embedding = centres[max(person, 0)] + 0.1 * rng.normal(size=32)
        embedding = (embedding / np.linalg.norm(embedding)).astype(np.float32)
        name = photo.format(number)
        issue = "too blurred" * (person < 0)
        faces.append(AlbumFace(str(folder / name), 0, embedding, 0.9, issue, f"{number}.png", f"{name}"))
        if folder != Path():
            Image.new("RGB", (112, 112), (40 * number % 255, 90, 90)).save(folder / f"{number}.png")
            Image.new("RGB", (300, 200), (9, 9, 40 * number % 255)).save(folder / name)
    return faces


def test_faces_are_sorted_and_those_of_low_quality_kept_apart():
    faces = faces_of([0, 0, 1, 0, 1, -1])
    assign_people(faces, [], 0.4)
    measure_distances(faces)
    assert [face.person for face in faces] == ["Person 1", "Person 1", "Person 2", "Person 1", "Person 2", LOW_QUALITY]
    assert all(0 <= face.distance < 0.2 for face in faces[:5])


def test_names_merges_and_splits_are_kept(tmp_path):
    faces = faces_of([0, 0, 1, 2, 2, -1])
    assign_people(faces, [], 0.4)
    measure_distances(faces)
    write_people(faces, tmp_path / "people.csv")
    rows = list(csv.DictReader((tmp_path / "people.csv").read_text().splitlines()))
    changed = {"Person 1": "Ann", "Person 3": "Ann"}  # named, and two merged into one
    with open(tmp_path / "people.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=";")  # as some spreadsheets write it
        writer.writeheader()
        for row in rows:
            row["person"] = changed.get(row["person"], row["person"])
            if row["photo"] == "photo1.jpg":
                row["person"] = "Bob"  # split off
            if row["photo"] == "photo5.jpg":
                row["person"] = "Ann"  # corrected by hand
            writer.writerow(row)
    more = faces_of([0, 0, 1, 2, 2, -1, 0, 3])  # two photos are new
    assign_people(more, read_people(tmp_path), 0.4)
    named = [face.person for face in more]
    assert named[1] == "Bob" and named[5] == "Ann"
    assert [named[i] for i in (0, 2, 3, 4)] == ["Ann", "Ann", "Person 2", "Person 2"]
    assert named[6] in ("Ann", "Bob")  # the nearest known person
    assert named[7].startswith("Person ") and named[7] not in named[:7]


def test_two_faces_of_one_photo_are_two_people_unless_the_table_says_otherwise():
    faces = faces_of([0, 0, 0])
    faces[1].photo = faces[0].photo
    faces[1].face = 1
    assign_people(faces, [], 0.4)
    assert faces[0].person != faces[1].person
    again = faces_of([0, 0, 0])
    again[1].photo, again[1].face = again[0].photo, 1
    assign_people(again, [TableRow(again[0].photo, 0, "Ann", (), {})], 0.4)
    assert again[0].person == "Ann" != again[1].person
    assign_people(again, [TableRow(again[0].photo, n, "Ann", (), {}) for n in (0, 1)], 0.4)
    assert again[0].person == again[1].person == "Ann"


def test_names_match_by_box_and_rows_of_other_photos_are_kept(tmp_path):
    faces = faces_of([0, 1, 2])
    for face, box in zip(faces, ((0, 0, 50, 50), (100, 0, 150, 50), (0, 0, 9, 9))):
        face.box = box
    faces[1].photo, faces[1].face = faces[0].photo, 1
    faces[0].person, faces[1].person, faces[2].person = "Ann", "Bob", "Cy"
    write_people(faces, tmp_path / "people.csv")
    found = faces_of([1, 0])  # the next detector numbers them the other way round
    found[0].box, found[1].box = (102, 1, 151, 52), (1, 0, 51, 49)
    found[1].photo, found[1].face = found[0].photo, 1
    known = read_people(tmp_path)
    assign_people(found, known, 0.4)
    assert [face.person for face in found] == ["Bob", "Ann"]
    write_people(found, tmp_path / "people.csv", [row for row in known if row.photo == "photo2.jpg"])
    assert {(row.photo, row.person) for row in read_people(tmp_path)} >= {("photo2.jpg", "Cy")}
    assert "Cy" in (tmp_path / "people.csv.bak").read_text()


@pytest.mark.parametrize(
    "text", ["", "photo,face\na.jpg,0\n", "photo,face,person\na.jpg,first,Ann\n", "\x00\xff\xfe" * 10]
)
def test_malformed_tables(tmp_path, text):
    (tmp_path / "people.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"people\.csv is no table of people"):
        read_people(tmp_path)


def test_names_come_from_a_gallery_and_go_there(tmp_path):
    gallery = Gallery(tmp_path / "people.gallery", "abc", CALIBRATION)
    gallery.enrol("Ann", [face.embedding for face in faces_of([0, 0], seed=5)])
    faces = faces_of([0, 0, 1, 1], tmp_path)
    results = type("", (), {"folder": tmp_path, "ordered": list, "embeddings": {}})
    assert make_album(results, [], 0.4, gallery=gallery).faces == 0
    assign_people(faces, [TableRow("photo2.jpg", 0, "Bob", (), {})], 0.4)
    name_by_gallery(faces, gallery, DecisionOptions())
    assert [face.person for face in faces[:2]] == ["Ann", "Ann"]
    for face in faces[2:]:
        face.person = "Bob"
    enrol_named(faces, gallery)
    assert gallery.people() == {"Ann": 2, "Bob": 2}
    gallery.close()


@pytest.mark.parametrize("links", [False, True])
def test_folders_of_people(tmp_path, links):
    faces = faces_of([0, 0, 1, -1], tmp_path)
    assign_people(faces, [], 0.4)
    measure_distances(faces)
    faces[2].person = "Ann/../../B: ?"
    for _ in range(2):
        write_folders(faces, tmp_path / "people", links)
    written = sorted(str(path.relative_to(tmp_path / "people")) for path in (tmp_path / "people").rglob("*.jpg"))
    assert written == ["Ann_.._.._B_ _/photo2.jpg", "Person 1/photo0.jpg", "Person 1/photo1.jpg"]
    assert (tmp_path / "people/Person 1/photo0.jpg").is_symlink() == links
    shutil.rmtree(tmp_path / "people")
    (tmp_path / "people").mkdir()
    (tmp_path / "people/mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is a folder of yours"):
        write_folders(faces, tmp_path / "people", links)
    assert (tmp_path / "people/mine.txt").exists()


ODD_NAME = 'a "b" <script>alert(1)<.script> {} #%20?&é.jpg'


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path):
    """Opened from the file: every picture is shown, a click opens the photo, no script runs, nothing is fetched."""
    faces = faces_of([0, 0, 1, 0, -1], tmp_path, photo=ODD_NAME)
    assign_people(faces, [TableRow(faces[2].photo, 0, "<b>Ann</b> & Bob", (), {})], 0.4)
    measure_distances(faces)
    page = write_page(faces, tmp_path)
    with chrome(tmp_path) as browser:
        browser.get(page.as_uri())
        titles = [title.text for title in browser.find_elements("css selector", "h2")]
        assert titles[0].startswith("Person 1") and "3" in titles[0]
        assert titles[1].startswith("<b>Ann</b> & Bob")
        assert titles[2].startswith("Faces of low quality")
        rows = browser.find_elements("css selector", ".row")
        assert [len(row.find_elements("css selector", "img")) for row in rows] == [3, 1, 1]
        browser.execute_script("for (const i of document.images) i.loading = 'eager'; window.scrollTo(0, 1e6)")
        shown = browser.execute_script("return [...document.images].map(i => [i.complete, i.naturalWidth])")
        assert shown == [[True, 112]] * 5
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert all(name.startswith("data:") for name in fetched)
        rows[0].find_element("css selector", "a").click()
        assert browser.current_url.endswith(".jpg")
        assert browser.execute_script("return document.images[0].naturalWidth") == 300
        assert not browser.get_log("browser")


def test_the_page_escapes_names_and_loads_nothing(tmp_path):
    name = "x:50% <b>#1?.jpg"
    faces = faces_of([0], tmp_path, photo=name)
    assign_people(faces, [TableRow(faces[0].photo, 0, "<script>alert(1)</script>", (), {})], 0.4)
    page = write_page(faces, tmp_path).read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert 'href="./x%3A50%25%20%3Cb%3E%231%3F.jpg"' in page
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    assert html.unescape(policy).startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img") == 1


def test_new_people_do_not_get_names_of_rows_that_are_not_processed(tmp_path):
    faces = faces_of([0])
    assign_people(faces, [TableRow("elsewhere.jpg", 0, "Person 1", (), {})], 0.4)
    assert faces[0].person == "Person 2"
