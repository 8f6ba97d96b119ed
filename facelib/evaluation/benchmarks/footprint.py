"""What the light package costs: `python -m facelib.evaluation.benchmarks.footprint`.

The checkout is installed without extras into a fresh virtual environment, and its commands run there with a home folder
of their own: installed size by package, import time, CPU seconds and peak memory of `compare` and `detect --sample`,
and the files that they leave. Written to models/results/footprint.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facelib.io.images import read_image
from facelib.io.records import RESULTS, write_record
from facelib.io.sample import sample_photo
from facelib.settings import MODELS, one_line_errors

RUNS = 5  # of each command; the median counts
LARGEST = 12  # packages that are listed
FACES = 6  # of the sample photo
SPEED = """
import json, sys, time
import numpy as np
from facelib import FacePipeline, load_detector, read_image, sample_photo
import cv2
image = read_image(sample_photo())
image = cv2.resize(image, None, fx=640 / image.shape[1], fy=640 / image.shape[1], interpolation=cv2.INTER_AREA)
pipeline = FacePipeline.from_pretrained()
def milliseconds(work):
    for _ in range(3):
        work()
    times = []
    for _ in range(30):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))
print(json.dumps({
    "detector": pipeline.detector.name,
    "detector_ms": milliseconds(lambda: pipeline.detector.detect(image)),
    "pipeline_ms": milliseconds(lambda: pipeline(image)),
    "faces": len(pipeline(image)),
}))
"""


def run(command: list[str], home: Path) -> dict[str, float]:
    """Median CPU seconds, wall-clock seconds and peak memory (MB) of a command, in a home folder of its own."""
    rows = []
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(RUNS):
        shutil.rmtree(home.parent / "results", ignore_errors=True)  # else the next run resumes
        start = time.perf_counter()
        with subprocess.Popen(
            command, env=environment, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1, 3):
            raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
        seconds = time.perf_counter() - start
        rows.append((usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss / 1024))
    cpu, wall, memory = np.median(rows, axis=0)
    return {"cpu_s": float(cpu), "wall_s": float(wall), "peak_memory_mb": float(memory)}


def folder_mb(folder: Path) -> float:
    """Size of all files below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def installed(environment: Path) -> dict[str, Any]:
    """Size of an environment, without pip and setuptools, and its largest folders."""
    (packages,) = environment.glob("lib/python*/site-packages")
    sizes = {path.name: folder_mb(path) for path in packages.iterdir() if path.is_dir()}
    sizes = {name: size for name, size in sizes.items() if not name.startswith(("pip", "setuptools"))}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST]
    return {"installed_mb": sum(sizes.values()), "largest_mb": dict(largest)}


def measure(python: Path, folder: Path) -> dict[str, Any]:
    """All figures of an environment; `folder`: for photos, results and the home folder."""
    home = folder / "home"
    home.mkdir()
    image = read_image(sample_photo())
    for name, part in (("a.png", image[:, :640]), ("b.png", image[:, 640:])):
        Image.fromarray(part).save(folder / name)
    facelib = str(python.with_name("facelib"))
    compare = [facelib, "compare", str(folder / "a.png"), str(folder / "b.png")]
    detect = [facelib, "detect", "--sample", "--out", str(folder / "results")]
    figures = {
        "python": run([str(python), "-c", "pass"], home),
        "import facelib": run([str(python), "-c", "import facelib"], home),
        "compare": run(compare, home),
        "detect --sample": run([*detect, "--quiet"], home),
    }
    speed = subprocess.run([str(python), "-c", SPEED], capture_output=True, text=True, check=True, cwd=folder)
    left = [str(path.relative_to(home)) for path in sorted(home.rglob("*")) if path.is_file()]
    return {"commands": figures, "speed": json.loads(speed.stdout.splitlines()[-1]), "files_left_in_home": left}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.footprint", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "footprint.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(MODELS.parent)], check=True)
        figures = installed(folder / "venv") | measure(python, folder)
    write_record(options.out, figures, command="python -m facelib.evaluation.benchmarks.footprint", weights={}, data={})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
