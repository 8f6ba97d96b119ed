"""Prepare face crops from photos: one way from a photo to a crop and a row of a table, for all data sets."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facelib.alignment.crop import crop_matrix, transform_points, warp_image
from facelib.datasets.crop_tables import CropTable, FaceToCrop, Journal, face_table
from facelib.datasets.face_list import POINT_NAMES, FaceList, warn_of_skipped
from facelib.datasets.published_files import PublishedFiles
from facelib.detection.detector import FaceDetector, load_detector
from facelib.detection.nms import SAME_FACE, box_iou
from facelib.io.files import atomic_write, digest, files_key, printable, unique_names
from facelib.io.images import read_image
from facelib.io.inputs import Photo

WEBP_QUALITY = 95
# A face box from landmarks: its side, and how far its centre lies above theirs, in units of their root mean square
# distance to their mean. Medians over the detected faces of landmarks and landmarks_more.
BOX_SIDE, BOX_RISE = 4.6, 0.37


def prepare_crops(faces: FaceList, name: str, detector: FaceDetector | None = None) -> Path:
    """Write a crop of the largest face of each photo to <FACELIB_DATA>/<name>/<person>/*.webp, and faces.csv.

    Where photos of a person differ in their suffix only (1.jpg, 1.png), the names of their crops are numbered.

    Args:
        name: of the new set.
        detector: None: the default one.

    Returns:
        The folder, ready for `load_faces(name)`.

    Raises:
        ValueError, OSError: see `write_crops`; `name` is not a plain name.
    """
    people, splits, names = faces.people.tolist(), faces.splits.tolist(), crop_names(faces)
    rows = [
        FaceToCrop(file, f"{person}/{crop}.webp", {"person": person, "source": name, "split": split})
        for file, person, split, crop in zip(faces.files, people, splits, names)
    ]
    table = face_table(name, central=False)
    return write_crops(rows, table, lambda photo: photo, files_key(faces.files), detector)


def crop_published(
    files: PublishedFiles, faces: list[FaceToCrop], table: CropTable, detector: FaceDetector | None = None
) -> Path:
    """Write crops of faces of published photos, see `write_crops`; `photo` of each is a name in `files`."""
    order = {name: i for i, name in enumerate(files.names)}
    return write_crops(sorted(faces, key=lambda face: order[str(face.photo)]), table, files.read, files.key, detector)


def write_crops(
    faces: list[FaceToCrop],
    table: CropTable,
    read: Callable[..., Photo],
    key: str,
    detector: FaceDetector | None = None,
) -> Path:
    """Write crops of faces, and a table of them that is written when all are done.

    Unreadable photos and photos without a face are reported in a warning and skipped. A run that was interrupted goes
    on where it ended. The columns are those of the faces, `file`, and those of `crop_face`.

    Args:
        read: `photo` of a face -> what `read_image` reads.
        key: changes with the photos.
        detector: None: the default one.

    Returns:
        The folder of the table.

    Raises:
        ValueError: no photo has a face, or see `CropTable.other_rows`.
        OSError: a crop cannot be written.
    """
    kept = table.other_rows(faces)
    detector = detector or load_detector()
    key = digest(f"{key} {detector.name} {detector.settings_id} {table.side} {table.scale} {table.central}")
    journal = Journal.opened(table.path, key)
    rows: list[dict[str, str]] = []
    skipped: list[str] = []
    last, image = None, None  # a photo may show several faces
    with journal.writing() as add:
        for face in tqdm(faces, "cropping", unit="photo"):
            if face.crop not in journal.rows:
                try:
                    if last != face.photo:
                        last, image = None, read_image(read(face.photo))
                        last = face.photo
                except (ValueError, OSError) as error:
                    skipped.append(str(error) if isinstance(face.photo, Path) else f"{printable(face.photo)}: {error}")
                    continue
                found = crop_face(face, image, table, detector)
                if found is None:
                    skipped.append(f"{printable(face.photo)}: no face found")
                    continue
                _write_crop(found[0], table.path.parent / face.crop)
                add({"file": face.crop} | face.columns | found[1])
            rows.append(journal.rows[face.crop] | face.columns)
    warn_of_skipped(skipped, len(faces))
    if not rows:
        raise ValueError(f"none of {len(faces)} photos has a face: {'; '.join(skipped[:5])}")
    table.write([*kept, *rows])
    journal.finish()
    return table.path.parent


def crop_face(
    face: FaceToCrop, image: np.ndarray, table: CropTable, detector: FaceDetector
) -> tuple[np.ndarray, dict[str, str]] | None:
    """Crop a face.

    Args:
        image: its photo, (H, W, 3) RGB uint8.

    Returns:
        None where there is no face. Otherwise the crop (side, side, 3) RGB uint8, and the columns of its row:
        `det_score`, and `face_width` (pixels of the photo); with labelled landmarks instead of the width the box
        (`box_x1` ... `box_y2`), whether it was found by the detector or made from the labels (`box_from`), and the
        landmarks, in pixels of the crop.
    """
    boxes, scores = detector.detect(image)
    if face.points is None:
        if len(boxes) == 0 and face.box is not None:
            boxes, scores = np.array([face.box]), np.zeros(1)
        if len(boxes) == 0:
            return None
        chosen = _most_central(boxes, image) if table.central else 0
        box = boxes[chosen]
        columns = {"face_width": f"{box[2] - box[0]:.1f}", "det_score": f"{scores[chosen]:.3f}"}
        return warp_image(image, crop_matrix(box, table.side, scale=table.scale), table.side), columns
    box = labelled_box(face.points)
    overlaps = box_iou(box[None], boxes)[0]
    columns = {"box_from": "labels", "det_score": "0.000"}
    if overlaps.max(initial=0.0) > SAME_FACE:
        box = boxes[overlaps.argmax()]
        columns = {"box_from": "detector", "det_score": f"{scores[overlaps.argmax()]:.3f}"}
    matrix = crop_matrix(box, table.side, scale=table.scale)
    corners = transform_points(box.reshape(2, 2) - 0.5, matrix) + 0.5  # boxes are in edges, points in centres
    columns |= {f"box_{name}": f"{value:.2f}" for name, value in zip(("x1", "y1", "x2", "y2"), corners.ravel())}
    for name, (x, y) in zip(POINT_NAMES, transform_points(face.points, matrix)):
        columns |= {f"{name}_x": f"{x:.2f}", f"{name}_y": f"{y:.2f}"}
    return warp_image(image, matrix, table.side), columns


def labelled_box(points: np.ndarray) -> np.ndarray:
    """About the box (4,) that a detector gives for a face with landmarks (5, 2), in pixels of the photo."""
    middle = points.mean(0)
    unit = np.sqrt(((points - middle) ** 2).sum(1).mean())
    centre = middle + 0.5 - [0, BOX_RISE * unit]
    half = max(BOX_SIDE * unit / 2, 0.5)
    return np.concatenate([centre - half, centre + half])


def _most_central(boxes: np.ndarray, image: np.ndarray) -> int:
    """Index of the box (n, 4) whose centre is nearest to that of the image."""
    middle = np.array(image.shape[1::-1]) / 2
    return int(np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1).argmin())


def _write_crop(crop: np.ndarray, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    bgr = crop[:, :, ::-1]
    _, content = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    with atomic_write(target) as path:
        path.write_bytes(content.tobytes())


def crop_names(faces: FaceList) -> list[str]:
    """Names (without suffix) of the crops of n photos, unique for each person."""
    names = [""] * len(faces)
    for person in np.unique(faces.people):
        rows = np.flatnonzero(faces.people == person)
        for i, name in zip(rows, unique_names(faces.files[i] for i in rows)):
            names[i] = name
    return names
