"""What video costs: frames a second, the share of each stage, and memory; see `facelib.evaluation.benchmarks.video`."""

import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facelib.evaluation.benchmarks.clip_sources import ClipSources
from facelib.evaluation.benchmarks.clips import ClipRecipe, write_clip
from facelib.io.files import atomic_write
from facelib.video.analysis import VideoPipeline
from facelib.video.reader import Clip, Frame, require_av

MODULE = "facelib.evaluation.benchmarks.video_speed"
SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080)}
FACES = (1, 2, 5)
SPEED_SECONDS = 12.0  # of a clip that is timed
SPEED_EFFECTS = ("motion_blur",)  # so that all faces are there all the time
STEPS = ("detect", "predict", "predict_with_confidence", "embed")


class TimedStep:
    """A detector, landmarker or embedder that adds up in `seconds` how long its work took."""

    def __init__(self, step: Any):
        self._step, self.seconds = step, 0.0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._step, name)
        return functools.partial(self._timed, value) if name in STEPS else value

    def _timed(self, work: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


class TimedClip(Clip):
    """A clip that adds up in `seconds` how long decoding took, and counts its frames in `read`."""

    seconds = 0.0
    read = 0

    def __iter__(self) -> Iterator[Frame]:
        frames = super().__iter__()
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            self.seconds += time.perf_counter() - start
            if frame is None:
                return
            self.read += 1
            yield frame


def measure_speed(pipeline: VideoPipeline, path: Path, every: int | None = None) -> dict[str, Any]:
    """Time to find the tracks of a clip.

    Args:
        every: see `Clip`.

    Returns:
        "every", "frames_per_second" (of the clip, also those that are skipped), "analysed_per_second", and the share of
        the time of "decode", "detect", "landmarks", "embed" and "associate" (with everything else).
    """
    steps = {
        "detect": TimedStep(pipeline.detector),
        "landmarks": TimedStep(pipeline.landmarker),
        "embed": TimedStep(pipeline.embedder),
    }
    timed = VideoPipeline(steps["detect"], steps["landmarks"], steps["embed"], pipeline.align)
    clip = TimedClip(path, every)
    start = time.perf_counter()
    with clip:
        for _ in timed.tracks(clip):
            pass
        seconds = time.perf_counter() - start
        times = {"decode": clip.seconds} | {name: step.seconds for name, step in steps.items()}
        times["associate"] = seconds - sum(times.values())
        return {
            "every": clip.every,
            "frames_per_second": clip.read * clip.every / seconds,
            "analysed_per_second": clip.read / seconds,
            **{f"{name}_share": spent / seconds for name, spent in times.items()},
        }


def speed_table(pipeline: VideoPipeline, sources: ClipSources, folder: Path) -> list[dict[str, Any]]:
    """`measure_speed` by resolution and number of faces, with the frames of the default and with every frame.

    Args:
        folder: for the clips.
    """
    rows = []
    for name, size in SIZES.items():
        for people in FACES:
            heights = (0.14 * size[1], 0.28 * size[1])
            recipe = ClipRecipe(1, size, SPEED_SECONDS, 25, people, heights, SPEED_EFFECTS)
            path = folder / f"speed_{name}_{people}.mp4"
            write_clip(path, recipe, sources)
            measure_speed(pipeline, path)  # the first call loads the networks
            for every in (None, 1):
                rows.append({"resolution": name, "faces": people, **measure_speed(pipeline, path, every)})
                print(
                    f"{name:6} {people} faces, every {rows[-1]['every']}: {rows[-1]['frames_per_second']:.1f} frames/s"
                )
    return rows


def repeat_clip(source: Path, target: Path, times: int) -> None:
    """Write a clip that shows another one again and again; its pictures are copied, not encoded again.

    Raises:
        ImportError, OSError: see `require_av`; a file cannot be read or written.
    """
    av = require_av()
    with atomic_write(target) as temporary, av.open(str(temporary), "w", format="mp4") as output:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as clip:
                video = clip.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in clip.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    output.mux(packet)
                offset += video.duration


def peak_memory(path: Path) -> dict[str, Any]:
    """Find the tracks of a clip in a process of its own, and keep them.

    Returns:
        "minutes" of the clip, "tracks", "peak_memory_mb", and "peak_memory_by_minute_mb", of the first, the second, ...

    Raises:
        RuntimeError: the process failed.
    """
    code = f"from {MODULE} import print_memory; print_memory({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{path}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_memory(path: str) -> None:
    """Print `peak_memory` of this process as JSON."""
    pipeline = VideoPipeline.from_pretrained(device="cpu")
    peaks: list[float] = []
    minutes = 0.0

    class Watched(Clip):
        def __iter__(self) -> Iterator[Frame]:
            nonlocal minutes
            for frame in super().__iter__():
                minutes = frame.time / 60
                if minutes >= len(peaks) + 1:
                    peaks.append(peak_memory_mb())
                yield frame

    with Watched(path) as clip:
        tracks = list(pipeline.tracks(clip))
    peak = peak_memory_mb()
    figures = {"minutes": minutes, "tracks": len(tracks), "peak_memory_mb": peak, "peak_memory_by_minute_mb": peaks}
    print(json.dumps(figures))


def peak_memory_mb() -> float:
    """Peak memory of this process. `getrusage` counts that of the process which has started it, too."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
