"""Aligned faces of whole lists of photos, by the functions that the pipeline uses, and the files that keep them."""

import contextlib
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from facelib.alignment import METHODS, SIZE, warp_faces
from facelib.datasets.lists import FaceList, load_faces
from facelib.datasets.sources import load_people_folder
from facelib.datasets.splits import FAMILIES, hold_out_photos, in_held_out_family, open_set_faces, training_list
from facelib.detection import Detector, load_detector
from facelib.files import files_key, printable, replacing
from facelib.images import crop_matrix, warp_image
from facelib.inference import BATCH_BYTES
from facelib.landmarks import Landmarker
from facelib.reading import read_image
from facelib.settings import data_folder


@dataclass(frozen=True)
class Cache:
    """A file that was made from others, and the note beside it (.json) that says by `key` from which."""

    path: Path
    key: str

    def note(self) -> dict | None:
        """What was noted with the file; None where there is no file, or one of another key."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(self.path.with_suffix(".json").read_text())
            return note if note["key"] == self.key and self.path.is_file() else None
        return None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """A path to write to; whoever has the former file mapped keeps that. The former note goes first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.with_suffix(".json").unlink(missing_ok=True)
        with replacing(self.path) as path:
            yield path

    def write_note(self, **content: list) -> None:
        with replacing(self.path.with_suffix(".json")) as path:
            path.write_text(json.dumps({"key": self.key, **content}))


def align_photos(
    faces: FaceList,
    landmarker: Landmarker,
    detector: Detector | None = None,
    method: str = "five_points",
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[np.ndarray, FaceList]:
    """Landmarks and aligned faces of a whole list, by the functions that the pipeline uses.

    A photo that cannot be read, or in which no face is found, is left out, counted and named in a
    warning. Where `faces` has no boxes, `detector` finds the largest face.

    Args:
        cache: .npy file to keep the result in; read again when the files (place, size, time), the method and
            the landmarker agree.

    Returns:
        aligned (m, 112, 112, 3) uint8 (from the file, not in memory, with `cache`), and the m photos kept.
    """
    if cache is None:
        aligned, kept, left_out, _ = _align(faces, landmarker, detector, method, progress)
        _warn_of_left_out(left_out, len(faces))
        return aligned, faces.where(np.array(kept, int))
    boxes = detector and detector.name if faces.boxes is None else hashlib.sha256(faces.boxes.tobytes()).hexdigest()
    stored = Cache(cache, files_key(faces.files, method, landmarker.fingerprint(), boxes))
    if note := stored.note():
        with contextlib.suppress(ValueError, OSError, EOFError, KeyError):  # a file that is cut short is made anew
            aligned = np.load(cache, mmap_mode="r")
            if len(aligned) == len(note["kept"]):
                _warn_of_left_out(note["left_out"], len(faces))
                return aligned, faces.where(np.array(note["kept"], int))
    aligned, kept, left_out, may_pass = _align(faces, landmarker, detector, method, progress)
    _warn_of_left_out(left_out, len(faces))
    with stored.writing() as path:
        np.save(path, aligned)
    if not may_pass:  # a photo that was forbidden, or on a drive that failed, is tried again the next time
        stored.write_note(kept=kept, left_out=left_out)
    return np.load(cache, mmap_mode="r"), faces.where(np.array(kept, int))


def _align(
    faces: FaceList, landmarker: Landmarker, detector: Detector | None, method: str, progress: bool
) -> tuple[np.ndarray, list[int], list[str], bool]:
    """Aligned faces (m, 112, 112, 3); which of the list they are; what is left out and why; whether that may pass."""
    aligned, kept, left_out, may_pass = [], [], [], False
    images, boxes = [], []

    def align() -> None:
        for image, points in zip(images, landmarker.predict(images, boxes)):
            aligned.append(warp_faces(image, points, method)[0])
        images.clear(), boxes.clear()

    for i in tqdm(range(len(faces)), "aligning", unit="photo", disable=not progress, leave=False):
        if len(images) == 64 or sum(image.size for image in images) > BATCH_BYTES:
            align()
        try:
            image = read_image(faces.files[i])
        except (ValueError, OSError) as error:
            left_out.append(str(error))
            may_pass |= isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
            continue
        box = faces.boxes[i : i + 1] if faces.boxes is not None else detector.detect(image)[0][:1]
        if len(box) == 0:
            left_out.append(f"{printable(faces.files[i])}: no face found")
            continue
        images.append(image), boxes.append(box), kept.append(i)
    align()
    if not aligned:
        raise ValueError(f"none of {len(faces)} photos could be aligned: {'; '.join(left_out[:5])}")
    return np.stack(aligned), kept, left_out, may_pass


def _warn_of_left_out(left_out: list[str], photos: int) -> None:
    if left_out:
        more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        warnings.warn(f"{len(left_out)} of {photos} photos left out: {'; '.join(left_out[:5])}{more}", stacklevel=3)


def decode_photos(files: list[Path], cache: Path) -> list[np.ndarray]:
    """Read photos of any sizes once and keep them decoded in one file, mapped into memory.

    Returns:
        RGB uint8 (h, w, 3) views, in order; from the file when it was made of the same files (place, size, time).
    """
    stored = Cache(cache, files_key(files))
    shapes = (stored.note() or {}).get("shapes")
    if shapes is None or cache.stat().st_size != sum(math.prod(shape) for shape in shapes):
        shapes = []
        with stored.writing() as path, open(path, "wb") as out:
            for file in tqdm(files, "decoding", unit="photo", leave=False):
                image = read_image(file)
                shapes.append(image.shape)
                out.write(image.tobytes())
        stored.write_note(shapes=shapes)
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    parts = np.split(np.memmap(cache, np.uint8, "r"), ends)
    return [np.asarray(part).reshape(shape) for part, shape in zip(parts, shapes)]


def cache_file(name: str, method: str = "five_points") -> Path:
    """Where the aligned faces of a set are kept."""
    return data_folder() / "cache" / (f"{name}.npy" if method == "five_points" else f"{name}_{method}.npy")


def aligned_set(name: str, landmarker: Landmarker, method: str = "five_points") -> tuple[np.ndarray, FaceList]:
    """Aligned faces of a whole prepared set, kept; `method`: see `align_faces`."""
    return align_photos(load_faces(name), landmarker, method=method, cache=cache_file(name, method))


def aligned_open_set(split: str, landmarker: Landmarker, method: str = "five_points") -> tuple[np.ndarray, FaceList]:
    """Aligned faces of "open_val" or "open_test", and who they are, see `open_set_faces`."""
    return align_photos(open_set_faces(split), landmarker, method=method, cache=cache_file(split, method))


def aligned_families(landmarker: Landmarker, method: str = "five_points") -> tuple[np.ndarray, FaceList]:
    """Aligned faces of the held-out families: people who look alike, photographed decades apart."""
    aligned, faces = aligned_set(FAMILIES, landmarker, method)
    rows = np.flatnonzero([in_held_out_family(person) for person in faces.people])
    return aligned[rows], faces.where(rows)


def aligned_training_set(
    names: list[str], landmarker: Landmarker, method: str = "five_points"
) -> tuple[np.ndarray, FaceList]:
    """Aligned faces of prepared sets and who they are, without whom `training_list` leaves out.

    Raises:
        ValueError: see `training_list`.
    """
    aligned, lists = zip(*(aligned_set(name, landmarker, method) for name in names))
    faces = training_list(dict(zip(names, lists)))
    places = [{file: i for i, file in enumerate(part.files)} for part in lists]
    rows = [np.array([place[file] for file in faces.files if file in place], int) for place in places]
    return np.concatenate([part[chosen] for part, chosen in zip(aligned, rows)]), faces


def aligned_own_people(
    folder: Path, landmarker: Landmarker, method: str = "five_points"
) -> tuple[np.ndarray, FaceList]:
    """Aligned faces of <folder>/<person>/<photo>, the largest of each photo, some held out as "val", see
    `hold_out_photos`.

    Raises:
        FileNotFoundError, ValueError: see `load_people_folder` and `align_photos`; or fewer than two people.
    """
    listed = faces = load_people_folder(folder)
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]  # folders of one name do not share a cache
    cache = cache_file(f"own_{folder.resolve().name}_{place}", method)
    aligned, faces = align_photos(faces, landmarker, load_detector(), method, cache)
    if gone := sorted(set(listed.people.tolist()) - set(faces.people.tolist())):
        warnings.warn(f"of {printable(', '.join(gone))} no photo is left", stacklevel=2)
    if len(set(faces.people.tolist())) < 2:
        raise ValueError(f"{folder} holds photos of one person only: two people are the least to tell apart")
    return aligned, hold_out_photos(faces, 0.1)


def cut_faces(faces: FaceList, how: str, landmarker: Landmarker) -> tuple[np.ndarray, FaceList]:
    """Faces (n, 112, 112, 3) uint8 cut in other ways, for comparison.

    `how`: "box" (the detected box, no alignment), "detector" (five points of the detector, from the
    table of the crops), or a method of `align_faces` with the hourglass's points.
    """
    if how in METHODS:
        return align_photos(faces, landmarker, method=how)
    images = [read_image(file) for file in faces.files]
    if how == "box":
        return np.stack([warp_image(i, crop_matrix(box, SIZE), SIZE) for i, box in zip(images, faces.boxes)]), faces
    if how == "detector":
        return np.concatenate([warp_faces(i, points[None]) for i, points in zip(images, faces.points)]), faces
    raise ValueError(f"how={how!r}: expected 'box', 'detector' or one of {', '.join(METHODS)}")
