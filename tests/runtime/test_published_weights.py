"""Weights of a version, fetched by their hash from a local server."""

import http.server
import shutil
import threading
from functools import partial

import numpy as np
import pytest

from facelib import load_embedder, load_landmarker
from facelib.runtime.manifest import find_onnx, read_manifest, write_manifest
from facelib.runtime.published_weights import find_published
from facelib.settings import MODELS
from facelib.types import DownloadError

NAMES = ("hourglass_keypoints.pt", "hourglass_keypoints.onnx")
FACES = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A folder whose files a local server publishes, as CONTRIBUTING.md says; FACELIB_WEIGHTS_URL is its address."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(MODELS / name, folder / f"{read_manifest()[name]['sha256']}{(MODELS / name).suffix}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("FACELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACELIB_TIMEOUT", "5")
    monkeypatch.setenv("FACELIB_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()


@pytest.fixture
def version(tmp_path):
    """The manifest of a version, without its weights."""
    (tmp_path / "version").mkdir()
    write_manifest({name: read_manifest()[name] for name in NAMES}, tmp_path / "version")
    return tmp_path / "version" / NAMES[0]


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_manifest_alone_is_enough(host, version, runtime, monkeypatch, caplog):
    found = load_landmarker(version, "cpu", runtime=runtime)
    shipped = load_landmarker(device="cpu", runtime=runtime)
    np.testing.assert_array_equal(found.predict_crops(FACES), shipped.predict_crops(FACES))
    assert "downloading" in caplog.text
    assert not list(version.parent.glob("*.pt")) and not list(version.parent.glob("*.onnx"))
    monkeypatch.setenv("FACELIB_WEIGHTS_URL", "http://127.0.0.1:9")  # the copy is used, nothing is asked
    caplog.clear()
    load_landmarker(version, "cpu", runtime=runtime)
    assert not caplog.records


def test_files_of_the_folder_need_no_host(host, version, monkeypatch):
    monkeypatch.setenv("FACELIB_WEIGHTS_URL", "http://127.0.0.1:9")
    assert find_onnx(MODELS / NAMES[0]) == MODELS / NAMES[1]
    shutil.copy(MODELS / NAMES[0], version)  # PyTorch's file alone: the other is not fetched
    assert find_onnx(version) is None


def test_offline_and_unknown_files(host, version, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_WEIGHTS_URL", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"hourglass_keypoints\.onnx is missing, and .*:9/d9ca.*restore the file"):
        load_landmarker(version, "cpu")
    monkeypatch.setenv("FACELIB_WEIGHTS_URL", "no address")
    with pytest.raises(DownloadError, match="correct FACELIB_WEIGHTS_URL"):
        load_landmarker(version, "cpu")
    monkeypatch.setenv("FACELIB_WEIGHTS_URL", "")
    with pytest.raises(FileNotFoundError, match="no such weights; restore"):
        load_landmarker(version, "cpu")
    with pytest.raises(FileNotFoundError, match="no such weights"):
        load_embedder(version.with_name("another.pt"), "cpu")
    assert find_published(version, "../../../etc/passwd") is None
    assert not (tmp_path / "cache").exists()


def test_other_content_is_refused(host, version, tmp_path):
    for path in host.iterdir():
        path.write_bytes(b"something else")
    with pytest.raises(DownloadError, match="is another file: its SHA-256 is not d9ca720b"):
        load_landmarker(version, "cpu")
    assert not (tmp_path / "cache").exists()
    damaged = tmp_path / "cache/weights" / f"{read_manifest()[NAMES[1]]['sha256']}.onnx"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"cut")
    for name in NAMES:
        shutil.copy(MODELS / name, host / f"{read_manifest()[name]['sha256']}{(MODELS / name).suffix}")
    assert find_onnx(version) == damaged and damaged.stat().st_size > 1e6  # fetched again
