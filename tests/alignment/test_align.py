import cv2
import numpy as np
import pytest

from facelib.alignment.align import TEMPLATE, align_faces, alignment_matrix, similarity_transform
from facelib.alignment.crop import CROP_SCALE, crop_matrix
from facelib.alignment.landmarker import MIRRORED, transform_points


def move(points, angle, scale, shift):
    turn = np.deg2rad(angle)
    return scale * points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + shift


@pytest.mark.parametrize("angle", [-120, 0, 30])
def test_similarity_recovers_a_known_move(angle):
    moved = move(TEMPLATE, angle, 3.2, [100, -40])
    back = transform_points(moved, similarity_transform(moved, TEMPLATE))
    np.testing.assert_allclose(back, TEMPLATE, atol=1e-3)


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    noisy = move(TEMPLATE, 12, 2, [5, 9]) + rng.normal(0, 2, (5, 2))
    # The same as linear least squares in the four numbers of a similarity.
    rows = np.concatenate([[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in noisy])
    a, b, tx, ty = np.linalg.lstsq(rows, TEMPLATE.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity_transform(noisy, TEMPLATE), [[a, -b, tx], [b, a, ty]], atol=1e-4)


def test_eyes_are_level_and_at_a_fixed_distance():
    rng = np.random.default_rng(1)
    for _ in range(20):
        points = move(TEMPLATE, rng.uniform(-60, 60), rng.uniform(0.3, 5), [300, 200]) + rng.normal(0, 3, (5, 2))
        eyes = transform_points(points, alignment_matrix(points, "eyes"))[:2]
        np.testing.assert_allclose(eyes, TEMPLATE[:2], atol=1e-2)


def test_mirrored_photo_gives_the_mirrored_face():
    rng = np.random.default_rng(2)
    image = cv2.GaussianBlur(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8), (0, 0), 3)
    points = move(TEMPLATE, 20, 1.5, [120, 60]).astype(np.float32) + rng.normal(0, 2, (5, 2))
    flipped = points[MIRRORED]
    flipped[:, 0] = 399 - flipped[:, 0]
    for method in ("five_points", "eyes"):
        face = align_faces(image, points[None], method)[0]
        other = align_faces(np.ascontiguousarray(image[:, ::-1]), flipped[None], method)[0]
        assert np.abs(face.astype(int) - other[:, ::-1].astype(int)).max() <= 3


def test_crop_box_and_photo_agree():
    """The box is a share of the crop given by CROP_SCALE, centred, and points go there and back."""
    box = np.array([100, 50, 180, 170])
    matrix = crop_matrix(box, 128)
    corners = transform_points(np.array([[99.5, 49.5], [179.5, 169.5]]), matrix)
    np.testing.assert_allclose(corners.mean(0), [63.5, 63.5], atol=1e-4)
    assert corners[1, 1] - corners[0, 1] == pytest.approx(128 / CROP_SCALE, abs=1e-3)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    np.testing.assert_allclose(transform_points(corners, back), [[99.5, 49.5], [179.5, 169.5]], atol=1e-3)


def test_no_face_and_bad_input():
    image = np.zeros((50, 50, 3), np.uint8)
    assert align_faces(image, np.zeros((0, 5, 2))).shape == (0, 112, 112, 3)
    with pytest.raises(ValueError, match="shape"):
        align_faces(image, np.zeros((5, 2)))
    with pytest.raises(ValueError, match="NaN"):
        align_faces(image, np.full((1, 5, 2), np.nan))
    with pytest.raises(ValueError, match="mouth"):
        align_faces(image, TEMPLATE[None], "mouth")
    assert align_faces(image, np.full((1, 5, 2), 20.0)).shape == (1, 112, 112, 3)
    for box in ([5, 5, 5, 9], [0, 0, np.nan, 1], [1, 2, 3]):
        with pytest.raises(ValueError, match="box"):
            crop_matrix(np.array(box), 128)


def test_the_other_order_of_the_eyes_is_refused_however_the_face_is_turned():
    """dlib and MTCNN name the person's left eye first; the picture would be aligned upside down."""
    image = np.zeros((300, 300, 3), np.uint8)
    for angle in range(0, 360, 30):
        points = move(TEMPLATE, angle, 1.3, [120, 120]).astype(np.float32)
        assert align_faces(image, points[None]).shape == (1, 112, 112, 3)
        with pytest.raises(ValueError, match="landmarks of face 1: the first eye lies right of the second"):
            align_faces(image, np.stack([points, points[MIRRORED]]))
    profile = TEMPLATE.copy()
    profile[1] = profile[0] + [-2, 0]  # both eyes nearly in one place say nothing
    assert len(align_faces(image, profile[None])) == 1
