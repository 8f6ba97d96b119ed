"""Photos that lie on their side or are upside down, without an EXIF orientation."""

import numpy as np
import pytest

from facelib.detection.rotation import rotate_quarters, unrotate_points
from facelib.embedding.similarity import cosine_distance


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_unrotate_points_inverts_rotate_quarters(quarters):
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    other = rotate_quarters(image, quarters)
    ys, xs = np.mgrid[: other.shape[0], : other.shape[1]]
    x, y = (
        unrotate_points(np.stack([xs, ys], -1).astype(np.float32), quarters, image.shape).astype(int).transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(image[y, x], other)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_all_six_faces_are_found_and_recognised(pipeline, photo, quarters):
    """Boxes and landmarks are in the coordinates of the given photo, embeddings equal those of the upright photo."""
    upright = pipeline(photo)
    rotated = pipeline(rotate_quarters(photo, quarters))
    assert len(rotated) == 6
    distances = cosine_distance(*(np.stack([face.embedding for face in faces]) for faces in (rotated, upright)))
    assert sorted(distances.argmin(1)) == list(range(6))
    assert distances.min(1).max() < 0.1
    for face, i in zip(rotated, distances.argmin(1)):
        back = unrotate_points(face.landmarks, quarters, photo.shape)
        assert np.abs(back - upright[i].landmarks).max() < 4  # pixels, of faces of 100
        corners = np.sort(unrotate_points(face.box.reshape(2, 2) - 0.5, quarters, photo.shape) + 0.5, axis=0)
        assert np.abs(corners.ravel() - upright[i].box).max() < 12


def test_an_upright_photo_is_processed_once(pipeline, photo, monkeypatch):
    monkeypatch.setattr("facelib.pipeline.detect_rotated", None)  # never called
    assert len(pipeline(photo)) == 6


@pytest.mark.parametrize("quarters", [1, 3])
def test_scrfd_finds_some_rotated_faces(photo, quarters):
    """SCRFD finds some faces that lie on their side: their landmarks show that the photo is rotated."""
    from facelib import FacePipeline, load_detector, load_embedder, load_landmarker
    from facelib.settings import data_folder

    if not (data_folder() / "models/buffalo_sc/det_500m.onnx").is_file():
        pytest.skip("det_500m.onnx is not under FACELIB_DATA")
    pipeline = FacePipeline(
        load_detector("insightface", "cpu"), load_landmarker(device="cpu"), load_embedder(device="cpu")
    )
    assert len(pipeline(rotate_quarters(photo, quarters))) == 6
