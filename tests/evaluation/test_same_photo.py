"""False matches within one photo, by hand."""

from types import SimpleNamespace

import numpy as np

from facelib.evaluation import same_photo


def test_rates_at_the_calibrated_scores(monkeypatch):
    calibration = SimpleNamespace(
        score_at=lambda rate: {0.01: 0.4, 0.001: 0.6}[rate], score_matrix=lambda a, b: a @ b.T
    )
    impostors = np.array([0.5] * 10 + [0.1] * 90)
    monkeypatch.setattr(same_photo, "_scores", lambda *_: {"impostor": impostors, "genuine": [0.6, 0.7, 0.5, 0.3]})
    found = same_photo.same_photo_metrics(None, None, calibration)
    assert found == {
        "pairs": 100, "0.01": 0.1, "0.001": 0.0, "score_at_0.01": 0.5,
        "collage_pairs": 4, "collage_0.01": 0.75, "collage_0.001": 0.5,
    }  # fmt: skip
