"""How many faces `facelib blur` hides, and how well: `python -m facelib.evaluation.benchmarks.blur PART`.

A face is hidden where at least `HIDDEN` of its box is. `photos` counts the halves of the 40 photos of
<FACELIB_DATA>/photos apart (by the hashes of their names): thresholds follow from one of them. The size of the hidden
area, the searches and the limit on areas without a face were chosen with both halves in view, and the detectors' own
settings on all photos, so that the figures of both are optimistic. Clips are generated, see
`facelib.evaluation.benchmarks.clips`; every face counts once in each frame in which half of it is seen. The smallest
face was chosen on such a clip of five small faces.
`recognition` asks the default embedder who the hidden faces of open_val are; a network that has learned hidden faces
would know more.
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facelib.alignment.align import warp_faces
from facelib.alignment.landmarker import load_landmarker
from facelib.datasets.splits import open_set_faces, sample_per_person
from facelib.detection.detector import FaceDetector, load_detector
from facelib.embedding.embedder import load_embedder
from facelib.evaluation.benchmarks.clip_people import ClipRecipe
from facelib.evaluation.benchmarks.clip_sources import load_clip_sources
from facelib.evaluation.benchmarks.clips import read_truth, write_clip
from facelib.evaluation.benchmarks.video import RECIPES
from facelib.evaluation.detection import VERSIONS, detector_weights, load_photo_faces
from facelib.io.files import digest, prepare_folder
from facelib.io.images import read_image
from facelib.io.records import RESULTS, write_record, write_table
from facelib.settings import TINY_FACE, data_folder, one_line_errors
from facelib.video.analysis import VideoPipeline
from facelib.video.blur import (
    STYLES,
    THRESHOLDS,
    BoxesInTime,
    Hiding,
    count_areas,
    find_all_faces,
    follow_faces,
    hide_faces,
    sensitive,
)

HIDDEN = 0.9  # share of the area of a face's box
SEEN = 0.5  # share of a face of a clip that is seen, from which it counts
PER_PERSON = 4  # photos
TRIED = (0.1, 0.15, 0.2, 0.3, 0.5)
NEAR = 0.6  # an area whose centre is so many sides or less from that of a labelled face is not one without a face
MEASURED = [
    *("unmodified", "half the size", "a quarter of the size", "an eighth of the brightness"),
    *("rotated by 30°", "rotated by 45°", "rotated by 90°", "rotated by 180°"),
]


def hidden_shares(size: tuple[int, int], boxes: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Share (n,) of the area of each face, box (n, 4), that is hidden where boxes (m, 4) are; 0 to 1.

    Args:
        size: (height, width) of the image in pixels.
    """
    hidden = hide_faces(np.zeros((*size, 3), np.uint8), boxes, Hiding("box"))[..., 0] > 0
    corners = faces.round().astype(int).clip(0)
    return np.array([hidden[y1:y2, x1:x2].mean() if x1 < x2 and y1 < y2 else 1.0 for x1, y1, x2, y2 in corners])


def moved(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Upright boxes (n, 4) of the same sides, times the scale, around the centres that a (2, 3) map moves."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    sides = (boxes[:, 2:] - boxes[:, :2]) * np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return np.concatenate([centres - sides / 2, centres + sides / 2], 1)


def areas_without_face(boxes: np.ndarray, faces: np.ndarray) -> int:
    """How many hidden areas, boxes (m, 4), are nowhere near a labelled face, boxes (n, 4)."""
    centres = [(group[:, :2] + group[:, 2:]) / 2 for group in (boxes, faces)]
    offsets = np.abs(centres[0][:, None] - centres[1]) / (faces[:, 2:] - faces[:, :2])
    return count_areas(boxes[~(offsets.max(2) < NEAR).any(1)])


def photo_rows(detector: FaceDetector, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Hidden faces by half of the photos, version of them and threshold.

    Args:
        files: name of each labelled photo -> its file.
    """
    lowest = sensitive(detector, TINY_FACE, min(TRIED))
    counts: dict[tuple[str, str, float], np.ndarray] = {}
    for name, (boxes, is_face) in tqdm(load_photo_faces().items(), detector.name, unit="photo"):
        half = "chosen on" if int(digest(name)[0], 16) % 2 else "reported"
        image = read_image(files[name])
        for version in MEASURED:
            modified, matrix = VERSIONS[version](image)
            faces = moved(boxes, matrix)
            found, scores = find_all_faces(lowest, modified)
            for threshold in TRIED:
                kept = found[scores >= threshold]
                hidden = hidden_shares(modified.shape[:2], kept, faces) >= HIDDEN
                row = [is_face.sum(), hidden[is_face].sum(), (~is_face).sum(), hidden[~is_face].sum()]
                key = half, version, threshold
                counts[key] = counts.get(key, 0) + np.array([*row, areas_without_face(kept, faces), 1])
    columns = ("faces", "hidden", "unsure", "unsure_hidden", "areas_without_face", "photos")
    return [
        {"detector": detector.name, "half": half, "version": version, "threshold": threshold}
        | dict(zip(columns, values.tolist()))
        for (half, version, threshold), values in counts.items()
    ]


def clip_rows(pipeline: VideoPipeline, kinds: Mapping[str, ClipRecipe], seed: int, folder: Path) -> list[dict]:
    """Hidden faces by kind of clip, each frame counted.

    Args:
        pipeline: with a detector that rather finds too much. folder: for the clips.
    """
    sources = load_clip_sources("open_test")
    rows = []
    for kind, recipe in tqdm(kinds.items(), "clips", unit="clip"):
        truth = read_truth(write_clip(folder / "clip.mp4", replace(recipe, seed=seed), sources))
        start = time.perf_counter()
        followed = follow_faces(pipeline, folder / "clip.mp4")
        boxes = BoxesInTime(followed.tracks, followed.times)
        seconds = time.perf_counter() - start
        shares = []
        for number in range(round(recipe.seconds * recipe.rate)):
            at = boxes.at(number / recipe.rate)
            faces = [face.box for face in truth.get(number, []) if face.visible >= SEEN]
            shares += hidden_shares(recipe.size[::-1], at, np.reshape(faces, (-1, 4))).tolist()
        hidden = int((np.array(shares) >= HIDDEN).sum())
        rows.append({"kind": kind, "faces": len(shares), "hidden": hidden, "seconds": seconds})
    return rows


def recognition_rows() -> list[dict[str, Any]]:
    """How well hidden faces of open_val are recognised, by style, among sharp ones and among hidden ones.

    Landmarks are those of the sharp faces, which an attacker does not have. "tpr_0.01" is TPR at FPR 0.01; "rank_1" the
    share of faces whose nearest other one is of the same person, and "chance" what guessing gives.
    """
    faces = open_set_faces("open_val")
    faces = faces.select(sample_per_person(faces, PER_PERSON))
    crops = [read_image(file) for file in faces.files]
    landmarker, embedder = load_landmarker(device="cpu"), load_embedder(device="cpu")
    boxes = [_box_in_crop(crop) for crop in crops]
    landmarks = landmarker.predict(crops, boxes)

    def embed(style: str | None) -> np.ndarray:
        images = [hide_faces(crop, box, Hiding(style)) if style else crop for crop, box in zip(crops, boxes)]
        return embedder.embed(np.concatenate([warp_faces(*pair) for pair in zip(images, landmarks)]))

    sharp = embed(None)
    rows = []
    for style in (None, *STYLES):
        hidden = embed(style)
        for among, others in {"sharp": sharp, "hidden": hidden}.items():
            rows.append({"style": style or "sharp", "among": among} | _recognition(hidden @ others.T, faces.people))
    return rows


def _box_in_crop(crop: np.ndarray) -> np.ndarray:
    """Box (1, 4) of the face in a face crop, whose side is 1.4 times that of the box."""
    side = len(crop)
    return np.array([[side, side, side, side]], np.float32) * np.float32([0.2, 0.2, 1.2, 1.2]) / 1.4


def _recognition(scores: np.ndarray, people: np.ndarray) -> dict[str, float]:
    same = people[:, None] == people
    own = np.eye(len(people), dtype=bool)
    limit = np.quantile(scores[~same], 0.99)
    nearest = np.where(own, -np.inf, scores).argmax(1)
    return {
        "tpr_0.01": float((scores[same & ~own] >= limit).mean()),
        "rank_1": float((people[nearest] == people).mean()),
        "chance": float((same.sum(1) - 1).mean() / (len(people) - 1)),
    }


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.blur", description=__doc__)
    parser.add_argument("part", choices=["photos", "clips", "recognition"])
    parser.add_argument("--only", choices=list(THRESHOLDS), nargs="+", default=list(THRESHOLDS), help="detectors")
    parser.add_argument("--kinds", choices=list(RECIPES), nargs="+", default=list(RECIPES), help="kinds of clips")
    parser.add_argument("--out", type=Path, help="CSV file (default: models/results/blur_PART.csv)")
    options = parser.parse_args()
    out = options.out or RESULTS / f"blur_{options.part}.csv"
    prepare_folder(out.parent)
    rows = recognition_rows() if options.part == "recognition" else []
    for name in options.only if options.part != "recognition" else ():
        detector = load_detector(name, "cpu")
        if options.part == "photos":
            rows += photo_rows(detector, {path.name: path for path in (data_folder() / "photos").rglob("*.jpg")})
        else:
            pipeline = VideoPipeline.from_pretrained(sensitive(detector), "cpu")
            with tempfile.TemporaryDirectory() as folder:
                kinds = {kind: RECIPES[kind] for kind in options.kinds}
                rows += [{"detector": name} | row for row in clip_rows(pipeline, kinds, 0, Path(folder))]
    write_table(out, rows)
    for row in rows:
        print(*(f"{value:.1f}" if isinstance(value, float) and value > 1 else value for value in row.values()))
    command = f"python -m facelib.evaluation.benchmarks.blur {shlex.join(sys.argv[1:])}"
    write_record(out.with_suffix(".json"), {}, command=command, weights=detector_weights(), data={})


if __name__ == "__main__":
    sys.exit(main())
