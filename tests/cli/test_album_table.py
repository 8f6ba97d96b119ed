"""people.csv is read back as it was written, whatever spreadsheet has saved it."""

import csv
import io
from dataclasses import replace

import pytest
from albums import faces_of

from facelib.cli.album import table_rows
from facelib.cli.album_state import AlbumState, KnownFace, face_key, read_state, with_lost_characters, write_state
from facelib.cli.album_table import (
    COLUMNS,
    PEOPLE_FILE,
    PeopleTable,
    TableRow,
    backups,
    read_people,
    table_bytes,
    write_table,
)
from facelib.recognition.names import is_named, person_number

NAMES = [
    "Ann",
    "Smith, Ann",
    "J\u00fcrgen Stra\u00dfe",
    "O'Brien",
    "'n Sync",
    "'Ann'",
    "''",
    '"Annie" Oakley',
    'Ann "Annie" B',
    "=SUM(A1)",
    "'=SUM(A1)",
    "''=x",
    "-Ann-",
    "+49 170",
    "@ann",
    "\uff1dwide",
    "a;b\\c|d",
    "\u738b\u5c0f\u660e",
    "\u0645\u062d\u0645\u062f",
    "\u0936\u094d\u0930\u0940",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "007",
    "1,5",
    "Person 0",
    "NULL",
    "sep=;",
]


def row_of(person, photo="/photos/a.jpg", own=(), number=0):
    cells = {"photo": photo, "face": str(number), "box": "1 2 30 40", "sha256": "ab" * 32, "matched": "yes"}
    return TableRow(photo, number, person, (1, 2, 30, 40), cells, own)


@pytest.mark.parametrize(
    "folder", ["/photos", "/Rock 'n' Roll, 2019", "/Mum's 'best of' album", '/"quoted"; x\ty', "/new\nline\r", "=x"]
)
def test_tables_come_back_as_they_were_written(tmp_path, folder):
    rows = [row_of(name, f"{folder}/{number}.jpg", ("own", "-5")) for number, name in enumerate(NAMES)]
    written = write_table(rows, PeopleTable(own_columns=("note", "=own")), tmp_path)
    assert written.read_bytes().startswith(b"\xef\xbb\xbf")  # by which Excel knows UTF-8
    table = read_people(tmp_path)
    assert [(row.photo, row.person, row.box, row.own) for row in table.rows] == [
        (row.photo, row.person, row.box, row.own) for row in rows
    ]
    assert table.own_columns == ("note", "=own")
    assert table_bytes(table.rows, table.own_columns) == table.content


def test_no_cell_of_ours_is_a_formula(tmp_path):
    rows = [row_of(name) for name in NAMES]
    cells = [line[2] for line in csv.reader(io.StringIO(table_bytes(rows, ()).decode("utf-8-sig"), newline=""))]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))]
    assert "'=SUM(A1)" in cells and "''=SUM(A1)" in cells


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r"])
def test_what_spreadsheets_save(tmp_path, encoding, delimiter, ending):
    names = ["J\u00fcrgen", "Smith, Ann", 'a;b"c', "x\ty"[:1], "O'Brien"]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerow(["person", "photo", "note", "face", "box"])  # in another order, with a column of one's own
    writer.writerows([name, f"/a/{name}.jpg", "an aunt", 0, "1 2 3 4"] for name in names)
    writer.writerow(["", "", "", "", ""])
    (tmp_path / PEOPLE_FILE).write_bytes(file.getvalue().encode(encoding))
    table = read_people(tmp_path)
    assert [row.person for row in table.rows] == names
    assert table.own_columns == ("note",) and table.rows[0].own == ("an aunt",)
    assert table.is_lossy == (encoding == "cp1252") and not table.content.isascii()


def test_own_columns_and_remarks_are_carried_along(tmp_path):
    text = "photo,note,face,person,,note\na.jpg,x,0,Ann,y,z,beyond\n,a remark,,,,\n"
    (tmp_path / PEOPLE_FILE).write_text(text)
    for _ in range(2):
        table = read_people(tmp_path)
        assert table.own_columns == ("note", "", "note", "")
        assert [row.own for row in table.rows] == [("x", "y", "z", "beyond"), ("a remark", "", "", "")]
        write_table(table.rows, table, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"photo,face\na.jpg,0\n",
        b"photo,face,person\na.jpg,first,Ann\n",
        b"photo,face,person\n,0,Ann\na.jpg,,Ann\n",
        b"\x00\xff\xfe" * 10,
        b'photo,face,person\na.jpg,0,"Ann',
        b'photo,face,person\na.jpg,0,"Ann" B\n',
        b'photo,face,person\na.jpg,0,"An\nn"\n',
        b"photo|face|person\na.jpg|0|Ann\n",
        "photo,face,person\na.jpg,0,J\u00fcrgen J\u00f6rg\n".encode().replace(b"\xb6", b""),
        b"\xef\xbb\xbfphoto,face,person\na.jpg,0,J\xfcrgen\n",
        b"PK\x03\x04" + bytes(range(256)),
    ],
)
def test_malformed_tables(tmp_path, content):
    (tmp_path / PEOPLE_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"people\.csv is no table of people"):
        read_people(tmp_path)
    assert (tmp_path / PEOPLE_FILE).read_bytes() == content


def test_tables_that_are_replaced_are_kept_by_number(tmp_path):
    for name in ("Ann", "Bob", "Bob", "Cy"):
        write_table([row_of(name)], read_people(tmp_path), tmp_path)
    assert [path.name for path in backups(tmp_path)] == ["people.csv.1.bak", "people.csv.2.bak"]
    assert [b"Ann" in path.read_bytes() for path in backups(tmp_path)] == [True, False]
    (tmp_path / "people.csv.2.bak").write_bytes((tmp_path / PEOPLE_FILE).read_bytes())  # killed before the table
    write_table([row_of("Dan")], read_people(tmp_path), tmp_path)
    assert len(backups(tmp_path)) == 2


def test_edits_during_a_run_stay(tmp_path):
    table = read_people(tmp_path)
    for number, name in enumerate(("people.new.csv", "people.new.2.csv")):
        (tmp_path / PEOPLE_FILE).write_text("the user's edit")
        assert write_table([row_of(str(number))], table, tmp_path).name == name
    assert (tmp_path / PEOPLE_FILE).read_text() == "the user's edit"
    assert b",0," in (tmp_path / "people.new.csv").read_bytes()


@pytest.mark.parametrize(
    ("page", "name"), [("cp1252", "\u738b"), ("cp1252", "\u0410\u043d\u043d\u0430"), ("cp1250", "\u0141ukasz")]
)
def test_names_that_a_code_page_lacks_are_restored(tmp_path, page, name):
    row = row_of(name)
    state = AlbumState({face_key(row.sha256, row.box): KnownFace(name, frozenset(), None)})
    text = table_bytes([row], ()).decode("utf-8-sig") + "\r\n/b.jpg,0,J\u00fcrgen,,,5 6 7 8,,\r\n"
    (tmp_path / PEOPLE_FILE).write_bytes(text.encode(page, "replace"))
    rows = with_lost_characters(read_people(tmp_path), state)
    assert [row.person for row in rows] == [name, "J\u00fcrgen"]
    (tmp_path / PEOPLE_FILE).write_bytes(table_bytes([row], ()).decode("utf-8-sig").encode(page, "replace"))
    assert with_lost_characters(read_people(tmp_path), state)[0].person == name  # also where all that is left is ASCII


def test_numbered_people_have_no_name():
    assert [person_number(name) for name in ("Person 7", "Person 07", "Person x", "Person " + "9" * 5000)] == [7] + [
        None
    ] * 3
    assert [is_named(name) for name in ("Ann", "Person 7", "Person 07", "?", "")] == [True, False, True, False, False]


def test_the_state_survives_and_a_damaged_one_is_no_error(tmp_path):
    [face] = faces_of([0])
    known = {"a": KnownFace("Ann", frozenset({"Bob", "Cy"}), face.embedding), "b": KnownFace("", frozenset(), None)}
    write_state(tmp_path, AlbumState(known, 7, 0.03), "weights")
    state = read_state(tmp_path, "weights")
    assert (state.highest_number, state.condition) == (7, 0.03)
    assert state.faces["a"].taken_back == {"Bob", "Cy"} and (state.faces["a"].embedding == face.embedding).all()
    assert state.faces["b"].embedding is None
    other = read_state(tmp_path, "other weights")
    assert other.faces["a"].person == "Ann" and other.faces["a"].embedding is None
    assert other.condition is None
    rows = table_rows(faces_of([0]))
    (tmp_path / "people.csv.3.bak").write_bytes(table_bytes([row_of("Person 12"), *rows], ()))
    (tmp_path / "people.csv.4.bak").write_bytes(b"damaged")
    for content in (b"", b"PK\x03\x04", (tmp_path / "people.npz").read_bytes()[:300]):
        (tmp_path / "people.npz").write_bytes(content)
        assert read_state(tmp_path, "weights") == AlbumState({}, 12)
    assert COLUMNS[:6] == ("photo", "face", "person", "distance", "quality", "box")


@pytest.mark.parametrize("matched", ["", "matched,"])
def test_a_column_of_the_users_that_is_called_score_stays(tmp_path, matched):
    """Tables of older versions have no such column of ours."""
    cells = "yes," * bool(matched)
    (tmp_path / PEOPLE_FILE).write_text(
        f"photo,face,person,box,{matched}score\na.jpg,0,Ann,1 2 3 4,{cells}ten points\n"
    )
    for _ in range(2):
        table = read_people(tmp_path)
        assert table.own_columns == ("score",) and table.rows[0].own == ("ten points",)
        rows = [replace(row, cells=row.cells | {"score": "0.5"}) for row in table.rows]
        write_table(rows, table, tmp_path)
    assert read_people(tmp_path).rows[0].cells["score"] == "0.5"
