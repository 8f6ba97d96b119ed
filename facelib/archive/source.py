"""Photos of an archive as a Ray Dataset with the columns `photo` (its name) and `content` (its bytes, or None)."""

import codecs
import glob
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import ray
from ray.data import Dataset

from facelib.archive.stores import check_address, list_address, open_store
from facelib.io.files import printable
from facelib.io.inputs import ADDRESS
from facelib.io.photo_search import PHOTO_SUFFIXES, search_photos

SOURCE_SCHEMA = pa.schema([("photo", pa.string()), ("content", pa.binary())])
NO_PATH = "(no path)"  # name of the error row for a row of Parquet without a path and without bytes
BLOCK_SIZE = 64  # photos in a block of the dataset, which Ray processes again when a worker dies


def photo_dataset(source: str) -> tuple[Dataset, list[str]]:
    """The photos of a source, and messages about what was skipped.

    Args:
        source: one of
            - a folder, searched as by the command line;
            - a `.txt` list of paths or addresses, one a line;
            - `.tar` shards whose members are photos, with `*` in the name for several;
            - `.parquet` (a file or folder of that name) with a column `path`, or with `bytes` and optionally `name`;
            - the address of a folder in an object store, such as s3://bucket/photos.
            Workers open the files, so they must see them under the same path.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: Parquet without these columns, a list that is no text, or an address that pyarrow does not open.
        TimeoutError: an object store does not answer.
    """
    check_address(source)
    if source.endswith(".tar"):
        shards = [source] if ADDRESS.match(source) else sorted(map(os.path.abspath, glob.glob(source)))
        if not shards:
            raise FileNotFoundError(f"{source}: no such tar file; give its path, or a pattern in quotes")
        return ray.data.from_items([{"shard": shard} for shard in shards]).flat_map(_tar_photos), []
    if source.rstrip("/").endswith(".parquet"):
        return _from_parquet(source), []
    if ADDRESS.match(source):
        return _from_paths(list(list_address(source)))
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{source}: no such folder, .txt list, .parquet or .tar file")
    if path.suffix == ".txt":
        return _from_paths([_absolute(line) for line in read_list(path)])
    found = search_photos(path)
    dataset, messages = _from_paths([os.path.abspath(photo) for photo in found.photos])
    return dataset, found.summary() + messages


def read_list(path: Path) -> list[str]:
    """The lines of a list of photos that are not blank; UTF-8 or UTF-16, as programs of Windows write them.

    Raises:
        ValueError: it is neither.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)}: neither UTF-8 nor UTF-16 ({error}): save the list as UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def content_name(content: bytes | None) -> str:
    """The name of a photo that is given as bytes without a name."""
    return "sha256:" + hashlib.sha256(content or b"").hexdigest()


def _from_paths(paths: list[str]) -> tuple[Dataset, list[str]]:
    """Dataset of the paths that are valid UTF-8, which Arrow requires, and a message about each other path."""
    kept = [path for path in paths if path.isprintable() or path.encode("utf-8", "ignore").decode() == path]
    messages = [f"skipped, its name is not valid UTF-8: {printable(path)}" for path in set(paths) - set(kept)]
    parts = [kept[start : start + BLOCK_SIZE] for start in range(0, len(kept), BLOCK_SIZE)] or [[]]
    tables = [pa.table([part, pa.nulls(len(part), pa.binary())], SOURCE_SCHEMA) for part in parts]
    return ray.data.from_arrow(tables), messages


def _from_parquet(source: str) -> Dataset:
    dataset = ray.data.read_parquet(source)
    columns = set(dataset.schema().names)
    if not columns & {"path", "bytes"}:
        raise ValueError(f"{source}: expected a column path, or bytes (and name), found {', '.join(sorted(columns))}")
    return dataset.map_batches(_parquet_photos, batch_format="pyarrow", batch_size=BLOCK_SIZE)


def _parquet_photos(table: pa.Table) -> pa.Table:
    """Rows of Parquet -> rows of `SOURCE_SCHEMA`."""
    contents = pa.nulls(len(table), pa.binary())
    if "bytes" in table.column_names:
        contents = table["bytes"].cast(pa.binary())
    photos = []
    for name, path, content in zip(_strings(table, "name"), _strings(table, "path"), contents.to_pylist()):
        if content is None:
            photos.append(_absolute(path) if path else f"{NO_PATH} {name or ''}".strip())
        else:
            photos.append(name or path or content_name(content))
    return pa.table([pa.array(photos, pa.string()), contents], SOURCE_SCHEMA)


def _strings(table: pa.Table, column: str) -> list[str | None]:
    """A column as text; None in each row where there is no such column."""
    return table[column].cast(pa.string()).to_pylist() if column in table.column_names else [None] * len(table)


def _absolute(path: str) -> str:
    """An address as it is, a path as an absolute one: the name of a photo does not depend on the current folder."""
    return path if ADDRESS.match(path) else os.path.abspath(path)


def _tar_photos(row: dict) -> Iterator[dict]:
    """The photos of a tar file, which is read as a stream. Their names are SHARD/MEMBER.

    Of a broken tar file the photos before the damage are returned, and a row with its own name and no valid photo,
    which becomes an error in the table.
    """
    shard = row["shard"]
    try:
        store, path = open_store(shard) if ADDRESS.match(shard) else (pyarrow.fs.LocalFileSystem(), shard)
        with store.open_input_stream(path, compression=None) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                if member.isfile() and Path(member.name).suffix.lower() in PHOTO_SUFFIXES:
                    yield {"photo": f"{shard}/{member.name}", "content": tar.extractfile(member).read()}
    except (tarfile.TarError, OSError):
        yield {"photo": shard, "content": b"a broken tar"}
