import numpy as np
import pytest
from PIL import Image

from facelib.datasets.aligned_faces import align_photos, cut_faces, decode_photos
from facelib.datasets.crops import prepare_crops
from facelib.datasets.face_list import load_faces
from facelib.datasets.sources import load_orl, load_people_folder


def test_aligned_faces_are_kept_and_made_anew_when_something_changed(people, detector, pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    (people / "person0" / "broken.jpg").unlink()
    prepare_crops(load_people_folder(people), "own", detector)
    faces = load_faces("own")
    aligned, kept = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert aligned.shape == (6, 112, 112, 3)
    again, _ = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    np.testing.assert_array_equal(aligned, again)
    # Another list is not answered from the cache of this one.
    fewer, kept = align_photos(faces.select([0, 2]), pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert len(fewer) == len(kept) == 2
    # A broken note, a cut array, a photo replaced under its name: made anew.
    (tmp_path / "cache.json").write_text("{")
    align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    (tmp_path / "cache.npy").write_bytes(b"")
    Image.fromarray(np.asarray(Image.open(faces.files[0]))[:, ::-1]).save(faces.files[0], lossless=True)
    mirrored, _ = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert np.abs(mirrored[0].astype(int) - again[0]).mean() > 3
    # The same picture, up to the rounding that another batch brings.
    assert np.abs(fewer[1].astype(int) - again[2].astype(int)).max() <= 2


def test_align_without_boxes_leaves_out_and_names(people, detector, pipeline):
    Image.new("RGB", (100, 100)).save(people / "person1" / "blank.png")
    with pytest.warns(UserWarning, match=r"2 of 8 photos left out.*broken\.jpg.*blank\.png: no face"):
        aligned, kept = align_photos(load_people_folder(people), pipeline.landmarker, detector, progress=False)
    assert len(aligned) == len(kept) == 6
    assert not any(f.name in ("blank.png", "broken.jpg") for f in kept.files)


def test_nothing_to_align(people, detector, pipeline, tmp_path):
    (tmp_path / "own/a").mkdir(parents=True)
    (tmp_path / "own/a/broken.png").touch()
    with pytest.raises(ValueError, match="none of 1 photos could be aligned"):
        align_photos(load_people_folder(tmp_path / "own"), pipeline.landmarker, detector, progress=False)


def test_cuts_for_comparison(pipeline):
    orl = load_orl().select(np.arange(3))
    for how in ("box", "eyes", "five_points"):
        cut, kept = cut_faces(orl, how, pipeline.landmarker)
        assert cut.shape == (3, 112, 112, 3)
        assert len(kept) == 3
    with pytest.raises(ValueError, match="how='nose': expected 'box'"):
        cut_faces(orl, "nose", pipeline.landmarker)


def test_decoded_photos_are_kept(tmp_path):
    for name, side in (("a.png", 8), ("b.png", 5)):
        Image.fromarray(np.full((side, side + 1, 3), side, np.uint8)).save(tmp_path / name)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    images = decode_photos(files, tmp_path / "cache.bin")
    assert [image.shape for image in images] == [(8, 9, 3), (5, 6, 3)]
    before = (tmp_path / "cache.bin").stat().st_ino
    again = decode_photos(files, tmp_path / "cache.bin")
    assert (tmp_path / "cache.bin").stat().st_ino == before
    assert [int(image.mean()) for image in again] == [8, 5]
    assert len(decode_photos(files[1:], tmp_path / "cache.bin")) == 1  # another list is not answered from it
    assert [int(image.mean()) for image in again] == [8, 5]  # and does not pull the file from under the first
    # A photo replaced under its name, a note that is none, an array that is cut short: made anew.
    Image.fromarray(np.full((8, 9, 3), 77, np.uint8)).save(tmp_path / "a.png")
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
    (tmp_path / "cache.json").write_text('{"key"')
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
    (tmp_path / "cache.bin").write_bytes(b"short")
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
