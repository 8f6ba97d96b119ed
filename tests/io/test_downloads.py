import hashlib
import http.server
import io
import threading
import time
import zipfile

import pytest

from facelib.io.downloads import fetch, unpack


class Host(http.server.BaseHTTPRequestHandler):
    """/good: five bytes; /slow: 64 kB after 64 kB, for ever; /gone: 404."""

    def do_GET(self):
        if self.path == "/gone":
            self.send_error(404)
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


def test_what_comes_is_given(host):
    assert fetch(f"{host}/good", 5) == b"bytes"


def test_errors_are_those_of_the_network(host):
    with pytest.raises(OSError, match="404"):
        fetch(f"{host}/gone", 5)
    with pytest.raises(ConnectionRefusedError):
        fetch("http://127.0.0.1:9", 5)


def test_a_download_that_never_ends_is_ended(host):
    with pytest.raises(TimeoutError, match=r"bytes within 1\.2 seconds"):
        fetch(f"{host}/slow", 0.02)  # sixty times the patience in all


def test_more_than_enough_is_refused(host, monkeypatch):
    monkeypatch.setattr("facelib.io.downloads.MAX_BYTES", 100_000)
    with pytest.raises(OSError, match="more than"):
        fetch(f"{host}/slow", 5)


def archive(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        for name, content in files.items():
            package.writestr(f"../{name}.onnx", content)
    return out.getvalue()


def test_unpack_checks_before_it_writes(tmp_path):
    known = {"a.onnx": hashlib.sha256(b"model").hexdigest()}
    for content in (archive(a=b"another"), archive(b=b"model"), b"no zip"):
        with pytest.raises(ValueError, match=r"archive"):
            unpack(content, tmp_path / "models", known)
        assert not (tmp_path / "models").exists()
    unpack(archive(a=b"model", b=b"more"), tmp_path / "models", known)
    assert sorted(path.name for path in tmp_path.rglob("*.onnx")) == ["a.onnx", "b.onnx"]
    assert (tmp_path / "models" / "a.onnx").read_bytes() == b"model"
