"""Pictures and HTML of faces."""

import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facelib.alignment.align import TEMPLATE
from facelib.render import LANDMARK_COLOURS, THUMBNAIL_SIZE, distance_matrix_image, face_thumbnail, faces_html
from facelib.types import Face, Faces


def face(**values) -> Face:
    """A grey face whose landmarks are those of the template, moved, so that alignment moves them back."""
    fields = {
        "box": np.array([10.4, 20, 110, 130.6], np.float32),
        "score": 0.987,
        "landmarks": TEMPLATE + 100,
        "aligned": np.full((112, 112, 3), 128, np.uint8),
        "embedding": np.ones(4, np.float32) / 2,
        "landmark_confidence": np.ones(5, np.float32),
        "quality": 0.756,
    }
    return Face(**(fields | values))


def images_of(page: str) -> list[np.ndarray]:
    contents = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), 1) for content in contents]
    return [image[:, :, ::-1] for image in decoded]


def test_a_thumbnail_has_the_landmarks_of_the_aligned_face():
    for shown in (face(), face(alignment="eyes")):
        thumbnail = face_thumbnail(shown)
        assert thumbnail.shape == (2 * THUMBNAIL_SIZE, 2 * THUMBNAIL_SIZE, 3)
        for (x, y), colour in zip((2 * TEMPLATE + 0.5).round().astype(int), LANDMARK_COLOURS):
            assert np.abs(thumbnail[y, x].astype(int) - colour).max() < 30
        assert (thumbnail == 128).mean() > 0.95
    assert (face().aligned == 128).all()  # not drawn into the face itself


def test_eyes_alignment_puts_the_eyes_on_the_template():
    """The landmarks of one face lie elsewhere in the aligned face of another method."""
    landmarks = TEMPLATE + 100
    landmarks[2:] += (9, 0)
    thumbnails = [face_thumbnail(face(landmarks=landmarks, alignment=method)) for method in ("eyes", "five_points")]
    x, y = (2 * TEMPLATE[0] + 0.5).round().astype(int)
    assert np.abs(thumbnails[0][y, x].astype(int) - LANDMARK_COLOURS[0]).max() < 30
    assert not np.array_equal(*thumbnails)


def test_thumbnails_without_usable_landmarks():
    for shown in (face(landmarks=np.full((5, 2), np.nan)), face(alignment="another")):
        assert (face_thumbnail(shown) == 128).all()


def test_a_notebook_shows_faces():
    page = Faces([face(), face(quality_issue="too blurred")])._repr_html_()
    assert len(images_of(page)) == 2
    assert "<b>0</b> box 10 20 110 131" in page and "<b>1</b>" in page
    assert page.count("score 0.99, quality 0.76") == 2
    assert page.count(">too blurred</span>") == 1
    assert len(set(re.findall("border: 3px solid (#[0-9a-f]{6})", page))) == 2  # the one with an issue stands out
    assert "aligned by five_points" in page
    assert len(images_of(face()._repr_html_())) == 1


def test_a_notebook_shows_why_there_is_no_face():
    assert Faces()._repr_html_() == "<p>no face</p>"
    assert Faces(error=ValueError("a<b>.jpg"))._repr_html_() == "<p>a&lt;b&gt;.jpg</p>"


def test_all_text_is_escaped():
    page = faces_html([face(quality_issue='<script>"x"</script>', alignment='"><script>')])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("count", [1, 2, 6, 30, 60])
@pytest.mark.parametrize("label", ["{}", "a long name of a photo {}", "王小明 🙂 é\n\udcff {}"])
def test_distance_matrix(count, label):
    rng = np.random.default_rng(0)
    aligned = list(rng.integers(0, 255, (count, 112, 112, 3), np.uint8))
    distances = rng.random((count, count))
    image = distance_matrix_image(aligned, distances, [label.format(i) for i in range(count)], f"{count} faces")
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if count >= 6:
        assert 1100 <= image.shape[1] <= 1600
    for border in (image[:8], image[-8:], image[:, :8], image[:, -8:]):  # no text is cut off
        assert (border == 255).all()


def test_a_long_title_fits():
    image = distance_matrix_image([face().aligned], np.zeros((1, 1)), ["0"], "A long title of a single face " * 4)
    assert image.shape[1] > 1000 and (image[:, -8:] == 255).all()


def test_colours_of_the_distance_matrix_are_those_of_viridis():
    import matplotlib

    distances = np.array([[0, 0.25], [0.5, 1]])
    image = distance_matrix_image([face().aligned] * 2, distances, ["0", "1"], "")
    shown = {tuple(colour) for colour in image.reshape(-1, 3).tolist()}
    expected = (255 * matplotlib.colormaps["viridis"](distances.ravel())[:, :3]).round()
    for colour in expected:
        assert min(np.abs(np.array(colour) - other).max() for other in shown) <= 3


def test_a_distance_matrix_of_other_sizes_is_refused():
    one = [face().aligned]
    for aligned, distances, labels in (
        ([], np.zeros((0, 0)), []),
        (one, np.zeros((2, 2)), ["0"]),
        (one, np.zeros((1, 1)), []),
    ):
        with pytest.raises(ValueError, match="expected n > 0 faces"):
            distance_matrix_image(aligned, distances, labels, "")


def test_faces_of_the_pipeline(pipeline, photo):
    faces = pipeline(photo)
    assert len(images_of(faces._repr_html_())) == len(faces)
    assert replace(faces[0], alignment="five_points")._repr_html_() == faces[0]._repr_html_()
