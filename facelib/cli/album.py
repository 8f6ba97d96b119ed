"""A folder of photos sorted by person: one page, a table that may be edited, folders on request.

What the table says of a face, as it was written or as somebody has changed it, is kept by the next run, by photo and
place in it; only faces that it does not know are given a person, one that is there already or a new one.
"""

import base64
import csv
import html
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facelib.cli.results import Results
from facelib.detection.nms import box_iou
from facelib.io.files import as_text, atomic_write, printable, unique_names
from facelib.recognition.clustering import cluster_faces
from facelib.recognition.gallery import Gallery

PAGE, PEOPLE, FOLDERS = "album.html", "people.csv", "people"
OURS = ".made-by-facelib-album"  # in the folder of folders: it may be replaced
COLUMNS = ("photo", "face", "person", "distance", "quality", "box")
UNNAMED, DOUBTFUL = "Person", "?"  # "Person 7"; of whom too little is seen
THUMBNAIL = 112  # pixels
SAME_PLACE = 0.5  # overlap of two boxes from which they are one face

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
h2 { margin: 2rem 0 .3rem; font-size: 1.1rem } h2 small { font-weight: normal; color: #666 }
.row { display: flex; flex-wrap: wrap; gap: 6px } a { display: block; line-height: 0 }
img { width: 112px; height: 112px; border-radius: 6px } a:focus img, a:hover img { outline: 3px solid #47a }
nav { columns: 12rem; margin: 1rem 0 } nav a { line-height: 1.6; color: #258 } p { max-width: 45rem }
"""


@dataclass
class AlbumFace:
    """A face of the album.

    photo: absolute path; face: number in it; vector (d,); quality 0 to 1; doubt: why too little is seen, or "";
    aligned, annotated: files in the folder of the album; box: x1 y1 x2 y2 in the photo; person, distance: to the mean
    of the person's faces, once they are known.
    """

    photo: str
    face: int
    vector: np.ndarray
    quality: float
    quality_issue: str
    aligned: str
    annotated: str
    box: tuple[float, ...] = ()
    person: str = ""
    distance: float = 0.0


@dataclass(frozen=True)
class Known:
    """A row of the table: columns as they are there."""

    photo: str
    face: int
    person: str
    box: tuple[float, ...]
    rest: dict[str, str]


@dataclass(frozen=True)
class Album:
    """What was made: numbers of faces and of people, and the page."""

    faces: int
    people: int
    page: Path


def make_album(
    results: Results,
    known: Sequence[Known],
    distance: float,
    gallery: Gallery | None = None,
    folders: str | None = None,
) -> Album:
    """Page, table and folders of what the pipeline found.

    Args:
        known: what the table says, see `read_people`. distance: cosine, up to which faces are one person's on average.
        gallery: gives names, and gets the people who have one.
        folders: "copies" or "links": also one folder a person.
    """
    faces = [
        AlbumFace(
            record["path"], number, vector, face["quality"], face["quality_issue"], face["aligned"], record["annotated"],
            tuple(face["box"]),
        )
        for record in results.ordered()
        for number, (face, vector) in enumerate(zip(record["faces"], results.vectors[record["photo"]]))
    ]  # fmt: skip
    assign(faces, known, distance)
    if gallery:
        name_by_gallery(faces, gallery)
    measure_distances(faces)
    process_photos = {as_text(record["path"]) for record in results.ordered() if "error" not in record}
    write_people(faces, results.folder / PEOPLE, [row for row in known if row.photo not in process_photos])
    page = write_page(faces, results.folder)
    if folders:
        write_folders(faces, results.folder / FOLDERS, folders == "links")
    if gallery:
        give_to_gallery(faces, gallery)
    return Album(len(faces), len({face.person for face in faces} - {DOUBTFUL}), page)


def read_people(folder: Path) -> list[Known]:
    """What the table in a folder says; empty where there is none.

    Raises:
        ValueError: a table without the columns, or a row that is none.
    """
    path = folder / PEOPLE
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark in front
            text = file.read()
        rows = list(csv.DictReader(io.StringIO(text), dialect=csv.Sniffer().sniff(text[:2000], ",;\t")))
        return [
            Known(row["photo"], int(row["face"]), row["person"].strip(), _box(row.get("box") or ""), row)
            for row in rows
            if row["person"].strip()
        ]
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{printable(path)} is no table of people ({error}): expected the columns {', '.join(COLUMNS)}; mend it, "
            "or move it away and all faces are sorted anew"
        ) from None


def _box(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.replace(",", ".").split()))


def known_person(face: AlbumFace, rows: Sequence[Known]) -> str:
    """What the rows of its photo say of a face: by the place in the photo, or by the number where a row has no place;
    "" where they do not know it."""
    for row in rows:
        if len(row.box) == 4 and len(face.box) == 4:
            if box_iou(np.array([row.box]), np.array([face.box]))[0, 0] > SAME_PLACE:
                return row.person
        elif row.face == face.face:
            return row.person
    return ""


def assign(faces: Sequence[AlbumFace], known: Sequence[Known], distance: float) -> None:
    """Give every face a person: the one that the table knows, else one of the table's who is near enough, but in no
    photo of the faces that go together, else a new one.

    `distance`: cosine, up to which faces are one person's on average.
    """
    rows: dict[str, list[Known]] = {}
    for row in known:
        rows.setdefault(row.photo, []).append(row)
    for face in faces:
        said = known_person(face, rows.get(as_text(face.photo), ()))
        face.person = said or (DOUBTFUL if face.quality_issue else "")
    rest = [face for face in faces if not face.person]
    if not rest:
        return
    there = {face.person for face in faces} - {"", DOUBTFUL}
    members = {person: [face for face in faces if face.person == person] for person in sorted(there)}
    means = np.array([np.mean([face.vector for face in theirs], 0) for theirs in members.values()])
    photos = [{face.photo for face in theirs} for theirs in members.values()]
    free = (name for n in range(1, 10**9) if (name := f"{UNNAMED} {n}") not in there)
    groups = cluster_faces(np.stack([face.vector for face in rest]), distance, np.array([f.photo for f in rest]))
    for group in range(groups.max() + 1):
        together = [face for face, number in zip(rest, groups) if number == group]
        name, theirs = "", {face.photo for face in together}
        if members:
            apart = 1 - means @ np.mean([face.vector for face in together], 0)  # the mean of all their distances
            apart[[bool(theirs & own) for own in photos]] = np.inf
            name = list(members)[int(apart.argmin())] if apart.min() < distance else ""
        name = name or next(free)
        for face in together:
            face.person = name


def measure_distances(faces: Sequence[AlbumFace]) -> None:
    """How far each face is from the mean of its person's."""
    for _, members in by_person(faces):
        mean = np.mean([face.vector for face in members], axis=0)
        for face in members:
            face.distance = float(max(0.0, 1 - face.vector @ mean / np.linalg.norm(mean)))


def is_named(person: str) -> bool:
    """Whether somebody has given a name."""
    return person != DOUBTFUL and not (person.startswith(f"{UNNAMED} ") and person[len(UNNAMED) + 1 :].isdecimal())


def by_person(faces: Sequence[AlbumFace]) -> list[tuple[str, list[AlbumFace]]]:
    """People and their faces, the nearest to the person's mean first; those seen most first, the doubtful last."""
    people: dict[str, list[AlbumFace]] = {}
    for face in faces:
        people.setdefault(face.person, []).append(face)
    rows = [(name, sorted(members, key=lambda face: face.distance)) for name, members in people.items()]
    return sorted(rows, key=lambda row: (row[0] == DOUBTFUL, -len(row[1]), row[0]))


def write_people(faces: Sequence[AlbumFace], path: Path, others: Sequence[Known] = ()) -> None:
    """The table; what was there is kept beside it (.bak). `others`: rows of photos that were not looked at now."""
    if path.exists():
        shutil.copyfile(path, path.with_name(path.name + ".bak"))
    with atomic_write(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for person, members in by_person(faces):
            for face in members:
                box = " ".join(f"{value:.0f}" for value in face.box)
                cells = (as_text(face.photo), face.face, person, f"{face.distance:.3f}", f"{face.quality:.3f}", box)
                writer.writerow(dict(zip(COLUMNS, cells)))
        writer.writerows(row.rest for row in others)


def write_page(faces: Sequence[AlbumFace], folder: Path) -> Path:
    """The page, with all pictures of faces in it; a click leads to the annotated photo beside it."""
    people = by_person(faces)
    parts = []
    for number, (person, members) in enumerate(people):
        title = "Faces that show too little to be sorted" if person == DOUBTFUL else person
        count = f"{len(members)} face{'s' * (len(members) != 1)}"
        images = "".join(_picture(face, folder) for face in members)
        parts.append(
            f'<section id="p{number}"><h2>{html.escape(title)} <small>{count}</small></h2>\n'
            f'<div class="row">{images}</div></section>'
        )
    names = "".join(
        f'<a href="#p{number}">{html.escape(person)} ({len(members)})</a>'
        for number, (person, members) in enumerate(people)
        if person != DOUBTFUL
    )
    photos = len({face.photo for face in faces})
    known = sum(person != DOUBTFUL for person, _ in people)
    text = (
        f"{len(faces)} faces of {known} people in {photos} photos. A click on a face opens its photo. To name, merge "
        f"or part people, change the column person of {PEOPLE} and run the same command again: what it says is kept."
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Album</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>Album</h1><p>{html.escape(text)}</p><nav>{names}</nav>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    with atomic_write(folder / PAGE) as path:
        path.write_text(as_text(page), encoding="utf-8")
    return folder / PAGE


def _picture(face: AlbumFace, folder: Path) -> str:
    image = cv2.imdecode(np.frombuffer((folder / face.aligned).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    data = base64.b64encode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()).decode()
    why = f", {face.quality_issue}" if face.quality_issue else ""
    title = html.escape(f"{printable(Path(face.photo).name)}, face {face.face}{why}; {face.distance:.2f} from the mean")
    link = html.escape(Path(face.annotated).as_posix().replace("%", "%25").replace("#", "%23").replace("?", "%3F"))
    return (
        f'<a href="{link}" title="{title}"><img loading="lazy" alt="{title}" src="data:image/jpeg;base64,{data}"></a>'
    )


def write_folders(faces: Sequence[AlbumFace], target: Path, links: bool) -> None:
    """One folder a person with copies of the photos, or links to them; those of an earlier run are replaced.

    Raises:
        OSError: there is a folder of that name that no album has made.
    """
    if target.exists():
        if not (target / OURS).exists():
            raise FileExistsError(f"{printable(target)} is a folder of yours: move it away, or give another --out")
        shutil.rmtree(target)
    target.mkdir()
    (target / OURS).touch()
    people = [(person, members) for person, members in by_person(faces) if person != DOUBTFUL]
    safe = ["".join(c if c.isalnum() or c in " -_." else "_" for c in person) for person, _ in people]
    for name, (_, members) in zip(unique_names([Path(f"{one.strip(' .') or '_'}.x") for one in safe]), people):
        place = target / name
        place.mkdir()
        photos = [Path(photo) for photo in dict.fromkeys(face.photo for face in members)]
        for photo, stem in zip(photos, unique_names(photos)):
            copy = place / f"{stem}{photo.suffix}"
            if links:
                copy.symlink_to(photo.resolve())
            else:
                shutil.copy2(photo, copy)


def name_by_gallery(faces: Sequence[AlbumFace], gallery: Gallery) -> None:
    """Give people without a name the one that a gallery has for most of their faces."""
    for person, members in by_person(faces):
        if is_named(person) or person == DOUBTFUL:
            continue
        found = [who.name for who in gallery.identify([face.vector for face in members]) if who.name]
        if found and 2 * found.count(name := max(set(found), key=found.count)) > len(members):
            for face in members:
                face.person = name


def give_to_gallery(faces: Sequence[AlbumFace], gallery: Gallery) -> None:
    """Enrol the people who have a name and are not in the gallery yet, by the faces that show enough."""
    there = gallery.people()
    for person, members in by_person(faces):
        sure = [face for face in members if not face.quality_issue]
        if is_named(person) and person not in there and sure:
            gallery.enrol(person, [face.vector for face in sure], [face.quality for face in sure])
