"""Photos of an archive whose files were moved or deleted."""

import numpy as np
import pytest
from archive_rows import photo_rows
from people import synthetic_embeddings

from facelib.archive import people
from facelib.archive.missing import remove_missing
from facelib.archive.table import Archive


@pytest.fixture
def photos(tmp_path):
    """Files a.jpg to d.jpg, and their embeddings."""
    embeddings, _ = synthetic_embeddings(4, 1)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.jpg").touch()
    return {str(folder / f"{name}.jpg"): [embedding] for name, embedding in zip("abcd", embeddings)}


@pytest.fixture
def archive(tmp_path, photos):
    """They are called Ann, Bob, Cy and Dee."""
    archive = Archive(str(tmp_path / "archive"), "abc", 32)
    archive.write(photo_rows(photos))
    labels = [people.PersonLabel(name, True) for name in ("Ann", "Bob", "Cy", "Dee")]
    people._write_people(archive, people.read_faces(archive), labels)
    return archive


def rows(archive):
    return {photo[-5:]: label.person for (photo, _), label in people.read_people(archive).items()}


def test_deleted_photos_go_and_moved_ones_keep_their_names(archive, photos, tmp_path):
    folder = tmp_path / "photos"
    (folder / "2019").mkdir()
    (folder / "a.jpg").rename(folder / "2019/e.jpg")
    (folder / "b.jpg").unlink()
    (tmp_path / "photos-other.jpg").touch()
    archive.write(photo_rows({str(folder / "2019/e.jpg"): photos[str(folder / "a.jpg")]}))  # as the next run adds it
    said = list(remove_missing(archive, str(folder)))
    assert said[0].startswith("2 photos are no longer there, 1 of them moved; removed")
    assert said[1] == "with them went faces that you had named: Bob"
    assert rows(archive) == {"e.jpg": "Ann", "c.jpg": "Cy", "d.jpg": "Dee"}
    found = [row["photo"][-5:] for row in archive.nearest(photos[str(folder / "a.jpg")][0], 9)]
    assert found[0] == "e.jpg" and sorted(found) == ["c.jpg", "d.jpg", "e.jpg"]
    assert not archive.deleted_ids()  # a file that comes back is processed again
    assert list(remove_missing(archive, str(folder))) == []
    needle = np.float16(photos[str(folder / "b.jpg")][0]).tobytes()
    assert not [p for p in (tmp_path / "archive").rglob("*") if p.is_file() and needle in p.read_bytes()]


def test_a_drive_that_is_not_mounted_loses_nothing(archive, tmp_path):
    for file in (tmp_path / "photos").iterdir():
        file.unlink()
    (said,) = remove_missing(archive, str(tmp_path / "photos"))
    assert "none of the 4 photos" in said and "the archive keeps them" in said
    assert len(rows(archive)) == archive.faces.count_rows() == 4
    assert not list(remove_missing(archive, str(tmp_path / "nowhere")))
    assert not list(remove_missing(archive, "s3://bucket/photos"))
