"""Aligned faces of lists of photos, made by the functions that the pipeline uses, and the files that cache them."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from facelib.alignment.align import METHODS, SIZE, warp_faces
from facelib.alignment.crop import crop_matrix, warp_image
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList, load_faces, warn_of_skipped
from facelib.datasets.splits import FAMILIES, in_held_out_family, open_set_faces
from facelib.detection.detector import FaceDetector
from facelib.embedding.dlib_chips import dlib_chips
from facelib.io.files import atomic_write, files_key, printable, private_files
from facelib.io.images import read_image
from facelib.settings import BATCH_BYTES, data_folder

# How faces are cropped for an embedder, by its `crop_mode`: (photo, landmarks (n, 5, 2)) -> (n, s, s, 3) uint8.
CROP_MODES = {method: partial(warp_faces, method=method) for method in METHODS} | {"dlib": dlib_chips}
BATCH_PHOTOS = 64  # photos in memory at a time, if they have fewer than BATCH_BYTES


@dataclass(frozen=True)
class Cache:
    """A file made from other files, and a JSON note beside it; nobody but the user can read them (0600)."""

    path: Path  # of the file; the note has the suffix .json
    key: str  # changes with what the file was made from; stored in the note

    def read_note(self) -> dict | None:
        """The note; None where there is no file, or one with another key."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(self.path.with_suffix(".json").read_text())
            return note if note["key"] == self.key and self.path.is_file() else None
        return None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """A path to write the file to. The old note is deleted first; processes that have mapped the old file into
        memory keep it."""
        self.path.with_suffix(".json").unlink(missing_ok=True)
        with private_files():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as path:
                yield path

    def write_note(self, **content: list) -> None:
        """Write the note, after the file."""
        with private_files(), atomic_write(self.path.with_suffix(".json")) as path:
            path.write_text(json.dumps({"key": self.key, **content}))


@dataclass
class ProcessedPhotos:
    """What became of the photos of a list."""

    kept: list[int] = field(default_factory=list)  # indices of the photos with a face
    skipped: list[str] = field(default_factory=list)  # reason for each other photo, with its path
    retry: bool = False  # whether a skipped photo may become readable, e.g. on a drive that failed

    def as_note(self) -> dict[str, list]:
        """Content of a cache's note; caches of version 0.2 have the same."""
        return {"kept": self.kept, "left_out": self.skipped}

    @classmethod
    def from_note(cls, note: dict[str, list]) -> "ProcessedPhotos":
        """From a cache's note.

        Raises:
            KeyError: the note is not that of a list of photos.
        """
        return cls(note["kept"], note["left_out"])

    def select(self, faces: FaceList) -> FaceList:
        """The photos of a list that were kept."""
        return faces.select(np.array(self.kept, int))


def align_photos(
    faces: FaceList,
    landmarker: HourglassLandmarker,
    detector: FaceDetector | None = None,
    method: str = "five_points",
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[np.ndarray, FaceList]:
    """Align one face of each photo of a list, by the functions that the pipeline uses.

    Unreadable photos and photos without a face are reported in a warning and skipped.

    Args:
        detector: finds the largest face of each photo where `faces` has no boxes.
        method: one of `CROP_MODES`.
        cache: .npy file to cache the result in; used where the files (path, size, time), the method and the landmarker
            are those that it was made with.

    Returns:
        aligned: (m, 112, 112, 3) RGB uint8, 150 pixels a side for "dlib"; with `cache` mapped from the file.
        faces: the m photos that were kept.

    Raises:
        ValueError: no photo could be aligned.
    """
    aligned: list[np.ndarray] = []

    def add(image: np.ndarray, points: np.ndarray) -> None:
        aligned.append(CROP_MODES[method](image, points[None])[0])

    if cache is None:
        photos = process_photos(faces, landmarker, detector, progress, add)
        warn_of_skipped(photos.skipped, len(faces))
        return np.stack(aligned), photos.select(faces)
    stored = Cache(cache, alignment_key(faces, landmarker, detector, method))
    if note := stored.read_note():
        with contextlib.suppress(ValueError, OSError, EOFError, KeyError):  # a truncated file is made again
            photos = ProcessedPhotos.from_note(note)
            cached = np.load(cache, mmap_mode="r")
            if len(cached) == len(photos.kept):
                warn_of_skipped(photos.skipped, len(faces))
                return cached, photos.select(faces)
    photos = process_photos(faces, landmarker, detector, progress, add)
    warn_of_skipped(photos.skipped, len(faces))
    with stored.writing() as path:
        np.save(path, np.stack(aligned))
    if not photos.retry:  # without a note the file is made again the next time
        stored.write_note(**photos.as_note())
    return np.load(cache, mmap_mode="r"), photos.select(faces)


def alignment_key(faces: FaceList, landmarker: HourglassLandmarker, detector: FaceDetector | None, method: str) -> str:
    """Key of a cache, which changes where the faces of the list would be aligned differently."""
    boxes = detector and detector.name
    if faces.boxes is not None:
        boxes = hashlib.sha256(faces.boxes.tobytes()).hexdigest()
    return files_key(faces.files, method, landmarker.fingerprint(), boxes)


def process_photos(
    faces: FaceList,
    landmarker: HourglassLandmarker,
    detector: FaceDetector | None,
    progress: bool,
    add: Callable[[np.ndarray, np.ndarray], object],
    boxes_found: list[np.ndarray] | None = None,
) -> ProcessedPhotos:
    """Find the landmarks of one face of each photo, and call `add(image, landmarks)`, in order.

    Args:
        detector: see `align_photos`.
        progress: whether to show a progress bar.
        add: called with the photo (H, W, 3) RGB uint8 and the landmarks (5, 2) float32.
        boxes_found: of each photo the box (1, 4) that is taken, or (0, 4); instead of a detector.

    Raises:
        ValueError: no photo has a face.
    """
    result = ProcessedPhotos()
    images: list[np.ndarray] = []
    boxes: list[np.ndarray] = []

    def flush() -> None:
        for image, points in zip(images, landmarker.predict(images, boxes)):
            add(image, points[0])
        images.clear()
        boxes.clear()

    for i in tqdm(range(len(faces)), "aligning", unit="photo", disable=not progress, leave=False):
        if len(images) == BATCH_PHOTOS or sum(image.size for image in images) > BATCH_BYTES:
            flush()
        try:
            image = read_image(faces.files[i])
        except (ValueError, OSError) as error:
            result.skipped.append(str(error))
            result.retry |= isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
            continue
        if boxes_found is not None:
            box = boxes_found[i]
        else:
            box = faces.boxes[i : i + 1] if faces.boxes is not None else detector.detect(image)[0][:1]
        if len(box) == 0:
            result.skipped.append(f"{printable(faces.files[i])}: no face found")
            continue
        images.append(image)
        boxes.append(box)
        result.kept.append(i)
    flush()
    if not result.kept:
        raise ValueError(f"none of {len(faces)} photos could be aligned: {'; '.join(result.skipped[:5])}")
    return result


def decode_photos(files: list[Path], cache: Path) -> list[np.ndarray]:
    """Decode photos of any sizes once, and cache the pixels in one file that is mapped into memory.

    Args:
        cache: used where the files (path, size, time) are those that it was made from.

    Returns:
        RGB uint8 (h, w, 3) views of the file, in order.
    """
    stored = Cache(cache, files_key(files))
    shapes = (stored.read_note() or {}).get("shapes")
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
    """File in which the aligned faces of a set are cached."""
    return data_folder() / "cache" / (f"{name}.npy" if method == "five_points" else f"{name}_{method}.npy")


def aligned_set(name: str, landmarker: HourglassLandmarker, method: str = "five_points") -> tuple[np.ndarray, FaceList]:
    """Aligned faces of a prepared set, cached; see `load_faces` and `align_photos`."""
    return align_photos(load_faces(name), landmarker, method=method, cache=cache_file(name, method))


def aligned_open_set(
    split: str, landmarker: HourglassLandmarker, method: str = "five_points"
) -> tuple[np.ndarray, FaceList]:
    """Aligned faces of "open_val" or "open_test", cached; see `open_set_faces` and `align_photos`."""
    return align_photos(open_set_faces(split), landmarker, method=method, cache=cache_file(split, method))


def aligned_families(landmarker: HourglassLandmarker, method: str = "five_points") -> tuple[np.ndarray, FaceList]:
    """Aligned faces of the held-out families, cached: relatives who look alike, photographed decades apart."""
    aligned, faces = aligned_set(FAMILIES, landmarker, method)
    rows = np.flatnonzero([in_held_out_family(person) for person in faces.people])
    return aligned[rows], faces.select(rows)


def crop_faces(faces: FaceList, alignment: str, landmarker: HourglassLandmarker) -> tuple[np.ndarray, FaceList]:
    """Crop faces by one of the alignments that are compared.

    Args:
        alignment: "box" (the face box, not aligned), "detector" (aligned by the detector's landmarks of faces.csv), or
            a method of `align_faces` with the landmarks of the hourglass.

    Returns:
        (m, 112, 112, 3) RGB uint8, and the m photos that were kept, see `align_photos`.

    Raises:
        ValueError: another alignment.
    """
    if alignment in METHODS:
        return align_photos(faces, landmarker, method=alignment)
    images = [read_image(file) for file in faces.files]
    if alignment == "box":
        matrices = [crop_matrix(box, SIZE) for box in faces.boxes]
        return np.stack([warp_image(image, matrix, SIZE) for image, matrix in zip(images, matrices)]), faces
    if alignment == "detector":
        return np.concatenate([warp_faces(image, points[None]) for image, points in zip(images, faces.points)]), faces
    raise ValueError(f"alignment={alignment!r}: expected 'box', 'detector' or one of {', '.join(METHODS)}")
