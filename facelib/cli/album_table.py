"""The table people.csv of an album: read back exactly as it was written, whatever spreadsheet has saved it since."""

import csv
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facelib.io.files import as_text, atomic_write, printable
from facelib.recognition.names import normalise_name

PEOPLE_FILE = "people.csv"
COLUMNS = ("photo", "face", "person", "distance", "quality", "box", "sha256", "score", "matched")
REQUIRED = frozenset({"photo", "face", "person"})
NOT_MATCHED = "no"  # in the column matched: the face of this row was not found again
MAX_PIXELS = 1e6  # of a coordinate; what is larger is none
DELIMITERS = ",;\t"
# A spreadsheet takes a cell that begins so for a formula.
FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


@dataclass(frozen=True)
class TableRow:
    """A row of people.csv.

    photo: path, as text.
    face: number in the photo.
    person: see `AlbumFace`; "" where the cell was emptied, which takes a name back.
    box: x1 y1 x2 y2 in pixels of the photo; () where the table has none.
    cells: column of ours -> text.
    own: cells of the user's own columns.
    """

    photo: str
    face: int
    person: str
    box: tuple[float, ...]
    cells: dict[str, str]
    own: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the photo's content, "" where the table has none."""
        return self.cells.get("sha256", "")


@dataclass(frozen=True)
class PeopleTable:
    """The content of people.csv.

    rows: one for each face.
    own_columns: names of the user's own columns.
    content: bytes of the file; None: there is none.
    is_lossy: whether it may have been saved in a code page that lacks most scripts, and have "?" for their characters.
    """

    rows: list[TableRow] = field(default_factory=list)
    own_columns: tuple[str, ...] = ()
    content: bytes | None = None
    is_lossy: bool = False


def read_people(folder: Path) -> PeopleTable:
    """Read the table of a folder, see `read_table`; empty where there is none."""
    path = folder / PEOPLE_FILE
    return read_table(path) if path.exists() else PeopleTable()


def read_table(path: Path) -> PeopleTable:
    """Read a table of people.

    It may be UTF-8, UTF-16 or in the Windows code page 1252, and separated by commas, semicolons or tabs.

    Raises:
        ValueError: the table lacks columns, or a row is malformed.
    """
    content = path.read_bytes()
    try:
        text, is_lossy = _decode(content)
        return _parse(text, content, is_lossy)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{printable(path)} is no table of people ({error}): expected the columns {', '.join(COLUMNS[:3])}; repair "
            "it, save it as CSV UTF-8, or move it away to sort all faces again"
        ) from None


def _decode(content: bytes) -> tuple[str, bool]:
    """Text of a table, and whether it may have lost characters that are not in the code page it was saved in."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), False
    if b"\0" in content[:2]:
        return content.decode("utf-16-be" if content[0] == 0 else "utf-16-le"), False
    try:
        return content.decode("utf-8-sig"), content.isascii()
    except UnicodeDecodeError:
        # A damaged byte of UTF-8 must not turn all other umlauts into two characters each.
        readable = content.decode("utf-8", "ignore")
        if not readable.isascii():
            raise
    return content.decode("cp1252"), True


def _parse(text: str, content: bytes, is_lossy: bool) -> PeopleTable:
    delimiter = _delimiter(text)
    header, *lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = [name.strip() for name in header]
    places = {name: header.index(name) for name in COLUMNS if name in header}
    if places.get("score", -1) > places.get("matched", -1):  # written by an older version, which had no such column
        del places["score"]
    width = max(map(len, [header, *lines]))
    own = [place for place in range(width) if place not in places.values()]
    own_columns = tuple(header[place] if place < len(header) else "" for place in own)
    rows = []
    for number, line in enumerate(lines, 2):
        cells = line + [""] * (width - len(line))
        if any(cell.strip() for cell in cells):
            ours = {name: _unescape(cells[place]) for name, place in places.items()}
            rows.append(_row(ours, tuple(cells[place] for place in own), number))
    return PeopleTable(rows, own_columns, content, is_lossy)


def _delimiter(text: str) -> str:
    """The delimiter with which the first line has the columns of the table."""
    first = next(iter(io.StringIO(text, newline="")), "")
    for delimiter in DELIMITERS:
        if {name.strip() for row in csv.reader([first], delimiter=delimiter) for name in row} >= REQUIRED:
            return delimiter
    raise ValueError(f"its first line is {printable(first.strip())[:80]!r}")


def _row(cells: dict[str, str], own: tuple[str, ...], number: int) -> TableRow:
    person = cells["person"].strip()
    try:
        # A row without photo and person is a remark of the user's, which is carried along.
        is_remark = not (cells["photo"] or cells["face"].strip() or person)
        face = -1 if is_remark else int(cells["face"])
        name = normalise_name(person) if person else ""
    except ValueError as error:
        raise ValueError(f"row {number}: {error}") from None
    return TableRow(cells["photo"], face, name, _parse_box(cells.get("box", "")), cells, own)


def _parse_box(text: str) -> tuple[float, ...]:
    """Four numbers of pixels, or nothing."""
    try:
        box = tuple(map(float, text.replace(",", ".").split()))
    except ValueError:
        return ()
    return box if len(box) == 4 and all(abs(value) < MAX_PIXELS for value in box) else ()


def escape_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def _unescape(text: str) -> str:
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def box_text(box: Sequence[float]) -> str:
    """A box as a cell of the table, in whole pixels."""
    return " ".join(f"{value:.0f}" for value in box)


def table_bytes(rows: Sequence[TableRow], own_columns: Sequence[str]) -> bytes:
    """The file of a table: UTF-8 with the byte order mark by which Excel knows it."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([*COLUMNS, *own_columns])
    for row in rows:
        cells = row.cells | {"person": row.person}
        ours = [escape_cell(cells.get(name, "")) for name in COLUMNS]
        writer.writerow([*ours, *row.own, *[""] * (len(own_columns) - len(row.own))])
    return as_text(file.getvalue()).encode("utf-8-sig")


def write_table(rows: Sequence[TableRow], table: PeopleTable, folder: Path, back_up: bool = True) -> Path:
    """Write people.csv; the one that it replaces is kept beside it as people.csv.1.bak, people.csv.2.bak and so on.

    Args:
        table: as it was read. Where the file has changed since, it stays, and the rows go to people.new.csv beside it.
        back_up: False: the one that is replaced needs none.

    Returns:
        The file that was written.
    """
    path = folder / PEOPLE_FILE
    content = table_bytes(rows, table.own_columns)
    before = path.read_bytes() if path.exists() else None
    if before != table.content:
        path = next(name for name in _new_files(folder) if not name.exists())
    elif before == content:
        return path
    elif before is not None and back_up:
        _back_up(folder, before)
    with atomic_write(path) as new, open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # names are the user's work: they outlast a power cut
    return path


def _new_files(folder: Path) -> Iterator[Path]:
    yield folder / "people.new.csv"
    yield from (folder / f"people.new.{number}.csv" for number in itertools.count(2))


def backups(folder: Path) -> list[Path]:
    """The tables that were replaced, the first one first."""
    numbered = {path: re.fullmatch(r"people\.csv\.(\d{1,9})\.bak", path.name) for path in folder.glob("people.csv.*")}
    found = {path: int(match[1]) for path, match in numbered.items() if match}
    return sorted(found, key=found.__getitem__)


def _back_up(folder: Path, content: bytes) -> None:
    existing = backups(folder)
    if existing and existing[-1].read_bytes() == content:  # of a run that was killed before it wrote the table
        return
    number = int(existing[-1].name.split(".")[2]) + 1 if existing else 1
    with atomic_write(folder / f"{PEOPLE_FILE}.{number}.bak") as new:
        new.write_bytes(content)
