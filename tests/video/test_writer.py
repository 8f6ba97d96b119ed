"""Clips that are written: sizes, times, colours, audio, and what is left when something stops the writing."""

import os

import numpy as np
import pytest

from facelib.video.writer import ENCODER, ClipWriter

av = pytest.importorskip("av")

COLOURS = [(200, 30, 40), (30, 180, 60), (40, 50, 220), (128, 128, 128), (250, 250, 250)]


def plain(colour, width=64, height=48):
    return np.full((height, width, 3), colour, np.uint8)


def noise(count, width=64, height=48):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def decoded(path):
    with av.open(str(path)) as clip:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in clip.decode(video=0)]


@pytest.fixture
def file_limit():
    """file_limit(bytes): files may not become larger, which fails as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (1, 1)])
def test_uneven_times_and_colours_are_kept(tmp_path, size):
    times = [0, 0.04, 0.1, 1.7, 1.75]
    with ClipWriter(tmp_path / "a.mp4", size, 25) as writer:
        for colour, time in zip(COLOURS, times):
            writer.write(plain(colour, *size), time)
    frames = decoded(tmp_path / "a.mp4")
    assert [time for time, _ in frames] == pytest.approx(times, abs=1e-4)
    for (_, image), colour in zip(frames, COLOURS):
        assert image.shape[:2] == tuple(side + side % 2 for side in size[::-1])
        assert np.abs(image.astype(int) - colour).max() <= 4
    with av.open(str(tmp_path / "a.mp4")) as clip:
        assert clip.duration / 1e6 == pytest.approx(1.75 + 0.04, abs=0.01)


def test_browsers_can_play_it(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", (64, 48), comment="a remark") as writer:
        for number, image in enumerate(noise(5)):
            writer.write(image, number / 25)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # the index comes first
    with av.open(str(tmp_path / "a.mp4")) as clip:
        codec = clip.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.colorspace, codec.color_range) == ("h264", "yuv420p", 1, 1)
        assert clip.metadata["comment"] == "a remark"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_time_that_does_not_grow_counts_as_just_after(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", (64, 48), 25) as writer:
        for time in (0.0, 0.2, 0.2, 0.1, 0.3):
            writer.write(plain(COLOURS[0]), time)
    times = [time for time, _ in decoded(tmp_path / "a.mp4")]
    assert len(times) == 5
    assert times == sorted(set(times)) and times[-1] == pytest.approx(0.3)


def write_with_audio(path, codec="aac", seconds=2.0):
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", 25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = output.add_stream(codec, 48_000, layout="mono")
        for _ in range(round(25 * seconds)):
            output.mux(video.encode(av.VideoFrame.from_ndarray(plain(COLOURS[0]), "rgb24")))
        output.mux(video.encode(None))
        tone = np.sin(np.arange(round(48_000 * seconds)) * 0.06).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        frame.sample_rate = 48_000
        for part in av.AudioResampler(audio.format.name, "mono", 48_000, audio.codec_context.frame_size).resample(
            frame
        ):
            output.mux(audio.encode(part))
        output.mux(audio.encode(None))
    return path


def test_audio_is_copied_beside_the_pictures(tmp_path):
    source = write_with_audio(tmp_path / "source.mkv")
    with ClipWriter(tmp_path / "a.mp4", (64, 48), 25, audio_from=source) as writer:
        for number in range(25):  # the first half of the source
            writer.write(plain(COLOURS[0]), number / 25)
    packets, kinds = {}, []
    for path in (source, tmp_path / "a.mp4"):
        with av.open(str(path)) as clip:
            packets[path] = [bytes(packet) for packet in clip.demux(audio=0) if packet.size]
        with av.open(str(path)) as clip:
            kinds = [packet.stream.type for packet in clip.demux() if packet.size]
    assert 45 <= len(packets[tmp_path / "a.mp4"]) <= 50
    assert packets[tmp_path / "a.mp4"] == packets[source][: len(packets[tmp_path / "a.mp4"])]
    assert "audio" in kinds[:20] and "video" in kinds[-20:]  # side by side, not one after the other


@pytest.mark.parametrize("codec", ["pcm_s16le", None])
def test_audio_that_does_not_fit_leaves_the_clip_silent(tmp_path, codec):
    if codec:
        source = write_with_audio(tmp_path / "source.mkv", codec)
    else:
        with ClipWriter(source := tmp_path / "source.mp4", (64, 48)) as writer:
            writer.write(plain(COLOURS[0]), 0)
    with ClipWriter(tmp_path / "a.mp4", (64, 48), 25, audio_from=source) as writer:
        writer.write(plain(COLOURS[0]), 0)
    assert writer.note == (f"its sound ({codec}) does not fit into MP4: the copy is silent" if codec else "")
    with av.open(str(tmp_path / "a.mp4")) as clip:
        assert not clip.streams.audio and len(clip.streams.video) == 1


def test_the_sound_of_joined_recordings_goes_on(tmp_path):
    """Its times begin again in the middle."""
    once = write_with_audio(tmp_path / "once.ts").read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    with ClipWriter(tmp_path / "a.mp4", (64, 48), 25, audio_from=tmp_path / "twice.ts") as writer:
        for number in range(100):
            writer.write(plain(COLOURS[0]), number / 25)
    with av.open(str(tmp_path / "a.mp4")) as clip:
        times = [packet.dts * packet.time_base for packet in clip.demux(audio=0) if packet.size]
    assert times == sorted(times) and 3.8 < times[-1] < 4.1 and len(times) > 180


def test_a_full_disk_leaves_nothing_of_the_clip(tmp_path, file_limit):
    """Wherever it happens: in the header, between frames, in the index, or when the index is moved to the start."""
    path = tmp_path / "a.mp4"

    def write():
        with ClipWriter(path, (64, 48), 25) as writer:
            for number, image in enumerate(noise(12)):
                writer.write(image, number / 25)

    write()
    size = path.stat().st_size
    path.write_bytes(b"before")
    for limit in [*range(10, size, size // 12), size - 1]:
        file_limit(limit)
        with pytest.raises(OSError, match=r"a\.mp4: the clip cannot be written"):
            write()
        assert os.listdir(tmp_path) == ["a.mp4"]
        assert path.read_bytes() == b"before"


def test_an_error_or_an_interruption_in_the_block_leaves_nothing(tmp_path):
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), ClipWriter(tmp_path / "a.mp4", (64, 48)) as writer:
            writer.write(plain(COLOURS[0]), 0)
            raise error
        assert not os.listdir(tmp_path)


def test_errors_say_what_is_wrong(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"none.a\.mp4: the clip cannot be written \(No such file"):
        ClipWriter(tmp_path / "none/a.mp4", (64, 48)).__enter__()
    with pytest.raises(ValueError, match=r"a\.mp4: no frame was written"), ClipWriter(tmp_path / "a.mp4", (64, 48)):
        pass
    with pytest.raises(ValueError, match=r"size=\(0, 48\)"):
        ClipWriter(tmp_path / "a.mp4", (0, 48))
    with ClipWriter(tmp_path / "a.mp4", (64, 48)) as writer:
        with pytest.raises(ValueError, match=r"uint8 \(48, 64, 3\)"):
            writer.write(plain(COLOURS[0], 48, 64), 0)
        with pytest.raises(ValueError, match="float64"):
            writer.write(plain(COLOURS[0]) / 2, 0)
        writer.write(plain(COLOURS[0]), 0)
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {ENCODER})
    with pytest.raises(RuntimeError, match="no libx264: install"):
        ClipWriter(tmp_path / "b.mp4", (64, 48)).__enter__()


@pytest.mark.parametrize("name", ["http:x.mp4", "a b %d 'é'.mp4", "no suffix", os.fsdecode(b"\xff.mp4")])
def test_names_are_names_of_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with ClipWriter(name, (64, 48)) as writer:
        writer.write(plain(COLOURS[0]), 0)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes()[4:8] == b"ftyp"
