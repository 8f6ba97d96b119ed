"""The page of a video: when each person is seen, in one HTML file whose only link is to the clips beside it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, StrictUndefined

from facelib.cli.console import count
from facelib.cli.video_template import POLICY, SCRIPT, TEMPLATE
from facelib.io.files import as_text, atomic_write, printable
from facelib.render import data_url

PAGE = "video.html"
SHOWN_TIMES = 12  # of a person in a clip; the others are folded away


@dataclass(frozen=True)
class ShownClip:
    """A clip on the page.

    name: as it is shown.
    source: its file, which the page plays; None: none, the page shows times only.
    duration: seconds; None: not known.
    """

    name: str
    source: Path | None
    duration: float | None


@dataclass(frozen=True)
class ShownAppearance:
    """A time in which a person is seen.

    clip: number of the clip, from 0. first, last: seconds from its start. best_time: where the face is seen best.
    """

    clip: int
    first: float
    last: float
    best_time: float


@dataclass(frozen=True, eq=False)
class ShownPerson:
    """A row of the page.

    name: as it is shown, "Person 3" where there is none.
    face: the best face, RGB uint8 (112, 112, 3).
    appearances: at least one.
    note: what is uncertain about the name, shown as a mark; "" where nothing is.
    best: number of the clip and seconds of the face, which a click on it plays; None: in the longest appearance.
    """

    name: str
    face: np.ndarray
    appearances: Sequence[ShownAppearance]
    note: str = ""
    best: tuple[int, float] | None = None

    @property
    def seconds(self) -> float:
        """How long the person is seen, in all clips together."""
        return sum(seen.last - seen.first for seen in self.appearances)


def write_video_page(
    people: Sequence[ShownPerson], clips: Sequence[ShownClip], folder: Path, remarks: Sequence[str] = ()
) -> Path:
    """Write video.html: a row for each person, who is seen longest first, with a bar for each clip.

    Clips are linked by their relative paths: the page plays them as long as they and the folder stay where they are.
    The rights of the file are those of the process, see `private_files`.

    Args:
        people: in any order. folder: of the page. remarks: shown above the people, such as a clip that ends early.

    Returns:
        The path of the page.

    Raises:
        OSError: the page cannot be written.
    """
    ends = [_end(number, clip, people) for number, clip in enumerate(clips)]
    titles = [_title(clip, end) for clip, end in zip(clips, ends)]
    rows = [_person(person, titles, ends) for person in sorted(people, key=lambda person: -person.seconds)]
    known = "1 person" if len(people) == 1 else f"{len(people):,} people"
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE)
    text = page.render(
        policy=POLICY,
        script=SCRIPT,
        summary=f"{known if people else 'Nobody'} in {count(len(clips), 'clip')}.",
        remarks=[printable(remark) for remark in remarks],
        people=rows,
        clips=[
            {"title": title, "end": round(end, 3), "source": _link(clip.source, folder) if clip.source else ""}
            for clip, title, end in zip(clips, titles, ends)
        ],
        shown_times=SHOWN_TIMES,
    )
    with atomic_write(folder / PAGE) as path:
        path.write_text(as_text(text), encoding="utf-8")
    return folder / PAGE


def _end(number: int, clip: ShownClip, people: Sequence[ShownPerson]) -> float:
    """Where the bars of a clip end, in seconds: its duration, or later where somebody is seen later."""
    last = (seen.last for person in people for seen in person.appearances if seen.clip == number)
    return max(clip.duration or 0.0, *last, 0.001)


def _title(clip: ShownClip, end: float) -> str:
    length = "length unknown" if clip.duration is None else _clock(clip.duration, end)
    return f"{printable(clip.name)} ({length})"


def _person(person: ShownPerson, titles: Sequence[str], ends: Sequence[float]) -> dict[str, Any]:
    longest = max(person.appearances, key=lambda seen: seen.last - seen.first)
    clip, time = person.best or (longest.clip, longest.best_time)
    return {
        "name": printable(person.name),
        "note": printable(person.note),
        "face": data_url(person.face),
        "total": _duration(person.seconds),
        "count": count(len(person.appearances), "appearance"),
        "clip": clip,
        "best": round(time, 3),
        "rows": [
            {
                "clip": clip,
                "title": titles[clip],
                "end": round(ends[clip], 3),
                "parts": _parts(person, clip, ends[clip]),
            }
            for clip in sorted({seen.clip for seen in person.appearances})
        ],
    }


def _parts(person: ShownPerson, clip: int, end: float) -> list[dict[str, Any]]:
    """The appearances of a person in a clip, in order, with their places on a bar in percent."""
    seen_here = sorted((seen for seen in person.appearances if seen.clip == clip), key=lambda seen: seen.first)
    return [
        {
            "left": round(100 * seen.first / end, 3),
            "width": round(100 * (seen.last - seen.first) / end, 3),
            "first": round(seen.first, 3),
            "label": f"{_clock(seen.first, end)} to {_clock(seen.last, end)}",
        }
        for seen in seen_here
    ]


def _clock(seconds: float, end: float) -> str:
    """A time as "1:02:03"; in clips of less than a minute as "0:02.3"."""
    if end < 60:
        return f"0:{seconds:04.1f}"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _duration(seconds: float) -> str:
    """A length as "12 s", "3 min 20 s" or "1 h 5 min"."""
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _link(source: Path, folder: Path) -> str:
    """A URL from the page to a clip: relative, or that of the file where there is no relative one (another drive)."""
    try:
        relative = Path(os.path.relpath(source, folder)).as_posix()
    except ValueError:
        return source.absolute().as_uri()
    # "./" keeps a name with a colon from being taken for a URL.
    return "./" + quote(os.fsencode(relative))
