"""The tables of clips and of hidden faces in models/README.md."""

from collections.abc import Callable
from typing import Any

from facelib.evaluation.readme.formatting import table
from facelib.io.records import read_record, read_table
from facelib.video.blur import THRESHOLDS

DETECTORS = {"insightface": "SCRFD", "retinaface": "RetinaFace"}
MEMORY_MINUTES = (1, 5, 10, 20)  # at which peak memory is shown
STYLES = {"sharp": "not hidden", "blur": "blur (default)", "pixels": "pixels", "box": "box"}


def tracking() -> str:
    """Every method over all clips."""
    rows = [["method", "an identity is", "IDF1", "switches", "HOTA", "found", "merged", "missed", "extra"]]
    for row in read_table("video_tracking.csv"):
        if row["clips"] == "all":
            rows.append([row["method"], row["identity"], *_tracking_cells(row)])
    return table(rows)


def tracking_by_kind() -> str:
    """Our people, by kind of clip."""
    rows = [["clips", "faces missed", "IDF1", "switches", "HOTA", "found", "merged", "missed", "extra"]]
    for row in read_table("video_tracking.csv"):
        if row["clips"] != "all" and row["method"] == "facelib" and row["identity"] == "person":
            missed = f"{row['missed_faces']:,} of {row['faces']:,}"
            rows.append([row["clips"], missed, *_tracking_cells(row)])
    return table(rows)


def _tracking_cells(row: dict[str, Any]) -> list[str]:
    people = [row.get(f"people_{kind}") for kind in ("found", "merged", "missed")]
    counts = ["-" if value in (None, "") else str(value) for value in (*people, row.get("extra_people"))]
    if counts[0] != "-":
        counts[0] += f" of {row['people']}"
    return [f"{row['idf1']:.3f}", f"{row['identity_switches']:,}", f"{row['hota']:.3f}", *counts]


def speed() -> str:
    """Frames a second by resolution and number of faces."""
    rows = [["clip", "faces", "frames a second, every third", "every frame", "decode", "detect", "landmarks", "embed"]]
    found = read_table("video_speed.csv")
    for row in found:
        if row["every"] == 1:
            continue
        whole = next(
            other
            for other in found
            if (other["resolution"], other["faces"], other["every"]) == (row["resolution"], row["faces"], 1)
        )
        shares = [f"{row[f'{stage}_share']:.0%}" for stage in ("decode", "detect", "landmarks", "embed")]
        rates = [f"{one['frames_per_second']:.0f}" for one in (row, whole)]
        rows.append([row["resolution"], str(row["faces"]), *rates, *shares])
    return table(rows)


def memory() -> str:
    """Peak memory while a long clip is read."""
    record = read_record("video_memory.json")
    by_minute = record["peak_memory_by_minute_mb"]
    minutes = [minute for minute in MEMORY_MINUTES if minute <= len(by_minute)]
    rows = [["minutes of the clip", *map(str, minutes), f"{record['minutes']:.0f}, its end"]]
    peaks = [*(by_minute[minute - 1] for minute in minutes), record["peak_memory_mb"]]
    rows.append(["peak memory", *(f"{peak:,.0f} MB" for peak in peaks)])
    grown = (record["peak_memory_mb"] - by_minute[0]) / record["tracks"]
    return (
        f"{table(rows)}\n\nThe {record['tracks']:,} tracks of the clip were kept, each with an aligned face; "
        f"that is {1000 * grown:.0f} kB a track."
    )


def hidden_faces() -> str:
    """Labelled faces that are hidden in photos, at the thresholds of `facelib blur`."""
    found = [
        row
        for row in read_table("blur_photos.csv")
        if row["half"] == "reported" and row["threshold"] == THRESHOLDS[row["detector"]]
    ]
    rows = [["photos", *(f"{DETECTORS[name]}, {THRESHOLDS[name]}" for name in DETECTORS)]]
    for version in dict.fromkeys(row["version"] for row in found):
        by_detector = {row["detector"]: row for row in found if row["version"] == version}
        cells = [f"{by_detector[name]['hidden']} of {by_detector[name]['faces']}" for name in DETECTORS]
        rows.append([version, *cells])
    return table(rows)


def hidden_in_clips() -> str:
    """Faces that are hidden in generated clips, each frame counted."""
    rows = [["clips", "detector", "faces", "hidden"]]
    for row in read_table("blur_clips.csv"):
        share = row["hidden"] / row["faces"]
        rows.append([row["kind"], DETECTORS[row["detector"]], f"{row['faces']:,}", f"{row['hidden']:,} ({share:.1%})"])
    return table(rows)


def recognised_although_hidden() -> str:
    """How well faces are recognised although they are hidden."""
    rows = [["style", "rank-1 among sharp faces", "among hidden faces"]]
    found = {(row["style"], row["among"]): row for row in read_table("blur_recognition.csv")}
    for style, title in STYLES.items():
        rows.append([title, *(f"{found[style, among]['rank_1']:.1%}" for among in ("sharp", "hidden"))])
    return f"{table(rows)}\n\nBy guessing: {next(iter(found.values()))['chance']:.1%}."


TABLES: dict[str, Callable[[], str]] = {
    "video_tracking": tracking,
    "video_by_kind": tracking_by_kind,
    "video_speed": speed,
    "video_memory": memory,
    "hidden_faces": hidden_faces,
    "hidden_in_clips": hidden_in_clips,
    "recognised_although_hidden": recognised_although_hidden,
}
