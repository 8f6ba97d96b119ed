"""How well faces of a clip were followed and told apart: IDF1, identity switches, MOTA and HOTA by the package
trackeval, and people found, merged and missed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from facelib.detection.nms import box_iou
from facelib.evaluation.benchmarks.clips import TrueFace

MIN_IOU = 0.5  # of a box with the true one
MIN_VISIBLE = 0.5  # a face of which less is seen counts neither as missed nor, where it was found, as a mistake
MIN_FRAMES = 3  # in which a person was seen and found, else the person was missed
NOBODY = -1  # the person of a box that shows none of the true faces


@dataclass(frozen=True)
class IdentifiedFaces:
    """The faces found in a frame. boxes: (n, 4) x1 y1 x2 y2 in pixels. ids: (n,) int, of a track or a person."""

    boxes: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class MatchedFrame:
    """A frame after matching; faces that are hardly visible, and the boxes on them, are left out.

    true_ids: (n,) int. found_ids: (m,) int. overlaps: (n, m) IoU. people: (m,) int, the true face that each box shows,
    or `NOBODY`.
    """

    true_ids: np.ndarray
    found_ids: np.ndarray
    overlaps: np.ndarray
    people: np.ndarray


def match_frames(truth: Sequence[Sequence[TrueFace]], found: Sequence[IdentifiedFaces]) -> list[MatchedFrame]:
    """Match the boxes of each frame of a clip with the true ones, to the largest sum of IoU, from `MIN_IOU` on.

    Raises:
        ValueError: different numbers of frames.
    """
    if len(truth) != len(found):
        raise ValueError(f"the truth of {len(truth)} frames and the faces of {len(found)}: expected as many")
    numbers = _numbers([face.person for faces in truth for face in faces])
    id_numbers = _numbers([int(identity) for faces in found for identity in faces.ids])
    matched = []
    for true_faces, faces in zip(truth, found):
        true_ids = np.array([numbers[face.person] for face in true_faces], int)
        ids = np.array([id_numbers[int(identity)] for identity in faces.ids], int)
        true_boxes = np.array([face.box for face in true_faces], np.float32).reshape(-1, 4)
        overlaps = box_iou(true_boxes, np.asarray(faces.boxes, np.float32).reshape(-1, 4))
        rows, columns = linear_sum_assignment(-np.where(overlaps >= MIN_IOU, overlaps, 0))
        people = np.full(len(ids), NOBODY)
        ignored = np.zeros(len(ids), bool)
        seen = np.array([face.visible >= MIN_VISIBLE for face in true_faces], bool)
        for row, column in zip(rows, columns):
            if overlaps[row, column] >= MIN_IOU:
                people[column] = true_ids[row]
                ignored[column] = not seen[row]
        matched.append(MatchedFrame(true_ids[seen], ids[~ignored], overlaps[seen][:, ~ignored], people[~ignored]))
    return matched


def _numbers(values: list[Any]) -> dict[Any, int]:
    """Value -> its number from 0, in order of first appearance."""
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def clip_results(frames: Sequence[MatchedFrame]) -> dict[str, Any]:
    """What trackeval's metrics say of one clip: name of the metric -> its fields; see `combined_metrics`."""
    data: dict[str, Any] = {"num_timesteps": len(frames), "similarity_scores": [frame.overlaps for frame in frames]}
    ids = {"gt": [frame.true_ids for frame in frames], "tracker": [frame.found_ids for frame in frames]}
    for name, of_frames in ids.items():
        values, numbers = np.unique(np.concatenate([np.zeros(0, int), *of_frames]), return_inverse=True)
        data[f"num_{name}_dets"], data[f"num_{name}_ids"] = len(numbers), len(values)
        data[f"{name}_ids"] = np.split(numbers, np.cumsum([len(each) for each in of_frames])[:-1])
    return {name: metric.eval_sequence(data) for name, metric in _metrics().items()}


def _metrics() -> dict[str, Any]:
    """The metrics of trackeval.

    Raises:
        ImportError: it is not installed.
    """
    try:
        from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError as error:
        raise ImportError("tracking is measured by trackeval: pip install 'facelib-hourglass[test]'") from error
    config = {"THRESHOLD": MIN_IOU, "PRINT_CONFIG": False}
    return {"CLEAR": CLEAR(config), "HOTA": HOTA(), "Identity": Identity(config)}


def combined_metrics(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """IDF1, identity switches, MOTA, HOTA, and numbers of true faces, missed faces and false ones of several clips."""
    combined = {
        name: metric.combine_sequences({str(number): result[name] for number, result in enumerate(results)})
        for name, metric in _metrics().items()
    }
    clear = combined["CLEAR"]
    return {
        "idf1": float(combined["Identity"]["IDF1"]),
        "identity_switches": int(clear["IDSW"]),
        "mota": float(clear["MOTA"]),
        "hota": float(np.mean(combined["HOTA"]["HOTA"])),
        "faces": int(clear["CLR_TP"] + clear["CLR_FN"]),
        "missed_faces": int(clear["CLR_FN"]),
        "false_faces": int(clear["CLR_FP"]),
    }


def count_people(frames: Sequence[MatchedFrame]) -> dict[str, int]:
    """People of a clip that were found, merged with others, or missed.

    A true person's main identity is the one that most of the person's boxes have; an identity belongs to the true
    person whom most of its boxes show. A person is found where their main identity belongs to them, merged where it
    belongs to somebody else, and missed with boxes in fewer than `MIN_FRAMES` frames. Further identities, of parts of a
    person or of nobody, are extra.

    Returns:
        "people" (visible in `MIN_FRAMES` frames or more), "people_found", "people_merged", "people_missed" and
        "extra_people" (identities with `MIN_FRAMES` boxes or more that are nobody's main one).
    """
    visible = Counter(int(person) for frame in frames for person in frame.true_ids)
    boxes = Counter(
        (int(person), int(identity)) for frame in frames for person, identity in zip(frame.people, frame.found_ids)
    )
    people = [person for person, count in visible.items() if count >= MIN_FRAMES]
    sizes: Counter[int] = Counter()
    for (_, identity), count in boxes.items():
        sizes[identity] += count
    main = {}
    for person in people:
        counts = {identity: count for (shown, identity), count in boxes.items() if shown == person}
        if sum(counts.values()) >= MIN_FRAMES:
            main[person] = max(counts, key=lambda identity: counts[identity])
    owner = {
        identity: max((shown for shown, one in boxes if one == identity), key=lambda shown: boxes[shown, identity])
        for identity in sizes
    }
    found = sum(owner[identity] == person for person, identity in main.items())
    extra = {identity for identity, size in sizes.items() if size >= MIN_FRAMES} - set(main.values())
    return {
        "people": len(people),
        "people_found": found,
        "people_merged": len(main) - found,
        "people_missed": len(people) - len(main),
        "extra_people": len(extra),
    }
