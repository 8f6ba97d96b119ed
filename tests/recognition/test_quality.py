"""The quality of a face falls with what makes recognition harder."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from facelib.pipeline import FacePipeline
from facelib.recognition.quality import face_quality, find_quality_issue


def test_quality_falls_with_blur_darkness_and_low_resolution(pipeline, photo):
    faces = pipeline(photo)
    original = np.array([face.quality for face in faces])
    assert ((original > 0.6) & (original <= 1)).all()

    def quality_after(change):
        return np.array([face_quality(change(face.aligned), face.landmark_confidence) for face in faces])

    def downscale(face, side):
        return cv2.resize(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), (112, 112))

    for changes in (
        [lambda face, sigma=sigma: cv2.GaussianBlur(face, (0, 0), sigma) for sigma in (1.5, 3, 6)],
        [lambda face, divisor=divisor: face // divisor for divisor in (4, 8, 20)],
        [lambda face, side=side: downscale(face, side) for side in (40, 20, 10)],
    ):
        before = original
        for change in changes:
            after = quality_after(change)
            assert (after <= before + 1e-6).all()
            before = after
        assert before.max() < original.min() / 2
    low_confidence = [face_quality(face.aligned, np.array([1, 1, 0.3, 1, 1])) for face in faces]
    assert (np.array(low_confidence) < 0.5 * original).all()
    assert face_quality(np.full((112, 112, 3), 80, np.uint8), np.ones(5)) == 0


def test_nan_is_an_issue_and_never_the_same_person(pipeline, photo):
    """NaN from a landmarker, or in an embedding."""
    face = pipeline(photo)[0]
    for confidence, landmarks in ((np.full(5, np.nan), face.landmarks), (np.ones(5), face.landmarks * np.nan)):
        assert find_quality_issue(face.aligned, confidence, landmarks) == "without usable landmarks"
    assert face_quality(face.aligned, np.array([1, 1, np.nan, 1, 1])) == 0

    class Unsure:
        def predict_with_confidence(self, images, boxes):
            landmarks, confidence = pipeline.landmarker.predict_with_confidence(images, boxes)
            return landmarks, [values * np.nan for values in confidence]

    faces = FacePipeline(pipeline.detector, Unsure(), pipeline.embedder)(photo)
    assert len(faces) == 6
    answer = pipeline.compare(faces[0], faces[0])
    assert answer.verdict == "unsure" and "without usable landmarks" in answer.reason
    with pytest.raises(ValueError, match="NaN"):
        pipeline.compare(face, replace(face, embedding=face.embedding * np.nan))


def test_every_blurred_face_has_lower_quality_than_every_sharp_one(pipeline, photo):
    blurred = pipeline(cv2.GaussianBlur(photo, (0, 0), 7))
    assert max((face.quality for face in blurred), default=0) < min(face.quality for face in pipeline(photo))


@pytest.mark.parametrize(
    ("change", "confidence", "eye_distance", "issue"),
    [
        (lambda face: face, 1.0, 35, ""),
        (lambda face: face, 1.0, 6, "too small"),
        (lambda face: face // 20, 1.0, 35, "too dark, or without contrast"),
        (lambda face: cv2.GaussianBlur(face, (0, 0), 6), 1.0, 35, "too blurred"),
        (lambda face: face, 0.5, 35, "hidden or turned away"),
    ],
)
def test_quality_issues(pipeline, photo, change, confidence, eye_distance, issue):
    aligned = change(pipeline(photo)[0].aligned)
    landmarks = np.zeros((5, 2), np.float32)
    landmarks[1, 0] = eye_distance
    assert find_quality_issue(aligned, np.array([1, 1, 1, 1, confidence]), landmarks) == issue
