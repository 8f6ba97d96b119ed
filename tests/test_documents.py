"""What README and model cards say is what the manifest measured."""

import csv
import re
from pathlib import Path

import pytest

from facelib.checkpoints import read_manifest
from facelib.embedding import SIDE_BY_SIDE
from facelib.evaluate_detectors import VERSIONS

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": (ROOT / "README.md").read_text(), "models/README.md": (ROOT / "models/README.md").read_text()}


@pytest.mark.parametrize("page", PAGES)
def test_landmark_figures(page):
    for name, figures in read_manifest()["hourglass_keypoints.pt"]["figures"].items():
        if name != "command":
            row = f"{figures['faces']:,} | **{100 * figures['nme']:.2f} %** | {100 * figures['above_10']:.1f} %"
            assert row in PAGES[page], f"{name}: the page does not say {row}"


@pytest.mark.parametrize("page", PAGES)
def test_embedder_figures(page):
    figures = read_manifest()["embedder"]["figures"]
    for row in figures["open_test"]["identification_rate"]:
        low, high = row["interval_95"]
        assert f"| FPR {row['fpr']:g} | **{row['tpr']:.3f}** | {low:.3f} to {high:.3f} |" in PAGES[page]
    assert f"LFW View 2: {100 * figures['lfw']['accuracy']:.2f} %" in PAGES[page]


@pytest.mark.parametrize("name", [*SIDE_BY_SIDE, "model_cross_entropy.pt"])
def test_figures_of_each_network(name):
    figures = read_manifest()[name]["figures"]
    lfw, top1 = 100 * figures["lfw"]["accuracy"], figures["closed_set_test_top1"]
    rank_1 = figures["open_test"]["rank_1"]
    card = PAGES["models/README.md"].split(f"## {name}")[1].split("\n## ")[0]
    assert f"rank-1 {rank_1:.3f}. LFW View 2: {lfw:.2f} %" in card
    assert f"top-1 {top1:.3f}" in card


def test_threshold():
    threshold = read_manifest()["embedder"]["threshold"]["cosine_distance"]
    assert f"Cosine distance **{threshold:.3f}**" in PAGES["models/README.md"]
    assert f"below the threshold of the manifest ({threshold:.2f})" in PAGES["README.md"]


def test_detector_figures():
    with open(ROOT / "models/results/detection.csv", newline="") as file:
        rows = {(r["detector"], r["rule"], r["version"]): f"{r['found']} / {r['false']}" for r in csv.DictReader(file)}
    shipped, table = "as shipped: doubtful ones seen closer", PAGES["models/README.md"].split("<!-- detection -->")[1]
    lines = {line.split(" | ")[0].strip("| "): line for line in table.split("<!-- end -->")[0].splitlines()}
    for version in VERSIONS:
        expected = [rows["retinaface", f"score from {score}", version] for score in (0.8, 0.5)]
        expected.append(f"**{rows['retinaface', shipped, version]}**")
        expected += [rows["insightface", "score from 0.5", version], f"**{rows['insightface', shipped, version]}**"]
        assert lines[version] == f"| {version} | {' | '.join(expected)} |"


@pytest.mark.parametrize("page", [*PAGES, "data/README.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert all(((ROOT / page).parent / target).exists() for target in targets if "://" not in target)
