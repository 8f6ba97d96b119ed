"""Faces with room around them, for training: where augmentation turns and moves a face, there is more to see."""

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facelib.alignment.align import SIZE, alignment_matrix
from facelib.alignment.crop import crop_matrix, warp_image
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.aligned_faces import Cache, alignment_key, cache_file, each_face, warn_of_left_out
from facelib.datasets.face_list import CROP_SIDE, FaceList, load_faces
from facelib.datasets.sources import load_people_folder
from facelib.datasets.splits import hold_out_photos, training_list
from facelib.detection.detector import FaceDetector, load_detector
from facelib.io.files import atomic_write, printable

MARGIN = (CROP_SIDE - SIZE) // 2  # pixels around an aligned face


@dataclass(frozen=True)
class TrainingCrops:
    """Faces with room around them, and how they are aligned: what augmentation can move about.

    files: each (m, s, s, 3) uint8, mapped into memory. places: (n,) rows in all files one after the other.
    matrices: (n, 2, 3) float32, from the pixels of the aligned face to those of the picture.
    """

    files: list[np.ndarray]
    places: np.ndarray
    matrices: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def side(self) -> int:
        """s, in pixels."""
        return self.files[0].shape[1]

    def select(self, rows: np.ndarray) -> "TrainingCrops":
        """Those of `rows` (numbers) only."""
        return TrainingCrops(self.files, self.places[rows], self.matrices[rows])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of `rows`, (k, s, s, 3) uint8, read into memory."""
        places = self.places[rows]
        result = np.empty((len(places), self.side, self.side, 3), np.uint8)
        start = 0
        for file in self.files:
            here = (places >= start) & (places < start + len(file))
            result[here] = file[places[here] - start]
            start += len(file)
        return result

    @classmethod
    def of_aligned(cls, aligned: np.ndarray) -> "TrainingCrops":
        """Of aligned faces (n, 112, 112, 3), without room around them."""
        return cls([aligned], np.arange(len(aligned)), np.eye(2, 3, dtype=np.float32)[None].repeat(len(aligned), 0))

    @classmethod
    def join(cls, parts: list["TrainingCrops"]) -> "TrainingCrops":
        """Several as one."""
        starts = np.cumsum([0, *(sum(map(len, part.files)) for part in parts[:-1])])
        places = [part.places + start for part, start in zip(parts, starts)]
        files = [file for part in parts for file in part.files]
        return cls(files, np.concatenate(places), np.concatenate([part.matrices for part in parts]))


def load_training_crops(
    faces: FaceList,
    landmarker: HourglassLandmarker,
    cache: Path,
    detector: FaceDetector | None = None,
    method: str = "five_points",
) -> tuple[TrainingCrops, FaceList]:
    """As `align_photos`, but with the room around each face: prepared crops as they are, photos of other sizes as the
    aligned face and `MARGIN` pixels more on each side.

    Args:
        cache: file to keep them in, as `align_photos` does; their matrices lie beside it (.matrices.npy).
    """
    stored, beside = (
        Cache(cache, alignment_key(faces, landmarker, detector, method)),
        cache.with_suffix(".matrices.npy"),
    )
    note = stored.note()
    if note is None or not beside.exists() or cache.stat().st_size != len(note["kept"]) * CROP_SIDE**2 * 3:
        matrices: list[np.ndarray] = []
        with stored.writing() as path, open(path, "wb") as out:

            def take(image: np.ndarray, points: np.ndarray) -> None:
                picture, matrix = padded_crop(image, points, method)
                out.write(picture.tobytes())
                matrices.append(matrix)

            kept, left_out, may_pass = each_face(faces, landmarker, detector, True, take)
        with atomic_write(beside) as path:
            np.save(path, np.stack(matrices))
        note = {"kept": kept, "left_out": left_out}
        if not may_pass:
            stored.write_note(**note)
    warn_of_left_out(note["left_out"], len(faces))
    pictures = np.memmap(cache, np.uint8, "r").reshape(-1, CROP_SIDE, CROP_SIDE, 3)
    return TrainingCrops([pictures], np.arange(len(pictures)), np.load(beside)), faces.select(
        np.array(note["kept"], int)
    )


def padded_crop(image: np.ndarray, points: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """One picture of `load_training_crops` (144, 144, 3) and its matrix (2, 3)."""
    matrix = alignment_matrix(points, method)
    if image.shape[:2] != (CROP_SIDE, CROP_SIDE):
        wide = matrix + [[0, 0, MARGIN], [0, 0, MARGIN]]
        image, matrix = warp_image(image, wide, CROP_SIDE), np.array([[1.0, 0, -MARGIN], [0, 1, -MARGIN]])
    return image, cv2.invertAffineTransform(matrix).astype(np.float32)


def realigned_crops(pictures: TrainingCrops, faces: FaceList, how: str) -> TrainingCrops:
    """Prepared crops aligned in other ways, for comparison: by the "box", or by the five points of a "detector"."""
    if how == "box":
        matrices = [crop_matrix(box, SIZE) for box in faces.boxes]
    else:
        matrices = [alignment_matrix(points) for points in faces.points]
    back = np.stack([cv2.invertAffineTransform(matrix) for matrix in matrices]).astype(np.float32)
    return TrainingCrops(pictures.files, pictures.places, back)


def crops_of_sets(
    names: list[str], landmarker: HourglassLandmarker, method: str = "five_points"
) -> tuple[TrainingCrops, FaceList]:
    """The faces of prepared sets, and who they are, without whom `training_list` leaves out.

    Raises:
        ValueError: see `training_list`.
    """
    parts, lists = zip(
        *(load_training_crops(load_faces(n), landmarker, _file(n, method), method=method) for n in names)
    )
    faces = training_list(dict(zip(names, lists)))
    places = {file: i for i, file in enumerate(file for part in lists for file in part.files)}
    return TrainingCrops.join(list(parts)).select(np.array([places[file] for file in faces.files], int)), faces


def crops_of_people(
    folder: Path, landmarker: HourglassLandmarker, method: str = "five_points"
) -> tuple[TrainingCrops, FaceList]:
    """The largest face of each photo of <folder>/<person>/<photo>, some held out as "val", see `hold_out_photos`.

    Raises:
        FileNotFoundError, ValueError: see `load_people_folder` and `align_photos`; or fewer than two people.
    """
    listed = load_people_folder(folder)
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]  # folders of one name do not share a cache
    cache = _file(f"own_{folder.resolve().name}_{place}", method)
    pictures, faces = load_training_crops(listed, landmarker, cache, load_detector(), method)
    if gone := sorted(set(listed.people.tolist()) - set(faces.people.tolist())):
        warnings.warn(f"of {printable(', '.join(gone))} no photo is left", stacklevel=2)
    if len(set(faces.people.tolist())) < 2:
        raise ValueError(f"{folder} holds photos of one person only: two people are the least to tell apart")
    return pictures, hold_out_photos(faces, 0.1)


def _file(name: str, method: str) -> Path:
    return cache_file(name, method).with_suffix(".bin")
