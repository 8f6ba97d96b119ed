"""Photos sorted by person: the table, the page in a real browser, the folders."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import chrome
from PIL import Image

from facelib.cli.album import (
    DOUBTFUL,
    AlbumFace,
    Known,
    assign,
    make_album,
    measure_distances,
    read_people,
    write_folders,
    write_page,
    write_people,
)
from facelib.recognition.calibration import Calibration
from facelib.recognition.gallery import Gallery

CALIBRATION = Calibration("abc", [0, 0.5, 1, 2], [1e-6, 1e-3, 0.5, 1], [], [0, 0.8, 1, 1], {}, 1_000_000, "made up")


def faces_of(people, folder=Path(), seed=0, photo="photo{}.jpg"):
    """One face a photo, of people given by number; -1: of whom too little is seen."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(10, 32))
    faces = []
    for number, person in enumerate(people):
        vector = centres[max(person, 0)] + 0.1 * rng.normal(size=32)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        name = photo.format(number)
        faces.append(
            AlbumFace(str(folder / name), 0, vector, 0.9, "too blurred" * (person < 0), f"{number}.png", f"{name}")
        )
        if folder != Path():
            Image.new("RGB", (112, 112), (40 * number % 255, 90, 90)).save(folder / f"{number}.png")
            Image.new("RGB", (300, 200), (9, 9, 40 * number % 255)).save(folder / name)
    return faces


def test_faces_are_sorted_and_the_doubtful_kept_apart():
    faces = faces_of([0, 0, 1, 0, 1, -1])
    assign(faces, [], 0.4)
    measure_distances(faces)
    assert [face.person for face in faces] == ["Person 1", "Person 1", "Person 2", "Person 1", "Person 2", DOUBTFUL]
    assert all(0 <= face.distance < 0.2 for face in faces[:5])


def test_what_was_named_merged_and_split_stays(tmp_path):
    faces = faces_of([0, 0, 1, 2, 2, -1])
    assign(faces, [], 0.4)
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
                row["person"] = "Ann"  # somebody knows better
            writer.writerow(row)
    more = faces_of([0, 0, 1, 2, 2, -1, 0, 3])  # two photos are new
    assign(more, read_people(tmp_path), 0.4)
    named = [face.person for face in more]
    assert named[1] == "Bob" and named[5] == "Ann"
    assert [named[i] for i in (0, 2, 3, 4)] == ["Ann", "Ann", "Person 2", "Person 2"]
    assert named[6] in ("Ann", "Bob")  # the nearest of whom is there
    assert named[7].startswith("Person ") and named[7] not in named[:7]


def test_two_faces_of_one_photo_are_two_people_unless_the_table_says_otherwise():
    faces = faces_of([0, 0, 0])
    faces[1].photo = faces[0].photo
    faces[1].face = 1
    assign(faces, [], 0.4)
    assert faces[0].person != faces[1].person
    again = faces_of([0, 0, 0])
    again[1].photo, again[1].face = again[0].photo, 1
    assign(again, [Known(again[0].photo, 0, "Ann", (), {})], 0.4)
    assert again[0].person == "Ann" != again[1].person
    assign(again, [Known(again[0].photo, n, "Ann", (), {}) for n in (0, 1)], 0.4)
    assert again[0].person == again[1].person == "Ann"


def test_a_name_stays_at_its_place_in_the_photo_and_with_photos_that_are_not_named_now(tmp_path):
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
    assign(found, known, 0.4)
    assert [face.person for face in found] == ["Bob", "Ann"]
    write_people(found, tmp_path / "people.csv", [row for row in known if row.photo == "photo2.jpg"])
    assert {(row.photo, row.person) for row in read_people(tmp_path)} >= {("photo2.jpg", "Cy")}
    assert "Cy" in (tmp_path / "people.csv.bak").read_text()


@pytest.mark.parametrize(
    "text", ["", "photo,face\na.jpg,0\n", "photo,face,person\na.jpg,first,Ann\n", "\x00\xff\xfe" * 10]
)
def test_a_table_that_is_none(tmp_path, text):
    (tmp_path / "people.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"people\.csv is no table of people"):
        read_people(tmp_path)


def test_names_come_from_a_gallery_and_go_there(tmp_path):
    gallery = Gallery(tmp_path / "people.gallery", "abc", CALIBRATION)
    gallery.enrol("Ann", [face.vector for face in faces_of([0, 0], seed=5)])
    faces = faces_of([0, 0, 1, 1], tmp_path)
    results = type("", (), {"folder": tmp_path, "ordered": list, "vectors": {}})
    assert make_album(results, [], 0.4, gallery).faces == 0
    assign(faces, [Known("photo2.jpg", 0, "Bob", (), {})], 0.4)
    from facelib.cli.album import give_to_gallery, name_by_gallery

    name_by_gallery(faces, gallery)
    assert [face.person for face in faces[:2]] == ["Ann", "Ann"]
    for face in faces[2:]:
        face.person = "Bob"
    give_to_gallery(faces, gallery)
    assert gallery.people() == {"Ann": 2, "Bob": 2}
    gallery.close()


@pytest.mark.parametrize("links", [False, True])
def test_folders_of_people(tmp_path, links):
    faces = faces_of([0, 0, 1, -1], tmp_path)
    assign(faces, [], 0.4)
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


NASTY = 'a "b" <script>alert(1)<.script> {} #%20?&é.jpg'


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path):
    """Opened from the file: every picture is there, a click leads to the photo, no script runs, nothing is fetched."""
    faces = faces_of([0, 0, 1, 0, -1], tmp_path, photo=NASTY)
    assign(faces, [Known(faces[2].photo, 0, "<b>Ann</b> & Bob", (), {})], 0.4)
    measure_distances(faces)
    page = write_page(faces, tmp_path)
    with chrome(tmp_path) as browser:
        browser.get(page.as_uri())
        titles = [title.text for title in browser.find_elements("css selector", "h2")]
        assert titles[0].startswith("Person 1") and "3" in titles[0]
        assert titles[1].startswith("<b>Ann</b> & Bob")
        assert titles[2].startswith("Faces that show too little")
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
