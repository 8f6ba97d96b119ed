"""The people of `facelib calibrate`: who is in which photo and group, and whether they are enough."""

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

from facelib.cli.arguments import PhotoList, list_photos
from facelib.cli.console import Console, count
from facelib.io.files import digest, printable
from facelib.settings import DIFFERENT

if TYPE_CHECKING:
    import numpy as np

    from facelib.pipeline import FacePipeline
    from facelib.recognition.match_rates import MeasuredFaces

MIN_PEOPLE = 20  # who are measured: with fewer, the interval of every rate is too wide to mean anything
MIN_PAIRS = 1_000  # impostor pairs: 10 false matches at a rate of DIFFERENT
MAX_PHOTOS = 4_000  # with 8 million pairs, half a minute
OTHERS = "others"  # group of the people without a group, or of a small one


def list_people(folder: Path, console: Console) -> dict[Path, str]:
    """Photo -> its person: the sub-folder, or the file where there are no sub-folders.

    Raises:
        FileNotFoundError: no such folder. ValueError: photos both in sub-folders and beside them, or too few.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    paths = list_photos([folder], console).paths
    places = {path: path.relative_to(folder).parts for path in paths}
    alone = [path for path, parts in places.items() if len(parts) == 1]
    if alone and len(alone) < len(paths):
        raise ValueError(
            f"{folder} has photos in folders and {count(len(alone), 'photo')} beside them, e.g. {alone[0].name}: put "
            "each person's into a folder, or give a folder of photos alone, of which each shows somebody else"
        )
    people = {path: parts[0] for path, parts in places.items()}
    _check_enough(list(people.values()))
    if len(people) <= MAX_PHOTOS:
        return people
    chosen: dict[Path, str] = dict(sorted(people.items(), key=lambda item: (digest(item[1]), item[0]))[:MAX_PHOTOS])
    console.notice(f"{MAX_PHOTOS:,} of {len(people):,} photos are measured, chosen by person")
    return dict(sorted(chosen.items()))


def _check_enough(people: "list[str] | np.ndarray") -> None:
    """Raise ValueError where the people (n,) of n photos make too few impostor pairs."""
    number, pairs = len(set(people)), impostor_pairs(people)
    if number < MIN_PEOPLE or pairs < MIN_PAIRS:
        raise ValueError(
            f"{number} people with {count(pairs, 'impostor pair')} are too few: at least {MIN_PEOPLE} people and "
            f"{MIN_PAIRS:,} pairs are needed to measure a false match rate of {DIFFERENT:g}; with one photo of each, "
            f"{people_for(MIN_PAIRS)} people"
        )


def impostor_pairs(people: "list[str] | np.ndarray", groups: "np.ndarray | None" = None) -> int:
    """Number of pairs of two people of one group, from the person and the group of each of n photos; without groups,
    of any two people."""
    import numpy as np

    people = np.asarray(people)
    groups = np.zeros(len(people)) if groups is None else groups
    total = 0
    for group in np.unique(groups):
        counts = np.unique(people[groups == group], return_counts=True)[1]
        total += int((counts.sum() ** 2 - (counts**2).sum()) // 2)
    return total


def people_for(pairs: float) -> int:
    """How many people, with one photo of each, make so many pairs."""
    return math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)


def embed_people(
    pipeline: "FacePipeline", people: dict[Path, str], batch_size: int, console: Console
) -> "tuple[np.ndarray, np.ndarray]":
    """Person (n,) and embedding (n, d) of the largest face of each photo; photos that are skipped are named.

    Raises:
        ValueError: too few are left.
    """
    import numpy as np

    from facelib.cli.runs import process_photos

    names, embeddings, several = [], [], 0
    for photo, faces in process_photos(pipeline, PhotoList(list(people)), batch_size, console):
        if not faces or faces[0].quality_issue:
            if not faces.error:
                reason = f"the face is {faces[0].quality_issue}" if faces else "no face found"
                console.notice(f"skipped: {photo}: {reason}")
            continue
        several += len(faces) > 1
        names.append(people[photo])
        embeddings.append(faces[0].embedding)
    if several:
        console.notice(f"of {count(several, 'photo')} with several faces the largest is taken")
    _check_enough(names)
    return np.array(names), np.stack(embeddings)


def read_groups(path: Path) -> dict[str, str]:
    """Person -> group, from a table.

    Raises:
        ValueError: it is no such table, or has a person in two groups.
    """
    try:
        reader = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""), strict=True)
        rows = [(_unicode(row["person"]), _unicode(row["group"])) for row in reader]
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise ValueError(
            f"{path} is no table of groups ({type(error).__name__}: {printable(error)[:80]}): expected CSV in UTF-8, "
            "separated by commas, with the columns person and group"
        ) from None
    groups: dict[str, str] = {}
    for person, group in rows:
        if groups.setdefault(person, group) != group:
            raise ValueError(f"{path}: {printable(person)} is in two groups, {groups[person]} and {group}")
    return groups


def _unicode(name: str) -> str:
    """A name in one form: a Mac writes umlauts as two characters."""
    return normalize("NFC", name).strip()


def measured_faces(
    people: "np.ndarray", embeddings: "np.ndarray", groups: dict[str, str], console: Console
) -> "MeasuredFaces":
    """The faces, in groups of at least `match_rates.MIN_PEOPLE`; small ones are merged, or left out if still small.

    Raises:
        ValueError: too few people are left.
    """
    import numpy as np

    from facelib.recognition.match_rates import MIN_PEOPLE as MIN_GROUP
    from facelib.recognition.match_rates import MeasuredFaces

    _check_enough(people)
    of_photo = np.array([groups.get(_unicode(person)) or OTHERS for person in people.tolist()])
    sizes = {group: len(set(people[of_photo == group])) for group in np.unique(of_photo).tolist()}
    small = [group for group, size in sizes.items() if size < MIN_GROUP and group != OTHERS]
    if not groups or len(small) == len(set(sizes) - {OTHERS}):
        if groups:
            console.notice(f"no group has {MIN_GROUP} people: everybody is in one group")
        return MeasuredFaces("everybody", embeddings, people)
    of_photo[np.isin(of_photo, small)] = OTHERS
    if small:
        listed = ", ".join(f"{group} ({sizes[group]})" for group in small)
        console.notice(f"fewer than {MIN_GROUP} people, counted as {OTHERS}: {listed}")
    if 0 < (left := len(set(people[of_photo == OTHERS]))) < MIN_GROUP:
        console.notice(f"{OTHERS} are {left} people, too few for a rate of their own: they are not measured")
        kept = of_photo != OTHERS
        people, embeddings, of_photo = people[kept], embeddings[kept], of_photo[kept]
    return MeasuredFaces("everybody", embeddings, people, of_photo)
