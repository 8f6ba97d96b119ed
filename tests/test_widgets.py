"""The widgets of notebook 3 in JupyterLab, in a real browser: a photo of one's own, and the threshold moved."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from browser import chrome
from PIL import Image

from facelib import sample_photo
from facelib.settings import MODELS

NEEDED = (
    "setup",
    "settings",
    "imports",
    "imports-own",
    "helpers",
    "photo",
    "detector",
    "landmarks",
    "embedder",
    "pipeline",
)
NEEDED += ("play", "play-widgets")


@pytest.fixture
def lab(tmp_path):
    """JupyterLab with a notebook of the cells that the widgets need; its address."""
    source = json.loads((MODELS.parent / "notebooks" / "Face_Recognition_Pipeline.ipynb").read_text())
    source["cells"] = [cell for cell in source["cells"] if cell["id"] in NEEDED]
    assert [cell["id"] for cell in source["cells"]] == list(NEEDED)
    for cell in source["cells"]:
        cell["outputs"], cell["execution_count"] = [], None
    (tmp_path / "play.ipynb").write_text(json.dumps(source))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--ServerApp.port={port}", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    home = {"HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    with open(tmp_path / "log.txt", "w") as log:
        server = subprocess.Popen(command, env=os.environ | home, stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api").close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/play.ipynb?reset"
    finally:
        server.terminate()
        server.wait(20)


def waited_for(look, seconds=120):
    """What `look` gives, once it gives something."""
    end = time.time() + seconds
    while time.time() < end:
        if found := look():
            return found
        time.sleep(0.5)
    raise AssertionError("waited in vain")


# The button's file box is in no page; opened by a click, it waits in this one instead of in a window of the system.
CATCH_FILE_BOX = "HTMLInputElement.prototype.click = function() { document.body.append(this); }"


@pytest.mark.browser
def test_a_photo_of_ones_own_and_the_threshold(lab, tmp_path):
    with chrome(tmp_path) as browser:

        def all_of(selector):
            return browser.find_elements("css selector", selector)

        def of_each(selector, property):
            """In one step, for the page redraws its outputs at any time."""
            return browser.execute_script(f"return [...document.querySelectorAll('{selector}')].map(e => e.{property})")

        def pictures():
            return set(of_each(".jp-OutputArea img", "src"))

        browser.get(lab)
        waited_for(lambda: len(all_of(".jp-Notebook .jp-Cell")) == len(NEEDED))
        time.sleep(3)  # the kernel starts
        all_of(".jp-Notebook .jp-Cell")[0].click()  # commands are for the notebook that was clicked at last
        browser.execute_script("jupyterapp.commands.execute('notebook:run-all-cells')")
        [button] = waited_for(lambda: all_of(".widget-upload"))
        browser.execute_script(f"arguments[0].scrollIntoView(); {CATCH_FILE_BOX}", button)
        before = pictures()
        button.click()
        Image.open(sample_photo()).crop((0, 0, 640, 886)).save(tmp_path / "own.png")
        all_of("body > input[type=file]")[0].send_keys(str(tmp_path / "own.png"))
        own = waited_for(lambda: pictures() - before)
        all_of(".widget-slider .noUi-handle")[0].send_keys(20 * "\ue014")  # the right arrow
        waited_for(lambda: pictures() - before - own)
        texts = of_each(".jp-OutputArea-output", "innerText")
        assert not [text for text in texts if "Error" in text or "Traceback" in text]
        assert [text for text in texts if "\nscore " in text and " or more: " in text and "impostor pairs" in text]
