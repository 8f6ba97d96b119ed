"""The landmarker: plausible landmarks or clear errors for any input."""

import cv2
import numpy as np
import pytest

from facelib import load_landmarker
from facelib.alignment.heatmaps import DECODERS
from facelib.alignment.landmarker import HourglassLandmarker


@pytest.fixture(scope="module")
def faces(pipeline, photo):
    return pipeline(photo)


def test_a_twelve_pixel_face(pipeline, photo, faces):
    face = faces[0]
    scale = 12 / (face.box[2] - face.box[0])
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    factor = np.array([small.shape[1] / photo.shape[1], small.shape[0] / photo.shape[0]])
    found = pipeline.landmarker.predict([small], [face.box[None] * np.tile(factor, 2)])[0][0]
    expected = (face.landmarks + 0.5) * factor - 0.5
    assert np.linalg.norm(found - expected, axis=1).max() < 2.5  # pixels, of a face 12 wide


def test_a_face_half_outside_the_photo(pipeline, photo, faces):
    """The visible half keeps its landmarks; those of the other half are finite and near the border."""
    face = faces[0]
    x = round(float(face.landmarks[2, 0]))
    half = np.ascontiguousarray(photo[:, :x])
    found = pipeline.landmarker.predict([half], [face.box[None]])[0][0]
    eyes = np.linalg.norm(face.landmarks[0] - face.landmarks[1])
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[[0, 3]] - face.landmarks[[0, 3]], axis=1).max() < 0.35 * eyes
    side = 1.4 * (face.box[2:] - face.box[:2]).max()
    assert np.abs(found - face.landmarks.mean(0)).max() < side


def test_empty_batches(pipeline, photo):
    landmarker = pipeline.landmarker
    side = landmarker.input_size
    assert landmarker.predict([], []) == []
    assert landmarker.predict([photo], [np.zeros((0, 4))])[0].shape == (0, 5, 2)
    assert landmarker.predict([photo], [[]])[0].shape == (0, 5, 2)
    assert landmarker.predict_crops(np.zeros((0, side, side, 3), np.uint8)).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("crops", "says"),
    [
        (np.zeros((2, 100, 100, 3), np.uint8), r"crops of shape \(2, 100, 100, 3\)"),
        (np.zeros((128, 128, 3), np.uint8), r"crops of shape \(128, 128, 3\)"),
        (np.full((1, 128, 128, 3), np.nan), "type float64: expected uint8"),
        (np.zeros((1, 128, 128, 1), np.uint8), r"crops of shape \(1, 128, 128, 1\)"),
    ],
)
def test_bad_crops(pipeline, crops, says):
    with pytest.raises(ValueError, match=says):
        pipeline.landmarker.predict_crops(crops)


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([0, 0, np.nan, 9], r"boxes 0 of shape \(4,\)"),
        ([[0, 0, np.nan, 9]], "box .*nan"),
        ([[9, 9, 3, 3]], "expected x1, y1, x2, y2 with x1 < x2"),
        ([[1, 2, 3]], r"boxes 0 of shape \(1, 3\)"),
    ],
)
def test_bad_boxes(pipeline, photo, boxes, says):
    with pytest.raises(ValueError, match=says):
        pipeline.landmarker.predict([photo], [boxes])


def test_bad_images(pipeline, photo):
    box = np.array([[10, 10, 50, 50]])
    with pytest.raises(ValueError, match="image 1 of shape"):
        pipeline.landmarker.predict([photo, photo / 255], [box, box])
    with pytest.raises(ValueError, match="image 0 is a str"):
        pipeline.landmarker.predict(["photo.jpg"], [box])
    with pytest.raises(ValueError, match="2 lists of boxes"):
        pipeline.landmarker.predict([photo], [box, box])


def test_flip_averaging_is_symmetric(pipeline, photo, faces):
    """The landmarks of the mirrored photo are the mirrored landmarks."""
    flipped = load_landmarker(device="cpu", flip=True)
    boxes = np.stack([face.box for face in faces])
    points = flipped.predict([photo], [boxes])[0]
    width = photo.shape[1]
    mirrored_boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    mirrored = flipped.predict([np.ascontiguousarray(photo[:, ::-1])], [mirrored_boxes])[0]
    back = mirrored[:, [1, 0, 2, 4, 3]] * [-1, 1] + [width - 1, 0]
    assert np.abs(back - points).max() < 0.5


def test_both_stacks_find_the_face_and_every_decoder_agrees(pipeline, photo, faces):
    boxes = np.stack([face.box for face in faces])
    points = np.stack([face.landmarks for face in faces])
    eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)[:, None]
    shipped = pipeline.landmarker
    crops = np.zeros((0, shipped.input_size, shipped.input_size, 3), np.uint8)
    for stack in range(len(shipped.heatmaps(crops))):
        found = shipped.predict([photo], [boxes], stack=stack)[0]
        assert (np.linalg.norm(found - points, axis=2) / eyes).mean() < 0.06
    for decoder in DECODERS:
        other = HourglassLandmarker(shipped.network, shipped.input_size, shipped.activation, decoder)
        found = other.predict([photo], [boxes])[0]
        limit = 0.2 if decoder == "soft_argmax" else 0.06  # the mean over all cells is biased by noise
        assert (np.linalg.norm(found - points, axis=2) / eyes).mean() < limit, decoder


@pytest.mark.parametrize("box", [[0.2, 0.3, 0.5, 0.7], [5000, 100, 5100, 220], [100, -900, 200, -780]])
def test_boxes_in_other_units(pipeline, photo, box):
    """Fractions of the image size, and positions far outside."""
    with pytest.raises(ValueError, match=r"boxes 0: .* is no face box of a photo of 1280 x 886 pixels"):
        pipeline.landmarker.predict([photo], [np.array([box])])
