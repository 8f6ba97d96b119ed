"""Rows of people.csv matched to the faces of a run, so that names stay with faces and not with paths.

A photo is known by the hash of its content, wherever it lies now. In one that was cropped, resized or saved anew the
faces are found again by their embeddings and their places. A row matches at most one face of a photo.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from facelib.cli.album import AlbumFace
from facelib.cli.album_state import AlbumState, face_key
from facelib.cli.album_table import NOT_MATCHED, PEOPLE_FILE, TableRow
from facelib.detection.nms import box_iou
from facelib.io.files import as_text
from facelib.recognition.clustering import MergeScores
from facelib.recognition.names import is_named

SAME_BOX_IOU = 0.5  # above this IoU two boxes of a photo are one face
# Of the distance up to which faces are one person's: two versions of one picture are nearer than two photos. With the
# shipped weights about 0.16; the sample photo at a third of its size or JPEG quality 20 gives 0.06, two people 0.30.
SAME_PICTURE = 0.5
NAMES_SHOWN = 3  # photos in a line

Pairs = list[tuple[int, int]]  # of a row and a face


@dataclass
class Matching:
    """Faces and rows, and which of them have found each other.

    faces: of the run.
    rows: of the table.
    processed: photos of the run, as text.
    state: of the album.
    scores: from which two groups of faces are one person's.
    matched_faces: indices of faces that have a row.
    matched_rows: indices of rows that have a face.
    """

    faces: Sequence[AlbumFace]
    rows: Sequence[TableRow]
    processed: Set[str]
    state: AlbumState
    scores: MergeScores
    matched_faces: set[int] = field(default_factory=set)
    matched_rows: set[int] = field(default_factory=set)

    def free_faces(self, indices: Iterable[int]) -> list[int]:
        """Those of the faces that have no row yet."""
        return [index for index in indices if index not in self.matched_faces]

    def free_rows(self, indices: Iterable[int]) -> list[int]:
        """Those of the rows that have no face yet."""
        return [index for index in indices if index not in self.matched_rows]

    def is_elsewhere(self, photo: str) -> bool:
        """Whether a photo is not in this run, and still where the table has it."""
        return photo not in self.processed and photo_exists(photo)

    def take(self, rows: Sequence[int], faces: Sequence[int], pairs: Pairs) -> None:
        """Give faces what their rows say of them. The row of a photo that was copied from elsewhere stays free."""
        for row, face in pairs:
            if not self.is_elsewhere(self.rows[rows[row]].photo):
                self.matched_rows.add(rows[row])
            self.matched_faces.add(faces[face])
            _apply(self.faces[faces[face]], self.rows[rows[row]], self.state)


def match_rows(
    faces: Sequence[AlbumFace], rows: Sequence[TableRow], processed: Set[str], state: AlbumState, scores: MergeScores
) -> list[TableRow]:
    """Give every face that the table knows the person of its row.

    Args:
        processed: photos of the run, as text, also those without a face.
        scores: from which two groups of faces are one person's.

    Returns:
        The rows that no face has, with `matched` set where the photo is gone, or is there without the face.
    """
    matching = Matching(faces, rows, processed, state, scores)
    photos = _grouped(range(len(faces)), lambda index: as_text(faces[index].photo))
    _match_same_content(matching, photos)
    _match_copies(matching, photos)
    _match_changed(matching, photos)
    return [_left_over(matching, rows[index]) for index in matching.free_rows(range(len(rows)))]


def _grouped(indices: Iterable[int], key: Callable[[int], str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(key(index), []).append(index)
    return groups


def _apply(face: AlbumFace, row: TableRow, state: AlbumState) -> None:
    known = state.faces.get(face_key(row.sha256, row.box))
    before, taken_back = (known.person, known.taken_back) if known else ("", frozenset[str]())
    if is_named(before) and not is_named(row.person):
        taken_back |= {before}
    face.person = row.person
    face.in_table = bool(row.person)
    face.taken_back = taken_back - {row.person}
    face.own = row.own


def _left_over(matching: Matching, row: TableRow) -> TableRow:
    """A row without a face: of a photo that is not in this run, or not matched."""
    if row.face < 0 or matching.is_elsewhere(row.photo):
        return row
    return replace(row, cells=row.cells | {"matched": NOT_MATCHED})


def photo_exists(text: str) -> bool:
    """Whether there is a photo of a path as `as_text` writes it."""
    escaped = re.sub(r"\\udc([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), text)
    return any(os.path.lexists(path) for path in (text, escaped) if "\0" not in path)


def _match_same_content(matching: Matching, photos: dict[str, list[int]]) -> None:
    """By place, in photos that have their path and content still. A table without hashes is taken at its word."""
    rows = _grouped(range(len(matching.rows)), lambda index: matching.rows[index].photo)
    for photo, faces in photos.items():
        sha256 = matching.faces[faces[0]].sha256
        same = [row for row in rows.get(photo, ()) if matching.rows[row].sha256 in ("", sha256)]
        matching.take(same, faces, _same_places(matching, same, faces))


def _match_copies(matching: Matching, photos: dict[str, list[int]]) -> None:
    """By place, in photos whose content the table has under another path: moved, renamed or copied."""
    hashed = [index for index, row in enumerate(matching.rows) if row.sha256]
    rows = _grouped(hashed, lambda index: matching.rows[index].sha256)
    for faces in photos.values():
        copies = _grouped(rows.get(matching.faces[faces[0]].sha256, ()), lambda index: matching.rows[index].photo)
        # Rows of a photo that has moved come before those of one that is still there and was copied.
        for same in sorted(copies.values(), key=lambda group: group[0] in matching.matched_rows):
            free = matching.free_faces(faces)
            matching.take(same, free, _same_places(matching, same, free))


def _same_places(matching: Matching, rows: Sequence[int], faces: Sequence[int]) -> Pairs:
    """Rows and faces with one box, or with one number where the row has no box."""
    costs = np.full((len(rows), len(faces)), np.inf)
    for i, row in enumerate(matching.rows[index] for index in rows):
        for j, face in enumerate(matching.faces[index] for index in faces):
            if len(row.box) == 4 and len(face.box) == 4:
                costs[i, j] = 1 - box_iou(np.array([row.box]), np.array([face.box]))[0, 0]
            elif row.face == face.face:
                costs[i, j] = 0
    return _nearest_pairs(costs, 1 - SAME_BOX_IOU)


def _nearest_pairs(costs: np.ndarray, limit: float | np.ndarray) -> Pairs:
    """Pairs of (r, f) costs below the limit, or the limit (f,) of each face; the smallest first, each row and each face
    once."""
    pairs: Pairs = []
    places = np.argwhere(costs < limit)
    order = np.argsort(costs[costs < limit], kind="stable")
    for row, face in places[order].tolist():
        if all(row != other_row and face != other_face for other_row, other_face in pairs):
            pairs.append((row, face))
    return pairs


def _match_changed(matching: Matching, photos: dict[str, list[int]]) -> None:
    """By embedding and place: rows whose photo has another content now, or is gone."""
    free = [row for row in matching.free_rows(range(len(matching.rows))) if _embedding(matching, row) is not None]
    pictures = _grouped(free, lambda index: f"{matching.rows[index].photo}\n{matching.rows[index].sha256}")
    for rows in pictures.values():
        if own := matching.free_faces(photos.get(matching.rows[rows[0]].photo, ())):
            matching.take(rows, own, _same_faces(matching, rows, own)[0])
    new = [faces for faces in photos.values() if not matching.matched_faces.intersection(faces)]
    for rows in pictures.values():
        is_found = matching.matched_rows.intersection(rows)
        if new and not is_found and not matching.is_elsewhere(matching.rows[rows[0]].photo):
            _match_new_photo(matching, rows, new)


def _match_new_photo(matching: Matching, rows: Sequence[int], new: list[list[int]]) -> None:
    """The rows of a photo that is gone get the faces of the new photo, of those given, that most of them are in."""
    indices = [index for faces in new for index in faces]
    nearest = _distances(matching, rows, indices).min(0) < _limits(matching, indices)
    ends = np.cumsum([len(faces) for faces in new])
    candidates = [faces for faces, end in zip(new, ends) if nearest[end - len(faces) : end].any()]
    found = [(_same_faces(matching, rows, faces), faces) for faces in candidates]
    if found:
        (pairs, _), faces = min(found, key=lambda candidate: (-len(candidate[0][0]), candidate[0][1]))
        matching.take(rows, faces, pairs)
        new.remove(faces)


def _limits(matching: Matching, faces: Sequence[int]) -> np.ndarray:
    """(f,) cosine distances, up to which something may be another version of the picture of each face: a share of the
    distance at which it and a face like it have the score of one person."""
    offsets = np.array([matching.faces[face].offset for face in faces])
    return SAME_PICTURE * (1 - 2 * offsets - matching.scores.single)


def _embedding(matching: Matching, row: int) -> np.ndarray | None:
    known = matching.state.faces.get(face_key(matching.rows[row].sha256, matching.rows[row].box))
    return known.embedding if known and matching.rows[row].box else None


def _distances(matching: Matching, rows: Sequence[int], faces: Sequence[int]) -> np.ndarray:
    """Cosine distances (r, f)."""
    before = np.stack([embedding for row in rows if (embedding := _embedding(matching, row)) is not None])
    return 1 - before @ np.stack([matching.faces[face].embedding for face in faces]).T


def _same_faces(matching: Matching, rows: Sequence[int], faces: Sequence[int]) -> tuple[Pairs, float]:
    """Pairs of rows and faces of one photo by embedding, and the sum of their distances.

    Where several faces are alike (twins), the places decide: each near pair of boxes is tried as the scale and shift
    between the two versions of the photo, and the one is taken that most faces agree with.
    """
    distances = _distances(matching, rows, faces)
    limits = _limits(matching, faces)
    old = np.array([matching.rows[row].box for row in rows])
    new = np.array([matching.faces[face].box for face in faces])
    best: Pairs = []
    score = (0, 0.0)
    for row, face in np.argwhere(distances < limits).tolist():
        moved = _moved_boxes(old, old[row], new[face])
        costs = np.where(box_iou(moved, new) > SAME_BOX_IOU, distances, np.inf)
        pairs = _nearest_pairs(costs, limits)
        total = sum(distances[pair] for pair in pairs)
        if (-len(pairs), total) < score:
            best, score = pairs, (-len(pairs), total)
    for row, face in best:
        distances[row, :] = distances[:, face] = np.inf
    rest = _nearest_pairs(distances, limits)
    return best + rest, score[1] + sum(distances[pair] for pair in rest)


def _moved_boxes(boxes: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) under the scale and shift that take one box to another."""
    scale = np.sqrt(_area(after) / max(_area(before), 1e-6))
    shift = (after[:2] + after[2:]) / 2 - scale * (before[:2] + before[2:]) / 2
    return scale * boxes + np.tile(shift, 2)


def _area(box: np.ndarray) -> float:
    return abs(float(np.prod(box[2:] - box[:2])))


def unmatched_people(rows: Iterable[TableRow]) -> list[str]:
    """A line for each person with a name in rows that were not matched."""
    photos: dict[str, list[str]] = {}
    for row in rows:
        if row.cells.get("matched") == NOT_MATCHED and is_named(row.person):
            photos.setdefault(row.person, []).append(row.photo)
    return [
        f"{person}: not found again on {shortened(names)}; the name stays in {PEOPLE_FILE}"
        for person, names in sorted(photos.items())
    ]


def shortened(names: Sequence[str]) -> str:
    """The first few names, and how many there are more."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
