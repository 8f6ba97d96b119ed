"""Boxes, landmarks and thumbnails drawn with OpenCV: what commands write and notebooks show of faces."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from facelib.types import Face

MARKED_SIDES = (640, 2000)  # pixels of the longer side of an annotated photo, at least and at most
LANDMARK_COLOURS = ((0, 229, 255), (0, 229, 255), (255, 230, 0), (255, 79, 216), (255, 79, 216))  # those of the plots
THUMBNAIL = 112  # pixels


def marked_photo(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """The photo (RGB uint8) with all its faces marked and numbered, its longer side within `MARKED_SIDES` pixels.

    Drawn by OpenCV: matplotlib took longer for it than the whole pipeline.
    """
    scale = float(np.clip(1, *(side / max(image.shape[:2]) for side in MARKED_SIDES)))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    shown = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for number, face in enumerate(faces):
        x1, y1, x2, y2 = (int(value) for value in (face.box * scale).round())
        thickness = max(1, (x2 - x1) // 80)
        cv2.rectangle(shown, (x1, y1), (x2, y2), (255, 255, 255), thickness, cv2.LINE_AA)
        for point, colour in zip(face.landmarks * scale, LANDMARK_COLOURS):
            centre, radius = [int(value) for value in point.round()], max(3, (x2 - x1) // 30)
            cv2.circle(shown, centre, radius, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(shown, centre, radius - 1, colour, -1, cv2.LINE_AA)
        (width, height), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        top = max(y1, height + 4)
        cv2.rectangle(shown, (x1, top - height - 4), (x1 + width + 4, top), (255, 255, 255), -1)
        at = (x1 + 2, top - 3)
        cv2.putText(shown, str(number), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return shown


def jpeg(image: np.ndarray, quality: int = 85) -> bytes:
    """RGB uint8 (H, W, 3) as a JPEG file."""
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def data_url(image: np.ndarray) -> str:
    """An image (RGB uint8) for the `src` of a page that needs no other file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image)).decode()


def faces_html(faces: Sequence[Face], error: str = "") -> str:
    """Faces as a notebook shows them: aligned, with landmarks, box, detector score and quality."""
    if not faces:
        return f"<p>{html.escape(error or 'no face')}</p>"
    cells = []
    for number, face in enumerate(faces):
        box = " ".join(f"{value:.0f}" for value in face.box)
        issue = f"<br>{html.escape(face.quality_issue)}" if face.quality_issue else ""
        words = f"{number}: box {box}<br>score {face.score:.2f}, quality {face.quality:.2f}{issue}"
        size = f'width="{THUMBNAIL}" height="{THUMBNAIL}"'
        cells.append(f'<td><img {size} src="{data_url(face.aligned)}"><br><small>{words}</small></td>')
    rows = ["<tr>" + "".join(cells[start : start + 6]) + "</tr>" for start in range(0, len(cells), 6)]
    return f"<table>{''.join(rows)}</table>"
