"""What README and model cards say is what was measured, with the weights that are there."""

import json
import re
import shutil

import pytest

import facelib.evaluation.readme.__main__ as documents
from facelib.evaluation.readme.__main__ import PAGES, ROOT, TABLES, filled
from facelib.io import records
from facelib.io.records import RESULTS
from facelib.runtime.manifest import embedder_networks, named_embedders, read_manifest, short_hashes, threshold_of

CARD = ("Intended use", "How to load it", "Training data", "Recipe", "Results", "Limits", "Terms", "Citation")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_pages_say_what_was_measured(page):
    assert filled(page.read_text()) == page.read_text(), "python -m facelib.evaluation.readme writes the pages anew"
    assert re.findall(r"<!-- (\w+) -->\n\|", page.read_text()), "no table at all"


def test_a_changed_figure_is_noticed(tmp_path, monkeypatch):
    """Another figure in a record changes the page; what is outside the marks stays."""
    shutil.copytree(RESULTS, tmp_path / "results")
    record = json.loads((RESULTS / "default.json").read_text())
    record["lfw"]["accuracy"] = 0.1234
    (tmp_path / "results/default.json").write_text(json.dumps(record))
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    text = PAGES[1].read_text()
    changed = filled(text)
    assert "LFW View 2: 12.34 %" in changed
    assert "LFW View 2: 12.34 %" not in text
    assert changed.split("<!--")[0] == text.split("<!--")[0]
    with pytest.raises(ValueError, match="<!-- nothing -->: no such part; there are systems"):
        filled("<!-- nothing -->\n<!-- end -->")


def test_the_command_writes_and_checks(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- threshold -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(documents, "PAGES", (page,))
    for arguments, code in ((["--check"], 1), ([], 0), (["--check"], 0)):
        monkeypatch.setattr("sys.argv", ["documents", *arguments])
        assert documents.main() == code
    assert f"**{threshold_of():.3f}**" in page.read_text()
    assert page.read_text().startswith("before\n") and page.read_text().endswith("after\n")


def test_every_part_is_on_a_page():
    there = {name for page in PAGES for name in re.findall(r"<!-- (\w+) -->", page.read_text())}
    assert set(TABLES) == there - {"end", "command"}


def test_the_threshold_under_the_picture():
    assert f"the threshold of the manifest ({threshold_of():.3f})" in PAGES[0].read_text()


def test_records_are_of_the_weights_that_are_shipped():
    manifest = read_manifest()
    named = {name: [path.name for path in embedder_networks(name=name)] for name in named_embedders()}
    alone = {files[0] for files in named.values() if len(files) == 1}  # measured under the embedder's name
    for name in set(manifest) - alone:
        stem = name.removesuffix(".pt")
        measured = json.loads((RESULTS / f"{stem}.json").read_text())["measured"]
        assert {"date", "command", "weights", "data"} == set(measured)
        assert set(named.get(name, [name])) <= set(measured["weights"])
        assert list(measured["weights"].values()) == short_hashes(manifest, list(measured["weights"]))


@pytest.mark.parametrize("name", [name for name in read_manifest() if name.endswith(".pt")])
def test_cards_have_one_shape(name):
    card = PAGES[1].read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    labels = " ".join(re.findall(r"\*\*([\w ,]+)\*\*", card)).lower()
    places = [labels.find(part.lower()) for part in CARD]
    assert -1 not in places, CARD[places.index(-1)]
    assert places == sorted(places)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "data/README.md"], ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert targets or page.parent.name == "data"
    for target in targets:
        assert "://" in target or (page.parent / target).exists(), target
    modules = re.findall(r"python -m (facelib(?:\.\w+)*)", page.read_text())
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
