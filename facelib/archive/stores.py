"""Files in object stores, read by pyarrow. Every answer is waited for as long as FACELIB_TIMEOUT says."""

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs

from facelib.io.downloads import timeout
from facelib.io.files import printable
from facelib.io.inputs import ADDRESS
from facelib.io.photo_search import PHOTO_SUFFIXES

CHUNK_BYTES = 2**22  # read at a time

T = TypeVar("T")


def read_address(address: str) -> bytes:
    """The bytes of a file in an object store.

    Raises:
        ValueError: see `open_store`. OSError: it cannot be read; TimeoutError: the store does not answer.
    """
    file = _answer(address, lambda: _open_file(address))
    chunks = []
    while chunk := _answer(address, lambda: file.read(CHUNK_BYTES)):
        chunks.append(chunk)
    return b"".join(chunks)


def check_address(source: str) -> None:
    """Check that an object store answers; a source that is no address passes.

    Raises:
        ValueError: see `open_store`. FileNotFoundError: there is no such file or folder.
        OSError: it cannot be read; TimeoutError: the store does not answer.
    """
    if ADDRESS.match(source) and _answer(source, lambda: _file_type(source)) == pyarrow.fs.FileType.NotFound:
        raise FileNotFoundError(f"{printable(source)}: no such file or folder in the object store")


def list_address(address: str) -> Iterator[str]:
    """Addresses of the files in a folder of an object store that have the suffix of a photo."""
    store, root = open_store(address)
    scheme = address.partition("://")[0]
    _, mark, options = address.partition("?")
    for file in store.get_file_info(pyarrow.fs.FileSelector(root, recursive=True)):
        if file.is_file and Path(file.path).suffix.lower() in PHOTO_SUFFIXES:
            yield f"{scheme}://{file.path}{mark}{options}"


def open_store(address: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """File system of an address, and the path in it, which may have any characters; options follow a `?`.

    Raises:
        ValueError: an address of a kind that pyarrow does not open.
    """
    scheme, _, rest = address.partition("://")
    path, mark, options = rest.partition("?")
    try:
        return pyarrow.fs.FileSystem.from_uri(f"{scheme.lower()}://{quote(path)}{mark}{options}")
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{printable(address)}: not the address of an object store, such as s3://bucket/photos ({error})"
        ) from None


def _open_file(address: str) -> pa.NativeFile:
    store, path = open_store(address)
    return store.open_input_stream(path)


def _file_type(address: str) -> pyarrow.fs.FileType:
    store, path = open_store(address)
    return store.get_file_info(path.rstrip("/")).type


def _answer(address: str, ask: Callable[[], T]) -> T:
    """What `ask` returns.

    It runs in a daemon thread, which is abandoned on a timeout: the libraries of object stores try again for minutes.

    Raises:
        TimeoutError: there is no answer within FACELIB_TIMEOUT. Exception: what `ask` raises.
    """
    answers: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    seconds = timeout()
    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"{printable(address)}: no answer within {seconds:g} s (FACELIB_TIMEOUT)") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]
