"""CelebA, open_val and open_test: torchvision's download, or the files of the authors or Kaggle, to prepared crops."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facelib.datasets.crop_tables import FaceToCrop, face_table
from facelib.datasets.crops import crop_published
from facelib.datasets.face_list import FaceList
from facelib.datasets.published_files import PublishedFiles, check_hashes
from facelib.datasets.splits import OPEN_SET, alias_ids, excluded_people, hold_out_photos, open_set_photos
from facelib.settings import data_folder
from facelib.types import DownloadError

CELEBA_CROPS = "celeba_crops"  # set of `fetch_celeba`
CELEBA_HELD_OUT = 0.1  # share of the photos of CelebA's training people that become "val"
CELEBA_PHOTOS = "img_align_celeba.zip"
# Lists of CelebA without their suffix: text of its authors, CSV of Kaggle, which has no identities.
IDENTITIES, PARTITION, ALIGNED_POINTS = "identity_CelebA", "list_eval_partition", "list_landmarks_align_celeba"


def fetch_celeba(paths: Sequence[Path] = (), check: bool = True) -> Path:
    """Prepare crops of CelebA's people as the set `CELEBA_CROPS`, without those of open_val and open_test, and those
    who are known to be in LFW. A tenth of the photos of people with ten or more becomes the split "val".

    Args:
        paths: see `celeba_files`. check: see `celeba_files`.

    Raises:
        DownloadError, FileNotFoundError, ValueError: see `celeba_files`.
    """
    with celeba_files(paths, [IDENTITIES], check) as files:
        people = celeba_people(files)
        held_out = {row["person"] for row in open_set_photos().values()}
        held_out |= alias_ids(held_out) | excluded_people()
        people = {photo: person for photo, person in people.items() if person not in held_out}
        # CelebA's own splits hold out people; a classifier needs held-out photos of its training people.
        photos = [Path(person) / photo for photo, person in people.items()]
        faces = FaceList(photos, np.array(list(people.values())), np.full(len(people), "train"))
        splits = hold_out_photos(faces, CELEBA_HELD_OUT).splits.tolist()
        return crop_published(files, _celeba_faces(files, people, splits), face_table(CELEBA_CROPS))


def fetch_open_set(paths: Sequence[Path] = (), check: bool = True) -> Path:
    """Prepare crops of the photos of open_val and open_test that data/open_set.csv lists, as the set `OPEN_SET`.

    Args:
        paths: see `celeba_files`. check: see `celeba_files`.

    Raises:
        DownloadError, FileNotFoundError, ValueError: see `celeba_files`.
    """
    with celeba_files(paths, [], check) as files:
        listed = open_set_photos()
        people = {photo: row["person"] for photo, row in listed.items() if celeba_photo(files, photo)}
        if not people:
            raise FileNotFoundError(f"{files}: no photo of data/open_set.csv there, such as {next(iter(listed))}")
        if missing := len(listed) - len(people):
            print(f"{missing:,} of the {len(listed):,} photos of data/open_set.csv are not in {files}", flush=True)
        splits = [listed[photo]["split"] for photo in people]
        return crop_published(files, _celeba_faces(files, people, splits), face_table(OPEN_SET))


def _celeba_faces(files: PublishedFiles, people: dict[str, str], splits: list[str]) -> list[FaceToCrop]:
    return [
        FaceToCrop(
            celeba_photo(files, photo),
            f"{person}/{Path(photo).stem}.webp",
            {"person": person, "source": "celeba", "split": split},
        )
        for (photo, person), split in zip(people.items(), splits)
    ]


def celeba_files(paths: Sequence[Path], lists: list[str], check: bool) -> PublishedFiles:
    """The aligned photos of CelebA and some of its lists.

    Args:
        paths: files of the authors or of Kaggle, folders with them, packed or not. None given: <FACELIB_DATA>/celeba,
            where what is missing is downloaded to.
        lists: `IDENTITIES`, `PARTITION`, `ALIGNED_POINTS`.
        check: whether the MD5 sums of the authors' files are compared with those that torchvision knows.

    Raises:
        DownloadError: a file could not be downloaded.
        FileNotFoundError: a file is not among those of `paths`.
        ValueError: a file has another MD5 sum, or an archive is damaged.
    """
    from torchvision.datasets import CelebA

    folder = data_folder() / "celeba"
    if not paths:
        folder.mkdir(parents=True, exist_ok=True)
    files = PublishedFiles(paths or [folder])
    if not paths and (missing := _missing_from_celeba(files, lists)):
        files.close()
        _download_celeba(folder, missing)
        files = PublishedFiles([folder])
    if missing := _missing_from_celeba(files, lists):
        raise FileNotFoundError(f"{files}: no {' and no '.join(missing)} there. {_celeba_advice(missing)}")
    if check:
        check_hashes(files, {name: md5 for _, md5, name in CelebA.file_list}, "md5")
    return files


def _missing_from_celeba(files: PublishedFiles, lists: list[str]) -> list[str]:
    """The authors' names of the files that are not there."""
    missing = [f"{name}.txt" for name in lists if celeba_list(files, name) is None]
    has_photos = any(path.parent.name == Path(CELEBA_PHOTOS).stem for _, path in files.photos())
    return missing if has_photos else [CELEBA_PHOTOS, *missing]


def _celeba_advice(files: list[str]) -> str:
    return (
        f"Get {' and '.join(files)} from the authors' Google Drive (folders Img and Anno of "
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html; Kaggle's copy has all but identity_CelebA.txt), then name "
        f"the files or their folder, packed or not, or put them into {data_folder() / 'celeba'}"
    )


def _download_celeba(folder: Path, names: list[str]) -> None:
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive

    try:
        for file_id, md5, name in CelebA.file_list:
            if name in names:
                download_file_from_google_drive(file_id, str(folder), name, md5)
    except Exception as error:  # gdown's exceptions have no common base but this
        raise DownloadError(
            f"CelebA could not be downloaded ({str(error).strip()[:300]}): its host limits downloads a day. Try again "
            f"tomorrow, or by hand: {_celeba_advice(names)}"
        ) from error


def celeba_photo(files: PublishedFiles, photo: str) -> str | None:
    """Name of an aligned photo such as "000001.jpg"; None where it is not there."""
    return files.find(f"img_align_celeba/{photo}")


def celeba_list(files: PublishedFiles, name: str) -> str | None:
    """Name of one of CelebA's lists, as the authors or Kaggle write it; None where it is not there."""
    return files.find(f"{name}.txt") or files.find(f"{name}.csv")


def read_celeba_list(files: PublishedFiles, name: str) -> dict[str, list[str]]:
    """One of CelebA's lists: photo -> its values.

    Raises:
        ValueError: it lists no photos.
    """
    rows = [line.replace(",", " ").split() for line in files.text(celeba_list(files, name)).splitlines()]
    values = {row[0]: row[1:] for row in rows if len(row) > 1 and row[0].endswith((".jpg", ".png"))}
    if not values:
        raise ValueError(f"{celeba_list(files, name)} lists no photo: expected lines such as '000001.jpg 2880'")
    return values


def celeba_people(files: PublishedFiles) -> dict[str, str]:
    """Photo -> "celeba_" and the authors' number of its person, of the photos that are there.

    Raises:
        ValueError: none of the listed photos is there.
    """
    listed = read_celeba_list(files, IDENTITIES)
    people = {photo: f"celeba_{int(row[0]):05d}" for photo, row in listed.items() if celeba_photo(files, photo)}
    if not people:
        raise ValueError(f"{files}: none of the {len(listed):,} photos of {IDENTITIES}.txt is there")
    if len(people) < len(listed):
        print(f"{len(listed) - len(people):,} of {len(listed):,} listed photos are not in {files}", flush=True)
    return people
