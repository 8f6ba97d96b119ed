"""Which files of a folder are photos."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from facelib.io.photo_search import A_VIDEO, DUPLICATE, HIDDEN, NOT_A_PHOTO, RAW_FILE, find_photos, search_photos


def picture(path, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 9, 3), 90, np.uint8)).save(path, format=kind)


def names(paths):
    return [path.name for path in paths]


def test_photos_are_recognised_by_content(tmp_path):
    for name, kind in (
        ("a.jfif", "JPEG"),
        ("b.avif", "AVIF"),
        ("c.jp2", "JPEG2000"),
        ("d.mpo", "MPO"),
        ("e.JPE", "JPEG"),
        ("f_from_chat", "JPEG"),
        ("g.dat", "WEBP"),
        ("sub/h.PNG", "PNG"),
    ):
        picture(tmp_path / name, kind)
    (tmp_path / "i.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(100))
    (tmp_path / "notes.txt").write_text("Python, not a picture")  # "P" and a letter, as PPM files begin
    (tmp_path / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(100))
    (tmp_path / "table.csv").write_text("BMI;age and more columns")
    (tmp_path / "empty").touch()
    (tmp_path / "raw.CR2").write_bytes(b"II*\x00" + bytes(100))
    (tmp_path / "damaged.jpg").write_text("its suffix says photo, so reading it gives the error")
    found = search_photos([tmp_path])
    assert names(found.photos) == [
        "a.jfif", "b.avif", "c.jp2", "d.mpo", "damaged.jpg", "e.JPE", "f_from_chat", "g.dat", "i.HEIC", "h.PNG",
    ]  # fmt: skip
    assert {reason: names(paths) for reason, paths in found.skipped.items()} == {
        NOT_A_PHOTO: ["empty", "notes.txt", "table.csv"],
        A_VIDEO: ["clip.mp4"],
        RAW_FILE: ["raw.CR2"],
    }
    assert "skipped: 3 (not a photo): empty, notes.txt, table.csv" in found.summary()
    assert "skipped: 1 (a video: facelib video reads it): clip.mp4" in found.summary()


def test_system_files_are_skipped(tmp_path):
    picture(tmp_path / "holiday/six.jpg", "JPEG")
    for name in (
        "holiday/._six.jpg",
        "holiday/.DS_Store",
        "holiday/Thumbs.db",
        "__MACOSX/holiday/._six.jpg",
        "@eaDir/six.jpg/SYNOPHOTO_THUMB_M.jpg",
        ".thumbnails/six.jpg",
    ):
        picture(tmp_path / name, "JPEG")
    found = search_photos([tmp_path])
    assert names(found.photos) == ["six.jpg"]
    assert len(found.skipped[HIDDEN]) == 6
    assert found.summary()[0].startswith(
        "skipped: 6 (hidden, or made by the system): .thumbnails, @eaDir, __MACOSX, ..."
    )
    assert find_photos([tmp_path / "holiday/._six.jpg"]) == [tmp_path / "holiday/._six.jpg"]  # given explicitly


def test_each_photo_once_and_links_are_followed(tmp_path):
    picture(tmp_path / "real/anna/1.jpg", "JPEG")
    picture(tmp_path / "album/2.jpg", "JPEG")
    (tmp_path / "album/anna").symlink_to(tmp_path / "real/anna")
    (tmp_path / "album/loop").symlink_to(tmp_path / "album")
    (tmp_path / "album/up").symlink_to(tmp_path)
    (tmp_path / "album/3.jpg").symlink_to(tmp_path / "album/2.jpg")
    (tmp_path / "album/dangling.jpg").symlink_to(tmp_path / "missing.jpg")
    os.mkfifo(tmp_path / "album/pipe.jpg")
    found = search_photos([tmp_path / "album/2.jpg", tmp_path / "album", tmp_path / "real", tmp_path / "album/anna"])
    assert names(found.photos) == ["2.jpg", "1.jpg"]
    reasons = {reason: names(paths) for reason, paths in found.skipped.items()}
    assert set(reasons.pop(DUPLICATE)) == {"2.jpg", "3.jpg"}
    assert reasons == {"broken link": ["dangling.jpg"], "not a regular file": ["pipe.jpg"]}


def test_given_paths_are_kept_or_expanded(tmp_path, monkeypatch):
    for name in ("head_1.png", "head_2.png", "other.png"):
        picture(tmp_path / name)
    assert names(find_photos([tmp_path / "head_*.png"])) == ["head_1.png", "head_2.png"]
    picture(tmp_path / "a[1]*.png")
    assert names(find_photos([tmp_path / "a[1]*.png"])) == ["a[1]*.png"]  # a file with that name
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_photos(["~/other.png"]) == [tmp_path / "other.png"]
    assert find_photos(str(tmp_path / "other.png")) == [tmp_path / "other.png"]  # one path, not its letters
    odd = [tmp_path / ("y" * 300), tmp_path / "a\0b", tmp_path / "missing.jpg", tmp_path / "no*.png"]
    assert find_photos(odd) == odd  # reading them reports the error


def test_folders_can_be_excluded_and_skipped_files_are_reported(tmp_path):
    picture(tmp_path / "a/1.jpg", "JPEG")
    picture(tmp_path / "2.jpg", "JPEG")
    assert search_photos([tmp_path], lambda folder: folder.name == "a").photos == [tmp_path / "2.jpg"]
    shutil.copy(__file__, tmp_path / "code.py")
    with pytest.warns(UserWarning, match=r"skipped: 1 \(not a photo\): code\.py"):
        assert len(find_photos([tmp_path])) == 2


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may read everything")
def test_folder_without_permission(tmp_path):
    (tmp_path / "secret").mkdir(mode=0)
    found = search_photos([tmp_path])
    assert found.summary() == ["skipped: 1 (cannot be listed, Permission denied): secret"]
