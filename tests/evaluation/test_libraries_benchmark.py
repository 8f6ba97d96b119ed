"""Pairs that libraries accept, compared by their own scores."""

import numpy as np
from people import calibration_with_cohort

from facelib.embedding.similarity import unit_vectors
from facelib.evaluation.benchmarks import libraries


def test_pairs_are_accepted_from_a_score_on():
    a, b = np.eye(3, dtype=np.float32)[:2], unit_vectors(np.array([[1, 0.5, 0], [0, 0, 1]]))
    assert libraries.scores_from(0.4, libraries.cosines)(a, b).tolist() == [[True, False], [True, False]]
    assert libraries.scores_from(0.5, libraries.cosines)(a, b).tolist() == [[True, False], [False, False]]
    assert libraries.scores_from(0.4, libraries.cosines)(a, libraries.stack([])).shape == (2, 0)


def test_ours_accepts_by_the_normalised_score(monkeypatch, pipeline):
    size = pipeline.embedder.embed(np.zeros((1, 112, 112, 3), np.uint8)).shape[1]
    near, far = np.eye(size, dtype=np.float32)[:2]
    calibration = calibration_with_cohort(pipeline.model_id, unit_vectors(near + 0.01 * np.eye(size)[5:9]))
    monkeypatch.setitem(pipeline.__dict__, "calibration", calibration)
    monkeypatch.setattr("facelib.pipeline.FacePipeline.from_pretrained", lambda **_: pipeline)
    _, accept = libraries.load_facelib(None)  # from a score of 0.5
    faces = np.stack([near, far])
    assert accept(faces, faces).tolist() == [[False, False], [False, True]]  # 1 - 0.8 and 1
