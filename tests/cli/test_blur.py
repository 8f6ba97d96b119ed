"""facelib blur: whose faces are hidden, what the copies hold, and which files are never touched."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from facelib.cli import blur_files, blur_run, runs
from facelib.cli.main import main
from facelib.io.images import read_image
from facelib.recognition.gallery import Gallery

NETWORKS = ("--detector", "retinaface", "--device", "cpu")


def run(*arguments, out):
    return main(["blur", *map(str, arguments), "--out", str(out), *NETWORKS])


@pytest.fixture
def shown(portraits, pipeline, monkeypatch):
    """The boxes of the faces of the portraits 0 and 1; commands use the pipeline of the tests."""
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: pipeline)
    return [pipeline(portraits / name)[0].box.round().astype(int) for name in ("0.png", "1.png")]


@pytest.fixture
def gallery(tmp_path, portraits, pipeline):
    """Ann is the face of portrait 0."""
    with Gallery(tmp_path / "people.gallery", pipeline.model_id) as opened:
        opened.enrol("Ann", pipeline(portraits / "0.png")[0])
    return tmp_path / "people.gallery"


def share_changed(before, after, box):
    x1, y1, x2, y2 = box
    return float((np.abs(read_image(before).astype(int) - read_image(after)) > 8).any(2)[y1:y2, x1:x2].mean())


def test_all_faces_are_hidden_and_originals_stay(portraits, shown, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in portraits.iterdir()}
    assert run(portraits, out=tmp_path / "out") == 0
    assert {path.name: path.read_bytes() for path in portraits.iterdir()} == before
    assert sorted(os.listdir(tmp_path / "out")) == ["0.png", "1.png", "blank.png"]
    for name, box in zip(("0.png", "1.png"), shown):
        assert read_image(tmp_path / "out" / name).shape == read_image(portraits / name).shape
        assert share_changed(portraits / name, tmp_path / "out" / name, box) > 0.8
    said = capsys.readouterr().out
    assert "0.png: 1 area hidden" in said
    assert "blank.png: no face was found: look at it" in said


def test_who_is_named_stays_visible_and_nobody_else(portraits, shown, gallery, tmp_path, capsys):
    files = (portraits / "0.png", portraits / "1.png")
    assert run(*files, "--except", "Ann", "--gallery", gallery, out=tmp_path / "out") == 0
    assert share_changed(files[0], tmp_path / "out/0.png", shown[0]) == 0
    assert share_changed(files[1], tmp_path / "out/1.png", shown[1]) > 0.8
    assert "0.png: no other face was found: look at it before you share it; Ann visible" in capsys.readouterr().out
    # Without --except the copy with a visible face is replaced.
    assert run(*files, out=tmp_path / "out") == 0
    assert share_changed(files[0], tmp_path / "out/0.png", shown[0]) > 0.8


def test_doubtful_faces_are_hidden(portraits, shown, gallery, tmp_path, capsys):
    """One that is not usable although it is the person's, and two in one photo that have one name."""
    portrait = Image.open(portraits / "0.png")
    tiny = portrait.resize([side // 12 for side in portrait.size]).resize(portrait.size)
    tiny.save(tmp_path / "tiny.png")
    twice = Image.new("RGB", (2 * portrait.width, portrait.height))
    twice.paste(portrait, (0, 0))
    twice.paste(portrait, (portrait.width, 0))
    twice.save(tmp_path / "twice.png")
    files = (tmp_path / "tiny.png", tmp_path / "twice.png")
    assert run(*files, "--except", "Ann", "--gallery", gallery, "--threshold", "-1", out=tmp_path / "out") == 0
    for file in files:
        assert share_changed(file, tmp_path / "out" / file.name, shown[0]) > 0.8
    assert "twice.png: several faces are identified as Ann" in capsys.readouterr().err


def test_an_unknown_name_and_half_a_pair_of_options_are_errors(portraits, shown, gallery, tmp_path, capsys):
    assert run(portraits, "--except", "Bob", "--gallery", gallery, out=tmp_path / "out") == 2
    assert "Bob is not in" in (said := capsys.readouterr().err) and "which has Ann" in said
    for options in (["--except", "Ann"], ["--gallery", gallery]):
        assert run(portraits, *options, out=tmp_path / "out") == 2
        assert "go together" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def jpeg_with_metadata(path, portrait):
    image = Image.open(portrait).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated
    exif[0x013B] = "Photographer Name"
    exif.get_ifd(0x8825)[1] = "N"
    profile = b"\0" * 16 + b"RGB " + b"\0" * 108
    image.save(path, quality=95, exif=exif, icc_profile=profile, comment=b"holiday", xmp=b"<x>secret</x>")
    return profile


def test_copies_hold_no_metadata_but_the_colours(portraits, shown, tmp_path):
    profile = jpeg_with_metadata(tmp_path / "a.jpg", portraits / "0.png")
    assert run(tmp_path / "a.jpg", out=tmp_path / "out") == 0
    content = (tmp_path / "out/a.jpg").read_bytes()
    assert not any(text in content for text in (b"Exif", b"Photographer", b"holiday", b"secret"))
    with Image.open(tmp_path / "out/a.jpg") as copy:
        assert copy.size == Image.open(portraits / "0.png").size  # upright
        assert copy.info["icc_profile"] == profile
        assert copy.info["comment"].startswith(blur_files.MARK.encode())
        assert str(tmp_path).encode() not in copy.info["comment"]


def test_formats_and_names_that_collide(portraits, shown, tmp_path):
    portrait = Image.open(portraits / "0.png").convert("RGB")
    (tmp_path / "in/more").mkdir(parents=True)
    for name in ("a.webp", "a.bmp", "more/A.JPG"):
        portrait.save(tmp_path / "in" / name)
    assert run(tmp_path / "in", out=tmp_path / "out") == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["A-3.jpg", "a-2.jpg", "a.png"]


@pytest.mark.parametrize("options, smallest", [([], 16), (["--smallest-face", 60], 60)])
def test_small_faces_are_searched_unless_told_otherwise(portraits, shown, tmp_path, monkeypatch, options, smallest):
    real, used = blur_run.find_all_faces, []
    monkeypatch.setattr(
        blur_run, "find_all_faces", lambda detector, image: used.append(detector) or real(detector, image)
    )
    assert run(portraits / "0.png", *options, out=tmp_path / "out") == 0
    assert used[0].smallest_face == smallest and used[0].threshold == 0.2


def test_files_of_others_are_not_replaced_unless_asked(portraits, shown, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    for name in ("0.png", "1.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / "out" / name)
    before = (tmp_path / "out/0.png").read_bytes()
    assert run(portraits, out=tmp_path / "out") == 2
    assert "0.png exists, and facelib has not written it" in capsys.readouterr().err
    assert (tmp_path / "out/0.png").read_bytes() == before
    assert not (tmp_path / "out/blank.png").exists()
    assert run(portraits, "--force", out=tmp_path / "out") == 0
    assert share_changed(portraits / "0.png", tmp_path / "out/0.png", shown[0]) > 0.8
    assert run(portraits / "0.png", out=portraits) == 2
    assert "lies in the folder of the copies" in capsys.readouterr().err


def test_copies_of_other_files_and_originals_behind_links_stay(portraits, shown, tmp_path, capsys):
    for name, portrait in (("a", "0.png"), ("b", "1.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes((portraits / portrait).read_bytes())
    out = tmp_path / "out"
    assert run(tmp_path / "a/x.png", out=out) == 0
    before = (out / "x.png").read_bytes()
    assert run(tmp_path / "b/x.png", out=out) == 2
    assert "is the copy of another file" in capsys.readouterr().err
    assert (out / "x.png").read_bytes() == before
    (tmp_path / "links").mkdir()
    (tmp_path / "links/y.png").symlink_to(out / "x.png")
    assert run(tmp_path / "links/y.png", "--force", out=out) == 2
    assert "lies in the folder of the copies" in capsys.readouterr().err


def test_a_second_run_does_what_is_missing_or_changed(portraits, shown, tmp_path, monkeypatch, capsys):
    real, seen = blur_run.read_image, []
    monkeypatch.setattr(blur_run, "read_image", lambda path: seen.append(path.name) or real(path))
    assert run(portraits, out=tmp_path / "out") == 0
    (tmp_path / "out/1.png").unlink()
    seen.clear()
    assert run(portraits, out=tmp_path / "out") == 0
    assert seen == ["1.png"]
    assert "0.png: done already" in capsys.readouterr().out
    assert run(portraits, "--style", "box", out=tmp_path / "out") == 0
    assert len(seen) == 4


def test_ctrl_c_keeps_what_is_done(portraits, shown, tmp_path, monkeypatch):
    real = blur_run.read_image

    def interrupted(path):
        if path.name == "1.png":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(blur_run, "read_image", interrupted)
    assert run(portraits, out=tmp_path / "out") == 130
    assert os.listdir(tmp_path / "out") == ["0.png"]


def test_unreadable_files_are_named_and_others_go_on(portraits, shown, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    files = (tmp_path / "broken.jpg", tmp_path / "missing.jpg", portraits / "0.png")
    assert run(*files, "--json", out=tmp_path / "out") == 1
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert ["error" in row for row in rows] == [True, True, False]
    assert rows[2] == {"file": str(files[2]), "copy": str(tmp_path / "out/0.png"), "hidden": 1, "visible": []}
    assert "broken.jpg" in printed.err and "missing.jpg: no such file" in printed.err
    assert run(*files[:2], out=tmp_path / "out") == 2


def test_a_copy_of_other_settings_does_not_stay_where_a_run_fails(portraits, shown, tmp_path, monkeypatch):
    assert run(portraits / "0.png", out=tmp_path / "out") == 0
    monkeypatch.setattr(blur_run, "read_image", lambda path: (_ for _ in ()).throw(ValueError("unreadable")))
    assert run(portraits / "0.png", "--style", "box", out=tmp_path / "out") == 2
    assert not os.listdir(tmp_path / "out")


def test_a_full_disk_ends_the_run(portraits, shown, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(blur_run, "write_photo", full)
    assert run(portraits, out=tmp_path / "out") == 2
    assert capsys.readouterr().err.count("No space left") == 1


def test_copies_have_the_rights_of_the_umask(portraits, shown, tmp_path):
    before = os.umask(0o022)
    try:
        assert run(portraits / "0.png", out=tmp_path / "out") == 0
    finally:
        os.umask(before)
    assert (tmp_path / "out/0.png").stat().st_mode & 0o777 == 0o644


@pytest.fixture
def clips(tmp_path, portraits):
    """A clip of portrait 0 that moves, an animated GIF of it, and a damaged clip."""
    pytest.importorskip("av")
    from video.clips import write_clip

    (tmp_path / "clips").mkdir()
    portrait = np.asarray(Image.open(portraits / "0.png").convert("RGB"))
    height, width = (side - side % 2 for side in portrait.shape[:2])
    images = [np.roll(portrait[:height, :width], 2 * number, 1) for number in range(4)]
    write_clip(tmp_path / "clips/a.mp4", images, rate=10)
    first, *others = map(Image.fromarray, images)
    first.save(tmp_path / "clips/b.gif", save_all=True, append_images=others, duration=100)
    (tmp_path / "clips/broken.mp4").write_bytes((tmp_path / "clips/a.mp4").read_bytes()[:300])
    return tmp_path / "clips"


def frames_of(path):
    from facelib.video.reader import Clip

    with Clip(path, every=1) as clip:
        return [frame.image for frame in clip]


def test_clips(clips, shown, gallery, tmp_path, capsys):
    assert run(clips, out=tmp_path / "out") == 1
    assert sorted(os.listdir(tmp_path / "out")) == ["a.mp4", "b.mp4"]
    assert "broken.mp4" in capsys.readouterr().err
    x1, y1, x2, y2 = shown[0]

    def detail(image):
        grey = image[y1:y2, x1:x2].mean(2)
        return float(np.abs(np.diff(grey, axis=1)).mean())

    original = [detail(image) for image in frames_of(clips / "a.mp4")]
    for name in ("a.mp4", "b.mp4"):
        hidden = [detail(image) for image in frames_of(tmp_path / "out" / name)]
        assert len(hidden) == 4
        assert max(hidden) < 0.4 * min(original)
    assert run(clips / "a.mp4", out=tmp_path / "out") == 0
    assert "a.mp4: done already" in capsys.readouterr().out
    assert run(clips / "a.mp4", "--except", "Ann", "--gallery", gallery, out=tmp_path / "out") == 0
    assert "Ann visible" in capsys.readouterr().out
    visible = [detail(image) for image in frames_of(tmp_path / "out/a.mp4")]
    assert min(visible) > 0.8 * min(original)


def test_a_clip_that_ends_in_the_middle_is_told_each_time(clips, tmp_path, capsys):
    from video.clips import write_clip

    portrait = frames_of(clips / "a.mp4")[0]
    whole, cut = clips / "whole.mkv", clips / "cut.mkv"
    write_clip(whole, [np.roll(portrait, 2 * number, 1) for number in range(20)], rate=10, g=5)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert run(cut, out=tmp_path / "out") == 1
    assert "in the middle" in capsys.readouterr().err
    assert run(cut, out=tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "done already" in told.out and "cut.mkv: the copy holds what could be read" in told.err
