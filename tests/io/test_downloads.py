import hashlib
import http.server
import io
import threading
import time
import zipfile

import pytest

from facelib.io.downloads import fetch, find_or_download, unpack
from facelib.types import DownloadError


class Host(http.server.BaseHTTPRequestHandler):
    """/good: five bytes; /slow: 64 kB after 64 kB, for ever; /missing: 404; /garbage: an answer that is not HTTP."""

    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/garbage":
            self.wfile.write(b"garbage\r\n\r\n")
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"bytes")
        try:
            while self.path == "/slow":
                self.wfile.write(b"." * 2**16)
                time.sleep(0.005)
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def host():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_fetch_returns_the_content(host):
    assert fetch(f"{host}/good", 5) == b"bytes"


def test_errors_are_those_of_the_network(host):
    with pytest.raises(OSError, match="404"):
        fetch(f"{host}/missing", 5)
    with pytest.raises(ConnectionRefusedError):
        fetch("http://127.0.0.1:9", 5)
    with pytest.raises(OSError, match="not valid HTTP"):
        fetch(f"{host}/garbage", 5)


def test_an_endless_download_times_out(host, monkeypatch):
    monkeypatch.setattr("facelib.io.downloads.TOTAL_TIMEOUTS", 0.1)
    with pytest.raises(TimeoutError, match=r"bytes within 0\.5 seconds"):
        fetch(f"{host}/slow", 5)


def test_too_large_a_download_is_refused(host, monkeypatch):
    monkeypatch.setattr("facelib.io.downloads.MAX_BYTES", 100_000)
    with pytest.raises(OSError, match="more than"):
        fetch(f"{host}/slow", 5)


def archive(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        for name, content in files.items():
            package.writestr(f"../{name}.onnx", content)
    return out.getvalue()


def test_unpack_checks_hashes_before_it_writes(tmp_path):
    hashes = {"a.onnx": hashlib.sha256(b"model").hexdigest()}
    for content in (archive(a=b"another"), archive(b=b"model"), b"not a zip"):
        with pytest.raises(DownloadError, match="archive"):
            unpack(content, tmp_path / "models", hashes)
        assert not (tmp_path / "models").exists()
    unpack(archive(a=b"model", b=b"more"), tmp_path / "models", hashes)
    assert sorted(path.name for path in tmp_path.rglob("*.onnx")) == ["a.onnx", "b.onnx"]
    assert (tmp_path / "models" / "a.onnx").read_bytes() == b"model"


@pytest.fixture
def package_host(tmp_path, monkeypatch):
    """A local stand-in for insightface's release page; a function that sets the content of a package."""
    packages = {}

    def fetch_package(url, seconds):
        if (name := url.rpartition("/")[2]) not in packages:
            raise ConnectionError("no network")
        return packages[name]

    monkeypatch.setattr("facelib.io.downloads.fetch", fetch_package)
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return lambda package, **files: packages.update({f"{package}.zip": archive(**files)})


GOOD = hashlib.sha256(b"model").hexdigest()


def test_find_or_download_downloads_once(package_host, tmp_path, caplog):
    package_host("buffalo_x", model=b"model", other=b"more")
    path = find_or_download("buffalo_x", "model.onnx", GOOD, "A hint.")
    assert path == tmp_path / "home/.insightface/models/buffalo_x/model.onnx"
    assert "buffalo_x.zip" in caplog.text and "A hint." in caplog.text
    caplog.clear()
    assert find_or_download("buffalo_x", "model.onnx", GOOD) == path
    assert not caplog.records


def test_find_or_download_prefers_the_data_folder(package_host, tmp_path):
    for folder in ("data/models", "home/.insightface/models"):
        (tmp_path / folder / "x").mkdir(parents=True)
        (tmp_path / folder / "x/model.onnx").write_bytes(b"model")
    assert find_or_download("x", "model.onnx", GOOD) == tmp_path / "data/models/x/model.onnx"


def test_find_or_download_refuses_other_content(package_host, tmp_path):
    package_host("x", model=b"something else")
    with pytest.raises(
        DownloadError, match=r"another model\.onnx than expected.*: put model\.onnx into .*data.* or .*insightface"
    ):
        find_or_download("x", "model.onnx", GOOD)
    assert not list(tmp_path.rglob("*.onnx"))
    (tmp_path / "data/models/x").mkdir(parents=True)
    (tmp_path / "data/models/x/model.onnx").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"model\.onnx is damaged or another file: its SHA-256 is .* remove it"):
        find_or_download("x", "model.onnx", GOOD)


def test_find_or_download_without_network_says_what_to_put_where(package_host, tmp_path):
    with pytest.raises(
        DownloadError, match=r"x\.zip cannot be downloaded \(no network\): put model\.onnx into"
    ) as raised:
        find_or_download("x", "model.onnx", GOOD)
    assert isinstance(raised.value, OSError)
    assert str(tmp_path / "data/models/x") in str(raised.value)


def test_a_file_without_published_hash_is_reported(package_host, caplog):
    package_host("x", model=b"model")
    find_or_download("x", "model.onnx", None)
    assert f"used unchecked, because no SHA-256 of it is published; its SHA-256 is {GOOD}" in caplog.text
    package_host("y", other=b"model")
    with pytest.raises(DownloadError, match=r"another absent\.onnx than expected, or none"):
        find_or_download("y", "absent.onnx", None)
