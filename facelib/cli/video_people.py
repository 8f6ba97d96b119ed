"""Who the tracks of a run show, by clustering and by a gallery or an album, and when: the tables of `facelib video`."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from facelib.cli.album_table import escape_cell
from facelib.cli.identification import NOT_MEASURED, identify_faces
from facelib.cli.options import DecisionOptions
from facelib.cli.video_page import ShownAppearance
from facelib.cli.video_results import FACES_FOLDER, ClipResults
from facelib.embedding.similarity import mean_embedding
from facelib.io.files import as_text, atomic_write
from facelib.io.records import significant
from facelib.recognition.calibration import Calibration
from facelib.recognition.gallery import Gallery
from facelib.recognition.names import UNNAMED
from facelib.video.people import UNKNOWN, group_tracks, simultaneous
from facelib.video.tracks import Track, face_rank

TRACKS_FILE, APPEARANCES_FILE, LINES_FILE = "tracks.csv", "appearances.csv", "tracks.jsonl"
TRACK_COLUMNS = (
    *("clip", "track", "person", "first", "last", "frames", "best_frame"),
    *("quality", "score", "false_match_rate", "note", "face"),
)
SHOWS_LITTLE = "few frames, or none of good quality"  # note of a track that is nobody's without a quality issue
JOINED_GAP = 2.0  # seconds: between two appearances of a person that count as one


@dataclass
class ShownTrack:
    """A track and whom it shows.

    clip: number of the clip. person: name; "" where the faces show too little.
    score: with the mean embedding of the person's other tracks; None where there are none.
    false_match_rate: of two tracks with that score.
    """

    clip: int
    track: Track
    person: str = ""
    score: float | None = None
    false_match_rate: float | None = None


@dataclass
class Person:
    """A person with the tracks that show them. note: what is uncertain about the name."""

    name: str
    tracks: list[ShownTrack] = field(default_factory=list)
    note: str = ""

    @property
    def seconds(self) -> float:
        """For how long the person is seen."""
        return sum(one.last - one.first for one in self.appearances())

    def appearances(self) -> list[ShownAppearance]:
        """When the person is seen, in order; gaps up to `JOINED_GAP` do not count."""
        found: list[ShownAppearance] = []
        for shown in sorted(self.tracks, key=lambda shown: (shown.clip, shown.track.first)):
            track = shown.track
            if found and found[-1].clip == shown.clip and track.first - found[-1].last <= JOINED_GAP:
                found[-1] = replace(found[-1], last=max(found[-1].last, track.last))
            else:
                found.append(ShownAppearance(shown.clip, track.first, track.last, track.best_time))
        return found

    def best(self) -> ShownTrack:
        """The track with the best face."""
        return max(self.tracks, key=lambda shown: face_rank(shown.track.face))


def assign_people(
    clips: Sequence[ClipResults], calibration: Calibration, decision: DecisionOptions, gallery: Gallery | None
) -> tuple[list[ShownTrack], list[Person]]:
    """All tracks, and the people they show, those who are seen longest first.

    Args:
        gallery: names people; None: they are "Person 1" and so on.
    """
    score = decision.threshold
    if score is None and decision.fmr is not None:
        score = calibration.score_at(decision.fmr, extrapolate=True)
    shown = [ShownTrack(number, track) for number, clip in enumerate(clips) for track in clip.tracks()]
    groups = group_tracks([one.track for one in shown], [one.clip for one in shown], calibration, score)
    count = groups.max(initial=UNKNOWN) + 1
    members = [[one for one, group in zip(shown, groups) if group == person] for person in range(count)]
    people = [Person("", tracks) for tracks in members]
    weak = [[one] for one, group in zip(shown, groups) if group == UNKNOWN and not one.track.face.quality_issue]
    if gallery and (members or weak):
        people = _named([*members, *weak], gallery, decision)
        people = [person for person in people if person.name or person.tracks not in weak]
    people.sort(key=lambda person: -person.seconds)
    numbers = iter(range(1, len(people) + 1))
    for person in people:
        person.name = person.name or f"{UNNAMED} {next(numbers)}"
        for one in person.tracks:
            one.person = person.name
            one.score = _score_with_others(one, person, calibration)
            if one.score is not None and calibration.data != NOT_MEASURED:
                one.false_match_rate = calibration.track_fmr(one.score)
    return shown, people


def _person_embedding(tracks: Sequence[ShownTrack]) -> np.ndarray:
    """(d,) mean embedding of tracks, by the faces in them and their quality."""
    weights = np.array([one.track.photos * one.track.face.quality for one in tracks])
    return mean_embedding(np.stack([one.track.face.embedding for one in tracks]), weights)


def _named(members: list[list[ShownTrack]], gallery: Gallery, decision: DecisionOptions) -> list[Person]:
    """Groups of tracks as people with the names of a gallery; those of one name are joined, unless they are seen
    together."""
    answers = identify_faces(gallery, [_person_embedding(tracks) for tracks in members], decision)
    named: dict[str, Person] = {}
    others = []
    for number in np.argsort([-answer.score for answer in answers], kind="stable"):
        name, tracks = answers[number].name, members[number]
        joined = [*(named[name].tracks if name in named else []), *tracks]
        if not name:
            others.append(Person("", tracks))
        elif len(simultaneous([one.track for one in joined], [one.clip for one in joined])):
            others.append(Person("", tracks, f"like {name}, who is seen at the same time"))
        else:
            named[name] = Person(name, joined)
    return [*named.values(), *others]


def _score_with_others(one: ShownTrack, person: Person, calibration: Calibration) -> float | None:
    others = [other for other in person.tracks if other is not one]
    if not others:
        return None
    return float(calibration.score_matrix(one.track.face.embedding[None], _person_embedding(others)[None])[0, 0])


def write_tables(
    out: Path, clips: Sequence[ClipResults], shown: Sequence[ShownTrack], people: Sequence[Person]
) -> None:
    """Write tracks.csv, appearances.csv and tracks.jsonl. Times are seconds from the start of the clip."""
    rows = [_row(one, clips[one.clip]) for one in shown]
    _write_csv(out / TRACKS_FILE, TRACK_COLUMNS, [[_cell(row[column]) for column in TRACK_COLUMNS] for row in rows])
    seen = [
        [_cell(value) for value in (as_text(str(clips[each.clip].path)), person.name, each.first, each.last)]
        for person in people
        for each in person.appearances()
    ]
    _write_csv(out / APPEARANCES_FILE, ("clip", "person", "from", "to"), seen)
    with atomic_write(out / LINES_FILE) as path, open(path, "w", encoding="utf-8") as file:
        for row, one in zip(rows, shown):
            boxes = one.track.boxes.round(1).tolist()
            line = row | {"times": one.track.times.round(3).tolist(), "boxes": boxes}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _row(one: ShownTrack, clip: ClipResults) -> dict[str, str | int | float | None]:
    track = one.track
    return {
        "clip": as_text(str(clip.path)),
        "track": track.number,
        "person": one.person,
        "first": round(track.first, 3),
        "last": round(track.last, 3),
        "frames": len(track.times),
        "best_frame": round(track.best_time, 3),
        "quality": round(track.face.quality, 3),
        "score": None if one.score is None else round(one.score, 4),
        "false_match_rate": None if one.false_match_rate is None else significant(one.false_match_rate),
        "note": track.face.quality_issue or ("" if one.person else SHOWS_LITTLE),
        "face": as_text(f"{FACES_FOLDER}/{clip.name}_track{track.number}.png"),
    }


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"
    return escape_cell(value) if isinstance(value, str) else "" if value is None else str(value)


def _write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    with atomic_write(file) as path:
        path.write_bytes(text.getvalue().encode("utf-8-sig"))
