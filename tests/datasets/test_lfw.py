"""LFW from archives, from scikit-learn's cache, and without network."""

import hashlib
import urllib.error

import pytest
import sklearn.datasets
from published import jpeg, write_archive, write_files
from sklearn.datasets import _lfw

from facelib.datasets.lfw import fetch_lfw, lfw_photos
from facelib.datasets.sources import load_lfw_pairs
from facelib.types import DownloadError

PAIRS = "2\t1\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBob_Ray\t1\nAnn_Lee\t1\t2\nBob_Ray\t1\tAnn_Lee\t2\n"
PHOTOS = ("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg", "Bob_Ray/Bob_Ray_0001.jpg", "Cy/Cy_0001.jpg")


def photos(folder):
    return {f"{folder}/{photo}": jpeg(0 if "Bob" in photo else 128, side=250) for photo in PHOTOS}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))


def test_archive_of_the_authors(tmp_path, middle_detector):
    archive = write_archive(tmp_path / "source" / "lfw.tgz", photos("lfw"))
    write_files(tmp_path / "source", {"pairs.txt": PAIRS})
    fetch_lfw([tmp_path / "source"], check=False)
    first, _, same, _ = load_lfw_pairs()  # also of the photo in which no face is found
    assert (len(first), same.tolist()) == (4, [True, False, True, False])
    assert sorted(path.name for path in (tmp_path / "data/lfw").rglob("*.webp")) == [
        "Ann_Lee_0001.webp",
        "Ann_Lee_0002.webp",
        "Bob_Ray_0001.webp",
    ]
    assert archive.is_file()


@pytest.mark.parametrize("home", ["sklearn/lfw_home", "data/lfw_home"])
def test_cache_of_scikit_learn(tmp_path, middle_detector, home, monkeypatch):
    write_files(tmp_path / home, photos("lfw") | photos("lfw_funneled") | {"pairs.txt": PAIRS})
    checksum = hashlib.sha256(PAIRS.encode()).hexdigest()
    monkeypatch.setattr(_lfw, "TARGETS", [_lfw.TARGETS[-1]._replace(checksum=checksum)])
    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_pairs", None)  # not called
    fetch_lfw()
    assert len(load_lfw_pairs()[0]) == 4


def test_without_network_the_files_to_get_are_named(tmp_path, middle_detector, monkeypatch):
    def offline(**_):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_pairs", offline)
    with pytest.raises(DownloadError, match=r"no network.*lfw\.tgz \(https.*pairs\.txt \(https.*lfw_home"):
        fetch_lfw()


def test_wrong_files_are_named(tmp_path, middle_detector):
    source = write_files(tmp_path / "source", {"pairs.txt": PAIRS, "lfw/Ann_Lee/Ann_Lee_0001.jpg": jpeg()})
    with pytest.raises(ValueError, match=r"pairs\.txt is not the file that its authors publish: its SHA256"):
        fetch_lfw([source])
    with pytest.raises(FileNotFoundError, match=r"2 of the 3 photos of pairs\.txt are not there, such as Ann_Lee_0002"):
        fetch_lfw([source], check=False)
    with pytest.raises(FileNotFoundError, match=r"no pairs\.txt there"):
        fetch_lfw([source / "lfw"], check=False)
    with pytest.raises(ValueError, match=r"pairs\.txt, line 2: 'Ann 1 2' is no pair"):
        lfw_photos("1\t1\nAnn 1 2\n")
