"""Aligned faces of whole lists of photos, by the functions that the pipeline uses, and the files that keep them."""

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from facelib.alignment.align import METHODS, SIZE, warp_faces
from facelib.alignment.crop import crop_matrix, warp_image
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList, load_faces
from facelib.datasets.splits import FAMILIES, in_held_out_family, open_set_faces
from facelib.detection.detector import FaceDetector
from facelib.embedding.dlib import dlib_chips
from facelib.io.files import atomic_write, files_key, printable
from facelib.io.images import read_image
from facelib.settings import BATCH_BYTES, data_folder

# How faces are cut, by `Embedder.crop_mode`: (photo, landmarks (n, 5, 2)) -> (n, s, s, 3).
CROP_MODES = {method: partial(warp_faces, method=method) for method in METHODS} | {"dlib": dlib_chips}


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
        with atomic_write(self.path) as path:
            yield path

    def write_note(self, **content: list) -> None:
        with atomic_write(self.path.with_suffix(".json")) as path:
            path.write_text(json.dumps({"key": self.key, **content}))


def align_photos(
    faces: FaceList,
    landmarker: HourglassLandmarker,
    detector: FaceDetector | None = None,
    method: str = "five_points",
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[np.ndarray, FaceList]:
    """Landmarks and aligned faces of a whole list, by the functions that the pipeline uses.

    A photo that cannot be read, or in which no face is found, is left out, counted and named in a
    warning. Where `faces` has no boxes, `detector` finds the largest face.

    Args:
        method: one of `CROP_MODES`.
        cache: .npy file to keep the result in; read again when the files (place, size, time), the method and
            the landmarker agree.

    Returns:
        aligned (m, 112, 112, 3) uint8 (from the file, not in memory, with `cache`; 150 pixels a side for dlib), and
        the m photos kept.
    """
    aligned: list[np.ndarray] = []

    def take(image: np.ndarray, points: np.ndarray) -> None:
        aligned.append(CROP_MODES[method](image, points[None])[0])

    if cache is None:
        kept, left_out, _ = each_face(faces, landmarker, detector, progress, take)
        warn_of_left_out(left_out, len(faces))
        return np.stack(aligned), faces.select(np.array(kept, int))
    stored = Cache(cache, alignment_key(faces, landmarker, detector, method))
    if note := stored.note():
        with contextlib.suppress(ValueError, OSError, EOFError, KeyError):  # a file that is cut short is made anew
            there = np.load(cache, mmap_mode="r")
            if len(there) == len(note["kept"]):
                warn_of_left_out(note["left_out"], len(faces))
                return there, faces.select(np.array(note["kept"], int))
    kept, left_out, may_pass = each_face(faces, landmarker, detector, progress, take)
    warn_of_left_out(left_out, len(faces))
    with stored.writing() as path:
        np.save(path, np.stack(aligned))
    if not may_pass:  # a photo that was forbidden, or on a drive that failed, is tried again the next time
        stored.write_note(kept=kept, left_out=left_out)
    return np.load(cache, mmap_mode="r"), faces.select(np.array(kept, int))


def alignment_key(faces: FaceList, landmarker: HourglassLandmarker, detector: FaceDetector | None, method: str) -> str:
    """Differs where the faces of a list would be aligned otherwise."""
    boxes = detector and detector.name if faces.boxes is None else hashlib.sha256(faces.boxes.tobytes()).hexdigest()
    return files_key(faces.files, method, landmarker.fingerprint(), boxes)


def each_face(
    faces: FaceList,
    landmarker: HourglassLandmarker,
    detector: FaceDetector | None,
    progress: bool,
    take: Callable[[np.ndarray, np.ndarray], object],
) -> tuple[list[int], list[str], bool]:
    """Gives photo and landmarks (5, 2) of each face to `take`, as `align_photos` says.

    Returns:
        Which of the list they are; what is left out and why; whether that may be otherwise the next time.
    """
    kept, left_out, may_pass = [], [], False
    images, boxes = [], []

    def align() -> None:
        for image, points in zip(images, landmarker.predict(images, boxes)):
            take(image, points[0])
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
    if not kept:
        raise ValueError(f"none of {len(faces)} photos could be aligned: {'; '.join(left_out[:5])}")
    return kept, left_out, may_pass


def warn_of_left_out(left_out: list[str], photos: int) -> None:
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


def aligned_set(name: str, landmarker: HourglassLandmarker, method: str = "five_points") -> tuple[np.ndarray, FaceList]:
    """Aligned faces of a whole prepared set, kept; `method`: see `align_faces`."""
    return align_photos(load_faces(name), landmarker, method=method, cache=cache_file(name, method))


def aligned_open_set(
    split: str, landmarker: HourglassLandmarker, method: str = "five_points"
) -> tuple[np.ndarray, FaceList]:
    """Aligned faces of "open_val" or "open_test", and who they are, see `open_set_faces`."""
    return align_photos(open_set_faces(split), landmarker, method=method, cache=cache_file(split, method))


def aligned_families(landmarker: HourglassLandmarker, method: str = "five_points") -> tuple[np.ndarray, FaceList]:
    """Aligned faces of the held-out families: people who look alike, photographed decades apart."""
    aligned, faces = aligned_set(FAMILIES, landmarker, method)
    rows = np.flatnonzero([in_held_out_family(person) for person in faces.people])
    return aligned[rows], faces.select(rows)


def cut_faces(faces: FaceList, how: str, landmarker: HourglassLandmarker) -> tuple[np.ndarray, FaceList]:
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
