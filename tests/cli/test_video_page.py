"""The page of a video: a click shows that moment, and nothing but the clips beside it can be fetched."""

import base64
import hashlib
import html
import os
import re
import time
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import numpy as np
import pytest
from browser import chrome

from facelib.cli.video_page import ShownAppearance, ShownClip, ShownPerson, write_video_page

FACE = np.full((112, 112, 3), 120, np.uint8)


def person(name, *seen, note=""):
    """A person who is seen at (clip, first, last)."""
    return ShownPerson(name, FACE, [ShownAppearance(*one, best_time=(one[1] + one[2]) / 2) for one in seen], note)


def page_of(people, clips, folder, **options):
    return write_video_page(people, clips, folder, **options).read_text(encoding="utf-8")


@pytest.fixture
def clip(tmp_path):
    """Four seconds, under a name that has to be quoted."""
    pytest.importorskip("av")
    from facelib.video.writer import ClipWriter

    (tmp_path / "clips").mkdir()
    with ClipWriter(tmp_path / "clips/a #1 50%.mp4", (64, 48), 10) as writer:
        for number in range(40):
            writer.write(np.full((48, 64, 3), 5 * number, np.uint8), number / 10)
    return writer.path


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path, clip):
    """Opened from the file: clicks and keys move the player, clips that cannot be played are told, no script of a name
    runs, nothing is fetched but the clips."""
    (tmp_path / "out").mkdir()
    (tmp_path / "clips/broken.mkv").write_bytes(b"no clip")
    clips = [
        ShownClip("a #1 50%.mp4", clip, 4.0),
        ShownClip("broken.mkv", tmp_path / "clips/broken.mkv", None),
        ShownClip("lost.mp4", None, 8.0),
    ]
    people = [
        person("<b>Ann</b>", (0, 1.25, 3.0), (1, 0.0, 5.0)),
        person("Person 2", (0, 0.5, 1.0), (0, 2.0, 2.5), (2, 4.0, 6.0), note="unsure: score 0.1"),
    ]
    page = write_video_page(people, clips, tmp_path / "out", remarks=["broken.mkv: <i>ends early</i>"])
    with chrome(tmp_path) as browser:
        browser.get(page.as_uri())

        def find(selector):
            return browser.find_elements("css selector", selector)

        def state():
            return browser.execute_script("const v = document.querySelector('video'); return [v.currentTime, v.src]")

        def wait_for(script):
            until = time.monotonic() + 10
            while not (found := browser.execute_script(f"return {script}")) and time.monotonic() < until:
                time.sleep(0.02)
            return found

        assert [title.text.splitlines()[0] for title in find("h2")] == [
            "<b>Ann</b> 6.8 s in 2 appearances",
            "Person 2 3.0 s in 3 appearances",
        ]
        assert [note.text for note in find(".note")] == ["broken.mkv: <i>ends early</i>", "unsure: score 0.1"]
        assert wait_for("document.querySelector('video').readyState > 0")
        buttons = find(".times button")
        buttons[0].click()
        assert state() == [1.25, clip.as_uri()]
        assert wait_for("document.querySelector('video').readyState > 1 && !document.querySelector('video').seeking")
        find("section")[1].find_element(
            "css selector", ".face"
        ).click()  # the longest time, in a clip that is not known
        assert "lost.mp4 (0:08.0): the page does not know the file" in find("output")[0].text
        buttons[3].send_keys("\ue007")  # Enter
        assert state() == [2.0, clip.as_uri()]
        assert find("output")[0].text == ""
        click_in_the_middle(browser, find(".bar")[0])
        assert state()[0] == pytest.approx(2.0, abs=0.02)
        buttons[1].click()
        assert wait_for("document.querySelector('output').textContent.includes('cannot play')")
        assert find("output")[0].text.startswith("broken.mkv (length unknown)")
        errors = [entry["message"] for entry in browser.get_log("browser")]
        assert not [error for error in errors if "Security" in error or "Uncaught" in error]
        fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert all(name.startswith(("data:", "file:")) for name in fetched)
        browser.set_window_size(400, 900)
        wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]


def click_in_the_middle(browser, element):
    from selenium.webdriver import ActionChains

    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(browser).move_to_element(element).click().perform()


@pytest.mark.browser
def test_a_page_of_many_people_answers_at_once(tmp_path, clip):
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 10_000, (500, 40)))
    people = [person(f"Person {i}", *((0, start, start + 20) for start in row)) for i, row in enumerate(starts)]
    page = write_video_page(people, [ShownClip("a.mp4", clip, 10_800.0)], tmp_path)
    assert page.stat().st_size < 12e6
    with chrome(tmp_path) as browser:
        begin = time.monotonic()
        browser.get(page.as_uri())
        browser.find_elements("css selector", ".times button")[-40].click()
        assert time.monotonic() - begin < 10
        assert browser.execute_script("return document.querySelector('video').currentTime") > 0


def test_the_policy_allows_the_script_alone(tmp_path):
    page = page_of([person("Ann", (0, 0.0, 1.0))], [ShownClip("a.mp4", tmp_path / "a.mp4", 2.0)], tmp_path)
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert html.unescape(policy).startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{hashed}'" in html.unescape(policy)
    assert "http:" not in page and "https:" not in page


HOSTILE = [
    "javascript:alert(1);x.mp4",
    "http:..example.org.mp4",
    '"><script>alert(1)<.script>.mp4',
    "{{ 7 * 7 }}{% raw %}.mp4",
    "new\nline ' #?.mp4",
    os.fsdecode(b"latin1 \xe9\xff.mp4"),
]


def test_hostile_names_are_text_and_their_links_lead_to_the_clips(tmp_path):
    (tmp_path / "out").mkdir()
    clips = [ShownClip(name, tmp_path / name, 2.0) for name in HOSTILE]
    people = [person(name, (number, 0.0, 1.0), note=name) for number, name in enumerate(HOSTILE)]
    page = write_video_page(people, clips, tmp_path / "out", remarks=HOSTILE)
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 1
    assert not re.search(r"\son\w+=", re.sub(r'"[^"]*"', "", text.split("<script>")[0]))
    reached = []
    for link in re.findall(r'data-source="([^"]*)"', text):
        assert re.fullmatch(r"\./[A-Za-z0-9_.~%/-]+", link)
        reached.append(unquote_to_bytes(urlsplit(urljoin(page.as_uri(), link)).path))
    assert reached == [os.fsencode(tmp_path / name) for name in HOSTILE]


def test_people_are_sorted_by_total_time_and_folded_where_many(tmp_path):
    often = [(0, 10.0 * number, 10.0 * number + 2) for number in range(20)]
    people = [person("short", (0, 0.0, 0.0)), person("long", *often), person("middle", (0, 5.0, 6.0), (1, 0.0, 9.0))]
    clips = [ShownClip("a.mp4", None, 3_700.0), ShownClip("b.mp4", None, None)]
    page = page_of(people, clips, tmp_path)
    assert re.findall(r"<h2>(\w+) <small>(.*?)</small>", page) == [
        ("long", "40 s in 20 appearances"),
        ("middle", "10 s in 2 appearances"),
        ("short", "0.0 s in 1 appearance"),
    ]
    assert page.count("<details><summary>8 more</summary>") == page.count("</details>") == 1
    assert "a.mp4 (1:01:40)" in page and "b.mp4 (length unknown)" in page
    assert ">3:10 to 3:12</button>" in page


@pytest.mark.parametrize("duration", [None, 0.0, 3.0])
def test_bars_stay_inside_where_the_duration_is_unknown_or_too_short(tmp_path, duration):
    people = [person("Ann", (0, 2.0, 4.0)), person("Bob", (0, 0.0, 8.0))]
    page = page_of(people, [ShownClip("a.mp4", None, duration)], tmp_path)
    assert re.findall(r'<i style="left:(.*?)%;width:(.*?)%">', page) == [("0.0", "100.0"), ("25.0", "25.0")]


def test_nobody_is_said(tmp_path):
    assert "Nobody in 1 clip." in page_of([], [ShownClip("a.mp4", None, None)], tmp_path)
    assert "Nobody in 0 clips." in page_of([], [], tmp_path)
