"""`facelib video` from clips to tables, page and pictures: names, bad clips, and runs that were ended."""

import csv
import errno
import json
import os
import shutil
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av")
from video.clips import write_clip

from facelib import Gallery, load_detector
from facelib.cli import video_run
from facelib.cli.main import main
from facelib.cli.video_results import resume
from facelib.evaluation.benchmarks.crowds import crowd
from facelib.evaluation.detection import count_faces
from facelib.io.lock import lock_folder
from facelib.runtime.manifest import default_model_id


def views(photo: np.ndarray, places: list[int]) -> list[np.ndarray]:
    """Frames of 640 x 360 of the sample photo: the camera is at these columns."""
    return [np.ascontiguousarray(photo[100:460, x : x + 640]) for x in places]


@pytest.fixture(scope="module")
def clip(tmp_path_factory, photo):
    """Two seconds at 10 a second: the camera moves over three people, then there is nobody."""
    path = tmp_path_factory.mktemp("clips") / "party.mp4"
    return write_clip(path, [*views(photo, list(range(0, 80, 4))), *[np.zeros((360, 640, 3), np.uint8)] * 3], rate=10)


@pytest.fixture(scope="module")
def result(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "out"
    assert run(clip, out, "--every", "2") == 0
    return out


def run(*arguments: object) -> int:
    return main(["video", "--quiet", "--detector", "retinaface", *map(str, _with_out(arguments))])


def _with_out(arguments: tuple) -> list:
    clips_and_out = [argument for argument in arguments if not isinstance(argument, str)]
    options = [argument for argument in arguments if isinstance(argument, str)]
    return [*clips_and_out[:-1], "--out", clips_and_out[-1], *options]


def table(out, name):
    with open(out / name, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def settings_of(result):
    return json.loads(str(np.load(result / "facelib_tracks/party.npz")["state"]))["settings"]


def test_tables_say_who_is_in_the_clip_and_when(result, clip):
    tracks, seen = table(result, "tracks.csv"), table(result, "appearances.csv")
    assert len(tracks) >= 2 and {row["clip"] for row in tracks} == {str(clip)}
    people = {row["person"] for row in tracks} - {""}
    assert people == {row["person"] for row in seen} and len(people) == len([row for row in tracks if row["person"]])
    for row in tracks:
        assert 0 <= float(row["first"]) <= float(row["best_frame"]) <= float(row["last"]) <= 2
        assert (result / row["face"]).is_file()
        assert (row["score"] == "") == (row["false_match_rate"] == "")
        assert row["person"] or row["note"], "why a track is nobody's"
    assert any(float(row["first"]) == 0 and int(row["frames"]) >= 9 for row in tracks)


def test_people_far_away_are_found(tmp_path):
    """Faces of 16 pixels and more in 720p, which the detector's input for photos would halve."""
    picture, boxes = crowd(4000, 2250)
    picture, scale = cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_AREA), 1280 / 4000
    clip = write_clip(tmp_path / "far.mp4", [picture] * 3, rate=10)
    assert run(clip, tmp_path / "out") in (0, 1)
    lines = (tmp_path / "out/tracks.jsonl").read_text().splitlines()
    found = np.array([json.loads(line)["boxes"][0] for line in lines])
    everywhere = boxes * scale, np.ones(len(boxes), bool), np.eye(2, 3)
    assert count_faces(found, *everywhere)[0] >= 0.95 * len(boxes)
    assert count_faces(load_detector("retinaface", "cpu").detect(picture)[0], *everywhere)[0] < 0.9 * len(boxes)


def test_lines_for_programs_have_the_boxes(result):
    lines = [json.loads(line) for line in (result / "tracks.jsonl").read_text().splitlines()]
    rows = table(result, "tracks.csv")
    assert [line["track"] for line in lines] == [int(row["track"]) for row in rows]
    for line in lines:
        boxes = np.array(line["boxes"])
        assert boxes.shape == (line["frames"], 4) and len(line["times"]) == line["frames"]
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_results_are_private_and_the_page_has_everybody(result):
    page = (result / "video.html").read_text()
    for row in table(result, "appearances.csv"):
        assert row["person"] in page
    assert "http:" not in page and "https:" not in page
    if os.name != "nt":
        for path in result.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_an_interrupted_run_goes_on_and_finds_the_same(clip, result, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(video_run, "SEGMENT_SECONDS", 0.5)
    saves = []

    def interrupt_after_two(*arguments):
        saves.append(arguments)
        original(*arguments)
        if len(saves) == 2:
            raise KeyboardInterrupt

    original = video_run.save
    monkeypatch.setattr(video_run, "save", interrupt_after_two)
    assert run(clip, out, "--every", "2") == 130
    assert not (out / "tracks.csv").exists()
    monkeypatch.setattr(video_run, "save", original)
    looked_at = []
    follow = video_run.VideoPipeline.follow

    def count_frames(self, *arguments):
        for each in follow(self, *arguments):
            looked_at.append(each[0].time)
            yield each

    monkeypatch.setattr(video_run.VideoPipeline, "follow", count_frames)
    assert run(clip, out, "--every", "2") == 0
    assert looked_at and looked_at[0] > 0.5, "it began again"
    for row, whole in zip(table(out, "tracks.csv"), table(result, "tracks.csv"), strict=True):
        same = ("track", "person", "first", "last", "frames", "best_frame", "quality")
        assert [row[column] for column in same] == [whole[column] for column in same]
    looked_at.clear()
    assert run(clip, out, "--every", "2") == 0 and not looked_at, "a finished clip was read again"


def test_cuts_are_known_after_an_interruption(photo, tmp_path, monkeypatch):
    """The scene changes with the first frame after it, to the other side of the photo; tracks end there."""
    images = [*views(photo, [0] * 6), *views(photo, [200] * 6)]
    path = write_clip(tmp_path / "cut.mp4", images, rate=10)
    monkeypatch.setattr(video_run, "SEGMENT_SECONDS", 0.5)
    assert run(path, tmp_path / "whole", "--every", "1") == 0
    original = video_run.save

    def interrupt(*arguments):
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(video_run, "save", interrupt)
    assert run(path, tmp_path / "out", "--every", "1") == 130
    monkeypatch.setattr(video_run, "save", original)
    assert run(path, tmp_path / "out", "--every", "1") == 0
    first, last = (
        [(row["first"], row["last"]) for row in table(tmp_path / name, "tracks.csv")] for name in ("whole", "out")
    )
    assert first == last and len({row for row in first}) == 2, "one scene before and one after"


def test_an_interruption_before_the_first_frame_loses_none(clip, tmp_path, monkeypatch):
    def interrupt(self, *arguments):
        raise KeyboardInterrupt
        yield

    follow = video_run.VideoPipeline.follow
    monkeypatch.setattr(video_run.VideoPipeline, "follow", interrupt)
    assert run(clip, tmp_path / "out", "--to", "0.3") == 130
    monkeypatch.setattr(video_run.VideoPipeline, "follow", follow)
    assert run(clip, tmp_path / "out", "--to", "0.3") == 0
    assert {row["first"] for row in table(tmp_path / "out", "tracks.csv")} == {"0"}


def test_an_interruption_leaves_whole_segments(clip, tmp_path, monkeypatch):
    """A run that was ended by Ctrl-C goes on from where one that was killed would."""
    seen, follow = [], video_run.VideoPipeline.follow

    def interrupt(self, *arguments):
        for step in follow(self, *arguments):
            seen.append(step)
            if len(seen) == 8:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(video_run, "SEGMENT_SECONDS", 0.5)
    monkeypatch.setattr(video_run.VideoPipeline, "follow", interrupt)
    assert run(clip, tmp_path, "--every", "1") == 130
    state = json.loads(str(np.load(tmp_path / "facelib_tracks/party.npz")["state"]))
    assert state["until"] == pytest.approx(0.5)


def test_a_sequence_is_looked_at_again_when_its_pictures_change(photo, tmp_path):
    from PIL import Image

    for number, image in enumerate(views(photo, [40, 44, 48])):
        Image.fromarray(image).save(tmp_path / f"f{number}.png")
    assert run(tmp_path / "f%d.png", tmp_path / "out", "--every", "1") == 0
    assert table(tmp_path / "out", "tracks.csv")
    for number in range(3):
        Image.new("RGB", (640, 360)).save(tmp_path / f"f{number}.png")
    assert run(tmp_path / "f%d.png", tmp_path / "out", "--every", "1") == 0
    assert not table(tmp_path / "out", "tracks.csv")


def test_a_part_without_a_frame_is_said(clip, tmp_path, capsys):
    assert run(clip, tmp_path / "out", "--from", "0.85", "--to", "0.9", "--every", "9") == 2
    assert "party.mp4: no frame of this part was looked at: give --every 1" in capsys.readouterr().err


def test_a_face_without_its_picture_is_found_again(clip, tmp_path):
    out = tmp_path / "out"
    for damage in (None, os.unlink, lambda path: path.write_bytes(path.read_bytes()[:-50])):
        if damage:
            damage(out / "faces/party_track1.png")
        assert run(clip, out, "--to", "0.5") == 0
        assert (out / "faces/party_track1.png").stat().st_size > 1000


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_no_text(clip, tmp_path):
    name = tmp_path / os.fsdecode(b"lat\xe9.mp4")
    name.write_bytes(clip.read_bytes())
    assert run(name, tmp_path / "out", "--to", "0.5") == 0
    assert table(tmp_path / "out", "tracks.csv")


def test_a_first_picture_that_is_damaged_does_not_end_the_run(clip, tmp_path, capsys):
    (tmp_path / "f0.png").write_bytes(b"damaged")
    assert run(tmp_path / "f%d.png", clip, tmp_path / "out", "--to", "0.5") == 1
    assert "f0.png" in capsys.readouterr().err
    assert table(tmp_path / "out", "tracks.csv")


def test_pictures_of_a_slide_show_are_people(photo, tmp_path):
    """A frame every two seconds: whoever is in three of them has one track."""
    path = write_clip(tmp_path / "slow.mp4", views(photo, [40, 44, 48, 52]), times=[0, 2, 4, 6])
    assert run(path, tmp_path / "out", "--every", "1") == 0
    rows = table(tmp_path / "out", "tracks.csv")
    assert {row["frames"] for row in rows} == {"4"} and all(row["person"] for row in rows)
    path = write_clip(tmp_path / "slides.mp4", views(photo, [40]), times=[0])
    assert run(path, tmp_path / "out2", "--every", "1") == 0
    assert any(row["person"] for row in table(tmp_path / "out2", "tracks.csv"))


def test_pictures_of_a_run_with_other_settings_go(clip, tmp_path):
    out = tmp_path / "out"
    assert run(clip, out, "--to", "0.3") == 0
    stale = out / "faces/party_track99.png"
    others = [out / "faces/party_track1_track2.png", out / "faces/mine.png"]
    for file in (stale, *others):
        file.write_bytes(b"")
    assert run(clip, out, "--to", "0.3") == 0 and stale.exists(), "the same settings"
    assert run(clip, out, "--to", "0.4") == 0
    assert not stale.exists() and all(file.exists() for file in others)
    assert run(clip, out, "--to", "0.4", "--annotate") == 0 and (out / "party_annotated.mp4").exists()
    assert run(clip, out, "--to", "0.4") == 0 and (out / "party_annotated.mp4").exists(), "the same settings"
    assert run(clip, out, "--to", "0.3") == 0 and not (out / "party_annotated.mp4").exists()
    assert all((out / row["face"]).is_file() for row in table(out, "tracks.csv"))


def test_a_full_disk_is_told_and_the_next_run_goes_on(clip, result, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(video_run, "SEGMENT_SECONDS", 0.5)
    original, saves = video_run.save, []

    def full_after_one(*arguments):
        if saves:
            raise OSError(errno.ENOSPC, "No space left on device")
        saves.append(original(*arguments))

    monkeypatch.setattr(video_run, "save", full_after_one)
    assert run(clip, out, "--every", "2") == 2
    assert "No space left" in capsys.readouterr().err
    monkeypatch.setattr(video_run, "save", original)
    assert resume(out, clip, "party", settings_of(result)).until >= 0.5, "what was saved is there"
    assert run(clip, out, "--every", "2") == 0
    same = ("track", "person", "first", "last", "frames")
    rows = [
        [{column: row[column] for column in same} for row in table(folder, "tracks.csv")] for folder in (out, result)
    ]
    assert rows[0] == rows[1]


def test_a_gallery_gives_names(clip, tmp_path, photo, pipeline):
    faces = pipeline(views(photo, [40])[0])
    with Gallery(tmp_path / "own.gallery") as gallery:
        gallery.enrol("=Ann", faces[0])
    assert run(clip, tmp_path / "out", "--gallery", str(tmp_path / "own.gallery")) == 0
    people = {row["person"] for row in table(tmp_path / "out", "appearances.csv")}
    assert "'=Ann" in people, "escaped, so that no spreadsheet takes it for a formula"
    assert any(name.startswith("Person ") for name in people)


def test_an_album_gives_names(clip, tmp_path, photo, pipeline):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.fromarray(views(photo, [40])[0]).save(tmp_path / "photos/one.png")
    album = tmp_path / "album"
    sort = ["album", str(tmp_path / "photos"), "--out", str(album), "--quiet", "--detector", "retinaface"]
    assert main(sort) == 0
    rows = (album / "people.csv").read_text("utf-8-sig").replace("Person 1", "Zoe")
    (album / "people.csv").write_text(rows, "utf-8-sig")
    assert run(clip, tmp_path / "out", "--album", str(album)) == 0
    assert "Zoe" in {row["person"] for row in table(tmp_path / "out", "appearances.csv")}
    assert run(clip, tmp_path / "out2", "--album", str(tmp_path)) == 2, "no album"


def test_clips_that_cannot_be_read_are_named_and_the_others_go_on(clip, tmp_path, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "broken.mp4").write_bytes(clip.read_bytes()[:200])
    (folder / "notes.txt").write_text("no clip")
    assert run(folder, tmp_path / "out", "--to", "0.5") == 1
    assert "broken.mp4" in capsys.readouterr().err
    assert {row["clip"] for row in table(tmp_path / "out", "tracks.csv")} == {str(folder / "a.mp4")}
    assert run(folder / "broken.mp4", tmp_path / "out2") == 2


def test_two_runs_do_not_write_at_once(clip, tmp_path, capsys):
    with lock_folder(tmp_path):
        assert run(clip, tmp_path) == 2
    assert f"{tmp_path}: another run is writing there" in capsys.readouterr().err
    assert not (tmp_path / "tracks.csv").exists()


def test_clips_of_one_name_have_titles_of_their_own(clip, tmp_path):
    folders = [tmp_path / name for name in ("monday", "tuesday")]
    for folder in folders:
        folder.mkdir()
        shutil.copy(clip, folder)
    assert run(*folders, tmp_path / "out", "--every", "8") == 0
    page = (tmp_path / "out/video.html").read_text()
    assert all(str(folder / clip.name) in page for folder in folders)


def test_nobody_in_a_clip_is_said(tmp_path, capsys):
    clip = write_clip(tmp_path / "black.mp4", [np.zeros((90, 160, 3), np.uint8)] * 5)
    assert main(["video", str(clip), "--out", str(tmp_path / "out"), "--detector", "retinaface"]) == 0
    output = capsys.readouterr()
    assert "no face found in 2 frames" in output.err and "0 people in 1 clip" in output.out
    assert table(tmp_path / "out", "tracks.csv") == []


def test_files_of_the_user_are_not_replaced(clip, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/tracks.csv").write_text("mine")
    assert run(clip, tmp_path / "out") == 2
    assert "another --out" in capsys.readouterr().err
    assert (tmp_path / "out/tracks.csv").read_text() == "mine"


def test_damaged_state_is_computed_again(clip, result, tmp_path):
    state = next((result / "facelib_tracks").iterdir())
    content = state.read_bytes()
    settings = settings_of(result)
    assert resume(result, clip, "party", settings).is_done
    for damage in (b"", content[:500], content.replace(b"PK", b"XX"), np.random.default_rng(0).bytes(300)):
        state.write_bytes(damage)
        assert not resume(result, clip, "party", settings).pieces
    state.write_bytes(content)
    assert not resume(result, clip, "party", settings + " other").pieces
    assert default_model_id() in settings


def test_annotated_clips_show_boxes_and_names(clip, tmp_path):
    import av

    assert run(clip, tmp_path / "out", "--annotate", "--every", "5") == 0
    with av.open(str(tmp_path / "out/party_annotated.mp4")) as made:
        frames = [frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)]
        assert made.streams.video[0].codec_context.name == "h264"
    assert len(frames) == 23 and frames[0].shape == (360, 640, 3)
    with av.open(str(clip)) as source:
        before = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    assert np.abs(frames[2].astype(int) - before[2]).max() > 100, "a box is drawn"
    assert np.abs(frames[-1].astype(int) - before[-1]).mean() < 3


def test_annotated_clips_are_no_input_and_replace_no_file_of_others(clip, tmp_path, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    for _ in range(2):
        assert main(["video", str(folder), "--out", str(folder), "--annotate", "--to", "0.3"]) == 0
    assert "1 clip that this command has annotated: skipped" in capsys.readouterr().err
    assert sorted(path.name for path in folder.glob("*.mp4")) == ["a.mp4", "a_annotated.mp4"]
    (folder / "a_annotated.mp4").write_text("precious")
    assert run(folder / "a.mp4", folder, "--annotate", "--to", "0.3") == 2
    assert "another --out" in capsys.readouterr().err
    assert (folder / "a_annotated.mp4").read_text() == "precious"


def test_forget_removes_what_was_found_in_the_clips_of_a_folder(clip, tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.mp4").write_bytes(clip.read_bytes())
    out = tmp_path / "out"
    assert run(tmp_path / "one", tmp_path / "two", out, "--to", "0.5", "--annotate") == 0
    monkeypatch.chdir(tmp_path)
    assert main(["forget", "one", "--yes", "--detector", "retinaface"]) == 0
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert "two_annotated.mp4" in left and "facelib_tracks/two.npz" in left
    assert not [name for name in left if "one" in name or name == "video.html"]
    for name in ("tracks.csv", "appearances.csv"):
        assert {row["clip"] for row in table(out, name)} == {str(tmp_path / "two/two.mp4")}
    assert main(["forget", "two", "--yes", "--detector", "retinaface"]) == 0
    assert not out.exists() and (tmp_path / "two/two.mp4").exists()


def test_forget_knows_clips_by_paths_that_were_relative_to_another_folder(clip, tmp_path, monkeypatch, capsys):
    (tmp_path / "clips").mkdir()
    shutil.copy(clip, tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    assert run(Path("clips"), Path("out"), "--to", "0.5") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["forget", "../clips", "--album", "../out", "--yes", "--detector", "retinaface"]) == 0
    assert not (tmp_path / "out").exists(), sorted((tmp_path / "out").rglob("*"))
    assert "other clips" not in capsys.readouterr().err
