"""A detector for converters, which need no real faces."""

from dataclasses import dataclass

import numpy as np
import pytest


@dataclass
class MiddleDetector:
    """Finds one face in the middle of every photo that is not black."""

    name: str = "middle"
    settings_id: str = ""
    calls: int = 0

    def detect(self, image):
        self.calls += 1
        if image.max() < 40:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        sides = np.array(image.shape[1::-1])
        return np.concatenate([sides * 0.25, sides * 0.75])[None].astype(np.float32), np.array([0.9], np.float32)


@pytest.fixture
def middle_detector(tmp_path, monkeypatch):
    """The detector of all converters, which write below tmp_path/data."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    detector = MiddleDetector()
    monkeypatch.setattr("facelib.datasets.crops.load_detector", lambda: detector)
    return detector
