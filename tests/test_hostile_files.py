"""The corpus of hostile_files.py: each file is used, or refused with a clear error; nobody gets another name."""

from pathlib import Path

import pytest
from corpus import run_corpus

from facelib.recognition.calibration import Calibration

CALIBRATION = Calibration("abc", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [1, 1, 0.8, 0], {}, 1e-6, "synthetic")


def save_small_weights(folder: Path) -> None:
    """folder/weights/small.pt with its manifest, and folder/embedder.onnx."""
    from embedding.test_insightface import stand_in

    from facelib.alignment.hourglass import StackedHourglass
    from facelib.runtime.weights import save_weights

    preprocessing = {"input_size": 32, "crop_scale": 1.4, "range": [-1, 1], "colour": "RGB", "activation": "none"}
    model = StackedHourglass(stacks=1, channels=16, depth=1)
    described = {"arguments": model.arguments, "preprocessing": preprocessing | {"decoder": "gaussian"}}
    save_weights(model, folder / "weights" / "small.pt", **described)
    stand_in(folder / "embedder.onnx")


def failures(rows: list[dict]) -> list[str]:
    return [str(row) for row in rows if row.get("got") not in ("fine", "error")]


def test_60_files(tmp_path):
    rows = run_corpus("hostile_files.py", 60, 1, tmp_path)
    assert failures(rows) == []
    assert {row["got"] for row in rows} == {"fine", "error"}


@pytest.mark.hostile
def test_600_files(tmp_path):
    assert failures(run_corpus("hostile_files.py", 600, 2, tmp_path)) == []
