"""Faces followed over generated clips with known answers: `python -m facelib.evaluation.benchmarks.video`.

`tracking` compares the product with the trackers of the package `trackers` on the same detections, and with each frame
alone. `speed` times it by resolution and number of faces. `memory` runs it over half an hour. The extra `test` has what
this needs.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facelib.evaluation.benchmarks.clip_people import EFFECTS, ClipRecipe
from facelib.evaluation.benchmarks.clip_sources import ClipSources, load_clip_sources
from facelib.evaluation.benchmarks.clips import TrueFace, read_truth, write_clip
from facelib.evaluation.benchmarks.video_metrics import (
    IdentifiedFaces,
    MatchedFrame,
    clip_results,
    combined_metrics,
    count_people,
    match_frames,
)
from facelib.evaluation.benchmarks.video_speed import peak_memory, repeat_clip, speed_table
from facelib.evaluation.benchmarks.video_trackers import all_alone, all_tracks, analyse, by_label
from facelib.evaluation.detection import detector_weights
from facelib.io.files import prepare_folder
from facelib.io.records import RESULTS, write_record, write_table
from facelib.settings import one_line_errors
from facelib.video.analysis import VideoPipeline
from facelib.video.people import group_tracks
from facelib.video.tracks import Track

MODULE = "facelib.evaluation.benchmarks.video"
PARTS = ("tracking", "speed", "memory")
PACKAGES = ("av", "trackers", "trackeval", "face_recognition")  # whose versions are recorded
MEMORY_RECIPE = ClipRecipe(seconds=20.0)  # of the clip that is repeated
# Kind of clip -> its recipe; each kind has one difficulty, the last one all of them.
RECIPES: dict[str, ClipRecipe] = {
    "plain": ClipRecipe(effects=()),
    "motion blur": ClipRecipe(effects=("motion_blur",)),
    "scale and turns": ClipRecipe(effects=("scale", "turns")),
    "light": ClipRecipe(effects=("light",)),
    "occlusion": ClipRecipe(effects=("bar",)),
    "crossings": ClipRecipe(effects=("motion_blur", "crossings")),
    "leaving": ClipRecipe(effects=("motion_blur", "leaving")),
    "cuts": ClipRecipe(seconds=20, effects=("motion_blur", "cuts")),
    "compression": ClipRecipe(effects=("motion_blur",), crf=38),
    "five people": ClipRecipe(people=5, face_heights=(80, 120), effects=("motion_blur", "crossings")),
    "small faces": ClipRecipe(people=3, face_heights=(30, 50), effects=("motion_blur",)),
    "everything": ClipRecipe(seconds=20, effects=EFFECTS, crf=32),
}


@dataclass(frozen=True, eq=False)
class FollowedClip:
    """A clip and what each method made of it.

    kind: of the clip, a key of the recipes.
    truth: the faces in each frame that was analysed, at `times` in seconds.
    tracks: method -> its tracks. alone: method that looks at each frame alone -> the people in each.
    """

    kind: str
    truth: list[list[TrueFace]]
    times: list[float]
    tracks: dict[str, list[Track]]
    alone: dict[str, list[IdentifiedFaces]]


def follow_clip(
    pipeline: VideoPipeline, sources: ClipSources, kind: str, recipe: ClipRecipe, path: Path
) -> FollowedClip:
    """Write a clip, and follow its faces with all methods on the same detections."""
    truth = read_truth(write_clip(path, recipe, sources))
    frames = analyse(pipeline, path)
    expected = [truth.get(frame.number, []) for frame in frames]
    times = [frame.time for frame in frames]
    return FollowedClip(kind, expected, times, all_tracks(pipeline, frames), all_alone(pipeline, frames))


def compare_trackers(pipeline: VideoPipeline, clips: Sequence[FollowedClip]) -> list[dict[str, Any]]:
    """Metrics of each method, by kind of clip and over all of them.

    Returns:
        Rows "clips" (a kind, or "all"), "method", "identity", and what `combined_metrics` and, but for tracks,
        `count_people` return. The identity is that of a "track", of a "person" in one clip, or of a "person of all
        clips", whose tracks are grouped together.
    """
    matched: dict[tuple[str, str, str], list[list[MatchedFrame]]] = {}
    for clip in clips:
        found = {(method, "person"): people for method, people in clip.alone.items()}
        for method, tracks in clip.tracks.items():
            people = group_tracks(tracks, [0] * len(tracks), pipeline.calibration)
            found[method, "track"] = by_label(clip.times, tracks, [track.number for track in tracks])
            found[method, "person"] = by_label(clip.times, tracks, people)
        for (method, identity), faces in found.items():
            for kind in (clip.kind, "all"):
                matched.setdefault((kind, method, identity), []).append(match_frames(clip.truth, faces))
    for method in clips[0].tracks:
        matched["all", method, "person of all clips"] = [match_people_of_all(pipeline, clips, method)]
    return [
        {"clips": kind, "method": method, "identity": identity}
        | combined_metrics([clip_results(frames) for frames in of_clips])
        | ({} if identity == "track" else _added([count_people(frames) for frames in of_clips]))
        for (kind, method, identity), of_clips in matched.items()
    ]


def match_people_of_all(pipeline: VideoPipeline, clips: Sequence[FollowedClip], method: str) -> list[MatchedFrame]:
    """The frames of all clips, with the people among the tracks of a method in all of them."""
    tracks = [track for clip in clips for track in clip.tracks[method]]
    numbers = [number for number, clip in enumerate(clips) for _ in clip.tracks[method]]
    people = group_tracks(tracks, numbers, pipeline.calibration)
    ends = np.cumsum([len(clip.tracks[method]) for clip in clips])[:-1]
    found = [
        faces
        for clip, labels in zip(clips, np.split(people, ends))
        for faces in by_label(clip.times, clip.tracks[method], labels)
    ]
    return match_frames([faces for clip in clips for faces in clip.truth], found)


def _added(counts: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(each[name] for each in counts) for name in counts[0]}


def measure_tracking(options: argparse.Namespace, pipeline: VideoPipeline, sources: ClipSources, folder: Path) -> None:
    runs = [(kind, replace(RECIPES[kind], seed=seed)) for kind in RECIPES for seed in range(1, options.seeds + 1)]
    clips = []
    for kind, recipe in tqdm(runs, "following", unit="clip"):
        path = folder / f"{kind.replace(' ', '_')}_{recipe.seed}.mp4"
        clips.append(follow_clip(pipeline, sources, kind, recipe, path))
    rows = compare_trackers(pipeline, clips)
    for row in rows:
        if row["clips"] == "all":
            print(f"{row['method']:36} {row['identity']:7} IDF1 {row['idf1']:.3f}, {row['identity_switches']} switches")
    _write(options, "tracking", rows, {"clips": f"{options.part}, {options.seeds} of each of {len(RECIPES)} kinds"})


def measure_speed_table(
    options: argparse.Namespace, pipeline: VideoPipeline, sources: ClipSources, folder: Path
) -> None:
    _write(options, "speed", speed_table(pipeline, sources, folder), {"clips": f"{options.part}, seed 1"})


def measure_memory(options: argparse.Namespace, _: VideoPipeline, sources: ClipSources, folder: Path) -> None:
    short, long = folder / "short.mp4", folder / "long.mp4"
    write_clip(short, MEMORY_RECIPE, sources)
    repeat_clip(short, long, max(1, round(options.minutes * 60 / MEMORY_RECIPE.seconds)))
    figures = peak_memory(long)
    print(f"{figures['minutes']:.0f} minutes: {figures['peak_memory_mb']:.0f} MB")
    _write(options, "memory", [], {"clips": f"{options.part}, {MEMORY_RECIPE.seconds:g} s repeated"}, figures)


def _write(
    options: argparse.Namespace,
    part: str,
    rows: list[dict[str, Any]],
    data: dict[str, str],
    figures: Mapping[str, Any] | None = None,
) -> None:
    """Write video_<part>.csv, if there are rows, and its record."""
    if rows:
        write_table(options.out / f"video_{part}.csv", rows)
    versions = {package: metadata.version(package) for package in PACKAGES if find_spec(package)}
    record = options.out / f"video_{part}.json"
    size = {"tracking": f" --seeds {options.seeds}", "memory": f" --minutes {options.minutes:g}"}.get(part, "")
    command = f"python -m {MODULE} --only {part}{size}"
    write_record(record, figures or {}, command=command, weights=detector_weights(), data=data, packages=versions)
    print(f"{record}: written")


MEASURE = {"tracking": measure_tracking, "speed": measure_speed_table, "memory": measure_memory}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument(
        "--part", default="open_test", help="open_val or open_test: whose portraits (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="clips of each kind (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="of the clip for memory (default: %(default)s)")
    parser.add_argument("--clips", type=Path, help="folder to keep the clips in (default: they are deleted)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default: models/results)")
    options = parser.parse_args()
    prepare_folder(options.out)
    sources = load_clip_sources(options.part)
    pipeline = VideoPipeline.from_pretrained(device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.clips or Path(temporary)
        prepare_folder(folder)
        for part in options.only:
            MEASURE[part](options, pipeline, sources, folder)


if __name__ == "__main__":
    sys.exit(main())
