"""Object stores that do not answer, and lists of photos."""

import os
import subprocess
import sys
import time

import pytest

from facelib.archive import stores
from facelib.archive.source import read_list
from facelib.archive.worker import fetch


@pytest.fixture
def silent(monkeypatch):
    """A store that never answers, and a short timeout."""
    monkeypatch.setenv("FACELIB_TIMEOUT", "0.2")
    monkeypatch.setattr(stores, "open_store", lambda address: time.sleep(60))


def test_a_store_that_does_not_answer_is_not_waited_for(silent):
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"gs://bucket/photos: no answer within 0\.2 s \(FACELIB_TIMEOUT\)"):
        stores.check_address("gs://bucket/photos")
    assert "no answer within" in str(fetch("gs://bucket/a.jpg"))
    assert time.monotonic() - started < 5
    stores.check_address("/no/address")


def test_the_command_ends_before_ray_starts(tmp_path):
    """Without network, or with one in which the bucket is not there."""
    command = [sys.executable, "-m", "facelib.archive", "gs://no-such-bucket-x/photos", "--out", str(tmp_path / "out")]
    environment = os.environ | {"FACELIB_TIMEOUT": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "no-such-bucket-x" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_lists_from_windows_are_read(tmp_path, encoding):
    path = tmp_path / "list.txt"
    path.write_bytes("C:/Fotos/M\u00fcller.jpg\r\n\r\nb.jpg\r\n".encode(encoding))
    if encoding in ("cp1252", "utf-16-le"):  # without a byte order mark
        with pytest.raises(ValueError, match=r"list\.txt: neither UTF-8 nor UTF-16"):
            read_list(path)
    else:
        assert read_list(path) == ["C:/Fotos/M\u00fcller.jpg", "b.jpg"]
