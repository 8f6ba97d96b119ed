"""Where an archive's photos come from: a Ray Dataset with the columns `photo`, a name, and `content`, bytes or None."""

import glob
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs
import ray
from ray.data import Dataset

from facelib.io.files import printable
from facelib.io.inputs import ADDRESS
from facelib.io.photo_search import CALLED_PHOTOS, search_photos

SCHEMA = pa.schema([("photo", pa.string()), ("content", pa.binary())])
BLOCK = 64  # photos that are lost, and looked at again, when a worker ends


def photos_of(source: str) -> tuple[Dataset, list[str]]:
    """The photos of a source, and lines about what of it is left out.

    Args:
        source: a folder, searched as the command line does; a `.txt` list of paths or addresses, one a line; `.tar`
            shards whose members are photos, `*` in the name for several; `.parquet` (a file or a folder so called) with
            a column `path`, or `bytes` and perhaps `name`; or the address of a folder in an object store, such as
            s3://bucket/photos. Files are opened by the workers, which must see them under the same path.

    Raises:
        FileNotFoundError: there is no such source. ValueError: Parquet without these columns.
    """
    if source.endswith(".tar"):
        shards = [source] if ADDRESS.match(source) else sorted(map(os.path.abspath, glob.glob(source)))
        if not shards:
            raise FileNotFoundError(f"{source}: no such archive of photos")
        return ray.data.from_items([{"shard": shard} for shard in shards]).flat_map(_members), []
    if source.rstrip("/").endswith(".parquet"):
        return _of_parquet(source), []
    if ADDRESS.match(source):
        return _of_paths(list(_listed(source)))
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{source}: no such folder, list, table or archive of photos")
    if path.suffix == ".txt":
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
        return _of_paths([_absolute(line) for line in lines])
    found = search_photos(path)
    dataset, left_out = _of_paths([os.path.abspath(photo) for photo in found.photos])
    return dataset, found.summary() + left_out


def content_at(address: str) -> bytes:
    """The bytes of a file in an object store."""
    store, path = _store_of(address)
    with store.open_input_stream(path) as file:
        return file.read()


def _store_of(address: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """A file system, and the path in it, of an address with any characters in its path; what follows a ? are options.

    Raises:
        ValueError: of a kind that pyarrow does not open.
    """
    scheme, _, rest = address.partition("://")
    path, mark, options = rest.partition("?")
    try:
        return pyarrow.fs.FileSystem.from_uri(f"{scheme.lower()}://{quote(path)}{mark}{options}")
    except pa.ArrowInvalid as error:
        raise ValueError(f"{printable(address)}: not the address of an object store ({error})") from None


def _listed(address: str) -> Iterator[str]:
    """What is called a photo in a folder of an object store."""
    store, root = _store_of(address)
    scheme, mark, options = address.partition("://")[0], *address.partition("?")[1:]
    for file in store.get_file_info(pyarrow.fs.FileSelector(root, recursive=True)):
        if file.is_file and Path(file.path).suffix.lower() in CALLED_PHOTOS:
            yield f"{scheme}://{file.path}{mark}{options}"


def _of_paths(paths: list[str]) -> tuple[Dataset, list[str]]:
    """Names that a table can hold; the others are said."""
    kept = [path for path in paths if path.isprintable() or path.encode("utf-8", "ignore").decode() == path]
    lines = [f"left out, its name is no UTF-8: {printable(path)}" for path in set(paths) - set(kept)]
    parts = [kept[start : start + BLOCK] for start in range(0, len(kept), BLOCK)] or [[]]
    return ray.data.from_arrow([pa.table([part, pa.nulls(len(part), pa.binary())], SCHEMA) for part in parts]), lines


def _of_parquet(source: str) -> Dataset:
    table = ray.data.read_parquet(source)
    columns = set(table.schema().names)
    if not columns & {"path", "bytes"}:
        raise ValueError(f"{source}: expected a column path, or bytes (and name), found {', '.join(sorted(columns))}")
    return table.map_batches(_of_columns, batch_format="pyarrow", batch_size=BLOCK)


def _of_columns(table: pa.Table) -> pa.Table:
    """Parquet's columns as ours; bytes without a name are known by their content."""
    count = len(table)
    contents = table["bytes"].cast(pa.binary()) if "bytes" in table.column_names else pa.nulls(count, pa.binary())
    named, path = (
        table[key].cast(pa.string()).to_pylist() if key in table.column_names else [None] * count
        for key in ("name", "path")
    )
    names = [
        (named_so or where or name_of(content)) if content is not None else _absolute(where or "")
        for named_so, where, content in zip(named, path, contents.to_pylist())
    ]
    return pa.table([pa.array(names, pa.string()), contents], SCHEMA)


def _absolute(path: str) -> str:
    """The same file by the same name, wherever the command runs."""
    return path if ADDRESS.match(path) else os.path.abspath(path)


def name_of(content: bytes | None) -> str:
    """What bytes without a name are known by."""
    return "sha256:" + hashlib.sha256(content or b"").hexdigest()


def _members(row: dict) -> Iterator[dict]:
    """The photos in a tar, read as a stream, under the names of the shard and of the member; a broken tar becomes a
    broken photo."""
    name = row["shard"]
    try:
        store, path = _store_of(name) if ADDRESS.match(name) else (pyarrow.fs.LocalFileSystem(), name)
        with store.open_input_stream(path, compression=None) as file, tarfile.open(fileobj=file, mode="r|") as shard:
            for member in shard:
                if member.isfile() and Path(member.name).suffix.lower() in CALLED_PHOTOS:
                    yield {"photo": f"{name}/{member.name}", "content": shard.extractfile(member).read()}
    except (tarfile.TarError, OSError):
        yield {"photo": name, "content": b"a broken tar"}
