import numpy as np
import pytest
from PIL import Image

from facelib.datasets.aligned_faces import align_photos, crop_faces, decode_photos
from facelib.datasets.crops import prepare_crops
from facelib.datasets.face_list import load_faces
from facelib.datasets.sources import load_orl, load_people_folder


def test_aligned_faces_are_cached_until_something_changes(people, detector, pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    (people / "person0" / "broken.jpg").unlink()
    prepare_crops(load_people_folder(people), "own", detector)
    faces = load_faces("own")
    aligned, kept = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert aligned.shape == (6, 112, 112, 3)
    again, _ = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    np.testing.assert_array_equal(aligned, again)
    # The cache of one list is not used for another.
    fewer, kept = align_photos(faces.select([0, 2]), pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert len(fewer) == len(kept) == 2
    # After a broken note, a truncated array or a replaced photo the cache is made again.
    (tmp_path / "cache.json").write_text("{")
    align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    (tmp_path / "cache.npy").write_bytes(b"")
    Image.fromarray(np.asarray(Image.open(faces.files[0]))[:, ::-1]).save(faces.files[0], lossless=True)
    mirrored, _ = align_photos(faces, pipeline.landmarker, cache=tmp_path / "cache.npy", progress=False)
    assert np.abs(mirrored[0].astype(int) - again[0]).mean() > 3
    # The same crop, up to rounding in a batch of another size.
    assert np.abs(fewer[1].astype(int) - again[2].astype(int)).max() <= 2


def test_align_without_boxes_reports_and_skips(people, detector, pipeline):
    Image.new("RGB", (100, 100)).save(people / "person1" / "blank.png")
    with pytest.warns(UserWarning, match=r"2 of 8 photos skipped.*broken\.jpg.*blank\.png: no face"):
        aligned, kept = align_photos(load_people_folder(people), pipeline.landmarker, detector, progress=False)
    assert len(aligned) == len(kept) == 6
    assert not any(f.name in ("blank.png", "broken.jpg") for f in kept.files)


def test_no_photo_to_align(people, detector, pipeline, tmp_path):
    (tmp_path / "own/a").mkdir(parents=True)
    (tmp_path / "own/a/broken.png").touch()
    with pytest.raises(ValueError, match="none of 1 photos could be aligned"):
        align_photos(load_people_folder(tmp_path / "own"), pipeline.landmarker, detector, progress=False)


def test_crops_for_comparison(pipeline):
    orl = load_orl().select(np.arange(3))
    for alignment in ("box", "eyes", "five_points"):
        crops, kept = crop_faces(orl, alignment, pipeline.landmarker)
        assert crops.shape == (3, 112, 112, 3)
        assert len(kept) == 3
    with pytest.raises(ValueError, match="alignment='nose': expected 'box'"):
        crop_faces(orl, "nose", pipeline.landmarker)


def test_decoded_photos_are_cached(tmp_path):
    for name, side in (("a.png", 8), ("b.png", 5)):
        Image.fromarray(np.full((side, side + 1, 3), side, np.uint8)).save(tmp_path / name)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    images = decode_photos(files, tmp_path / "cache.bin")
    assert [image.shape for image in images] == [(8, 9, 3), (5, 6, 3)]
    before = (tmp_path / "cache.bin").stat().st_ino
    again = decode_photos(files, tmp_path / "cache.bin")
    assert (tmp_path / "cache.bin").stat().st_ino == before
    assert [int(image.mean()) for image in again] == [8, 5]
    assert len(decode_photos(files[1:], tmp_path / "cache.bin")) == 1  # the cache is not used for another list
    assert [int(image.mean()) for image in again] == [8, 5]  # and the file that is mapped stays intact
    # After a replaced photo, a broken note or a truncated array the cache is made again.
    Image.fromarray(np.full((8, 9, 3), 77, np.uint8)).save(tmp_path / "a.png")
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
    (tmp_path / "cache.json").write_text('{"key"')
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
    (tmp_path / "cache.bin").write_bytes(b"short")
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
