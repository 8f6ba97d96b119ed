"""Files from the network: within a time, of a known content, whole or not at all."""

import hashlib
import io
import os
import queue
import threading
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from facelib.io.files import atomic_write

TIMEOUT = 10.0  # seconds without a word from the other side, unless FACELIB_TIMEOUT says otherwise
MAX_BYTES = 500_000_000


def timeout() -> float:
    """Seconds that a download waits for the next piece of its answer: FACELIB_TIMEOUT, else 10.

    Raises:
        ValueError: FACELIB_TIMEOUT is no number above 0.
    """
    text = os.environ.get("FACELIB_TIMEOUT") or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"FACELIB_TIMEOUT={text!r}: expected seconds, a number above 0")
    return seconds


def fetch(url: str, patience: float) -> bytes:
    """What is at `url`, over HTTP or HTTPS and the proxies that the environment names.

    It is read in a thread that may be left behind, because not every wait (name service, proxy) has an end.

    Raises:
        TimeoutError: nothing came for `patience` seconds, or not all of it within sixty times that.
        OSError: no such address, refused, not found, more than 500 MB.
    """
    parts: queue.Queue[bytes | Exception | None] = queue.Queue()
    stop = threading.Event()

    def work() -> None:
        try:
            # An opener of its own: the common one keeps the proxies that the environment named when it was first used.
            with urllib.request.build_opener().open(url, timeout=patience) as answer:
                while not stop.is_set() and (part := answer.read(2**16)):
                    parts.put(part)
            parts.put(None)
        except Exception as error:
            parts.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return _collect(parts, patience)
    finally:
        stop.set()


def _collect(parts: queue.Queue, patience: float) -> bytes:
    got, ends = bytearray(), time.monotonic() + 60 * patience
    while True:
        try:
            part = parts.get(timeout=patience)
        except queue.Empty:
            raise TimeoutError(f"no answer within {patience:g} seconds") from None
        if part is None:
            return bytes(got)
        if isinstance(part, urllib.error.URLError) and isinstance(part.reason, OSError):
            part = part.reason
        if isinstance(part, TimeoutError):
            raise TimeoutError(f"no answer within {patience:g} seconds")
        if isinstance(part, Exception):
            raise part
        got += part
        if len(got) > MAX_BYTES:
            raise OSError(f"more than {MAX_BYTES / 1e6:g} MB came")
        if time.monotonic() > ends:
            raise TimeoutError(f"only {len(got):,} bytes within {60 * patience:g} seconds")


def unpack(archive: bytes, folder: Path, hashes: dict[str, str]) -> None:
    """The ONNX files of a zip into a folder, those in `hashes` (name -> SHA-256) checked and all there.

    Raises:
        ValueError: no zip, a file that is missing, or one whose content is another.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as package:
            members = {Path(m.filename).name: m for m in package.infolist() if m.filename.endswith(".onnx")}
            files = {name: package.read(member) for name, member in members.items() if member.file_size < MAX_BYTES}
    except zipfile.BadZipFile as error:
        raise ValueError(f"what came is no zip archive ({error})") from None
    for name, known in hashes.items():
        if hashlib.sha256(files.get(name, b"")).hexdigest() != known:
            raise ValueError(f"the archive that came holds another {name} than the known one, or none")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_write(folder / name) as file:
            file.write_bytes(content)
