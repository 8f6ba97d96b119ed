"""Tables of README and model cards agree with models/results, and those with the shipped weights."""

import importlib.util
import json
import re
import shutil
import tomllib

import pytest

import facelib.evaluation.readme.__main__ as readme
from facelib.evaluation.readme import fairness_tables, project_url
from facelib.evaluation.readme.__main__ import PAGES, ROOT, TABLES, update_tables
from facelib.evaluation.run import Evaluation
from facelib.io import records
from facelib.io.records import RESULTS
from facelib.runtime.manifest import embedder_networks, named_embedders, read_manifest, short_hashes
from facelib.settings import MODELS, PROJECT_URL

THRESHOLD = read_manifest()["default"]["threshold"]
THRESHOLD = THRESHOLD["score"] if "score" in THRESHOLD else 1 - THRESHOLD["cosine_distance"]
CARD = ("Intended use", "How to load it", "Training data", "Recipe", "Results", "Limits", "Terms", "Citation")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_pages_are_up_to_date(page):
    assert update_tables(page.read_text()) == page.read_text(), "run python -m facelib.evaluation.readme"
    assert re.findall(r"<!-- (\w+) -->\n\|", page.read_text()), "no table"


def test_a_changed_figure_changes_the_page(tmp_path, monkeypatch):
    """Only the text between the marks changes."""
    shutil.copytree(RESULTS, tmp_path / "results")
    record = json.loads((RESULTS / "default.json").read_text())
    record["lfw"]["accuracy"] = 0.1234
    (tmp_path / "results/default.json").write_text(json.dumps(record))
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    text = PAGES[1].read_text()
    changed = update_tables(text)
    assert "LFW View 2: 12.34 %" in changed
    assert "LFW View 2: 12.34 %" not in text
    assert changed.split("<!--")[0] == text.split("<!--")[0]
    with pytest.raises(ValueError, match="<!-- nothing -->: unknown table; expected one of systems"):
        update_tables("<!-- nothing -->\n<!-- end -->")


def test_the_command_writes_and_checks(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- threshold -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(readme, "PAGES", (page,))
    for arguments, code in ((["--check"], 1), ([], 0), (["--check"], 0)):
        monkeypatch.setattr("sys.argv", ["readme", *arguments])
        assert readme.main() == code
    assert f"Score **{THRESHOLD:.3f}**" in page.read_text()
    assert page.read_text().startswith("before\n") and page.read_text().endswith("after\n")


def test_every_table_is_on_a_page():
    marks = {name for page in PAGES for name in re.findall(r"<!-- (\w+) -->", page.read_text())}
    assert set(TABLES) == marks - {"end", "command"}


def test_the_threshold_in_the_caption():
    shown = read_manifest()["default"]["threshold"]
    assert f"false match rate 0.001 ({shown.get('score', shown.get('cosine_distance')):.3f})" in PAGES[0].read_text()


def test_tables_of_groups(tmp_path, monkeypatch):
    """Their content, and the worst group on the front page; before a measurement a sentence."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "none")
    assert fairness_tables.fairness() == fairness_tables.world() == fairness_tables.NOT_MEASURED
    assert fairness_tables.worst_group("default") == "-"
    shutil.copytree(RESULTS, tmp_path / "results")
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    names = ("fmr_0.001", "fmr_0.001_low", "fmr_0.001_high", "fmr_0.01", "fmr_0.001_all", "score_white", "cosine_white")
    rows = [
        {"embedder": name, "collection": "utkface", "group": group, "people": 500, "pairs": 124750}
        | {key: rate * (number + 1) for number, key in enumerate(names)}
        for name in ("default", "dlib")
        for group, rate in (("white men", 0.0005), ("black women", 0.002))
    ]
    records.write_table(tmp_path / "results/fairness.csv", rows)
    found = {"people": 6, "photos": 100, "tpr": 0.75, "fmr": 0.0012, "score": [{"fpr": 0.1, "tpr": 0.9}], "cosine": []}
    figures = {"embedders": {"default": {"faces_world": {"South Asian": found}}}, "duplicates": {"utkface": {"a": 3}}}
    records.write_record(tmp_path / "results/fairness.json", figures)
    table = fairness_tables.fairness()
    assert "| UTKFace, Black women | 500 | **2** | 4 to 6 | 10 | 8 | **2** | 4 to 6 | 10 | 8 |" in table
    assert "| UTKFace, Black women | 14 | 12 | 14 | 12 |" in table
    assert "twice: 3 pairs of UTKFace have" in table
    assert (
        "| `default` | South Asian | 6 | 100 | 75.0 % | 0.12 % | - | - | - | 0.900 | - | - |" in fairness_tables.world()
    )
    front = TABLES["systems"]().splitlines()
    assert front[0].split("|")[7].strip() == "worst group's FMR"
    assert [line.split("|")[7].strip() for line in front[2:6]] == ["0.002", "-", "-", "0.002"]
    assert {len(line.split("|")) for line in front[:9]} == {10}


def test_figures_of_scores_stand_beside_those_of_cosines(tmp_path, monkeypatch):
    shutil.copytree(RESULTS, tmp_path / "results")
    record = json.loads((RESULTS / "default.json").read_text())
    record["open_test_scores"] = [row | {"tpr": 0.4321} for row in record["open_test"]["identification_rate"]]
    record |= {"lfw_scores": {"accuracy": 0.9}, "families_scores": {"0.01": 0.8}}
    (tmp_path / "results/default.json").write_text(json.dumps(record))
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    assert "open_test 0.4321, 0.4321, 0.4321 at FPR 0.1, 0.01, 0.001; LFW View 2 90.00 %; families 0.8000" in (
        TABLES["open_test"]()
    )


def test_records_are_of_the_shipped_weights():
    manifest = read_manifest()
    named = {name: [path.name for path in embedder_networks(name=name)] for name in named_embedders()}
    alone = {files[0] for files in named.values() if len(files) == 1}  # measured under the embedder's name
    for name in (name for name in set(manifest) - alone if not name.endswith(".onnx")):
        stem = name.removesuffix(".pt")
        measured = json.loads((RESULTS / f"{stem}.json").read_text())["measured"]
        assert {"date", "command", "weights", "data"} == set(measured) - {"recorded_command", "environment"}
        assert set(named.get(name, [name])) <= set(measured["weights"])
        assert list(measured["weights"].values()) == short_hashes(manifest, list(measured["weights"]))


def test_recorded_commands_exist():
    """But for trainings by a trainer that is gone, whose rows say so."""
    for path in RESULTS.glob("*.json"):
        command = records.read_record(path).get("measured", {}).get("command", "")
        if not command or "facelib.train_embedder" in command:
            continue
        module, *arguments = command.split()[2:]
        assert importlib.util.find_spec(module), (path.name, command)
        names = [word for word in arguments if not word.startswith("--") and word not in ("cpu", "cuda")]
        if module == "facelib.evaluation" and "--models" not in arguments:  # those are of a folder of one's own
            assert set(names) <= {*Evaluation(MODELS).names}, (path.name, command)
        if module == "facelib.training":
            assert (ROOT / names[0]).is_file(), (path.name, command)


@pytest.mark.parametrize("name", [name for name in read_manifest() if name.endswith(".pt")])
def test_cards_have_the_same_labels(name):
    card = PAGES[1].read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    labels = " ".join(re.findall(r"\*\*([\w ,]+)\*\*", card)).lower()
    places = [labels.find(part.lower()) for part in CARD]
    assert -1 not in places, CARD[places.index(-1)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "data/README.md", ROOT / "facelib/cli/README.md", ROOT / "CONTRIBUTING.md"],
    ids=lambda page: page.parent.name,
)
def test_links_and_commands_exist(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert targets or page.parent.name == "data"
    for target in targets:
        assert "://" in target or (page.parent / target).exists(), target
    modules = re.findall(r"python -m (facelib(?:\.\w+)*)", page.read_text())
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_the_address_of_the_repository_is_one_setting():
    """It is written to pages, package and notebooks, taken away again, and left out everywhere while it is empty."""
    url = "https://example.org/somebody/facelib"
    package = (ROOT / "pyproject.toml").read_text()
    assert project_url.pyproject(package, "") == package
    named = project_url.pyproject(package, url)
    assert tomllib.loads(named)["project"]["urls"]["Homepage"] == url
    assert tomllib.loads(named)["project"]["scripts"] == tomllib.loads(package)["project"]["scripts"]
    assert project_url.pyproject(named, "") == package
    assert url in project_url.badge(url) and url in project_url.clone(url)
    assert not PROJECT_URL or PROJECT_URL in package
    assert project_url.badge("") == "" and "ADDRESS" in project_url.clone("")


@pytest.mark.parametrize("page", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda page: page.stem)
def test_the_address_in_a_notebook(page):
    """Its links and a badge work where it is opened alone; without an address it is as it was."""
    notebook, url = page.read_text(), "https://github.com/somebody/facelib"
    assert project_url.notebook(notebook, page.name, "") == notebook
    named = project_url.notebook(notebook, page.name, url)
    assert f'REPOSITORY = \\"{url}\\"' in named and "](../" not in named and "](Face_" not in named
    assert f"{url}/blob/main/models/README.md" in named
    assert f"github/somebody/facelib/blob/main/notebooks/{page.name})" in named
    assert project_url.notebook(named, page.name, url) == named
    assert project_url.notebook(named, page.name, "") == notebook
    elsewhere = project_url.notebook(named, page.name, "https://example.org/facelib")
    assert "github/somebody" not in elsewhere and "colab-badge" not in elsewhere


def test_the_front_page_is_short():
    assert len(PAGES[0].read_text().split()) <= 1200
