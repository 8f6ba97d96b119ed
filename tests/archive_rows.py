"""Rows of archives, as workers return them."""

import numpy as np
import pyarrow as pa

from facelib.archive.schema import PHOTO_SCHEMA


def face_row(photo, number, embedding):
    fields = dict(
        box=[0, 0, 9, 9], score=0.9, landmarks=[1.0] * 10, landmark_confidence=0.5, quality=0.4, quality_issue=""
    )
    return {"photo": photo, "face": number, "vector": embedding.astype(np.float16), **fields}


def photo_rows(photos):
    """Rows as a `Worker` returns them, from {name: embeddings, or an error}."""
    rows = []
    for name, content in photos.items():
        error = content if isinstance(content, str) else ""
        faces = [] if error else [face_row(name, number, embedding) for number, embedding in enumerate(content)]
        rows.append(dict(photo=name, width=9, height=9, error=error, faces=faces))
    return pa.Table.from_pylist(rows, PHOTO_SCHEMA)
