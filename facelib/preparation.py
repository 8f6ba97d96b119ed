"""From lists of photos to aligned faces and to prepared crops, and the downloads of public sets."""

import contextlib
import csv
import hashlib
import json
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facelib.alignment import align_faces
from facelib.checkpoints import data_folder
from facelib.datasets import CROP_SIDE, FaceList, load_celeba, load_people_folder
from facelib.detection import Detector, load_detector
from facelib.files import files_key, printable, replacing, unique_names
from facelib.images import crop_matrix, read_image, warp_image
from facelib.landmarks import Landmarker
from facelib.pipeline import BATCH_BYTES


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
    boxes = detector and detector.name if faces.boxes is None else hashlib.sha256(faces.boxes.tobytes()).hexdigest()
    key = files_key(faces.files, method, landmarker.fingerprint(), boxes) if cache else ""
    if cache and (kept := _note(cache, key, "kept")) is not None:
        with contextlib.suppress(ValueError, OSError, EOFError):  # an array that is cut short is made anew
            result = np.load(cache, mmap_mode="r")
            if len(result) == len(kept):
                _warn_of_left_out(_note(cache, key, "left_out") or [], len(faces))
                return result, faces.where(np.array(kept, int))
    aligned, kept, left_out, may_pass = [], [], [], False
    images, boxes, batch = [], [], []

    def align() -> None:
        for image, points in zip(images, landmarker.predict(images, boxes)):
            aligned.append(align_faces(image, points, method)[0])
        kept.extend(batch)
        for part in (images, boxes, batch):
            part.clear()

    for i in tqdm(range(len(faces)), "aligning", unit="photo", disable=not progress, leave=False):
        if len(batch) == 64 or sum(image.size for image in images) > BATCH_BYTES:
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
        images.append(image), boxes.append(box), batch.append(i)
    align()
    _warn_of_left_out(left_out, len(faces))
    if not aligned:
        raise ValueError(f"none of {len(faces)} photos could be aligned: {'; '.join(left_out[:5])}")
    result = np.stack(aligned)
    if cache:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.with_suffix(".json").unlink(missing_ok=True)  # never a note beside an array that is not its own
        with replacing(cache) as path:  # an array from an earlier call may still be mapped from the old file
            np.save(path, result)
        if not may_pass:  # a photo that was forbidden, or on a drive that failed, is tried again the next time
            _write_note(cache, key, kept=kept, left_out=left_out)
        result = np.load(cache, mmap_mode="r")
    return result, faces.where(np.array(kept, int))


def _warn_of_left_out(left_out: list[str], photos: int) -> None:
    if left_out:
        warnings.warn(f"{len(left_out)} of {photos} photos left out: {'; '.join(left_out[:5])}", stacklevel=3)


def _note(cache: Path, key: str, name: str) -> list | None:
    """What the note beside a cache says under `name`; None where it is missing, broken or of another key."""
    try:
        note = json.loads(cache.with_suffix(".json").read_text())
        return note[name] if note["key"] == key and isinstance(note[name], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(cache: Path, key: str, **content: list) -> None:
    with replacing(cache.with_suffix(".json")) as path:
        path.write_text(json.dumps({"key": key, **content}))


def decode_photos(files: list[Path], cache: Path) -> list[np.ndarray]:
    """Read photos of any sizes once and keep them decoded in one file, mapped into memory.

    Returns:
        RGB uint8 (h, w, 3) views, in order; from the file when it was made of the same files (place, size, time).
    """
    key = files_key(files)
    shapes = _note(cache, key, "shapes")
    if shapes is None or not cache.is_file() or cache.stat().st_size != sum(math.prod(shape) for shape in shapes):
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.with_suffix(".json").unlink(missing_ok=True)
        shapes = []
        # Arrays of an earlier call keep the old file.
        with replacing(cache) as path, open(path, "wb") as out:
            for file in tqdm(files, "decoding", unit="photo", leave=False):
                image = read_image(file)
                shapes.append(image.shape)
                out.write(image.tobytes())
        _write_note(cache, key, shapes=shapes)
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    parts = np.split(np.memmap(cache, np.uint8, "r"), ends)
    return [np.asarray(part).reshape(shape) for part, shape in zip(parts, shapes)]


def split_photos(faces: FaceList, held_out: float) -> FaceList:
    """Of people with ten photos or more, make a share of the photos "val", always the same.

    Where nobody has ten, one photo of everyone who has three or more, so that there is an accuracy to see.
    """
    _, who, counts = np.unique(faces.people, return_inverse=True, return_counts=True)
    order = np.array([hashlib.sha256(f"{f.parent.name}/{f.name}".encode()).hexdigest() for f in faces.files])
    splits = np.full(len(faces), "train")
    least = 10 if (counts >= 10).any() else 3
    for person in np.flatnonzero(counts >= least):
        photos = np.flatnonzero(who == person)
        number = round(held_out * len(photos)) if least == 10 else min(1, math.ceil(held_out))
        splits[photos[np.argsort(order[photos])][:number]] = "val"
    warn_of_single_photos(faces)
    return replace(faces, splits=splits)


def warn_of_single_photos(faces: FaceList) -> None:
    """Say how many people have one photo only: nothing shows the training what their photos share."""
    names, counts = np.unique(faces.people, return_counts=True)
    if (counts == 1).any():
        single = names[counts == 1]
        example = printable(single[0])
        warnings.warn(f"{len(single)} people have a single photo, e.g. {example}: they teach little", stacklevel=3)


def prepare_crops(faces: FaceList, name: str, detector: Detector | None = None, central: bool = False) -> Path:
    """Cut the face out of every photo and write <FACELIB_DATA>/<name>/<person>/*.webp and faces.csv.

    The largest face of a photo counts, or with `central` the one nearest to its middle. Photos that
    cannot be read or show no face are left out, counted and named in a warning. Where photos of a person
    differ only in their ending (1.jpg, 1.png), their crops are numbered.

    Returns:
        The folder, ready for `load_faces(name)`.

    Raises:
        ValueError: no photo gave a face, or `name` is no plain name. OSError: a crop cannot be written.
    """
    folder = data_folder() / name
    if Path(name).name != name:
        raise ValueError(f"{name!r}: expected a name, not a path; the crops go to {data_folder()}/<name>")
    detector = detector or load_detector()
    rows, left_out = [], []
    names = crop_names(faces)
    for i, (file, person, split) in enumerate(tqdm(list(zip(faces.files, faces.people, faces.splits)), "cutting")):
        try:
            image = read_image(file)
        except (ValueError, OSError) as error:
            left_out.append(str(error))
            continue
        boxes, scores = detector.detect(image)
        if len(boxes) == 0:
            left_out.append(f"{printable(file)}: no face found")
            continue
        off = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - np.array(image.shape[1::-1]) / 2, axis=1)
        best = int(off.argmin()) if central else 0
        crop = warp_image(image, crop_matrix(boxes[best], CROP_SIDE), CROP_SIDE)
        target = folder / str(person) / f"{names[i]}.webp"
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as path:
            path.write_bytes(cv2.imencode(".webp", crop[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, 95])[1].tobytes())
        width = boxes[best, 2] - boxes[best, 0]
        rows.append([f"{person}/{target.name}", person, name, split, f"{width:.1f}", f"{scores[best]:.3f}"])
    if left_out:
        warnings.warn(f"{len(left_out)} of {len(faces)} photos left out: {'; '.join(left_out[:5])}", stacklevel=2)
    if not rows:
        raise ValueError(f"none of {len(faces)} photos shows a face: {'; '.join(left_out[:5])}")
    with replacing(folder / "faces.csv") as path, open(path, "w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["file", "person", "source", "split", "face_width", "det_score"])
        writer.writerows(rows)
    return folder


def crop_names(faces: FaceList) -> list[str]:
    """The names (without ending) of the crops of a list, different for the photos of a person."""
    names = [""] * len(faces)
    for person in np.unique(faces.people):
        rows = np.flatnonzero(faces.people == person)
        for i, name in zip(rows, unique_names(faces.files[i] for i in rows)):
            names[i] = name
    return names


def fetch_lfw() -> Path:
    """Download LFW with scikit-learn, and prepare the photos that View 2 names."""
    from sklearn.datasets import fetch_lfw_pairs

    try:
        fetch_lfw_pairs(subset="10_folds", funneled=False, data_home=data_folder(), resize=0.1)
    except OSError as error:
        raise RuntimeError(f"LFW could not be downloaded ({error}): is there a way to the network?") from error
    home = data_folder() / "lfw_home"
    named = set()
    for parts in (line.split("\t") for line in (home / "pairs.txt").read_text().splitlines()[1:]):
        people = [parts[0], parts[0]] if len(parts) == 3 else [parts[0], parts[2]]
        named |= {f"{person}_{int(photo):04d}" for person, photo in zip(people, (parts[1], parts[-1]))}
    faces = load_people_folder(home / "lfw")
    faces = faces.where(np.array([file.stem in named for file in faces.files]))
    folder = prepare_crops(replace(faces, splits=np.full(len(faces), "lfw")), "lfw", central=True)
    shutil.copy(home / "pairs.txt", folder / "pairs.txt")
    return folder


def fetch_celeba() -> Path:
    """Download CelebA with torchvision (from Google Drive, 1.4 GB), and prepare its crops."""
    from torchvision.datasets import CelebA

    try:
        CelebA(str(data_folder()), split="all", download=True)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"CelebA could not be downloaded ({error}): its host limits downloads a day; put the files of "
            f"img_align_celeba and its lists into {data_folder() / 'celeba'} by hand"
        ) from error
    return prepare_crops(load_celeba(), "celeba_crops")
