"""LFW: scikit-learn's download or cache, or the authors' files, to prepared crops of the pairs of View 2."""

from collections.abc import Sequence
from pathlib import Path

from facelib.datasets.crop_tables import FaceToCrop, face_table
from facelib.datasets.crops import crop_published
from facelib.datasets.published_files import PublishedFiles, check_hashes
from facelib.io.files import atomic_write
from facelib.settings import data_folder
from facelib.types import DownloadError

LFW_BOX = (81.0, 67.0, 169.0, 187.0)  # of the face of a photo of LFW, 250 x 250 pixels, about where most are


def fetch_lfw(paths: Sequence[Path] = (), check: bool = True) -> Path:
    """Prepare crops of LFW's photos in the pairs of View 2, and pairs.txt.

    Args:
        paths: see `lfw_files`. check: see `lfw_files`.

    Raises:
        DownloadError, FileNotFoundError, ValueError: see `lfw_files`.
    """
    with lfw_files(paths, check) as files:
        pairs = files.text(files.require("pairs.txt", "the pairs of LFW's View 2"))
        photos = {photo: _lfw_photo(files, photo) for photo in lfw_photos(pairs)}
        if missing := [photo for photo, name in photos.items() if name is None]:
            raise FileNotFoundError(
                f"{files}: {len(missing):,} of the {len(photos):,} photos of pairs.txt are not there, such as "
                f"{missing[0]}: expected lfw.tgz, or its folder lfw/<person>/<person>_<number>.jpg"
            )
        faces = [
            FaceToCrop(
                name,
                f"{photo[:-5]}/{photo}.webp",
                {"person": photo[:-5], "source": "lfw", "split": "lfw"},
                box=LFW_BOX,
            )
            for photo, name in photos.items()
        ]
        folder = crop_published(files, faces, face_table("lfw"))
        with atomic_write(folder / "pairs.txt") as path:
            path.write_text(pairs)
    return folder


def _lfw_photo(files: PublishedFiles, photo: str) -> str | None:
    """Name of a photo such as "Abel_Pacheco_0001"; the original one where there is a funneled one too."""
    path = f"{photo[:-5]}/{photo}.jpg"
    return files.find(f"lfw/{path}") or files.find(path)


def lfw_photos(pairs: str) -> list[str]:
    """The photos of pairs.txt, such as "Abel_Pacheco_0001", each once.

    Raises:
        ValueError: a line is no pair.
    """
    photos = {}
    for number, line in enumerate(pairs.splitlines()[1:], 2):
        parts = line.split("\t")
        if len(parts) not in (3, 4) or not (parts[1] + parts[-1]).isdecimal():
            raise ValueError(f"pairs.txt, line {number}: {line!r} is no pair, expected tabs between names and numbers")
        photos[f"{parts[0]}_{int(parts[1]):04d}"] = True
        photos[f"{parts[-2] if len(parts) == 4 else parts[0]}_{int(parts[-1]):04d}"] = True
    return list(photos)


def lfw_files(paths: Sequence[Path], check: bool) -> PublishedFiles:
    """The photos of LFW and pairs.txt.

    Args:
        paths: lfw.tgz or its folder, and pairs.txt, or a folder with them. None given: <FACELIB_DATA>/lfw_home, then
            scikit-learn's own cache, then scikit-learn's download to the former.
        check: whether SHA-256 sums are compared with those that scikit-learn knows.

    Raises:
        DownloadError: LFW could not be downloaded.
        FileNotFoundError: one of `paths` does not exist.
        ValueError: a file has another sum, or an archive is damaged.
    """
    from sklearn.datasets import fetch_lfw_pairs, get_data_home
    from sklearn.datasets._lfw import ARCHIVE, FUNNELED_ARCHIVE, TARGETS

    home = data_folder() / "lfw_home"
    if not paths:
        caches = [folder for folder in (home, Path(get_data_home()) / "lfw_home") if _is_lfw(folder)]
        paths = caches[:1]
    if not paths:
        try:
            fetch_lfw_pairs(subset="10_folds", funneled=False, data_home=data_folder(), resize=0.1)
        except OSError as error:
            urls = [f"{file.filename} ({file.url})" for file in (ARCHIVE, TARGETS[-1])]
            raise DownloadError(
                f"LFW could not be downloaded ({error}): check the network and try again, or get {' and '.join(urls)} "
                f"by hand, then name the files or their folder, or put them into {home}"
            ) from error
        paths = [home]
    files = PublishedFiles(paths)
    if check:
        check_hashes(files, {file.filename: file.checksum for file in (ARCHIVE, FUNNELED_ARCHIVE, *TARGETS)}, "sha256")
    return files


def _is_lfw(folder: Path) -> bool:
    has_photos = any((folder / name).exists() for name in ("lfw", "lfw.tgz", "lfw_funneled", "lfw-funneled.tgz"))
    return has_photos and (folder / "pairs.txt").is_file()
