"""The page of an album: it opens every photo, and can neither run nor fetch anything."""

import html
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from albums import SCORE, faces_of
from browser import chrome

from facelib.cli.album import assign_people, measure_distances
from facelib.cli.album_page import write_page

ODD_NAME = 'a "b" <script>alert(1)<.script> {} #%20?&é.jpg'


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path):
    """Opened from the file: every picture is shown, a click opens the photo, no script runs, nothing is fetched."""
    faces = faces_of([0, 0, 1, 0, -1], tmp_path, photo=ODD_NAME)
    faces[2].person = "<b>Ann</b> & Bob"
    assign_people(faces, SCORE)
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
    faces[0].person = "<script>alert(1)</script>"
    page = write_page(faces, tmp_path).read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert 'href="./x%3A50%25%20%3Cb%3E%231%3F.jpg"' in page
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    assert html.unescape(policy).startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img") == 1


HOSTILE_NAMES = [
    b"javascript:alert(1);x.jpg",
    b"JavaScript&colon;alert(1).jpg",
    b"img-09:10:10.jpg",
    b"photo-2024-01-01T12:30:05.jpg",
    b"\\\\host\\share.jpg",
    b"http:..example.org.jpg",
    b"data:text;html,x.jpg",
    b"new\nline\r\ttab.jpg",
    b"latin1 \xe9\xff.jpg",
    b"plain #1 50% ?.jpg",
    b" leading blank.jpg",
    b'"><script>alert(1)<.script>.jpg',
    b"{{ 7 * 7 }}{% raw %}.jpg",
    "\u202egpj.\u0440\u0435 \u738b.jpg".encode(),
]


def test_links_of_hostile_names_lead_to_the_photo_beside_the_page(tmp_path):
    faces = faces_of([0] * len(HOSTILE_NAMES))
    for face, name in zip(faces, HOSTILE_NAMES):
        face.annotated = os.fsdecode(name)
        face.photo = str(tmp_path / face.annotated)
        face.aligned = "face0.png"
        (tmp_path / face.annotated).write_bytes(b"photo")
    faces_of([0], tmp_path)[0].aligned = "0.png"
    (tmp_path / "0.png").rename(tmp_path / "face0.png")
    assign_people(faces, SCORE)
    page = write_page(faces, tmp_path)
    text = page.read_text(encoding="utf-8")  # valid, whatever the names
    assert "<script" not in text
    links = [html.unescape(link) for link in re.findall(r'<a href="([^"#][^"]*)" title', text)]
    assert len(links) == len(HOSTILE_NAMES)
    reached = set()
    for link in links:
        assert re.fullmatch(r"\./[A-Za-z0-9_.~%-]+", link)
        address = urlsplit(urljoin(page.as_uri(), link))
        assert (address.scheme, address.netloc, address.query, address.fragment) == ("file", "", "", "")
        reached.add(unquote_to_bytes(address.path))
    assert reached == {os.fsencode(tmp_path) + b"/" + name for name in HOSTILE_NAMES}
    assert all(Path(os.fsdecode(path)).is_file() for path in reached)
    sources = re.findall(r'(?:src|href|action|srcset|style)="([^"]*)"', text)
    assert all(source.startswith(("data:image/", "./", "#p")) for source in sources)
    assert not re.search(r"\son\w+=", re.sub(r'"[^"]*"', "", text))  # no handler outside of a quoted value
