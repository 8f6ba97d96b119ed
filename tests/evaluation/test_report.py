"""The page with all figures, of the shipped networks and of one's own."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from facelib.evaluation import report_html
from facelib.evaluation.__main__ import main
from facelib.evaluation.readme.__main__ import TABLES
from facelib.evaluation.report_html import to_html
from facelib.io.records import RESULTS, read_record
from facelib.runtime.manifest import read_manifest, write_manifest
from facelib.settings import MODELS


def written(monkeypatch, out, *options):
    monkeypatch.setattr("sys.argv", ["evaluation", "report", "--out", str(out), *map(str, options)])
    return main()


class Page(HTMLParser):
    """Text of a page, and the values of attributes that could load something."""

    def __init__(self, page):
        super().__init__()
        self.text, self.loaded, self.headings = "", [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for name, value in attributes if name in ("src", "href", "action", "data", "srcset")]

    def handle_data(self, data):
        self.text += data


def test_all_figures_of_the_shipped_networks(tmp_path, monkeypatch):
    assert written(monkeypatch, tmp_path / "report.html") == 0
    page = Page((tmp_path / "report.html").read_text())
    assert not [value for value in page.loaded if not value.startswith(("#", "data:image/png;base64,"))]
    assert sum(value.startswith("data:") for value in page.loaded) == 3  # by cosine, by score, by group
    for entry in read_manifest().values():
        assert entry.get("sha256", "") in page.text
    assert read_record("default.json")["measured"]["command"] in page.text
    assert "onnxruntime" in page.text and "http" not in page.text
    shown = re.sub(r"\s", "", page.text)
    for name in TABLES.keys() - {"badge", "clone", "in_short"}:
        rows = [line for line in TABLES[name]().splitlines() if line.startswith("| ")]
        assert not rows or re.sub(r"\s", "", Page(to_html(rows[-1])).text) in shown, name


@pytest.fixture
def own(tmp_path):
    """A network of one's own, with figures on LFW alone."""
    (tmp_path / "own").mkdir()
    write_manifest({"my_model.pt": read_manifest()["model_cross_entropy.pt"]}, tmp_path / "own")
    record = {"lfw": read_record("default.json")["lfw"] | {"accuracy": 0.8765}}
    measured = read_record("default.json")["measured"] | {"earlier": {"lfw": "2030-01-01, <command>"}}
    (tmp_path / "own/my_model.json").write_text(json.dumps({"measured": measured, **record}))
    return tmp_path / "own"


def test_a_network_of_ones_own(own, tmp_path, monkeypatch, capsys):
    out = tmp_path / "report.html"
    assert written(monkeypatch, out, "--models", own) == 0
    text = Page(out.read_text()).text
    assert "LFW View 2: 87.65 %" in text and "Figures of the networks in own" in text
    assert "lfw: 2030-01-01, <command>" in text  # escaped, and read as it was
    assert "Other systems" not in text and str(tmp_path) not in text
    for name in ("fairness.csv", "fairness.json", "identification.json"):
        shutil.copy(RESULTS / name, own / name)
    shutil.copy(RESULTS / "dlib.json", own / "my_model.json")  # without figures by alignment
    assert written(monkeypatch, out, "--models", own) == 0
    page = Page(out.read_text())
    assert "target FMR" in page.text and "Error rates by group" in page.text and "BCubed" in page.text
    assert sum(value.startswith("data:") for value in page.loaded) == 3
    (own / "my_model.json").unlink()
    for name in ("fairness.json", "identification.json"):
        (own / name).unlink()
    assert written(monkeypatch, out, "--models", own) == 1
    assert "no records of the weights in" in capsys.readouterr().err
    assert MODELS.is_dir() and out.is_file()


def test_markdown_by_hand():
    assert to_html("a **b** `c` [d](e.md) <i>") == "<p>a <strong>b</strong> <code>c</code> d &lt;i&gt;</p>"
    table = to_html("|  | x |\n|---|---|\n| 1 | **2** |")
    assert table.startswith("<div><table><thead><tr><th></th><th>x</th></tr></thead>")
    assert "<tr><td>1</td><td><strong>2</strong></td></tr>" in table
    assert report_html.group_picture([]) == "" and report_html.curves({}) == ""
