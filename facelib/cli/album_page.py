"""The page of an album: a row of faces for each person, in one HTML file without scripts that fetches nothing."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from facelib.cli.album import AlbumFace, by_person
from facelib.cli.album_table import PEOPLE_FILE
from facelib.cli.console import count
from facelib.io.files import as_text, atomic_write, printable
from facelib.recognition.names import LOW_QUALITY
from facelib.render import data_url

PAGE = "album.html"
# Nothing may be loaded or run but the style and the pictures that are in the file.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Album</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
h2 { margin: 2rem 0 .3rem; font-size: 1.1rem } h2 small { font-weight: normal; color: #666 }
.row { display: flex; flex-wrap: wrap; gap: 6px } a { display: block; line-height: 0 }
img { width: 112px; height: 112px; border-radius: 6px } a:focus img, a:hover img { outline: 3px solid #47a }
nav { columns: 12rem; margin: 1rem 0 } nav a { line-height: 1.6; color: #258 } p { max-width: 45rem }
</style>
</head>
<body>
<h1>Album</h1>
<p>{{ faces }} of {{ known }} in {{ photos }}. A click on a face opens its photo. To name, merge or split people, change
the column person of {{ table }} and run the same command again: names and what you have changed are kept.</p>
<nav>
{%- for person in people if not person.low_quality %}
<a href="#p{{ loop.index0 }}">{{ person.title }} ({{ person.faces | length }})</a>
{%- endfor %}
</nav>
{%- for person in people %}
<section id="p{{ loop.index0 }}"><h2>{{ person.title }} <small>{{ person.count }}</small></h2>
<div class="row">
{%- for face in person.faces %}
<a href="{{ face.link }}" title="{{ face.title }}"><img loading="lazy" alt="{{ face.title }}" src="{{ face.data }}"></a>
{%- endfor %}
</div></section>
{%- endfor %}
</body>
</html>
"""


def write_page(faces: Sequence[AlbumFace], folder: Path) -> Path:
    """Write album.html with thumbnails of all faces; a click on a face opens the annotated photo beside the page.

    Returns:
        The path of the page.

    Raises:
        OSError: the page cannot be written, or an aligned face cannot be read.
    """
    people = by_person(faces)
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE)
    text = page.render(
        policy=POLICY,
        table=PEOPLE_FILE,
        faces=count(len(faces), "face"),
        known=_people(sum(person != LOW_QUALITY for person, _ in people)),
        photos=count(len({face.photo for face in faces}), "photo"),
        people=[_person(person, members, folder) for person, members in people],
    )
    with atomic_write(folder / PAGE) as path:
        path.write_text(as_text(text), encoding="utf-8")
    return folder / PAGE


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number:,} people"


def _person(person: str, members: Sequence[AlbumFace], folder: Path) -> dict[str, Any]:
    low_quality = person == LOW_QUALITY
    return {
        "title": "Faces of low quality, not sorted" if low_quality else person,
        "low_quality": low_quality,
        "count": count(len(members), "face"),
        "faces": [_face(face, folder) for face in members],
    }


def _face(face: AlbumFace, folder: Path) -> dict[str, str]:
    with Image.open(folder / face.aligned) as picture:
        thumbnail = np.asarray(picture.convert("RGB"))
    issue = f", {face.quality_issue}" if face.quality_issue else ""
    name = printable(Path(face.photo).name)
    return {
        # "./" keeps a name with a colon from being taken for a URL.
        "link": "./" + quote(os.fsencode(Path(face.annotated).as_posix())),
        "title": f"{name}, face {face.face}{issue}; score {face.score:.2f}, {face.distance:.2f} from the mean",
        "data": data_url(thumbnail),
    }
