"""Rows of archives, as workers return them, and a calibration of their embedder."""

import numpy as np
import pyarrow as pa

from facelib.archive.schema import PHOTO_SCHEMA
from facelib.recognition.calibration import Calibration

CALIBRATION = Calibration("abc", [-1, 0, 0.8, 1], [1, 0.5, 1e-3, 1e-6], [], [1, 1, 0.8, 0], {}, 1e-6, "synthetic")


def face_row(photo, number, embedding, cohort=None):
    fields = dict(
        box=[0, 0, 9, 9], score=0.9, landmarks=[1.0] * 10, landmark_confidence=0.5, quality=0.4, quality_issue=""
    )
    fields |= dict(cohort_similarity=float(cohort.similarity(embedding[None])[0]) if cohort else 0.0)
    return {"photo": photo, "face": number, "vector": embedding.astype(np.float16), **fields}


def photo_rows(photos, cohort=None):
    """Rows as a `Worker` returns them, from {name: embeddings, or an error}."""
    rows = []
    for name, content in photos.items():
        error = content if isinstance(content, str) else ""
        faces = [] if error else [face_row(name, number, embedding, cohort) for number, embedding in enumerate(content)]
        rows.append(dict(photo=name, width=9, height=9, error=error, faces=faces))
    return pa.Table.from_pylist(rows, PHOTO_SCHEMA)
