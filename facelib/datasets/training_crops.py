"""Faces with a margin around them, for training: augmentation that rotates and shifts a face finds image there."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facelib.alignment.align import SIZE, alignment_matrix
from facelib.alignment.crop import crop_matrix, warp_image
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import Cache, ProcessedPhotos, alignment_key, cache_file, process_photos
from facelib.datasets.face_choice import choose_faces
from facelib.datasets.face_list import CROP_SIDE, FaceList, load_faces, warn_of_skipped
from facelib.datasets.sources import load_people_folder
from facelib.datasets.splits import hold_out_photos, training_list
from facelib.detection.detector import FaceDetector, load_detector
from facelib.io.files import atomic_write, printable, private_files
from facelib.settings import own_cache_name

MARGIN = (CROP_SIDE - SIZE) // 2  # pixels around an aligned face
HELD_OUT = 0.1  # share of the photos of a folder that become "val", see `hold_out_photos`


@dataclass(frozen=True)
class TrainingCrops:
    """n face crops with a margin, and how each is aligned."""

    files: list[np.ndarray]  # of each file its (m, s, s, 3) RGB uint8 crops, mapped into memory
    rows: np.ndarray  # (n,) int, row of each crop in the concatenation of all files
    matrices: np.ndarray  # (n, 2, 3) float32, affine map from pixels of the aligned face to pixels of the crop

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def side(self) -> int:
        """s, side of a crop in pixels."""
        return self.files[0].shape[1]

    def select(self, indices: np.ndarray) -> "TrainingCrops":
        """The crops with the given indices (k,), without reading them."""
        return TrainingCrops(self.files, self.rows[indices], self.matrices[indices])

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Read the crops with the given indices (k,) into memory: (k, s, s, 3) RGB uint8."""
        rows = self.rows[indices]
        result = np.empty((len(rows), self.side, self.side, 3), np.uint8)
        start = 0
        for file in self.files:
            in_file = (rows >= start) & (rows < start + len(file))
            result[in_file] = file[rows[in_file] - start]
            start += len(file)
        return result

    @classmethod
    def from_aligned(cls, aligned: np.ndarray) -> "TrainingCrops":
        """Aligned faces (n, 112, 112, 3) RGB uint8 as crops without a margin."""
        matrices = np.eye(2, 3, dtype=np.float32)[None].repeat(len(aligned), 0)
        return cls([aligned], np.arange(len(aligned)), matrices)

    @classmethod
    def join(cls, parts: list["TrainingCrops"]) -> "TrainingCrops":
        """Concatenate crops, without reading them."""
        starts = np.cumsum([0, *(sum(map(len, part.files)) for part in parts[:-1])])
        rows = [part.rows + start for part, start in zip(parts, starts)]
        files = [file for part in parts for file in part.files]
        return cls(files, np.concatenate(rows), np.concatenate([part.matrices for part in parts]))


def load_training_crops(
    faces: FaceList,
    landmarker: HourglassLandmarker,
    cache: Path,
    detector: FaceDetector | None = None,
    method: str = "five_points",
) -> tuple[TrainingCrops, FaceList]:
    """As `align_photos`, with a margin around each face: prepared crops unchanged, photos of other sizes as the aligned
    face with `MARGIN` more pixels on each side.

    Args:
        cache: .bin file to cache the crops in, as `align_photos` does; the matrices are in a file beside it
            (.matrices.npy).
        detector: finds the face of each photo where `faces` has no boxes, see `choose_faces`.
        method: of `align_faces`.

    Returns:
        The crops, and the photos that were kept.

    Raises:
        ValueError: no photo has a face.
    """
    stored = Cache(cache, alignment_key(faces, landmarker, detector, method))
    matrices_file = cache.with_suffix(".matrices.npy")
    note = stored.read_note()
    crop_bytes = CROP_SIDE * CROP_SIDE * 3
    if note and matrices_file.exists() and cache.stat().st_size == len(note["kept"]) * crop_bytes:
        photos = ProcessedPhotos.from_note(note)
    else:
        photos = _write_crops(stored, matrices_file, faces, landmarker, detector, method)
    warn_of_skipped(photos.skipped, len(faces))
    crops = np.memmap(cache, np.uint8, "r").reshape(-1, CROP_SIDE, CROP_SIDE, 3)
    return TrainingCrops([crops], np.arange(len(crops)), np.load(matrices_file)), photos.select(faces)


def _write_crops(
    stored: Cache,
    matrices_file: Path,
    faces: FaceList,
    landmarker: HourglassLandmarker,
    detector: FaceDetector | None,
    method: str,
) -> ProcessedPhotos:
    matrices: list[np.ndarray] = []
    with stored.writing() as path, open(path, "wb") as out:

        def add(image: np.ndarray, points: np.ndarray) -> None:
            crop, matrix = padded_crop(image, points, method)
            out.write(crop.tobytes())
            matrices.append(matrix)

        chosen = None if detector is None else choose_faces(faces, detector, landmarker)
        photos = process_photos(faces, landmarker, detector, True, add, chosen)
    with private_files(), atomic_write(matrices_file) as path:
        np.save(path, np.stack(matrices))
    if not photos.retry:  # without a note the files are made again the next time
        stored.write_note(**photos.as_note())
    return photos


def padded_crop(image: np.ndarray, points: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """One crop of `load_training_crops`.

    Args:
        image: (H, W, 3) RGB uint8; a prepared crop (144, 144, 3) is returned unchanged.
        points: (5, 2) landmarks in pixels of the image.
        method: of `align_faces`.

    Returns:
        crop (144, 144, 3) RGB uint8, and its matrix (2, 3) float32, see `TrainingCrops`.
    """
    matrix = alignment_matrix(points, method)
    if image.shape[:2] != (CROP_SIDE, CROP_SIDE):
        padded = matrix + [[0, 0, MARGIN], [0, 0, MARGIN]]
        image = warp_image(image, padded, CROP_SIDE)
        matrix = np.array([[1.0, 0, -MARGIN], [0, 1, -MARGIN]])
    return image, cv2.invertAffineTransform(matrix).astype(np.float32)


def realigned_crops(crops: TrainingCrops, faces: FaceList, alignment: str) -> TrainingCrops:
    """The crops with the matrices of another alignment, for comparison.

    Args:
        faces: of the crops, in the same order.
        alignment: "box" (the face box, not aligned) or "detector" (aligned by the detector's landmarks).
    """
    if alignment == "box":
        matrices = [crop_matrix(box, SIZE) for box in faces.boxes]
    else:
        matrices = [alignment_matrix(points) for points in faces.points]
    inverse = np.stack([cv2.invertAffineTransform(matrix) for matrix in matrices]).astype(np.float32)
    return TrainingCrops(crops.files, crops.rows, inverse)


def crops_of_sets(
    names: list[str], landmarker: HourglassLandmarker, method: str = "five_points"
) -> tuple[TrainingCrops, FaceList]:
    """The faces of prepared sets that may be used for training, cached.

    Args:
        names: see `load_faces`.
        method: of `align_faces`.

    Returns:
        The crops, and their photos as of `training_list`.

    Raises:
        FileNotFoundError: a set does not exist.
        ValueError: see `training_list`.
    """
    parts, lists = [], []
    for name in names:
        crops, faces = load_training_crops(load_faces(name), landmarker, _cache_file(name, method), method=method)
        parts.append(crops)
        lists.append(faces)
    faces = training_list(dict(zip(names, lists)))
    index = {file: i for i, file in enumerate(file for part in lists for file in part.files)}
    return TrainingCrops.join(parts).select(np.array([index[file] for file in faces.files], int)), faces


def crops_of_people(
    folder: Path, landmarker: HourglassLandmarker, method: str = "five_points"
) -> tuple[TrainingCrops, FaceList]:
    """One face of each photo of <folder>/<person>/<photo>, see `choose_faces`, cached; some
    photos are held out as "val", see `hold_out_photos`.

    Args:
        method: of `align_faces`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no photo has a face, or all are of one person.
    """
    listed = load_people_folder(folder)
    cache = _cache_file(own_cache_name(folder), method)
    crops, faces = load_training_crops(listed, landmarker, cache, load_detector(), method)
    if lost := sorted(set(listed.people.tolist()) - set(faces.people.tolist())):
        warnings.warn(f"all photos of {printable(', '.join(lost))} were skipped", stacklevel=2)
    if len(set(faces.people.tolist())) < 2:
        raise ValueError(f"{folder} holds photos of one person only: training needs at least two people")
    return crops, hold_out_photos(faces, HELD_OUT)


def _cache_file(name: str, method: str) -> Path:
    return cache_file(name, method).with_suffix(".bin")
