"""Which files of a folder are clips."""

import pytest
from PIL import Image
from video.clips import gradients, write_clip

from facelib.io.formats import HEAD_BYTES
from facelib.video.search import A_PHOTO, NOT_A_VIDEO, is_clip, search_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips of several formats, some without their suffix, and what is none."""
    folder = tmp_path_factory.mktemp("clips")
    for name, codec in (
        ("a.mp4", "libx264"), ("b.mkv", "libx264"), ("c.avi", "mpeg4"), ("sub/d.ts", "libx264"), ("sub/e.mpg", "mpeg2video"),
        ("f.flv", "libx264"), ("g.webm", "libvpx-vp9"),
    ):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        write_clip(folder / name, gradients(2), codec=codec)
    for name in ("a.mp4", "b.mkv", "c.avi", "f.flv", "sub/e.mpg"):
        (folder / f"no_suffix_{name[-1]}").write_bytes((folder / name).read_bytes())
    (folder / "h.MOV").write_bytes(b"damaged: its suffix says video, so reading it gives the error")
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "photo.jpg")
    (folder / "code.ts").write_text("const greeting = 'TypeScript'")
    (folder / "notes.txt").write_text("The free skip")
    (folder / "sound.m4a").write_bytes((folder / "a.mp4").read_bytes())
    return folder


def test_clips_are_recognised_by_content(folder):
    found = search_clips(folder)
    assert [path.name for path in found.photos] == [
        "a.mp4", "b.mkv", "c.avi", "f.flv", "g.webm", "h.MOV",
        "no_suffix_4", "no_suffix_g", "no_suffix_i", "no_suffix_v", "d.ts", "e.mpg",
    ]  # fmt: skip
    assert {reason: [path.name for path in paths] for reason, paths in found.skipped.items()} == {
        A_PHOTO: ["animated.gif", "photo.jpg"],
        NOT_A_VIDEO: ["code.ts", "notes.txt", "sound.m4a"],
    }


def test_what_is_named_is_kept_and_folders_can_be_excluded(folder):
    given = [folder / "animated.gif", folder / "%04d.png", folder / "missing.mp4", folder / "notes.txt"]
    assert search_clips(given).photos == given
    names = [path.name for path in search_clips([folder], lambda inner: inner.name == "sub").photos]
    assert "a.mp4" in names and "d.ts" not in names


def test_a_photo_with_the_suffix_of_a_video_is_left_to_the_reader(folder):
    head = (folder / "photo.jpg").read_bytes()[:HEAD_BYTES]
    assert is_clip(head, "photo.mp4") and not is_clip(head, "photo.jpg")
