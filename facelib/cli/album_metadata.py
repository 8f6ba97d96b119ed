"""An album and the metadata of its photos: names come from there, and go to sidecars where that is asked.

The table comes first: a name that it has for a face is never replaced by another one from metadata.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from facelib.cli.album import AlbumFace
from facelib.cli.album_matching import shortened
from facelib.detection.nms import box_iou
from facelib.io.files import printable
from facelib.io.metadata import Metadata, read_metadata, reason, sidecar_path, stored_area, write_regions
from facelib.io.xmp import FACE, Region
from facelib.recognition.names import is_named, normalise_name, person_number

# Programs draw faces differently, from the brows to the chin or with all the hair: from this IoU on two boxes show one.
SAME_FACE_IOU = 0.2


def take_over_names(faces: Sequence[AlbumFace]) -> list[str]:
    """Give faces without a name the one that the metadata of their photos have for them.

    The faces are new, or the table has them as somebody without a name, "Person 7". All faces of "Person 7" get the
    name, where the metadata have one for them and none of their photos shows that person already; otherwise only those
    faces do that the metadata name. A name that somebody has taken back from a face stays away from it.

    Returns:
        A line that says whose names were taken over, and lines for files that cannot be read.
    """
    found, problems = _names_in_metadata(faces)
    people: dict[str, list[AlbumFace]] = {}
    shown: dict[str, set[str]] = {}
    for face in faces:
        people.setdefault(face.person, []).append(face)
        shown.setdefault(face.photo, set()).add(face.person)
    by_person: dict[str, list[int]] = {}
    for index in found:
        by_person.setdefault(faces[index].person, []).append(index)
    for person, indices in by_person.items():
        name = found[indices[0]]
        is_one = bool(person) and {found[index] for index in indices} == {name}
        if is_one and not any(name in shown[face.photo] | face.taken_back for face in people[person]):
            for face in people[person]:
                face.person = name
        else:
            for index in indices:
                faces[index].person = found[index]
    names = sorted(set(found.values()))
    return _problem_lines(problems) + ([f"names from the metadata of the photos: {shortened(names)}"] if names else [])


def _names_in_metadata(faces: Sequence[AlbumFace]) -> tuple[dict[int, str], dict[Path, str]]:
    """Index of a face without a name -> its name in the metadata, and files that cannot be read -> why."""
    names: dict[int, str] = {}
    problems: dict[Path, str] = {}
    for photo, indices in _by_photo(faces).items():
        nameless = [index for index in indices if not faces[index].person or person_number(faces[index].person)]
        if not nameless:
            continue
        try:
            metadata = read_metadata(Path(photo))
        except (OSError, ValueError):  # it vanished since it was processed
            continue
        problems |= metadata.problems
        regions = [*metadata.own, *_without(metadata.others, metadata.own)]
        shown = {faces[index].person for index in indices}
        for place, name in _names_at(_regions(faces, indices, metadata), regions).items():
            index = indices[place]
            if index in nameless and name not in shown | faces[index].taken_back:
                names[index] = name
    return names, problems


def _by_photo(faces: Sequence[AlbumFace]) -> dict[str, list[int]]:
    """Photo -> indices of its faces."""
    photos: dict[str, list[int]] = {}
    for index, face in enumerate(faces):
        photos.setdefault(face.photo, []).append(index)
    return photos


def _regions(faces: Sequence[AlbumFace], indices: Sequence[int], metadata: Metadata) -> list[Region]:
    """Faces of one photo as regions, with the name, or "" for somebody without one."""
    people = [faces[index] for index in indices]
    return [
        Region(face.person if is_named(face.person) else "", stored_area(face.box, metadata.header)) for face in people
    ]


def _person(region: Region) -> str:
    """The name of a face as albums have it; "" for a region without one, and for one of something else."""
    try:
        name = normalise_name(region.name) if region.kind in (FACE, "") else ""
    except ValueError:
        return ""
    return name if is_named(name) else ""


def write_sidecars(faces: Sequence[AlbumFace]) -> list[str]:
    """Write the names of the faces to the sidecars of their photos, and remove from those what is no longer so.

    Returns:
        Lines for sidecars, and names in them, that were left as they are.
    """
    lines: list[str] = []
    problems: dict[Path, str] = {}
    for photo, indices in _by_photo(faces).items():
        path = sidecar_path(Path(photo))
        if not path.exists() and not any(is_named(faces[index].person) for index in indices):
            continue
        try:
            metadata = read_metadata(Path(photo))
            regions, notes = _regions_to_write(_regions(faces, indices, metadata), metadata)
            if regions or any(region.is_ours for region in metadata.own):
                write_regions(Path(photo), metadata.header.size, regions)
            lines += [f"{printable(path)}: {note}" for note in notes]
        except (OSError, ValueError) as error:
            problems[path] = reason(error)
    return lines + _problem_lines(problems)


def _regions_to_write(faces: Sequence[Region], metadata: Metadata) -> tuple[list[Region], list[str]]:
    """The regions that belong into a photo's sidecar as ours, and what the user should know.

    A face that another program has named in the sidecar keeps that name. Nothing is written where the metadata in other
    places have all names, and the sidecar has none. But where it has some, programs may read no further: so it also
    gets the regions from there that show none of the faces.
    """
    named = [face for face in faces if face.name]
    foreign = [region for region in metadata.own if not region.is_ours]
    there = _names_at(named, foreign)
    notes = [
        f"another program calls a face {name} that is {named[mine].name} here; it is left as it is"
        for mine, name in there.items()
        if name != named[mine].name
    ]
    wanted = [face for mine, face in enumerate(named) if mine not in there]
    elsewhere = _names_at(named, metadata.others)
    is_known = not foreign and all(elsewhere.get(mine) == face.name for mine, face in enumerate(named))
    if not wanted or is_known:
        return [], notes
    return [*wanted, *_without(metadata.others, [*foreign, *faces])], notes


def _names_at(faces: Sequence[Region], regions: Sequence[Region]) -> dict[int, str]:
    """Index of a face -> the name that a region has for it."""
    people = [region for region in regions if _person(region)]
    return {face: _person(people[region]) for face, region in _pairs(faces, people)}


def _pairs(regions: Sequence[Region], others: Sequence[Region]) -> list[tuple[int, int]]:
    """Pairs of a region and another that show one face; each at most once."""
    overlaps = _overlaps(regions, others)
    pairs = zip(*linear_sum_assignment(overlaps, maximize=True))
    return [(int(one), int(other)) for one, other in pairs if overlaps[one, other] > SAME_FACE_IOU]


def _without(regions: Sequence[Region], others: Sequence[Region]) -> list[Region]:
    """Those of the regions that show none of the others."""
    overlaps = _overlaps(regions, others).max(1, initial=0.0)
    return [region for region, overlap in zip(regions, overlaps) if overlap <= SAME_FACE_IOU]


def _overlaps(regions: Sequence[Region], others: Sequence[Region]) -> np.ndarray:
    """IoU (n, m)."""
    one, other = (np.array([region.area for region in side], float).reshape(-1, 4) for side in (regions, others))
    one, other = (
        np.hstack([areas[:, :2] - areas[:, 2:] / 2, areas[:, :2] + areas[:, 2:] / 2]) for areas in (one, other)
    )
    return box_iou(one, other)


def _problem_lines(problems: Mapping[Path, str]) -> list[str]:
    """A line for each reason why files are left alone."""
    files: dict[str, list[str]] = {}
    for path, why in problems.items():
        files.setdefault(why, []).append(printable(path))
    return [f"left alone: {shortened(names)} ({why})" for why, names in files.items()]
