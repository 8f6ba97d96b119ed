"""The runs of `facelib blur`: which faces of a photo or a clip are hidden, and the copy of each file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facelib.cli.blur_files import Source, comment_of, rgb_profile, write_photo
from facelib.cli.console import Console, count
from facelib.cli.identification import identify_faces, open_gallery
from facelib.cli.options import DecisionOptions, PipelineOptions
from facelib.cli.results import DISK_ERRORS
from facelib.detection.detector import FaceDetector, load_detector
from facelib.io.files import digest, files_key, printable
from facelib.io.images import read_image
from facelib.recognition.gallery import Gallery
from facelib.recognition.names import normalise_name
from facelib.types import Face
from facelib.video.blur import (
    Hiding,
    blur_clip,
    boxes_to_hide,
    count_areas,
    find_all_faces,
    follow_faces,
    hide_faces,
    sensitive,
)
from facelib.video.people import simultaneous
from facelib.video.tracks import Track

INCOMPLETE = " incomplete"  # ends the comment of the copy of a clip that could not be read to its end

if TYPE_CHECKING:
    from facelib.pipeline import FacePipeline
    from facelib.video.analysis import VideoPipeline


@dataclass(frozen=True)
class Visible:
    """Who stays visible.

    names: of people of the gallery; empty: nobody.
    gallery: open; None where nobody stays visible.
    decision: by which they are identified.
    """

    names: frozenset[str] = frozenset()
    gallery: Gallery | None = None
    decision: DecisionOptions = field(default_factory=DecisionOptions)

    def names_of(self, faces: Sequence[Face]) -> list[str | None]:
        """The name of each face that may stay visible: it is identified as one of `names`. None for all others."""
        if self.gallery is None:
            return [None] * len(faces)
        answers = identify_faces(self.gallery, faces, self.decision)
        return [answer.name if answer.name in self.names else None for answer in answers]


@contextmanager
def visible_people(
    names: Sequence[str], gallery: Path | None, model_id: str, decision: DecisionOptions
) -> Iterator[Visible]:
    """The people who stay visible, while the gallery is open.

    Raises:
        ValueError: somebody is not in the gallery.
    """
    if not names or gallery is None:
        yield Visible()
        return
    with open_gallery(gallery, model_id, decision) as opened:
        wanted = frozenset(map(normalise_name, names))
        if missing := sorted(wanted - set(opened.people())):
            raise ValueError(f"{missing[0]} is not in {gallery}, which has {', '.join(opened.people()) or 'nobody'}")
        yield Visible(wanted, opened, decision)


@dataclass(frozen=True)
class Blurring:
    """What hides faces, the same for all files.

    detector: rather finds too much, see `sensitive`. networks: as given.
    pipeline: examines faces of photos; None where nobody stays visible.
    visible: who stays visible. hiding: what takes the place of faces.
    audio: whether clips keep their sound. settings: text that changes with all of these.
    """

    detector: FaceDetector
    networks: PipelineOptions
    pipeline: "FacePipeline | None"
    visible: Visible
    hiding: Hiding
    audio: bool
    settings: str

    def run(self, source: Source, console: Console) -> dict[str, Any]:
        """Write the copy of a file, unless an earlier run with the same settings has, and return its record.

        Raises:
            OSError: the disk is full or failing.
        """
        record: dict[str, Any] = {"file": str(source.path), "copy": str(source.target)}
        comment = f"{source.mark} {digest(files_key([source.path], self.settings))}"
        before = comment_of(source.target)
        if before == comment:
            return record | {"done": True}
        if before == comment + INCOMPLETE:
            problem = "the copy holds what could be read of the clip"
            console.notice(f"{printable(source.path)}: {problem}")
            return record | {"done": True, "problem": problem}
        if before.startswith(source.mark):  # of other settings: it must not stay where this run fails
            source.target.unlink()
        try:
            return record | (self._clip if source.is_clip else self._photo)(source, comment, console)
        except (OSError, ValueError, ImportError) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            console.error(str(error))
            return {"file": str(source.path), "error": str(error)}

    def _photo(self, source: Source, comment: str, console: Console) -> dict[str, Any]:
        image = read_image(source.path)
        candidates, _ = find_all_faces(self.detector, image)
        faces = list(self.pipeline(image)) if self.pipeline else []
        names = self._names(faces, source, console)
        is_visible = np.array([name is not None for name in names], bool)
        examined = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        boxes = boxes_to_hide(candidates, examined, is_visible)
        write_photo(source.target, hide_faces(image, boxes, self.hiding), comment, rgb_profile(source.path))
        return {"hidden": count_areas(boxes), "visible": sorted(filter(None, names))}

    def _names(self, faces: Sequence[Face], source: Source, console: Console) -> list[str | None]:
        """The names of the faces of a photo that stay visible; where two have one name, at least one is somebody else,
        and both are hidden."""
        names = self.visible.names_of(faces)
        ambiguous = {i for i, name in enumerate(names) if name and names.count(name) > 1}
        return _without(names, ambiguous, source, console)

    def _track_names(self, tracks: Sequence[Track], source: Source, console: Console) -> list[str | None]:
        """As `_names`, for the tracks of a clip: two that are seen at the same time are two people."""
        names = self.visible.names_of([track.face for track in tracks])
        named = [i for i, name in enumerate(names) if name]
        pairs = simultaneous([tracks[i] for i in named], [0] * len(named))
        ambiguous = {named[i] for pair in pairs for i in pair if len({names[named[j]] for j in pair}) == 1}
        return _without(names, ambiguous, source, console)

    def _clip(self, source: Source, comment: str, console: Console) -> dict[str, Any]:
        from facelib.video.reader import Clip
        from facelib.video.writer import ClipWriter

        with Clip(source.path, every=1) as clip:
            size, frame_rate, notes = clip.size, clip.frame_rate, clip.notes
        followed = follow_faces(self._video_pipeline, source.path)
        names = self._track_names(followed.tracks, source, console)
        hidden = [track for track, name in zip(followed.tracks, names) if not name]
        audio = source.path if self.audio else None
        comment += INCOMPLETE if followed.problem else ""
        with ClipWriter(source.target, size, frame_rate, audio, comment) as writer:
            blur_clip(source.path, followed, hidden, writer, self.hiding)
        for text in filter(None, [*notes, writer.note, followed.problem]):
            console.notice(text if printable(source.path) in text else f"{printable(source.path)}: {text}")
        record = {"hidden": len(hidden), "visible": sorted(set(filter(None, names)))}
        return record | ({"problem": followed.problem} if followed.problem else {})

    @cached_property
    def _video_pipeline(self) -> "VideoPipeline":
        from facelib.video.analysis import VideoPipeline

        networks = self.networks
        return VideoPipeline.from_pretrained(self.detector, networks.device, embedder=networks.embedder)


def _without(names: list[str | None], ambiguous: set[int], source: Source, console: Console) -> list[str | None]:
    """Names without those that several faces have, which are told."""
    for name in sorted({str(names[i]) for i in ambiguous}):
        console.notice(f"{printable(source.path)}: several faces are identified as {name}, and they are hidden")
    return [None if i in ambiguous else name for i, name in enumerate(names)]


def make_blurring(
    networks: PipelineOptions, pipeline: "FacePipeline | None", visible: Visible, hiding: Hiding, audio: bool
) -> Blurring:
    """Load the detector.

    Args:
        networks: faces to hide are searched for down to its `smallest_face`, with its `detector_threshold` or else a
            low one.
        pipeline: examines faces of photos; None where nobody stays visible.
    """
    detector = load_detector(networks.detector, networks.device, None, networks.smallest_face)
    detector = sensitive(detector, detector.smallest_face, networks.detector_threshold)
    people = [visible.gallery.people(), sorted(visible.names), visible.decision] if visible.gallery else None
    pipeline_id = pipeline.pipeline_id if pipeline else ""
    settings = f"{networks} {detector.name} {detector.threshold} {hiding} {audio} {people} {pipeline_id}"
    return Blurring(detector, networks, pipeline, visible, hiding, audio, settings)


def line_of(record: dict[str, Any]) -> str:
    """A file's record as a line of text; "" for an error, which has been reported."""
    if "error" in record:
        return ""
    if record.get("done"):
        return f"{record['copy']}: done already"
    if not record["hidden"]:
        found = "no other face was found" if record["visible"] else "no face was found"
        text = f"{found}: look at it before you share it"
    else:
        text = f"{count(record['hidden'], 'area')} hidden"
    visible = f"; {', '.join(record['visible'])} visible" if record["visible"] else ""
    return f"{record['copy']}: {text}{visible}"
