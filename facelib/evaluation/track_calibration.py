"""Error rates where one side or both are tracks of a video: `python -m facelib.evaluation.track_calibration`.

Tracks are made of photos of open_val: each frame is an aligned face, moved, turned, blurred, darkened and compressed
as in a clip, whose landmarks are found anew; a track goes through three photos of a person. Its embedding is the
quality-weighted mean of its best frames, spread over it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from facelib.alignment.crop import warp_image
from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.aligned_faces import CROP_MODES, aligned_open_set
from facelib.datasets.splits import hash_order
from facelib.embedding.embedder import load_embedder
from facelib.embedding.similarity import mean_embedding
from facelib.evaluation.benchmarks.clip_people import motion_kernel
from facelib.io.records import write_table
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.match_rates import Pairs, false_match_curve
from facelib.recognition.quality import face_quality, find_quality_issue
from facelib.settings import one_line_errors
from facelib.types import NamedEmbedder

FRAMES = 20  # of a track, of which the best are taken
TRACK_SIZES = (3, 5, 10)  # frames whose mean a track's embedding is
CANVAS = 160  # pixels, side of a frame around the face
FACE_BOX = np.array([15.9, 10.2, 95.4, 118.2])  # of an aligned face, x1 y1 x2 y2: as detectors draw it
FACE_HEIGHTS = (40.0, 130.0)  # pixels, of a track
JITTER = 0.04  # of a box's side, by which a detector is off
TARGET_FMRS = (0.01, 0.003, 0.001)
PHOTOS = 3  # of a track


@dataclass(frozen=True)
class PhotosAndTracks:
    """Two tracks and the other photos of each person.

    photos: (n, d) embeddings. people: (n,) ID of each.
    tracks: number of frames -> (m, d) embeddings. track_people: (m,) ID of each.
    """

    photos: np.ndarray
    people: np.ndarray
    tracks: dict[int, np.ndarray]
    track_people: np.ndarray


def degraded_frames(faces: Sequence[np.ndarray], rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """`FRAMES` frames of one person under one condition.

    Args:
        faces: aligned faces (112, 112, 3) RGB uint8, which follow each other.

    Returns:
        Of each frame the picture (160, 160, 3) and the box (4,) of the face in it, as a detector would find it.
    """
    box_height = FACE_BOX[3] - FACE_BOX[1]
    zoom = float(np.exp(rng.uniform(*np.log(FACE_HEIGHTS)))) / box_height
    light, speed, quality = rng.uniform(0.4, 1.1), rng.exponential(3.0), int(rng.integers(25, 85))
    phase, wave = rng.uniform(0, 2 * np.pi, 2), np.linspace(0, rng.uniform(1, 2) * 2 * np.pi, FRAMES)
    frames = []
    for number in range(FRAMES):
        face = faces[number * len(faces) // FRAMES]
        scale = zoom * (1 + 0.15 * np.sin(wave[number] + phase[0]))
        angle = np.deg2rad(20 * np.sin(wave[number] + phase[1]))
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        place = (CANVAS - 1) / 2 + rng.uniform(-3, 3, 2)
        centre = (FACE_BOX[:2] + FACE_BOX[2:]) / 2 - 0.5
        matrix = np.hstack([linear, (place - linear @ centre)[:, None]])
        motion = speed * zoom * rng.normal(size=2)
        image = cv2.filter2D(
            warp_image(face, matrix, CANVAS), -1, motion_kernel(motion), borderType=cv2.BORDER_REPLICATE
        )
        image = (image * light).clip(0, 255).astype(np.uint8)
        _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        half = scale * (FACE_BOX[2:] - FACE_BOX[:2]) / 2
        off = place + 0.5 + rng.normal(size=2) * JITTER * 2 * half[1]
        frames.append((cv2.imdecode(content, cv2.IMREAD_COLOR), np.r_[off - half, off + half]))
    return frames


def track_embeddings(
    frames: Sequence[tuple[np.ndarray, np.ndarray]], embedder: NamedEmbedder, landmarker: HourglassLandmarker
) -> dict[int, np.ndarray]:
    """Number of frames -> (d,) embedding of a track of `degraded_frames`: of so many parts of it the best frame each.
    Frames with a quality issue count only where there are no others."""
    images, boxes = [image for image, _ in frames], [box[None] for _, box in frames]
    landmarks, confidences = landmarker.predict_with_confidence(images, boxes)
    aligned = np.concatenate([CROP_MODES[embedder.crop_mode](*pair) for pair in zip(images, landmarks)])
    five_points = np.concatenate([CROP_MODES["five_points"](*pair) for pair in zip(images, landmarks)])
    embeddings = embedder.embed(aligned)
    points, sure = np.concatenate(landmarks), np.concatenate(confidences)
    qualities = np.array([face_quality(*each) for each in zip(five_points, sure)])
    issues = [find_quality_issue(*each) for each in zip(five_points, sure, points)]
    usable = np.flatnonzero([not issue for issue in issues])
    usable = usable if len(usable) else np.arange(len(frames))
    result = {}
    for size in TRACK_SIZES:
        parts = np.array_split(usable, min(size, len(usable)))
        best = [part[qualities[part].argmax()] for part in parts]
        result[size] = mean_embedding(embeddings[best], qualities[best])
    return result


def open_val_tracks(embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> PhotosAndTracks:
    """Of each person of open_val with enough photos two tracks of `PHOTOS` photos each, and all other photos."""
    aligned, faces = aligned_open_set("open_val", landmarker, embedder.crop_mode)
    upright, _ = aligned_open_set("open_val", landmarker)
    order = hash_order(faces)
    own = {person: [i for i in order if faces.people[i] == person] for person in np.unique(faces.people)}
    own = {person: photos for person, photos in own.items() if len(photos) >= 2 * PHOTOS}
    used = [photos[start : start + PHOTOS] for photos in own.values() for start in (0, PHOTOS)]
    rest = np.setdiff1d(np.arange(len(faces.people)), np.concatenate([np.zeros(0, int), *used]))
    embeddings = [
        track_embeddings(
            degraded_frames([upright[i] for i in chosen], np.random.default_rng(number)), embedder, landmarker
        )
        for number, chosen in enumerate(tqdm(used, "tracks", leave=False))
    ]
    tracks = {size: np.stack([each[size] for each in embeddings]) for size in TRACK_SIZES if embeddings}
    return PhotosAndTracks(embedder.embed(aligned[rest]), faces.people[rest], tracks, np.repeat(list(own), 2))


def add_track_rates(calibration: Calibration, measured: PhotosAndTracks) -> Calibration:
    """The calibration with `fmr_of_tracks`: the rates of these tracks, raised by as much as those of single photos are
    from these people to the worst group; as it is where there are fewer than two people."""
    if len(np.unique(measured.track_people)) < 2 or len(np.unique(measured.people)) < 2:
        return calibration
    scores = np.array(calibration.scores)
    singles, _ = pair_scores(calibration, measured.photos, measured.people)
    raised = np.maximum(calibration.false_match_rates / np.maximum(_curve(singles, scores), 1e-12), 1)
    result = {}
    for size, embeddings in measured.tracks.items():
        impostors, _ = pair_scores(calibration, embeddings, measured.track_people)
        rates = np.minimum(_curve(impostors, scores) * raised, 1)
        result[str(size)] = np.minimum.accumulate(rates).tolist()
    return replace(calibration, fmr_of_tracks=result)


def _curve(impostors: np.ndarray, scores: np.ndarray) -> np.ndarray:
    nobody = np.zeros(len(impostors), int)
    return false_match_curve(Pairs(impostors, nobody, nobody), scores)


def pair_scores(
    calibration: Calibration,
    first: np.ndarray,
    first_people: np.ndarray,
    second: np.ndarray | None = None,
    second_people: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of impostor pairs and of genuine pairs of embeddings (n, d) with others (m, d), or with each other."""
    scores = calibration.score_matrix(first, first if second is None else second)
    same = first_people[:, None] == (first_people if second_people is None else second_people)
    once = np.triu(np.ones_like(same), 1) if second is None else np.ones_like(same)
    return scores[once & ~same], scores[once & same]


def compare_rates(calibration: Calibration, measured: PhotosAndTracks) -> list[dict[str, Any]]:
    """Match rates of tracks at the scores where single photos of the same people have an FMR of `TARGET_FMRS`: rows
    "sides", "frames", "impostor_pairs", and for each target "fmr_at_<target>" and "tmr_at_<target>"."""
    pairs = {("photo, photo", 0): pair_scores(calibration, measured.photos, measured.people)}
    for size, tracks in measured.tracks.items():
        people = measured.track_people
        pairs["photo, track", size] = pair_scores(calibration, measured.photos, measured.people, tracks, people)
        pairs["track, track", size] = pair_scores(calibration, tracks, people)
    limits = np.quantile(pairs["photo, photo", 0][0], 1 - np.array(TARGET_FMRS))
    return [
        {"sides": sides, "frames": size, "impostor_pairs": len(impostors)}
        | {f"fmr_at_{target:g}": float((impostors >= limit).mean()) for target, limit in zip(TARGET_FMRS, limits)}
        | {f"tmr_at_{target:g}": float((genuine >= limit).mean()) for target, limit in zip(TARGET_FMRS, limits)}
        for (sides, size), (impostors, genuine) in pairs.items()
    ]


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.track_calibration", description=__doc__)
    parser.add_argument("out", type=Path, help="CSV file")
    parser.add_argument("--embedder", help="argument of load_embedder (default: the default embedder)")
    options = parser.parse_args()
    landmarker = load_landmarker(device="cpu", runtime="auto")
    embedder = load_embedder(options.embedder, "cpu", runtime="auto")
    measured = open_val_tracks(embedder, landmarker)
    write_table(options.out, compare_rates(load_calibration(embedder.model_id), measured))
    print(f"{options.out}: written")


if __name__ == "__main__":
    sys.exit(main())
