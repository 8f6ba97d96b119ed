"""Clips of every kind: true times, upright frames in the right colours, and clear errors."""

import itertools
import os
import re
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video.clips import carphone, gradients, number_of, write_clip

from facelib.types import VideoError
from facelib.video.reader import Clip, default_step, require_av

CONTAINERS = [
    ("mp4", "libx264", {}), ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}), ("mov", "mjpeg", {}),
    ("mkv", "libx265", {}), ("webm", "libvpx-vp9", {}), ("avi", "mpeg4", {}), ("ts", "libx264", {}),
    ("mpg", "mpeg2video", {}), ("flv", "libx264", {}), ("h264", "libx264", {}), ("mjpeg", "mjpeg", {}),
]  # fmt: skip


def quadrants(width=64, height=48):
    """Red, green, blue and white quarters, in the order of reading."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 200, 40, 40
    image[: height // 2, width // 2 :] = 40, 200, 40
    image[height // 2 :, : width // 2] = 40, 40, 200
    image[height // 2 :, width // 2 :] = 220, 220, 220
    return image


def noise(count, width=160, height=120):
    """Images that compress badly, and move."""
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return [np.roll(image, shift, axis=1) for shift in range(count)]


def first(path):
    return next(iter(Clip(path))).image


def decoded(path, **part):
    """Numbers, times and the numbers that the images of `gradients` show."""
    frames = list(Clip(path, every=1, **part))
    return [frame.number for frame in frames], [frame.time for frame in frames], [number_of(f.image) for f in frames]


def test_frames_of_another_size_are_stretched_and_said(tmp_path):
    parts = [write_clip(tmp_path / f"{width}.h264", noise(5, width, 96)) for width in (128, 192)]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = Clip(path, every=1)
    assert clip.notes == []
    assert {frame.image.shape for frame in clip} == {(96, 128, 3)}
    assert clip.notes == ["its size changes: frames are stretched to the size of the first, in which boxes are given"]


@pytest.mark.parametrize("suffix, codec, container", CONTAINERS)
def test_formats_and_seeking(tmp_path, suffix, codec, container):
    """A part of a clip has the numbers and times that it has in the whole clip."""
    full_range = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"g": 8}
    options |= {"b": 3_000_000} if codec == "mpeg4" else {}
    path = write_clip(tmp_path / f"a.{suffix}", gradients(40), 25, codec, full_range, container=container, **options)
    clip = Clip(path, every=1)
    assert clip.size == (128, 96) and clip.frame_rate == 25 and clip.notes == []
    assert clip.duration is None or clip.duration == pytest.approx(1.6, abs=0.25)
    numbers, times, shown = decoded(path)
    assert numbers == shown == list(range(40)) and times == pytest.approx([n / 25 for n in range(40)], abs=0.002)
    numbers, times, shown = decoded(path, start=0.91, end=1.29)
    assert numbers == shown == list(range(23, 33)) and times == pytest.approx([n / 25 for n in numbers], abs=0.002)
    assert not clip.problem


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_seeking_with_leading_frames(tmp_path, suffix):
    """With open groups of pictures, frames that follow a keyframe in the file are shown before it."""
    x264 = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=10:scenecut=0:log=-1"}
    path = write_clip(tmp_path / f"open.{suffix}", gradients(40), **x264)
    numbers, _, shown = decoded(path, start=0.81)
    assert numbers == shown == list(range(21, 40))


def test_avi_with_frames_in_another_order(tmp_path):
    """H.264 in AVI, which has no times of its own."""
    path = write_clip(tmp_path / "a.avi", gradients(40), **{"x264-params": "bframes=3:b-adapt=0:keyint=10:log=-1"})
    assert decoded(path) == (list(range(40)), pytest.approx([number / 25 for number in range(40)]), list(range(40)))


def test_variable_frame_rate(tmp_path):
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.7, 1.71, 2.4]
    path = write_clip(tmp_path / "phone.mp4", gradients(8), times=times, g=2)
    assert decoded(path)[:2] == (list(range(8)), times)
    assert decoded(path, start=0.54, end=2.4) == ([4, 5, 6], [0.54, 1.7, 1.71], [4, 5, 6])


def test_every_counts_from_the_start_of_the_clip(tmp_path):
    path = write_clip(tmp_path / "a.mp4", gradients(40), g=8)
    assert Clip(path).every == 3 and [frame.number for frame in Clip(path)] == list(range(0, 40, 3))
    assert [frame.number for frame in Clip(path, every=7, start=0.7)] == [21, 28, 35]
    assert [default_step(rate) for rate in (0, 5, 15, 25, 30, 60)] == [1, 1, 2, 3, 4, 7]


def test_a_clip_can_be_read_again_and_closed(tmp_path):
    path = write_clip(tmp_path / "a.mp4", gradients(9))
    with Clip(path, every=1) as clip:
        assert len(list(clip)) == len(list(clip)) == 9
        frames = iter(clip)
        next(frames)
    assert list(frames) == []
    assert clip.path == path and not clip.problem


def test_real_clip():
    clip = Clip(carphone())
    frames = list(clip)
    assert clip.size == (193, 144) and clip.frame_rate == pytest.approx(29.97, abs=0.01)
    assert [frame.number for frame in frames] == list(range(0, 120, 4)) and not clip.problem
    assert frames[-1].time == pytest.approx(116 / 29.97, abs=0.001)
    assert clip.notes == ["pixels of 128:117: stretched to square ones"]
    assert all(frame.image.shape == (144, 193, 3) and frame.image.flags.c_contiguous for frame in frames)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_phones_turn_frames(tmp_path, turns):
    path = write_clip(tmp_path / "turned.mp4", [quadrants()] * 3, rotation=90 * turns, pix_fmt="yuv444p")
    expected = np.rot90(quadrants(), turns)  # both counter-clockwise
    clip = Clip(path)
    assert clip.size == expected.shape[1::-1] and len(clip.notes) == (turns > 0)
    assert np.abs(first(path).astype(int) - expected).mean() < 5


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_mirrored_frames(tmp_path, turns):
    path = write_clip(tmp_path / "a.mp4", [quadrants()] * 3, rotation=90 * turns, mirrored=True, pix_fmt="yuv444p")
    expected = np.rot90(quadrants(), turns)[:, ::-1]
    assert Clip(path).size == expected.shape[1::-1]
    assert np.abs(first(path).astype(int) - expected).mean() < 5


@pytest.mark.parametrize("aspect, size", [(Fraction(4, 3), (171, 96)), (Fraction(1, 2), (128, 192))])
def test_pixels_that_are_not_square(tmp_path, aspect, size):
    path = write_clip(tmp_path / "dv.mp4", gradients(3), sample_aspect_ratio=aspect)
    assert Clip(path).size == size and first(path).shape == (size[1], size[0], 3)


def test_interlaced(tmp_path):
    images = [np.full((96, 128, 3), 40, np.uint8) for _ in range(10)]
    for number, image in enumerate(images):
        image[0::2, number * 8 : number * 8 + 20] = 220
        image[1::2, number * 8 + 4 : number * 8 + 24] = 220  # the second field is 20 ms later
    path = write_clip(tmp_path / "i.mp4", images, flags="+ildct+ilme", **{"x264-params": "tff=1:qp=5"})
    clip = Clip(path, every=1)
    frames = list(clip)
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(10)])
    assert clip.notes == ["interlaced: deinterlaced with FFmpeg's bwdif"]
    rows = frames[5].image.astype(int)
    assert (
        np.abs(rows[20:60:2] - rows[21:61:2]).max()
        < 60
        < np.abs(images[5][20:60:2].astype(int) - images[5][21:61:2]).max()
    )


@pytest.mark.parametrize(
    "codec, pix_fmt", [("libx264", "yuv420p10le"), ("libx265", "yuv420p10le"), ("ffv1", "yuv422p10le")]
)
def test_ten_bits(tmp_path, codec, pix_fmt):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_clip(tmp_path / "ten.mkv", [quadrants()] * 3, codec=codec, pix_fmt=pix_fmt, **options)
    assert np.abs(first(path).astype(int) - quadrants()).mean() < 6


@pytest.mark.parametrize("codec", ["libvpx-vp9", "ffv1"])
def test_odd_sizes(tmp_path, codec):
    path = write_clip(tmp_path / "odd.mkv", gradients(3, 61, 47), codec=codec)
    assert Clip(path).size == (61, 47) and decoded(path)[2] == [0, 1, 2]


def coloured_clip(path, matrix, colour_range, tagged=True, size=(64, 48)):
    """`quadrants`, encoded almost without loss with a matrix and range of ITU-T H.273."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", 25, options={"qp": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        if tagged:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        frame = av.VideoFrame.from_ndarray(quadrants(*size), "rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=colour_range)
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("matrix, colour_range", list(itertools.product([1, 5, 6, 9], [1, 2])))
def test_colours(tmp_path, matrix, colour_range):
    """BT.709, BT.601 of two kinds, BT.2020; studio and full range."""
    image = first(coloured_clip(tmp_path / "a.mp4", matrix, colour_range))
    assert np.abs(image.astype(int) - quadrants()).max() <= 4


@pytest.mark.parametrize("matrix, size", [(5, (720, 576)), (1, (1280, 720))])
def test_colours_of_clips_that_do_not_say_their_matrix(tmp_path, matrix, size):
    image = first(coloured_clip(tmp_path / "a.mp4", matrix, 1, tagged=False, size=size))
    assert np.abs(image.astype(int) - quadrants(*size)).max() <= 4


@pytest.mark.parametrize("transfer, signal, expected", [
    ("smpte2084", 0, 0), ("smpte2084", 0.5081, 190), ("smpte2084", 0.5807, 233), ("smpte2084", 1, 255),
    ("arib-std-b67", 0, 0), ("arib-std-b67", 0.5, 143), ("arib-std-b67", 0.75, 233), ("arib-std-b67", 1, 255),
])  # fmt: skip
def test_hdr(tmp_path, transfer, signal, expected):
    """100 and 203 cd/m2 in PQ, 203 in HLG: 203 is a white sheet, which is a little below white in SDR."""
    image = np.full((48, 64, 3), round(signal * 65_535), np.uint16)
    tags = {"color_trc": transfer, "colorspace": "bt2020nc", "color_primaries": "bt2020", "color_range": "tv"}
    path = write_clip(tmp_path / "hdr.mp4", [image] * 2, pix_fmt="yuv420p10le", **tags)
    assert Clip(path).notes == [f"HDR ({'PQ' if transfer == 'smpte2084' else 'HLG'}): converted to SDR"]
    assert np.abs(first(path).astype(int) - expected).max() <= 2


def test_frames_that_change_their_size(tmp_path):
    """And whose times begin again, as in joined recordings."""
    for name, size in {"a.ts": (64, 48), "b.ts": (128, 96)}.items():
        write_clip(tmp_path / name, gradients(30, *size), qp=5)
    (tmp_path / "joined.ts").write_bytes(b"".join((tmp_path / name).read_bytes() for name in ("a.ts", "b.ts")))
    frames = list(Clip(tmp_path / "joined.ts", every=1))
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert [number_of(frame.image) for frame in frames] == [*range(30), *range(30)]
    assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(60)], abs=0.01)


@pytest.mark.parametrize("suffix, codec, container", [
    ("mp4", "libx264", {"movflags": "faststart"}), ("mkv", "libx264", {}), ("avi", "mpeg4", {}), ("flv", "libx264", {}),
])  # fmt: skip
def test_streams_that_end_in_the_middle(tmp_path, capfd, suffix, codec, container):
    whole = write_clip(tmp_path / f"whole.{suffix}", noise(75), codec=codec, container=container, g=10)
    assert len(list(clip := Clip(whole, every=1))) == 75 and not clip.problem
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = Clip(path, every=1)
    frames = list(clip)
    assert 10 < len(frames) < 50
    assert re.search(r"the stream ends in the middle, at [01]\.\d s of 3\.[01] s", clip.problem)
    assert list(Clip(path, every=1, end=0.5)) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_damaged_streams(tmp_path, capfd, suffix):
    path = write_clip(
        tmp_path / f"a.{suffix}", noise(75), g=10, container={"movflags": "faststart"} if suffix == "mp4" else {}
    )
    content = bytearray(path.read_bytes())
    for position in range(int(len(content) * 0.4), int(len(content) * 0.6), 97):
        content[position] ^= 0x5A
    path.write_bytes(content)
    clip = Clip(path, every=1)
    frames = list(clip)
    assert len(frames) > 45 and frames[-1].time == pytest.approx(2.96, abs=0.2)
    assert re.search(r"damaged frames: \d+, the first at 1\.", clip.problem)
    assert capfd.readouterr() == ("", "")


def test_files_that_are_being_written(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", noise(20)).read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[:-2000])
    with pytest.raises(VideoError, match=r"a\.mp4 is still being written, or was cut off: .* \(moov\)"):
        Clip(tmp_path / "a.mp4")
    path = write_clip(tmp_path / "recording.mkv", noise(60))
    clip = Clip(path, every=1)
    for frame in clip:
        if frame.number == 5:
            with open(path, "ab") as file:
                file.write(b"more")
    assert "the file grew while it was read" in clip.problem


def sound(path, cover=False):
    """A second of a tone, and a picture as the cover of an album."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libmp3lame" if path.suffix == ".mp3" else "aac", 44_100)
        picture = output.add_stream("mjpeg") if cover else None
        if picture:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj444p"
            picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 44_100), np.float32), "fltp", "stereo")
        frame.sample_rate = 44_100
        for packet in stream.encode(frame) + stream.encode(None):
            output.mux(packet)
        if picture:
            output.mux(picture.encode(av.VideoFrame.from_ndarray(quadrants(), "rgb24").reformat(format="yuvj444p")))
            output.mux(picture.encode(None))
    return path


def test_sound_is_no_video(tmp_path):
    for path in (sound(tmp_path / "a.m4a"), sound(tmp_path / "a.mp4"), sound(tmp_path / "b.mp3", cover=True)):
        with pytest.raises(VideoError, match=rf"{path.name} has no pictures, only sound"):
            Clip(path)


def test_files_that_are_no_clips(tmp_path, capfd):
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.jpg")
    Image.new("RGB", (9, 9)).save(tmp_path / "still.gif")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video " * 99)
    (tmp_path / "notes.txt").write_text("not a video " * 99)
    (tmp_path / "random.mkv").write_bytes(np.random.default_rng(0).bytes(9_999))
    (tmp_path / "half.webp").write_bytes(b"RIFF\0\0\0\0WEBPVP8X")
    for name, text in {
        "photo.jpg": "is a photo, not a clip: facelib detect reads it",
        "still.gif": "is a photo, not a clip",
        "empty.mp4": "is empty",
        "text.mp4": "is damaged, or no video",
        "notes.txt": "is not a video|is damaged, or no video",
        "random.mkv": "is damaged, or no video",
        "half.webp": "is damaged",
        "": "is a folder",
    }.items():
        with pytest.raises(VideoError, match=f"{name}.* ({text})"):
            Clip(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4: no such file"):
        Clip(tmp_path / "nowhere.mp4")
    for address in ("https://example.org/a.mp4", "rtsp://camera/1", Path("http://example.org/a.mp4")):
        with pytest.raises(VideoError, match="is an address, and only files are read"):
            Clip(address)
    assert capfd.readouterr() == ("", "")


def test_a_stream_without_a_frame(tmp_path):
    path = write_clip(tmp_path / "a.avi", noise(9), codec="mpeg4")
    content = path.read_bytes()
    movie = content.index(b"movi")
    path.write_bytes(content[: movie + 4] + bytes(len(content) - movie - 4))
    with pytest.raises(VideoError, match=r"a\.avi has no frame that can be decoded"):
        Clip(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_only_the_named_file_is_opened(tmp_path, monkeypatch):
    """Names are no protocols, and a playlist opens nothing."""
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "real.mp4", gradients(3))
    for name in ("concat:real.mp4", "http:", "file:x", "pipe:0", "a%04d.mp4", b"\xff.mp4"):
        (tmp_path / os.fsdecode(name)).write_bytes(clip.read_bytes())
        assert len(list(Clip(os.fsdecode(name), every=1))) == 3
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.1,\nreal.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {clip}\n")
    for name in ("list.m3u8", "list.txt"):
        with pytest.raises(VideoError, match=name):
            Clip(tmp_path / name)


def test_parts_that_do_not_exist(tmp_path):
    path = write_clip(tmp_path / "a.mp4", gradients(9))
    with pytest.raises(VideoError, match=r"a\.mp4 has no frame at 5 s or later"):
        list(Clip(path, start=5))
    for part in ({"every": 0}, {"start": -1}, {"start": 2, "end": 1}, {"rate": 0}, {"start": float("nan")}):
        with pytest.raises(ValueError, match=next(reversed(part))):
            Clip(path, **part)


@pytest.mark.parametrize("name, options", [
    ("a.gif", {"disposal": 2}), ("a.webp", {"lossless": True}), ("a.png", {}), ("a.avif", {"quality": 95}),
])  # fmt: skip
def test_animated_pictures(tmp_path, name, options):
    frames = [Image.fromarray(image) for image in gradients(5, 31, 20)]
    durations = [100, 200, 50, 400, 0 if name == "a.gif" else 100]  # browsers show a picture of 0 ms for 100 ms
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=durations, **options)
    clip = Clip(tmp_path / name)
    assert clip.size == (31, 20) and clip.duration == pytest.approx(0.85) and clip.every == 1
    assert decoded(tmp_path / name) == ([0, 1, 2, 3, 4], pytest.approx([0, 0.1, 0.3, 0.35, 0.75]), [0, 1, 2, 3, 4])
    assert decoded(tmp_path / name, start=0.3, end=0.75)[0] == [2, 3]


def test_transparent_animation_is_on_white_and_complete(tmp_path):
    frames = [Image.new("RGBA", (40, 20), (0, 0, 0, 0)) for _ in range(2)]
    for number, frame in enumerate(frames):
        frame.paste((200, 0, 0, 255), (20 * number, 0, 20 * number + 20, 20))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], disposal=2)
    images = [frame.image for frame in Clip(tmp_path / "a.gif")]
    assert [image[9, 9].tolist() for image in images] == [[200, 0, 0], [255, 255, 255]]
    assert [image[9, 29].tolist() for image in images] == [[255, 255, 255], [200, 0, 0]]


def test_animation_that_ends_in_the_middle(tmp_path):
    frames = [Image.fromarray(image) for image in noise(6)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[: len(content) * 2 // 3])
    clip = Clip(tmp_path / "a.gif")
    assert 0 < len(list(clip)) < 6 and "no end mark" in clip.problem
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=100)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) * 2 // 3])
    clip = Clip(tmp_path / "a.png")
    assert 0 < len(list(clip)) < 6 and "damaged, ends at 0." in clip.problem


def test_sequences_of_images(tmp_path):
    for number, image in zip((3, 4, 5, 12), gradients(4)):
        Image.fromarray(image).save(tmp_path / f"frame{number}.png")
    Image.new("RGB", (50, 50)).save(tmp_path / "other5.png")
    for pattern in ("frame%d.png", "frame%04d.png"):
        assert decoded(tmp_path / pattern, rate=10) == ([0, 1, 2, 9], [0, 0.1, 0.2, 0.9], [0, 1, 2, 3])
    clip = Clip(tmp_path / "frame%d.png", every=1)
    assert clip.size == (128, 96) and clip.frame_rate == 25 and clip.duration == 0.4
    (tmp_path / "frame4.png").write_bytes(b"damaged")
    assert [frame.number for frame in clip] == [0, 2, 9]
    assert "photos that cannot be read are left out, the first" in clip.problem and "frame4.png" in clip.problem
    with pytest.raises(FileNotFoundError, match=r"x%d\.png: no file has such a name"):
        Clip(tmp_path / "x%d.png")
    (tmp_path / "frame3.png").write_bytes(b"damaged")
    with pytest.raises(VideoError, match=r"frame3\.png.*the first of"):
        Clip(tmp_path / "frame%d.png")


def test_joined_recordings_are_read_from_any_time(tmp_path):
    """Their times begin again in the middle, so that one is there twice."""
    once = write_clip(tmp_path / "once.ts", gradients(50, 64, 48), g=5).read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    whole = decoded(tmp_path / "twice.ts")
    assert whole[2] == [*range(50)] * 2
    for start in (0.5, 1.96, 2.4, 3.9):
        first = next(i for i, time in enumerate(whole[1]) if time >= start)
        assert decoded(tmp_path / "twice.ts", start=start) == tuple(part[first:] for part in whole)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_reading_goes_on_with_the_same_numbers(tmp_path, suffix):
    times = [0.04 * number + (number > 9) + 0.3 * (number > 20) for number in range(30)]
    path = write_clip(tmp_path / f"a.{suffix}", gradients(30, 64, 48), times=times, g=5)
    whole = decoded(path, start=0.2)
    for after in (0.2, 0.6, 1.7):
        first = sum(time <= after for time in whole[1])
        assert decoded(path, start=0.2, after=after) == tuple(part[first:] for part in whole)


def with_late_pictures(path):
    """A second of sound before the pictures, which last one second."""
    with av.open(str(path), "w") as output:
        video, audio = output.add_stream("libx264", 25), output.add_stream("aac", 16_000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(32):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.sample_rate, sound.pts = 16_000, 1024 * number
            output.mux(audio.encode(sound))
        for number, image in enumerate(gradients(25, 64, 48), 25):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_count_from_sound_that_begins_before_the_pictures(tmp_path, suffix):
    path = with_late_pictures(tmp_path / f"a.{suffix}")
    with Clip(path, every=1) as clip:
        frames = list(clip)
    assert frames[0].time == pytest.approx(1.0, abs=0.07) and frames[0].number == 0
    assert clip.problem == "" and clip.duration == pytest.approx(2.0, abs=0.15)
    with Clip(path, every=1, start=1.5) as clip:
        assert [number_of(frame.image) for frame in clip] == [
            number_of(frame.image) for frame in frames if frame.time >= 1.5
        ]


def test_a_recording_that_starts_late_does_not_end_in_the_middle(tmp_path):
    times = [3600 + number / 25 for number in range(25)]
    path = write_clip(tmp_path / "a.mkv", gradients(25, 64, 48), times=times)
    with Clip(path, every=1) as clip:
        assert next(frame.time for frame in clip) == 0 and clip.problem == ""
        assert clip.duration == pytest.approx(1.0, abs=0.05)


def test_without_pyav(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", gradients(2))
    monkeypatch.setitem(sys.modules, "av", None)
    for call in (require_av, lambda: Clip(path)):
        with pytest.raises(ImportError, match=r"video needs PyAV: pip install 'facelib-hourglass\[video\]'"):
            call()
