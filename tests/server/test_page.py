"""The page of an album in Chromium, by the keyboard alone: naming, merging, splitting, undoing, and 10,000 faces."""

import threading
import time
from contextlib import closing, contextmanager

import numpy as np
import pytest
from albums import CALIBRATION, DIMENSIONS
from browser import chrome
from PIL import Image
from served import library_of, people_of, served, session_of

from facelib.embedding.similarity import unit_vectors
from facelib.server.album import ServedAlbum
from facelib.server.faces import Scores, ServedFace
from facelib.server.store import AlbumStore, FaceState

pytest.importorskip("uvicorn")
keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
pytestmark = pytest.mark.browser


class Page:
    """The page in a browser, and what somebody sees of it."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.wait(lambda: self.rows())

    def press(self, *pressed):
        """Keys, one after the other, on whatever has the focus."""
        for key in pressed:
            self.browser.switch_to.active_element.send_keys(key)

    def wait(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, self.browser.find_element("css selector", "body").text
            time.sleep(0.05)
        return value

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def rows(self):
        """Titles of the people, without the number of faces."""
        return self.run("return [...document.querySelectorAll('.person h2')].map(t => t.firstChild.data)")

    def shows(self, *titles):
        self.wait(lambda: self.rows() == list(titles))

    def focused(self):
        """Person and place of the face with the focus."""
        script = """const face = document.activeElement.closest('.face');
        return face && [face.closest('.person').dataset.name, [...face.parentNode.children].indexOf(face)]"""
        return self.run(script)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def status(self, part):
        self.wait(lambda: part in self.text("#status"))

    def is_hidden(self, selector):
        return self.run("return document.querySelector(arguments[0]).hidden", selector)


@contextmanager
def opened(album, folder):
    with served(album) as address, chrome(folder) as browser:
        page = Page(browser, address)
        yield page
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@pytest.fixture
def session(tmp_path):
    """Person 1 with four faces, Person 2 with three, Person 3 with one of the same."""
    library = library_of(tmp_path, 0, 0, 0, 0, 1, 1, 1)
    Image.new("RGB", (300, 200), (9, 9, 200)).save(library.out / "a.jpg")
    with session_of(library) as made:
        made.album.change({"version": made.album.version, "kind": "move", "faces": [6], "name": ""})
        yield made


def test_people_are_named_merged_and_split_by_the_keyboard(session, tmp_path):
    album = session.album
    with opened(album, tmp_path) as page:
        page.shows("Person 1", "Person 2", "Person 3")
        page.wait(page.focused)
        page.press(keys.ENTER, "Ann & <b>Bob</b>", keys.ENTER)
        page.shows("Ann & <b>Bob</b>", "Person 2", "Person 3")
        page.status("Kept: Person 1 is Ann & <b>Bob</b>")
        assert page.focused() == ["Person 2", 0]  # the next one to name
        # Completion: the beginning of a name merges.
        page.press(keys.ENTER, "ann", keys.ARROW_DOWN)
        assert "become one person" in page.text("#naming-hint")
        page.press(keys.ENTER)
        page.shows("Ann & <b>Bob</b>", "Person 3")
        assert people_of(album) == 6 * ["Ann & <b>Bob</b>"] + ["Person 3"]
        page.press(keys.CONTROL + "z" + keys.NULL)
        page.shows("Ann & <b>Bob</b>", "Person 2", "Person 3")
        page.press(keys.CONTROL + "y" + keys.NULL)
        page.shows("Ann & <b>Bob</b>", "Person 3")
        page.press(keys.CONTROL + "z" + keys.NULL)
        page.shows("Ann & <b>Bob</b>", "Person 2", "Person 3")
        # Two faces are selected and become a new person.
        page.press(keys.HOME, " ", keys.ARROW_RIGHT, " ")
        assert page.text("#selected") == "2 faces selected"
        page.press("s")
        page.shows("Ann & <b>Bob</b>", "Person 2", "Person 4", "Person 3")
        assert page.is_hidden("#bar")
        # One of another person goes to somebody by name, one is no face.
        page.press(keys.HOME, "j", "m", "Cy", keys.ENTER)
        page.shows("Ann & <b>Bob</b>", "Person 4", "Cy", "Person 2", "Person 3")
        page.press(keys.HOME, "d")
        page.wait(lambda: page.rows()[-1].startswith("Not sorted"))
        page.press(keys.HOME, "r")
        page.status("Kept: 1 face: not Person 4")
        for _ in range(6):
            page.press(keys.CONTROL + "z" + keys.NULL)
            page.status("Undone")
            page.run("document.querySelector('#status').textContent = ''")
        page.shows("Person 1", "Person 2")
        assert people_of(album) == 4 * ["Person 1"] + 3 * ["Person 2"]


def test_suggestions_are_answered_by_the_keyboard(session, tmp_path):
    with opened(session.album, tmp_path) as page:
        page.wait(lambda: not page.is_hidden("#question"))
        assert "Person 2 (2 faces)" in page.text("#question") and "Person 3 (1 face)" in page.text("#question")
        rate = session.album.suggestions()["suggestions"][0]["false_match_rate"]
        assert f"{100 * rate:.2g} %" in page.text("#question-text") and "decides 1 face." in page.text("#question-text")
        page.press("q", "n")
        page.wait(lambda: page.is_hidden("#question"))
        page.press(keys.CONTROL + "z" + keys.NULL)
        page.wait(lambda: not page.is_hidden("#question"))
        page.press("q", "y")
        page.shows("Person 1", "Person 2")
        assert page.is_hidden("#question") or page.wait(lambda: page.is_hidden("#question"))


def test_a_reload_in_the_middle_and_a_second_window(session, tmp_path):
    with opened(session.album, tmp_path) as page:
        page.wait(page.focused)
        page.press(keys.ENTER, "Ann", keys.ENTER)
        page.shows("Ann", "Person 2", "Person 3")
        page.press(keys.ENTER, "Bo")  # not finished
        page.browser.refresh()
        page.shows("Ann", "Person 2", "Person 3")
        first = page.browser.current_window_handle
        address = page.browser.current_url
        page.browser.switch_to.new_window("window")
        second = Page(page.browser, address)
        second.shows("Ann", "Person 2", "Person 3")
        page.run("setInterval = () => 0; clearInterval(1); for (let i = 0; i < 99; i++) clearInterval(i)")
        page.browser.switch_to.window(first)
        page.wait(page.focused)
        page.press("j", keys.ENTER, "Bob", keys.ENTER)
        page.shows("Ann", "Bob", "Person 3")
        page.browser.switch_to.window(second.browser.window_handles[-1])
        second.wait(second.focused)
        second.press("j", keys.ENTER, "Cy", keys.ENTER)  # it has not seen Bob
        second.status("changed meanwhile")
        assert "409" in page.browser.get_log("browser")[-1]["message"]
        second.shows("Ann", "Bob", "Person 3")
        page.browser.switch_to.window(first)
        page.press("j", keys.ENTER, "Dan", keys.ENTER)
        page.shows("Ann", "Bob", "Dan")
    assert sorted(set(people_of(session.album))) == ["Ann", "Bob", "Dan"]


def test_a_server_that_stops_is_told(session, tmp_path):
    with chrome(tmp_path) as browser:
        with served(session.album) as address:
            page = Page(browser, address)
            page.wait(page.focused)
        page.press(keys.ENTER, "Ann", keys.ENTER)
        page.wait(lambda: "does not answer" in page.text("#problem"))
        assert page.rows()[0] == "Person 1"


def test_photos_open_and_those_that_are_gone_are_told(session, tmp_path):
    with opened(session.album, tmp_path) as page:
        page.wait(page.focused)
        page.press("o")
        page.wait(lambda: page.run("return document.querySelector('#photo img').naturalWidth") == 300)
        page.press(keys.ESCAPE)
        session.album.faces[0].annotated.unlink()
        page.press(keys.ARROW_RIGHT, "o")
        page.wait(lambda: "is gone" in page.text("#photo"))
        page.browser.get_log("browser")  # says that the picture is missing
        page.press(keys.ESCAPE)
        assert page.focused()


def test_people_are_found_and_ordered(session, tmp_path):
    with opened(session.album, tmp_path) as page:
        page.wait(page.focused)
        page.press("j", keys.ENTER, "Zo\u00eb", keys.ENTER)
        page.shows("Person 1", "Zo\u00eb", "Person 3")
        page.press("/", "zoe")
        page.shows("Zo\u00eb")
        page.press(keys.ENTER)
        assert page.focused() == ["Zo\u00eb", 0]
        page.press("/", keys.ESCAPE)
        page.shows("Person 1", "Zo\u00eb", "Person 3")
        page.run(
            "const o = document.querySelector('#order'); o.value = 'nameless'; o.dispatchEvent(new Event('change'))"
        )
        page.shows("Person 1", "Person 3", "Zo\u00eb")


@contextmanager
def large_album(folder, faces=10_000, people=400):
    rng = np.random.default_rng(0)
    sizes = rng.zipf(1.6, 10 * people) % 900 + 1
    owners = np.repeat(np.arange(len(sizes)), sizes)[:faces]
    centres = rng.normal(size=(owners.max() + 1, DIMENSIONS))
    embeddings = unit_vectors(centres[owners] + 0.3 * rng.normal(size=(faces, DIMENSIONS)))
    Image.fromarray(rng.integers(0, 255, (112, 112, 3), np.uint8)).save(folder / "face.png")
    rows = [
        ServedFace(f"{i}", f"photo{i}.jpg", 0, embeddings[i], 0.0, "", folder / "face.png", folder / "photo.jpg")
        for i in range(faces)
    ]
    start = [FaceState(f"Person {owner + 1}") for owner in owners.tolist()]
    with closing(AlbumStore(folder / "people.sqlite")) as store:
        yield ServedAlbum(rows, start, store, Scores(rows, CALIBRATION, 0.0), lambda states: [s.person for s in states])


SCROLL = """
const done = arguments[1], pixels = arguments[0], times = [];
let last = performance.now(), step = 0;
function frame(now) {
  times.push(now - last); last = now;
  window.scrollBy(0, pixels);
  ++step < 100 ? requestAnimationFrame(frame) : done(times);
}
requestAnimationFrame(frame);
"""


def test_ten_thousand_faces(tmp_path):
    with large_album(tmp_path) as album, opened(album, tmp_path) as page:
        page.wait(lambda: page.run("return document.querySelectorAll('.face').length") == 10_000)
        # Far fewer thumbnails are asked for than there are faces.
        loaded = "return [...document.images].filter(image => image.complete && image.naturalWidth).length"
        page.wait(lambda: page.run(loaded))
        assert page.run(loaded) < 2000
        times = page.browser.execute_async_script(SCROLL, 100)
        print(f"frames: median {np.median(times):.0f} ms, 95 % {np.quantile(times, 0.95):.0f} ms, {max(times):.0f} ms")
        assert np.median(times) < 100
        page.run("window.scrollTo(0, 0)")
        page.press(keys.END)
        page.wait(page.focused)
        name = page.focused()[0]
        start = time.monotonic()
        page.press(keys.ENTER, "Ann", keys.ENTER)
        page.wait(lambda: "Ann" in page.rows())
        print(f"naming among 10,000 faces: {time.monotonic() - start:.2f} s with the keys")
        assert name not in people_of(album) and "Ann" in people_of(album)
        assert threading.active_count() < 60
