"""Hostile gallery files, weights, manifests and calibrations, generated from a seed and not stored:
`python tests/hostile_files.py COUNT SEED FOLDER`.

Opens and uses each in this process and prints a line of JSON before and after it, so that the caller knows on which
case the process crashed. Used by test_hostile_files.py.
"""

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

SECONDS = 20  # limit for one case, on busy cores
PEOPLE = {"Ann": 2, "Zo\u00eb": 1, "\u0905\u0928\u0941": 3}  # of the gallery before anything is done to it
VALUES = (
    None,
    True,
    -1,
    0,
    0.5,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "text",
    "\x00",
    [],
    {},
    [[1]],
    {"a": 1},
)
Use = Callable[[], object]  # raises what a user would see, or AssertionError where something is silently wrong
KINDS: dict[str, Callable[[np.random.Generator, Path], Use]] = {}


def register(make: Callable[[np.random.Generator, Path], Use]) -> Callable[[np.random.Generator, Path], Use]:
    KINDS[make.__name__] = make
    return make


def vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    embeddings = rng.normal(size=(count, 32)).astype(np.float32)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def damage(rng: np.random.Generator, path: Path, start: int = 0) -> None:
    """Flip bits, overwrite, cut or lengthen a file, from a byte on."""
    content = bytearray(path.read_bytes())
    place = int(rng.integers(start, max(len(content), start + 1)))
    length = int(rng.integers(1, 5000))
    choice = rng.integers(6)
    if choice == 0:
        for position in rng.integers(start, len(content), rng.integers(1, 30)):
            content[position] ^= 1 << int(rng.integers(8))
    elif choice == 1:
        content[place : place + length] = rng.bytes(len(content[place : place + length]))
    elif choice == 2:
        content[place : place + length] = bytes(len(content[place : place + length]))
    elif choice == 3:
        del content[place:]
    elif choice == 4:
        del content[place : place + length]
    else:
        content += rng.bytes(length)
    path.write_bytes(content)


# ------------------------------------------------------------------------------------------------------- galleries


def make_gallery(rng: np.random.Generator, folder: Path) -> Path:
    from facelib.recognition.gallery import Gallery

    path = folder / "people.gallery"
    with Gallery(path, "abc") as gallery:
        for name, photos in PEOPLE.items():
            gallery.enrol(name, list(vectors(rng, photos)), rng.uniform(0, 1, photos))
    return path


def use_gallery(rng: np.random.Generator, path: Path) -> None:
    """Open a gallery and do with it all that can be done; names may not change without being asked."""
    from test_hostile_files import CALIBRATION

    from facelib.recognition.gallery import Gallery

    probe, other = vectors(rng, 2)
    with Gallery(path, "abc", CALIBRATION) as gallery:
        before = gallery.people()
        assert before == PEOPLE, f"people are {before}"
        for answer in gallery.identify(np.stack([probe, other]), fmr=0.5):
            assert np.isfinite(answer.distance)
        assert gallery.enrol("Eve", [probe, other]) == 2
        gallery.rename("Eve", "Eva")
        assert gallery.verify("Eva", probe).verdict == "same"
        gallery.backup(path.with_name("backup"))
        assert gallery.people() == PEOPLE | {"Eva": 2}, f"people are {gallery.people()}"
        gallery.remove("Eva")
    with Gallery(path, "abc", CALIBRATION) as gallery:
        assert gallery.people() == PEOPLE, f"people are {gallery.people()}"


@register
def damaged_gallery(rng: np.random.Generator, folder: Path) -> Use:
    path = make_gallery(rng, folder)
    damage(rng, path, start=int(rng.choice([0, 100])))
    return lambda: use_gallery(rng, path)


@register
def header_of_a_gallery(rng: np.random.Generator, folder: Path) -> Use:
    """Page size, versions, counters and sizes in the first 100 bytes."""
    path = make_gallery(rng, folder)
    content = bytearray(path.read_bytes())
    field = int(rng.integers(16, 96))
    content[field : field + 4] = rng.bytes(4) if rng.integers(2) else b"\xff\xff\xff\xff"
    path.write_bytes(content)
    return lambda: use_gallery(rng, path)


@register
def edited_gallery(rng: np.random.Generator, folder: Path) -> Use:
    """Wrong types, NaN, huge sizes, other tables, triggers: what another program may have written."""
    path = make_gallery(rng, folder)
    nan = np.full(32, np.nan, np.float32).tobytes().hex()
    statements = [
        *(f"UPDATE vectors SET vector = {value}" for value in (f"x'{nan}'", "zeroblob(128)", "zeroblob(10000000)", "''", 7)),
        *(f"UPDATE vectors SET quality = {value} WHERE id = 2" for value in ("9e999", -1, "'x'", "x'00'", 1e300)),
        *(f"UPDATE vectors SET person = {value} WHERE id = 2" for value in (77, -1, 2**62)),
        *(f"UPDATE about SET size = {value}" for value in (-1, 0, 33, 2**62, 0.5, "'x'", "x'00'")),
        *(f"UPDATE people SET name = {value} WHERE id = 1" for value in ("x'ff'", "CAST(x'ff' AS TEXT)", "zeroblob(99)")),
        *(f"UPDATE about SET embedder = {value}" for value in ("''", "'other'", "x'00'")),
        *(f"ALTER TABLE {table} RENAME TO x" for table in ("about", "people", "vectors")),
        *(f"DROP TABLE {table}" for table in ("about", "people", "vectors")),
        *(f"DELETE FROM {table}" for table in ("about", "people", "vectors")),
        "ALTER TABLE people RENAME COLUMN name TO person",
        "ALTER TABLE vectors RENAME COLUMN quality TO weight",
        "ALTER TABLE vectors ADD COLUMN more DEFAULT 1",
        "DROP INDEX of_person",
        "INSERT INTO about VALUES ('abc', 32)",
        "INSERT INTO people (name) VALUES ('Nobody')",
        "CREATE TRIGGER t AFTER INSERT ON vectors BEGIN UPDATE people SET name = name || 'x'; END",
        "CREATE VIEW v AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
        "PRAGMA application_id = 0",
        "PRAGMA journal_mode = DELETE",
    ]  # fmt: skip
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute(str(rng.choice(statements)))
    connection.close()
    return lambda: use_gallery(rng, path)


@register
def schema_of_a_gallery(rng: np.random.Generator, folder: Path) -> Use:
    path = make_gallery(rng, folder)
    texts = ("'junk'", "NULL", "replace(sql, 'UNIQUE', '')", "replace(sql, 'name', 'nama')", "x'00ff'", "sql || ' '")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    table = rng.choice(["about", "people", "vectors", "of_person"])
    connection.execute(f"UPDATE sqlite_master SET sql = {rng.choice(texts)} WHERE name = ?", (str(table),))
    if rng.integers(2):
        connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (int(rng.integers(99)), str(table)))
    connection.close()
    return lambda: use_gallery(rng, path)


@register
def files_beside_a_gallery(rng: np.random.Generator, folder: Path) -> Use:
    """A log, its index or a journal: junk, or those of another gallery that was open."""
    path = make_gallery(rng, folder)
    suffix = str(rng.choice(["-wal", "-shm", "-journal"]))
    beside = Path(f"{path}{suffix}")
    (folder / "other").mkdir()
    other = make_gallery(rng, folder / "other")
    connection = sqlite3.connect(other, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if suffix == '-journal' else 'WAL'}")
    connection.execute("PRAGMA cache_size = 1")  # a journal is used once pages have been written out of this cache
    connection.execute("UPDATE people SET name = name || 'x'")
    connection.execute("BEGIN")
    connection.execute("UPDATE vectors SET person = 1")
    for vector in vectors(rng, 99):
        connection.execute("INSERT INTO vectors (person, vector, quality) VALUES (1, ?, 1)", (vector.tobytes(),))
    if suffix != "-journal":
        connection.execute("COMMIT")
    source = Path(f"{other}{suffix}")
    content = source.read_bytes() if source.exists() and rng.integers(3) else rng.bytes(int(rng.integers(9000)))
    connection.close()
    beside.write_bytes(content)
    return lambda: use_gallery(rng, path)


@register
def no_gallery(rng: np.random.Generator, folder: Path) -> Use:
    path = folder / "people.gallery"
    choice = int(rng.integers(9))
    if choice == 0:
        path.write_bytes(rng.bytes(int(rng.integers(1, 9000))))
    elif choice == 1:
        path.write_bytes(b"SQLite format 3\x00" + rng.bytes(int(rng.integers(9000))))
    elif choice == 2:
        path.mkdir()
    elif choice == 3:
        path.symlink_to(path)
    elif choice == 4:
        path.symlink_to(folder / "gone" / "file")
    elif choice == 5:
        os.mkfifo(path)
    elif choice == 6:
        path.symlink_to("/dev/zero")
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE people (id, name)")
            connection.execute(f"PRAGMA application_id = {0x66616365 if choice == 7 else 5}")
        connection.close()
    return lambda: use_gallery(rng, path)


@register
def names_in_a_gallery(rng: np.random.Generator, folder: Path) -> Use:
    """Any characters: refused, or stored in the one form, under which the person is found again."""
    from facelib.recognition.gallery import Gallery
    from facelib.recognition.names import normalise_name, safe_folder_name

    path = make_gallery(rng, folder)
    letters = "aZ \u0301\u0308\u00e9\u0939\u094d\u200d\ufeff\u202e\n\t\x00\x7f\udc80'\"%;=/\\.\U0001f600\u2028\u00a0"
    name = "".join(rng.choice(list(letters), int(rng.integers(0, 6))))

    def use() -> None:
        with Gallery(path, "abc") as gallery:
            try:
                gallery.enrol(name, vectors(rng, 1)[0])
            except ValueError as error:
                assert "needs a name" in str(error) or "control character" in str(error), error
                assert gallery.people() == PEOPLE
                return
            assert set(gallery.people()) == {*PEOPLE, normalise_name(name)}
            (folder / safe_folder_name(normalise_name(name))).mkdir(exist_ok=True)
            gallery.remove(name)
            assert gallery.people() == PEOPLE
        use_gallery(rng, path)

    return use


# ---------------------------------------------------------------------------------------- weights and calibrations


def changed(rng: np.random.Generator, value: object) -> object:
    """A copy of a JSON value with one part replaced, removed or added, at any depth."""
    if isinstance(value, dict) and value and rng.integers(4):
        key = str(rng.choice(list(value)))
        if not rng.integers(5):
            return {name: part for name, part in value.items() if name != key}
        return value | {key: changed(rng, value[key])}
    if isinstance(value, list) and value and rng.integers(2):
        place = int(rng.integers(len(value)))
        return [*value[:place], changed(rng, value[place]), *value[place + 1 :]]
    if isinstance(value, dict) and rng.integers(2):
        return value | {str(rng.choice(["pretrained", "more", "../a"])): True}
    return VALUES[int(rng.integers(len(VALUES)))]


def write_changed(rng: np.random.Generator, path: Path) -> None:
    """Change the value of a JSON file, or damage its text."""
    if rng.integers(4):
        path.write_text(json.dumps(changed(rng, json.loads(path.read_text()))))
    else:
        damage(rng, path)


def use_weights(path: Path) -> None:
    from facelib import load_landmarker

    landmarker = load_landmarker(path, "cpu")
    try:
        assert landmarker.predict_crops(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 5, 2)
    except ValueError as error:  # values whose hash the manifest has, but NaN
        assert "heatmaps hold NaN or infinity" in str(error), error


def make_weights(folder: Path) -> Path:
    for file in (folder.parent / "weights").iterdir():
        shutil.copy(file, folder)
    return folder / "small.pt"


@register
def manifest(rng: np.random.Generator, folder: Path) -> Use:
    path = make_weights(folder)
    write_changed(rng, folder / "manifest.json")
    return lambda: use_weights(path)


@register
def weights(rng: np.random.Generator, folder: Path) -> Use:
    """Damaged, with the hash of the original or of the damaged file; or something else than weights."""
    import torch

    from facelib.io.files import file_hash

    path = make_weights(folder)
    if rng.integers(3):
        damage(rng, path)
    else:
        contents = ([1], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3), None, {"heads": torch.full((1,), torch.nan)})
        torch.save(contents[int(rng.integers(len(contents)))], path)
    if rng.integers(2):
        entries = json.loads((folder / "manifest.json").read_text())
        entries["small.pt"]["sha256"] = file_hash(path)
        (folder / "manifest.json").write_text(json.dumps(entries))
    return lambda: use_weights(path)


@register
def embedders_as_onnx(rng: np.random.Generator, folder: Path) -> Use:
    from facelib import load_embedder

    path = folder / "embedder.onnx"
    shutil.copy(folder.parent / "embedder.onnx", path)
    damage(rng, path)

    def use() -> None:
        embeddings = load_embedder(path, "cpu").embed(np.zeros((1, 112, 112, 3), np.uint8))
        assert embeddings.shape[0] == 1

    return use


@register
def calibrations(rng: np.random.Generator, folder: Path) -> Use:
    from test_hostile_files import CALIBRATION

    from facelib.recognition.calibration_files import load_calibration

    path = folder / "calibration_abc.json"
    path.write_text(json.dumps(vars(CALIBRATION)))
    write_changed(rng, path)

    def use() -> None:
        calibration = load_calibration("abc", [folder])
        decisions = [calibration.decide(float(s), photos=photos) for photos in (1, 3) for s in np.linspace(1, -1, 50)]
        assert all(0 <= decision.false_match_rate <= 1 for decision in decisions)
        assert decisions[-1].verdict == "different" and calibration.decide(float("nan")).verdict == "unsure"

    return use


# ------------------------------------------------------------------------------------------------------------ runs


def outcome(use: Use, name: str) -> str:
    """ "fine" or "error", or a description of what is wrong."""
    from facelib.types import FacelibError

    try:
        use()
    except (FacelibError, OSError, ValueError) as error:
        text = str(error)
        if name not in text or not 5 < len(text) < 700 or not text.isprintable():
            return f"an unclear error: {type(error).__name__}: {text!r}"[:400]
        documented = isinstance(error, FacelibError | OSError) or "calibration" in text
        return "error" if documented else f"not documented: {type(error).__name__}: {text}"[:400]
    return "fine"


def prepare(folder: Path) -> None:
    """The weights that cases copy."""
    from test_hostile_files import save_small_weights

    save_small_weights(folder)


def hang(*_: object) -> None:
    raise TimeoutError(f"took over {SECONDS} seconds")


def main() -> None:
    count, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    prepare(folder)
    signal.signal(signal.SIGALRM, hang)
    names = list(KINDS)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        case_folder = folder / str(i)
        case_folder.mkdir()
        kind = names[i % len(names)]
        print(json.dumps({"case": i, "kind": kind}), flush=True)
        signal.alarm(SECONDS)
        try:
            got = outcome(KINDS[kind](rng, case_folder), case_folder.name)
        except BaseException as error:
            got = f"{type(error).__name__}: {error}"[:400]
        signal.alarm(0)
        shutil.rmtree(case_folder, ignore_errors=True)
        print(json.dumps({"case": i, "got": got}), flush=True)


if __name__ == "__main__":
    main()
