import hashlib

import pytest
from published import write_archive, write_files

from facelib.datasets.published_files import PublishedFiles, check_hashes


def test_folders_and_archives_look_alike(tmp_path):
    content = {"photos/a.jpg": "A", "photos/b.png": "B", "list.txt": "a.jpg 1"}
    junk = {"__MACOSX/photos/._a.jpg": "junk", "photos/._b.png": "junk"}
    write_files(tmp_path / "plain", content)
    write_archive(tmp_path / "packed" / "all.zip", content | junk)
    write_archive(tmp_path / "packed" / "more.tar.gz", {"./photos/c.jpg": "C"})
    with PublishedFiles([tmp_path / "plain"]) as files:
        assert [str(path) for _, path in files.photos()] == ["plain/photos/a.jpg", "plain/photos/b.png"]
        assert files.read(files.find("photos/a.jpg")) == b"A"
        assert files.file(files.find("list.txt")) == tmp_path / "plain" / "list.txt"
        assert files.find("hotos/a.jpg") is None
    with PublishedFiles([tmp_path / "packed"]) as files:
        assert len(list(files.photos())) == 3
        assert files.text(files.require("list.txt", "a list")) == "a.jpg 1"
        assert files.read(files.find("photos/c.jpg")) == b"C"
        assert files.file(files.find("photos/c.jpg")) is None
        with pytest.raises(FileNotFoundError, match=r"packed: no other\.txt there.*expected a list of people"):
            files.require("other.txt", "a list of people")


def test_damaged_and_missing_archives_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.zip: no such file"):
        PublishedFiles([tmp_path / "gone.zip"])
    whole = write_archive(tmp_path / "whole.zip", {"a.jpg": "A" * 1000}).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half\.zip is no complete archive"):
        PublishedFiles([tmp_path / "half.zip"])
    (tmp_path / "half.zip").write_bytes(whole.replace(b"A" * 1000, b"B" * 1000))
    with PublishedFiles([tmp_path / "half.zip"]) as files, pytest.raises(ValueError, match=r"a\.jpg of .*half\.zip"):
        files.read(files.find("a.jpg"))


def test_hashes_are_checked_in_archives_too(tmp_path):
    write_files(tmp_path / "plain", {"list.txt": "right"})
    write_archive(tmp_path / "packed.zip", {"Anno/list.txt": "right"})
    known = {"list.txt": hashlib.md5(b"right").hexdigest(), "absent.txt": ""}
    for path in (tmp_path / "plain", tmp_path / "packed.zip"):
        with PublishedFiles([path]) as files:
            check_hashes(files, known, "md5")
            with pytest.raises(ValueError, match=r"list\.txt is not the file that its authors publish.*--unchecked"):
                check_hashes(files, {"list.txt": "0" * 32}, "md5")
