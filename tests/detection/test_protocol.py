"""Third-party detectors, landmarkers and embedders: classes with one method each run through the whole pipeline."""

import numpy as np
import pytest
from PIL import Image

from facelib import FacePipeline
from facelib.alignment.align import SIZE, TEMPLATE
from facelib.cli import runs
from facelib.cli.main import main
from facelib.types import CalibrationMissingError, Detector, Embedder, EmbeddingError, Landmarker


class CentreDetector:
    """One face in the middle of every photo, none in small photos."""

    def detect(self, image):
        height, width = image.shape[:2]
        count = int(min(height, width) >= 40)
        side = min(height, width) / 2
        corner = np.array([width - side, height - side]) / 2
        box = np.concatenate([corner, corner + side]).astype(np.float32)
        return box[None].repeat(count, 0), np.ones(count, np.float32)


class TemplateLandmarker:
    """Landmarks at the place where an aligned face has them."""

    def predict(self, images, boxes):
        corners = [box[:, None, :2] for box in boxes]
        sides = [box[:, None, 2:] - box[:, None, :2] for box in boxes]
        return [
            (corner + TEMPLATE / SIZE * side).astype(np.float32) for corner, side in zip(corners, sides, strict=True)
        ]


class PixelEmbedder:
    """64 pixels of the aligned face, in three channels."""

    def embed(self, aligned):
        pixels = aligned[:, ::14, ::14].reshape(len(aligned), 192).astype(np.float32) - 127.5
        return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)


@pytest.fixture
def pipeline():
    return FacePipeline(CentreDetector(), TemplateLandmarker(), PixelEmbedder())


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*shape, 3), dtype=np.uint8) for shape in ((200, 300), (20, 20), (150, 100))]


def test_the_classes_follow_the_protocols(pipeline):
    assert isinstance(pipeline.detector, Detector)
    assert isinstance(pipeline.landmarker, Landmarker)
    assert isinstance(pipeline.embedder, Embedder)


def test_one_photo(pipeline, photos):
    (face,) = pipeline(photos[0])
    np.testing.assert_allclose(face.box, [100, 50, 200, 150])
    assert (face.score, face.landmarks.shape, face.embedding.shape) == (1.0, (5, 2), (192,))
    assert (face.landmark_confidence == 1).all()
    assert face.model_id == "PixelEmbedder"
    faces = pipeline(photos[0])
    assert faces.min_detectable_face is None
    assert "CentreDetector" in pipeline.detector_name
    assert "TemplateLandmarker" in pipeline.pipeline_id and "PixelEmbedder" in pipeline.pipeline_id


def test_batch_and_stream(pipeline, photos):
    batch = pipeline(photos)
    assert [len(faces) for faces in batch] == [1, 0, 1]
    assert [faces.error for faces in batch] == [None] * 3
    stream = list(pipeline.stream(photos, batch_size=2))
    for (image, faces), photo, expected in zip(stream, photos, batch, strict=True):
        np.testing.assert_array_equal(image, photo)
        assert len(faces) == len(expected)
        for face, same in zip(faces, expected):
            np.testing.assert_array_equal(face.embedding, same.embedding)


def test_unknown_models_have_no_calibration(pipeline, photos):
    faces = pipeline(photos[0]) + pipeline(photos[2])
    with pytest.raises(CalibrationMissingError, match="PixelEmbedder"):
        pipeline.compare(*faces)
    with pytest.raises(CalibrationMissingError, match="PixelEmbedder"):
        pipeline.cluster(faces)


def test_command_line(pipeline, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "make_pipeline", lambda networks: pipeline)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / f"{number}.png")
    assert main(["detect", str(folder), "--out", str(tmp_path / "faces")]) == 0
    assert "2 faces in 3 of 3 photos" in capsys.readouterr().out
    assert main(["album", str(folder), "--out", str(tmp_path / "album")]) == 2
    assert "PixelEmbedder" in capsys.readouterr().err  # no calibration: what threshold to use is for the user to say
    assert main(["album", str(folder), "--out", str(tmp_path / "album"), "--threshold", "0.5"]) == 0
    assert (tmp_path / "album/people.csv").is_file()


def test_detectors_may_return_lists(photos):
    class ListDetector(CentreDetector):
        def detect(self, image):
            boxes, scores = super().detect(image)
            return boxes.astype(int).tolist(), scores.tolist()

    batch = FacePipeline(ListDetector(), TemplateLandmarker(), PixelEmbedder())(photos)
    assert [len(faces) for faces in batch] == [1, 0, 1]
    assert batch[0][0].box.dtype == np.float32


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ([[10, 10, 60, 60]], [], r"scores of shape \(0,\)"),
        ([10, 10, 60, 60], [0.9], r"boxes of shape \(4,\)"),
        ([[10, 10, np.nan, 60]], [0.9], "NaN"),
        ([[60, 10, 10, 60]], [0.9], "without area"),
    ],
)
def test_wrong_detections_are_an_error(photos, boxes, scores, message):
    class WrongDetector:
        def detect(self, image):
            return np.array(boxes), np.array(scores)

    with pytest.raises(ValueError, match=f"WrongDetector.*{message}"):
        FacePipeline(WrongDetector(), TemplateLandmarker(), PixelEmbedder())(photos[0])


WRONG = {
    "a row too few": (lambda embeddings: embeddings[:-1], r"shape \(0, 192\) for 1 faces"),
    "a row too many": (lambda embeddings: np.concatenate([embeddings, embeddings]), r"shape \(2, 192\) for 1 faces"),
    "one embedding": (lambda embeddings: embeddings[0], r"shape \(192,\) for 1 faces"),
    "NaN": (lambda embeddings: embeddings * np.nan, "NaN or infinity"),
    "unnormalised": (lambda embeddings: embeddings * 20, "unit length"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_embeddings_are_an_error(photos, kind):
    """Of one photo an exception; in a batch an error for each photo, and no embedding of another face."""
    change, message = WRONG[kind]

    class WrongEmbedder(PixelEmbedder):
        def embed(self, aligned):
            return change(super().embed(aligned))

    pipeline = FacePipeline(CentreDetector(), TemplateLandmarker(), WrongEmbedder())
    with pytest.raises(EmbeddingError, match=f"WrongEmbedder.*{message}"):
        pipeline(photos[0])
    with pytest.warns(UserWarning, match="WrongEmbedder"):
        batch = pipeline([photos[0], photos[2]])
    for faces in batch:
        assert len(faces) == 0
        assert "EmbeddingError" in str(faces.error)
