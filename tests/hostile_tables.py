"""An attack on albums and their tables, generated from a seed: `python tests/hostile_tables.py COUNT [SEED]`.

A case is a small library of made-up photos and some steps: names in many scripts, spreadsheets that save the table
their own way, photos that are renamed, moved, cropped or saved anew, edits during a run, kills between its steps. After
each run every name has to be where the user has put it, or in a row that is told not to be matched. Each face carries
an identifier of its own in the user's column "note". Used by test_hostile_tables.py.
"""

import contextlib
import csv
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from albums import CALIBRATION, LEFT, RIGHT, SCORE, Library, embedding_of, results_of

from facelib.cli import album_builder
from facelib.cli.album_table import COLUMNS, read_people
from facelib.recognition.gallery import Gallery
from facelib.recognition.names import is_named, normalise_name, person_number

NAMES = [
    "Ann", "Ann ", "ann", "O'Brien", "Smith, Ann", '"Annie" Oakley', "=SUM(A1)", "+49 170", "-5", "@home", "'n Sync",
    "''", "a;b", "a\\b/c", "../..", "CON", "nul.txt", "?!", "*", "<b>x</b>", "{{ 7 * 7 }}", "%s %n", "NULL", "None",
    "true", "1e5", "007", "1/2", "person 1", "Person 01", "Person x", "J\u00fcrgen Stra\u00dfe", "Zoe\u0308",
    "Zo\u00eb", "\u0141ukasz", "\u738b\u5c0f\u660e", "\u738b", "\u0410\u043d\u043d\u0430", "\u0645\u062d\u0645\u062f",
    "\u05d3\u05d5\u05d3", "\u0936\u094d\u0930\u0940", "\u0e2a\u0e21\u0e0a\u0e32\u0e22", "\uae40\ubbfc\uc900",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0130stanbul", "\ufb01ona", "sep=,", "#1", "a" * 300, "\uff1dx",
]  # fmt: skip
FOLDERS = ["2019", "Rock 'n' Roll, 2019", "J\u00fcrgen", '"q"; x', "=a", "\u738b", "a\tb", "new\nline", "100%"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]
BROKEN = [b"", b"\xff\xfe\x00", b"photo;face\r\n", b'photo,face,person\r\na,0,"x', b"PK\x03\x04\x00", b"\0" * 50]
IDENTITIES = 8
NOISE = 0.7  # photos of one person lie about a third apart, as in life
STEPS: list[Callable[["Case"], None]] = []


def step(function: Callable[["Case"], None]) -> Callable[["Case"], None]:
    STEPS.append(function)
    return function


class Case(Library):
    """A library whose faces have identifiers, and what the user has done to their names.

    ids: path -> identifier of each face, which a photo saved anew keeps.
    identity: identifier -> person that the face is of.
    names: identifier -> name that the user has given.
    taken: identifier -> names that the user has taken back.
    ever: name -> people it was given to.
    numbers: "Person 7" -> people who were called so by the album.
    stored: identifier -> name in the table before its last edit; only these survive a code page without their letters.
    has_state: whether what the album remembers is complete.
    """

    def __init__(self, seed: int, folder: Path):
        super().__init__(folder)
        self.rng = np.random.default_rng(seed)
        self.ids: dict[Path, list[str]] = {}
        self.identity: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.taken: dict[str, set[str]] = {}
        self.ever: dict[str, set[int]] = {}
        self.numbers: dict[str, set[int]] = {}
        self.stored: dict[str | None, str] = {}
        self.has_state = True
        self.with_gallery = bool(self.rng.integers(2))
        self.mine = self.out / "people" / "mine.txt"
        for _ in range(self.rng.integers(2, 6)):
            add_photo(self)

    def pick(self, options):
        """One of several, at random."""
        options = list(options)
        return options[self.rng.integers(len(options))]

    def new_path(self) -> Path:
        """Where no photo has been."""
        self.count = getattr(self, "count", 0) + 1
        return self.folder / "in" / self.pick(FOLDERS) / f"{self.count}.jpg"

    def write(self, path: Path, identities: list[int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rng.bytes(20))
        boxes = (LEFT, RIGHT, (10, 110, 60, 160))
        self.photos[path] = [(embedding_of(one, self.rng, NOISE), box) for one, box in zip(identities, boxes)]
        self.ids[path] = [f"f{len(self.identity) + number}" for number in range(len(identities))]
        self.identity |= dict(zip(self.ids[path], identities))

    def faces(self) -> dict[tuple[str, tuple[float, ...]], str]:
        """(photo, box) -> identifier."""
        return {
            (str(path), tuple(map(float, box))): self.ids[path][number]
            for path, found in self.photos.items()
            for number, (_, box) in enumerate(found)
        }

    def run(self, only: str = "") -> None:
        """The album of the photos, or of those whose path holds a text, and a check of it."""
        photos = {path: found for path, found in self.photos.items() if only in str(path)}
        links = self.pick([None, "copies", "links"])
        store = Gallery(self.folder / "g", "abc", CALIBRATION) if self.with_gallery else contextlib.nullcontext()
        with store as gallery:
            made = album_builder.make_album(results_of(photos, self.out), SCORE, links, gallery)
            self.check(made.notices, {str(path) for path in photos})
            if gallery:
                self.check_gallery(gallery, photos)
        if links and not self.mine.exists():
            self.mine.write_text("the user's own")
        assert not (self.out / "people").exists() or not links or self.mine.read_text() == "the user's own"

    def check(self, notices: list[str], in_run: set[str]) -> None:
        """No name is lost, and none has moved to another face."""
        table, faces = read_people(self.out), self.faces()
        note = table.own_columns.index("note") if "note" in table.own_columns else None
        places: dict[str, list] = {}
        for row in table.rows:
            if note is not None and note < len(row.own) and row.own[note]:
                places.setdefault(row.own[note], []).append(row)
            if row.cells["matched"] != "no" and row.photo in in_run:
                self.check_row(row, faces[row.photo, row.box])
        for name, identifier in ((name, key) for key, name in self.names.items()):
            rows = places.get(identifier, [])
            assert rows and {row.person for row in rows} == {name}, f"{identifier} is {name!r}: {rows}"
            is_there = identifier in [faces.get((photo, box)) for photo, box in faces if photo in in_run]
            unmatched = all(row.cells["matched"] == "no" for row in rows)
            if unmatched:
                assert any(line.startswith(f"{name}: not found again") for line in notices), (name, notices)
            assert not (unmatched and is_there and self.has_state), f"{identifier} ({name!r}) was not found again"
        self.check_once_per_photo(table, faces)

    def check_row(self, row, identifier: str) -> None:
        """A matched row: the name of the user's, or one that its person has had."""
        given, identity = self.names.get(identifier), self.identity[identifier]
        assert given is None or row.person == given, f"{identifier} is {given!r}, the table says {row.person!r}"
        assert row.person not in self.taken.get(identifier, set()), f"{row.person!r} came back to {identifier}"
        if person_number(row.person):
            owners = self.numbers.setdefault(row.person, set())
            owners.add(identity)
            assert len(owners) == 1, f"{row.person} was given to several people"
        elif is_named(row.person):
            assert identity in self.ever.get(row.person, set()), f"{row.person!r} moved to {identifier}"

    def check_once_per_photo(self, table, faces) -> None:
        seen: dict[tuple[str, str], list[str]] = {}
        for row in table.rows:
            if (row.photo, row.box) in faces and row.cells["matched"] != "no":
                seen.setdefault((row.photo, row.person), []).append(faces[row.photo, row.box])
        for (photo, person), members in seen.items():
            assert len(members) == 1 or set(members) & set(self.names), f"{person!r} is twice in {photo}"

    def check_gallery(self, gallery: Gallery, photos) -> None:
        """A face of the album that is in the gallery is there under the name that the user has given."""
        for name, embeddings in gallery.export()["people"].items():
            for path, found in photos.items():
                for identifier, (vector, _) in zip(self.ids[path], found):
                    if identifier in self.names and (1 - embeddings @ vector < 1e-6).any():
                        assert self.names[identifier] == name, f"the gallery has {identifier} as {name!r}"

    def edit(self, change: Callable[[str, str], str]) -> None:
        """Save the table as a spreadsheet does, with each person changed by change(identifier, person)."""
        table, faces = read_people(self.out), self.faces()
        note = table.own_columns.index("note") if "note" in table.own_columns else None
        lines = []
        for row in table.rows:
            own = list(row.own) or [""]
            identifier = own[note or 0]
            if row.cells["matched"] != "no":
                identifier = faces.get((row.photo, row.box), identifier)
            own[note or 0] = identifier
            lines.append([*(row.cells.get(name, "") for name in COLUMNS), *own])
            lines[-1][COLUMNS.index("person")] = change(identifier, row.person)
        self.rng.shuffle(lines)
        header = [*COLUMNS, *(table.own_columns or ("note",))]
        order = self.rng.permutation(len(header))  # columns are moved too
        file = io.StringIO(newline="")
        quoting = self.pick([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        writer = csv.writer(
            file, delimiter=self.pick(",;\t"), quoting=quoting, lineterminator=self.pick(["\r\n", "\n"])
        )
        writer.writerows([[line[place] for place in order] for line in [header, *lines]])
        new = {name for identifier, name in self.names.items() if self.stored.get(identifier) != name}
        encodings = [one for one in ENCODINGS if one != "cp1252" or (self.has_state and can_encode("".join(new)))]
        (self.out / "people.csv").write_bytes(file.getvalue().encode(self.pick(encodings), "replace"))

    def name_faces(self) -> None:
        """Give names to some faces, and take some back."""
        faces = self.faces()
        self.stored = {faces.get((row.photo, row.box)): row.person for row in read_people(self.out).rows}
        chosen: dict[str, str] = {}
        for identifier in sorted(set(self.faces().values())):
            action = self.rng.integers(6)
            if action < 2:
                chosen[identifier] = normalise_name(self.pick(NAMES))
            elif action == 2 and identifier in self.names:
                chosen[identifier] = ""

        def change(identifier: str, person: str) -> str:
            if identifier not in chosen:
                return person
            self.give(identifier, person, chosen[identifier])
            return chosen[identifier]

        self.edit_twice(change)

    def edit_twice(self, change: Callable[[str, str], str]) -> None:
        """Who is named is known after the first time only, and decides the encoding of the second."""
        before = (self.out / "people.csv").read_bytes()
        self.edit(change)
        (self.out / "people.csv").write_bytes(before)
        self.edit(change)

    def give(self, identifier: str, before: str, name: str) -> None:
        taken = self.taken.setdefault(identifier, set())
        if name:
            self.names[identifier] = name
            self.ever.setdefault(name, set()).add(self.identity[identifier])
            taken.discard(name)
        elif self.names.pop(identifier, ""):
            taken.add(before)


def can_encode(text: str) -> bool:
    try:
        return bool(text.encode("cp1252")) or True
    except UnicodeEncodeError:
        return False


@step
def add_photo(case: Case) -> None:
    """Of one to three people, sometimes of twins."""
    people = case.rng.integers(IDENTITIES, size=case.rng.integers(1, 4)).tolist()
    case.write(case.new_path(), people)


@step
def rename_photo(case: Case) -> None:
    path, to = case.pick(case.photos), case.new_path()
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)
    case.photos[to], case.ids[to] = case.photos.pop(path), case.ids.pop(path)


@step
def swap_photos(case: Case) -> None:
    """Two photos change their names."""
    first, second = case.pick(case.photos), case.pick(case.photos)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    for table in (case.photos, case.ids):
        table[first], table[second] = table[second], table[first]


@step
def copy_photo(case: Case) -> None:
    path, to = case.pick(case.photos), case.new_path()
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)
    case.photos[to], case.ids[to] = case.photos[path], case.ids[path]


@step
def save_photo_anew(case: Case) -> None:
    """In other bytes, at half the size, or with one face less; perhaps under another name."""
    path = case.pick(case.photos)
    found, ids = case.photos[path], case.ids[path]
    scale = case.pick([1.0, 0.5, 2.0])
    found = [(case.near(vector), tuple(round(scale * value) for value in box)) for vector, box in found]
    if case.rng.integers(3) == 0 and len(found) > 1:
        found, ids = found[1:], ids[1:]
    path.write_bytes(case.rng.bytes(20))
    case.photos[path], case.ids[path] = found, ids
    if case.rng.integers(2):
        rename_photo(case)


@step
def delete_photo(case: Case) -> None:
    if len(case.photos) > 2:
        path = case.pick(case.photos)
        path.unlink()
        del case.photos[path], case.ids[path]


@step
def replace_photo(case: Case) -> None:
    """By one of somebody else, under the same name."""
    path = case.pick(case.photos)
    shown = {case.identity[identifier] for identifier in case.ids[path]}
    case.write(path, [case.pick(set(range(IDENTITIES)) - shown)])


@step
def name_some(case: Case) -> None:
    case.run()
    case.name_faces()


@step
def edit_during_the_run(case: Case) -> None:
    case.run()
    measure, before = album_builder.measure_distances, (case.out / "people.csv").read_bytes()

    def edited(*arguments):
        case.name_faces()
        return measure(*arguments)

    with mock.patch.object(album_builder, "measure_distances", edited):
        made = album_builder.make_album(results_of(case.photos, case.out), SCORE)
    is_told = any("stays as it is" in line for line in made.notices)
    assert is_told or before == (case.out / "people.csv").read_bytes()


@step
def kill(case: Case) -> None:
    """At one of the steps of writing."""
    where = case.pick(["write_table", "write_state", "write_page", "write_folders", "measure_distances"])
    with mock.patch.object(album_builder, where, side_effect=KeyboardInterrupt), contextlib.suppress(KeyboardInterrupt):
        album_builder.make_album(results_of(case.photos, case.out), SCORE, "copies")
    case.taken.clear()  # of a photo that was saved anew at the same time


@step
def run_a_part(case: Case) -> None:
    case.run(case.pick(case.photos).parent.name)


@step
def lose_the_state(case: Case) -> None:
    state = case.out / "people.npz"
    if state.exists():
        case.run()
        state.write_bytes(case.pick([b"", state.read_bytes()[:100]]))
        case.numbers.clear()
        case.run()
        case.taken.clear()


@step
def break_the_table(case: Case) -> None:
    table = case.out / "people.csv"
    case.run()
    before, broken = table.read_bytes(), case.pick([*BROKEN, table.read_bytes()[:-40] + b'\r\n"x'])
    table.write_bytes(broken)
    try:
        album_builder.make_album(results_of(case.photos, case.out), SCORE)
    except ValueError as error:
        assert "is no table of people" in str(error)
    else:
        raise AssertionError(f"{broken!r} was taken for a table")
    assert table.read_bytes() == broken
    table.write_bytes(before)


def run_case(seed: int, folder: Path) -> None:
    """Raises AssertionError where a name is lost or moves, and whatever the album raises."""
    case = Case(seed, folder)
    case.run()
    for _ in range(case.rng.integers(3, 9)):
        case.pick(STEPS)(case)
        if case.rng.integers(3):
            case.run()
    case.run()


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        seed = number + int((sys.argv[2:] or ["0"])[0])
        with tempfile.TemporaryDirectory() as temporary:
            try:
                run_case(seed, Path(temporary))
            except Exception as error:
                print(seed, type(error).__name__, str(error)[:300])
