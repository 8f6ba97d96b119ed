"""A number that falls where a face shows less."""

import cv2
import numpy as np

from facelib.recognition.quality import face_quality


def test_it_falls_with_whatever_takes_the_face_away(pipeline, photo):
    faces = pipeline(photo)
    as_they_are = np.array([face.quality for face in faces])
    assert ((as_they_are > 0.6) & (as_they_are <= 1)).all()

    def of(change):
        return np.array([face_quality(change(face.aligned), face.landmark_confidence) for face in faces])

    for changes in (
        [lambda face, sigma=sigma: cv2.GaussianBlur(face, (0, 0), sigma) for sigma in (1.5, 3, 6)],
        [lambda face, divisor=divisor: face // divisor for divisor in (4, 8, 20)],
        [lambda face, side=side: cv2.resize(cv2.resize(face, (side, side), interpolation=3), (112, 112)) for side in (40, 20, 10)],
    ):  # fmt: skip
        before = as_they_are
        for change in changes:
            after = of(change)
            assert (after <= before + 1e-6).all()
            before = after
        assert before.max() < as_they_are.min() / 2
    unsure = [face_quality(face.aligned, np.array([1, 1, 0.3, 1, 1])) for face in faces]
    assert (np.array(unsure) < 0.5 * as_they_are).all()
    assert face_quality(np.full((112, 112, 3), 80, np.uint8), np.ones(5)) == 0


def test_six_blurred_strangers_are_worse_than_every_sharp_face(pipeline, photo):
    blurred = pipeline(cv2.GaussianBlur(photo, (0, 0), 7))
    assert max((face.quality for face in blurred), default=0) < min(face.quality for face in pipeline(photo))
