"""An archive made by Ray: from every source, through kills, with the same rows as an undisturbed run."""

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

from facelib.archive.table import Archive, read
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
    """Everything but in which write it came."""
    archive = Archive(str(place))
    faces = read(archive.faces, "photo", "face", "box", "vector").to_pylist()
    photos = read(archive.photos, "photo", "count", "error").to_pylist()
    photos = sorted((row["photo"], row["count"], row["error"] != "") for row in photos)
    return {(r["photo"], r["face"]): (np.array(r["box"]), np.array(r["vector"], float)) for r in faces}, photos


def assert_same(place, other):
    (faces, photos), (others, other_photos) = rows(place), rows(other)
    assert photos == other_photos
    assert faces.keys() == others.keys()
    for key, (box, vector) in faces.items():
        np.testing.assert_allclose(box, others[key][0], atol=0.5)
        assert vector @ others[key][1] > 0.999


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("whole") / "archive"
    done = subprocess.run(command(folder, place), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "40 photos (2 with an error)" in done.stdout
    return place


def test_a_second_call_adds_nothing(undisturbed, folder):
    before = rows(undisturbed)
    done = subprocess.run(command(folder, undisturbed), capture_output=True, text=True, timeout=300)
    assert "0 photos (0 with an error) and 0 faces added" in done.stdout
    assert rows(undisturbed)[1] == before[1]


def test_kills_lose_nothing(undisturbed, folder, tmp_path):
    """A worker is killed, then the whole run; the second call ends where the undisturbed one did."""
    import psutil

    out = tmp_path / "archive"
    running = subprocess.Popen(command(folder, out), stdout=subprocess.PIPE, start_new_session=True)
    workers, deadline = [], time.time() + 120
    while not workers and time.time() < deadline:
        time.sleep(0.2)
        tree = [running, *psutil.Process(running.pid).children(recursive=True)][1:]
        workers = [p for p in tree if "MapWorker" in "".join(p.cmdline())]
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


def test_other_sources_give_the_same(undisturbed, folder, tmp_path):
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


def test_what_is_no_source_is_said(tmp_path):
    done = subprocess.run(command(tmp_path / "nowhere", tmp_path / "out"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "error: " in done.stderr and "nowhere" in done.stderr
