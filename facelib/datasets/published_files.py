"""Data sets as their authors publish them: folders and archives (zip, tar), read in place, without unpacking them."""

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from facelib.io.files import files_key, printable

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz")
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, NotImplementedError)


class PublishedFiles:
    """The files of folders, of the archives in them, and of archives, by name. Nothing is written.

    A name is the path below the parent of what was given, with "/"; a member of an archive follows the archive's name:
    "download/img_align_celeba.zip/img_align_celeba/000001.jpg".

    paths: what was given.
    names: all files, in the order in which they are fastest to read.
    """

    def __init__(self, paths: Sequence[Path]):
        """List the files.

        Raises:
            FileNotFoundError: there is no such folder or archive.
            ValueError: a damaged archive, or another file.
        """
        self.paths = [Path(path).expanduser().absolute() for path in paths]
        self._archives: dict[Path, zipfile.ZipFile | tarfile.TarFile] = {}
        self._places: dict[str, tuple[Path, str]] = {}  # name -> file, and name of the member ("" for none)
        for path in self.paths:
            if not path.exists():
                raise FileNotFoundError(f"{printable(path)}: no such file or folder")
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    self._add(file, file.relative_to(path.parent).as_posix())
        self.names = list(self._places)
        self._by_last: dict[str, list[str]] = {}
        for name in self.names:
            self._by_last.setdefault(PurePosixPath(name).name, []).append(name)

    def _add(self, file: Path, name: str) -> None:
        self._places[name] = (file, "")
        try:
            if file.name.lower().endswith(ZIP):
                zipped = zipfile.ZipFile(file)
                self._archives[file] = zipped
                members = [member.filename for member in zipped.infolist() if not member.is_dir()]
            elif file.name.lower().endswith(TAR):
                tar = tarfile.open(file)  # noqa: SIM115, `close` closes it
                self._archives[file] = tar
                members = [member.name for member in tar.getmembers() if member.isfile()]
            else:
                return
        except (*DAMAGED, OSError) as error:
            raise ValueError(f"{printable(file)} is no complete archive ({error}): download it again") from None
        for member in members:
            path = PurePosixPath(member)
            if "__MACOSX" not in path.parts and not path.name.startswith("._"):
                self._places[f"{name}/{path}"] = (file, member)

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives.values():
            archive.close()

    def __enter__(self) -> "PublishedFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return ", ".join(printable(path) for path in self.paths)

    def find(self, path: str) -> str | None:
        """The first name that ends with a path, such as "train/1.jpg"; None for none."""
        candidates = self._by_last.get(PurePosixPath(path).name, [])
        return next((name for name in candidates if f"/{name}".endswith(f"/{path}")), None)

    def require(self, path: str, what: str) -> str:
        """As `find`.

        Args:
            what: what the file is and where it comes from, for the error message.

        Raises:
            FileNotFoundError: there is none.
        """
        name = self.find(path)
        if name is None:
            raise FileNotFoundError(f"{self}: no {path} there, neither as a file nor in an archive: expected {what}")
        return name

    def photos(self) -> Iterator[tuple[str, PurePosixPath]]:
        """Name and path of each JPEG or PNG file."""
        for name in self.names:
            path = PurePosixPath(name)
            if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                yield name, path

    def file(self, name: str) -> Path | None:
        """The file on the disk; None for a member of an archive."""
        file, member = self._places[name]
        return None if member else file

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            ValueError: the archive is damaged, or encrypted.
            OSError: the file cannot be read.
        """
        file, member = self._places[name]
        if not member:
            return file.read_bytes()
        archive = self._archives[file]
        try:
            if isinstance(archive, zipfile.ZipFile):
                return archive.read(member)
            return archive.extractfile(member).read()
        except DAMAGED as error:
            raise ValueError(f"{printable(member)} of {printable(file)} cannot be read ({error})") from None

    def text(self, name: str) -> str:
        """Content of a text file."""
        return self.read(name).decode("utf-8", "replace")

    @property
    def key(self) -> str:
        """Changes with the files on the disk."""
        return files_key(sorted({file for file, _ in self._places.values()}))


def check_hashes(files: PublishedFiles, known: dict[str, str], algorithm: str) -> None:
    """Compare files with the sums that are known for their names.

    Raises:
        ValueError: a file has another sum.
    """
    for name in files.names:
        expected = known.get(Path(name).name)
        if expected is None:
            continue
        if (file := files.file(name)) is not None:
            with open(file, "rb") as content:
                actual = hashlib.file_digest(content, algorithm).hexdigest()
        else:
            actual = hashlib.new(algorithm, files.read(name)).hexdigest()
        if actual != expected:
            raise ValueError(
                f"{name} is not the file that its authors publish: its {algorithm.upper()} is {actual}, expected "
                f"{expected}. Download it again; --unchecked takes it as it is"
            )
