import errno
import os
import subprocess
import unicodedata
from pathlib import Path

import pytest

from facelib.io.files import atomic_write, files_key, printable, private_files, unique_names


def test_a_full_disk_names_the_file_and_not_the_temporary_one(tmp_path):
    for error in (OSError(errno.ENOSPC, "No space left on device"), None):
        with (
            pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'$"),
            atomic_write(tmp_path / "a.txt") as path,
        ):
            raise error or OSError(errno.ENOSPC, "No space left on device", str(path))


def test_atomic_write_replaces_completely_or_not_at_all(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_write(target) as path:
        path.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    with atomic_write(target) as path:
        path.write_text("new")
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    leftover = tmp_path / f".0123456789abcdef.{ended.pid}-7.new.jpg"
    others = [tmp_path / f".0123456789abcdef.{os.getpid()}-7.new.jpg", tmp_path / ".mine.new.jpg"]
    for file in (leftover, *others):
        file.write_text("half")
    with atomic_write(tmp_path / "a.txt") as path:
        path.write_text("whole")
    assert not leftover.exists()
    assert all(file.exists() for file in others)


def test_links_are_replaced_not_written_through(tmp_path):
    original = tmp_path / "photo.jpg"
    original.write_text("the user's own")
    target = tmp_path / "out.jpg"
    target.symlink_to(original)
    with atomic_write(target) as path:
        path.write_text("result")
    assert original.read_text() == "the user's own"
    assert not target.is_symlink()
    # The same holds for a link in place of the temporary file.
    with atomic_write(target) as path:
        path.write_text("result")
    path.symlink_to(original)
    with atomic_write(target) as path:
        path.write_text("again")
    assert original.read_text() == "the user's own"


def test_printable():
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable(Path("王小明 é.jpg")) == "王小明 é.jpg"
    printable(os.fsdecode(b"\xff.jpg")).encode("utf-8")  # would raise


def test_unique_names_never_collide():
    files = [
        Path(name)
        for name in (
            "a/x.jpg",
            "b/x.jpg",
            "x-2.jpg",
            "x.png",
            "X.png",
            "é.png",
            "e\u0301.png",
            "y" * 251 + ".jpg",
            "z" * 251,
        )
    ]
    names = unique_names([*files, Path("c") / ("y" * 250 + "w.jpg"), Path(os.fsdecode(b"\xff" * 250 + b".jpg"))])
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names) == 11
    assert max(len(os.fsencode(name)) for name in names) <= 210


def test_files_key_changes_with_content_path_and_settings(tmp_path):
    (tmp_path / "a").write_text("one")
    key = files_key([tmp_path / "a"], "setting")
    assert files_key([tmp_path / "a"], "setting") == key
    assert files_key([tmp_path / "a"], "other") != key
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a").write_text("one")
    assert files_key([tmp_path / "b" / "a"], "setting") != key
    (tmp_path / "a").write_text("longer")
    longer = files_key([tmp_path / "a"], "setting")
    assert longer != key
    os.utime(tmp_path / "a", (1, 1))
    assert files_key([tmp_path / "a"], "setting") != longer
    (tmp_path / "a").unlink()
    assert files_key([tmp_path / "a"], "setting") != longer


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_private_files(tmp_path):
    before = os.umask(0o022)
    try:
        for private, expected in ((True, 0o600), (False, 0o644)):
            with pytest.raises(ZeroDivisionError), private_files(private):
                (tmp_path / str(private)).touch()
                raise ZeroDivisionError
            assert (tmp_path / str(private)).stat().st_mode & 0o777 == expected
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
