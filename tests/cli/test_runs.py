"""The table of all faces."""

from types import SimpleNamespace

import numpy as np

from facelib.cli.runs import table_lines
from facelib.embedding.similarity import unit_vectors
from facelib.recognition.cohort import Cohort


def test_the_closest_face_is_that_with_the_highest_score():
    """The second face is nearest to the first, and to the cohort; the third has the higher score."""
    embeddings = unit_vectors(np.array([[1, 0, 0, 0], [0.8, 0.6, 0, 0], [0.7, 0, 0.71, 0]], np.float32))
    face = {"box": [0, 0, 9, 9], "score": 0.5, "quality_issue": ""}
    records = [{"photo": "a.jpg", "faces": [face] * 3}]
    centre = np.array([[0, 1, 0, 0]], np.float32)
    for cohort, closest, score in ((None, 1, 0.8), (Cohort("abc", centre, 1, 1.0), 2, 0.702)):
        results = SimpleNamespace(ordered=lambda: records, cohort=cohort)
        for threshold, mark in ((score - 0.01, "same?"), (score + 0.01, "")):
            line = table_lines(results, list(embeddings), threshold)[1]
            assert f"a.jpg face {closest}" in line and f" {score:.3f}" in line
            assert line.endswith("same?") == bool(mark)
        assert f"{1 - float(embeddings[0] @ embeddings[closest]):.3f}" in line
