"""Runs with Ray: from every kind of source, and interrupted, with the same rows as an undisturbed run."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from facelib.archive import people
from facelib.archive.schema import read_columns
from facelib.archive.table import Archive
from facelib.datasets.sources import load_orl

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty photos of ORL enlarged, two of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    from PIL import Image

    for number, file in enumerate(load_orl().files[:400:10]):
        Image.open(file).convert("RGB").resize((184, 224)).save(folder / f"{number:02d}.png")
    for number in (3, 17):
        (folder / f"{number:02d}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


def command(source, out, *more):
    own = ["--detector", "retinaface", "--device", "cpu", "--batch-size", "2", "--write-every", "1"]
    return [sys.executable, "-m", "facelib.archive", str(source), "--out", str(out), *own, *more]


def rows(place):
    """Faces and photos, without the column `part`."""
    archive = Archive(str(place))
    faces = read_columns(archive.faces, "photo", "face", "box", "vector").to_pylist()
    photos = read_columns(archive.photos, "photo", "count", "error").to_pylist()
    photos = sorted((row["photo"], row["count"], row["error"] != "") for row in photos)
    return sorted(faces, key=lambda row: (row["photo"], row["face"])), photos


def assert_same(place, other):
    (faces, photos), (others, other_photos) = rows(place), rows(other)
    assert photos == other_photos
    assert [(row["photo"], row["face"]) for row in faces] == [(row["photo"], row["face"]) for row in others]
    for row, same in zip(faces, others):
        np.testing.assert_allclose(row["box"], same["box"], atol=0.5)
        assert np.dot(row["vector"], same["vector"]) > 0.999


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("whole") / "archive"
    done = subprocess.run(command(folder, place), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "40 photos (2 with an error)" in done.stdout
    return place


def test_a_second_run_adds_nothing(undisturbed, folder):
    before = rows(undisturbed)
    done = subprocess.run(command(folder, undisturbed), capture_output=True, text=True, timeout=300)
    assert "0 photos (0 with an error) and 0 faces added" in done.stdout
    assert rows(undisturbed)[1] == before[1]
    assert_same(undisturbed, undisturbed)


def test_removed_photos_stay_removed_and_errors_are_retried(undisturbed, folder, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "archive"
    photos.mkdir()
    for name in ("00.png", "01.png", "03.png"):
        shutil.copy(folder / name, photos)
    assert subprocess.run(command(photos, out), timeout=300).returncode == 0
    Archive(str(out)).photos.update(where="error != ''", values={"error": "of another time"})
    people.remove_photos(Archive(str(out)), [str(photos / "01.png")])
    shutil.copy(folder / "02.png", photos / "03.png")
    done = subprocess.run(command(photos, out, "--retry"), capture_output=True, text=True, timeout=300)
    assert "1 photos (0 with an error)" in done.stdout
    assert [(name[-6:], error) for name, _, error in rows(out)[1]] == [("00.png", False), ("03.png", False)]


CRASHING = """
import os, sys
import ray
from facelib.archive import run, worker

class CrashingWorker(worker.Worker):
    def process_batch(self, names, contents):
        if any(name.endswith("07.png") for name in names):
            os.abort()
        return super().process_batch(names, contents)

run.Worker = CrashingWorker
source, out, in_progress_dir = sys.argv[1:]
ray.init("local", include_dashboard=False, log_to_driver=False)
settings = {"detector": "retinaface", "embedder": None, "device": "cpu"}
for part in run.run(run.Job(source, out, settings, in_progress_dir, batch_size=4, write_every=1)):
    print(part)
"""


def test_a_photo_that_crashes_its_process_becomes_an_error(undisturbed, folder, tmp_path):
    arguments = [str(folder), str(tmp_path / "archive"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", CRASHING, *arguments], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    faces, photos = rows(tmp_path / "archive")
    _, others = rows(undisturbed)
    [crashing] = [photo for photo in photos if photo[0].endswith("07.png")]
    assert crashing[1:] == (0, True)
    assert [photo for photo in photos if photo != crashing] == [p for p in others if p[0] != crashing[0]]
    assert len(faces) == sum(count for _, count, _ in photos)


NODE_LEAVES = """
import sys
import ray
from ray.cluster_utils import Cluster
from facelib.archive import run

source, out, in_progress_dir = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
second = cluster.add_node(num_cpus=2)
ray.init(cluster.address, log_to_driver=False)
assert len(ray.nodes()) == 2

settings = {"detector": "retinaface", "embedder": None, "device": "cpu"}
parts = run.run(run.Job(source, out, settings, in_progress_dir, workers=2, batch_size=2, write_every=1))
next(parts)
cluster.remove_node(second, allow_graceful=False)
for part in parts:
    print(part)
"""


def test_a_node_that_leaves_loses_nothing(undisturbed, folder, tmp_path):
    """The run continues without it, or, where Ray cannot recover the lost blocks, the next run completes it."""
    out = tmp_path / "archive"
    subprocess.run([sys.executable, "-c", NODE_LEAVES, folder, out, tmp_path], capture_output=True, timeout=500)
    assert Archive(str(out)).photos.count_rows() > 0
    done = subprocess.run(command(folder, out), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same(out, undisturbed)


def command_line(process):
    """Command line of a process; empty where it has just ended."""
    import psutil

    try:
        return "".join(process.cmdline())
    except psutil.Error:
        return ""


def test_kills_lose_nothing(undisturbed, folder, tmp_path):
    """A worker is killed, then the whole run; a second run completes it."""
    import psutil

    out = tmp_path / "archive"
    running = subprocess.Popen(command(folder, out), stdout=subprocess.PIPE, start_new_session=True)
    workers, deadline = [], time.time() + 120
    while not workers and time.time() < deadline:
        time.sleep(0.2)
        tree = [running, *psutil.Process(running.pid).children(recursive=True)][1:]
        workers = [p for p in tree if "MapWorker" in command_line(p)]
    assert workers
    os.kill(workers[0].pid, signal.SIGKILL)
    while time.time() < deadline and not (out.exists() and Archive(str(out)).photos.count_rows() > 5):
        time.sleep(0.5)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert 0 < Archive(str(out)).photos.count_rows() < 40
    done = subprocess.run(command(folder, out), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same(out, undisturbed)


def test_all_kinds_of_sources_give_the_same_rows(undisturbed, folder, tmp_path):
    photos = sorted(folder.iterdir())
    (tmp_path / "list.txt").write_text("\n".join(map(str, photos)))
    table = pa.table({"name": [str(p) for p in photos], "bytes": [p.read_bytes() for p in photos]})
    pyarrow.parquet.write_table(table, tmp_path / "photos.parquet")
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for photo in photos:
            shard.add(photo, photo.name)
    for source in ("list.txt", "photos.parquet"):
        out = tmp_path / f"{source}-archive"
        assert subprocess.run(command(tmp_path / source, out), timeout=300).returncode == 0
        assert_same(out, undisturbed)
        shutil.rmtree(out)
    out = tmp_path / "tar-archive"
    assert subprocess.run(command(tmp_path / "shard.tar", out), timeout=300).returncode == 0
    assert {name for name, *_ in rows(out)[1]} == {f"{tmp_path}/shard.tar/{photo.name}" for photo in photos}


def test_a_missing_source_is_reported(tmp_path):
    done = subprocess.run(command(tmp_path / "nowhere", tmp_path / "out"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "error: " in done.stderr and "nowhere" in done.stderr
