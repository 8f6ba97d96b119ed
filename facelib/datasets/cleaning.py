"""Find training people under two keys, training people who are in an evaluation set, and photos that do not
show their person, with an embedder of our own: `python -m facelib.datasets clean`.

Prints candidates, and with --out writes dropped_photos.txt. Whoever it names as one person, or as perhaps in an
evaluation set, is to be looked at before the pair goes into data/same_people.txt or data/excluded_people.txt:
an embedder that is not yet good takes people who look alike for one.
"""

from pathlib import Path

import numpy as np

from facelib.alignment.landmarker import load_landmarker
from facelib.datasets.aligned_faces import aligned_set
from facelib.datasets.face_list import photo_key
from facelib.datasets.splits import EVALUATION_SETS
from facelib.embedding.embedder import load_embedder
from facelib.io.files import atomic_write
from facelib.settings import LISTS

SETS = ["faces_train", "faces_more"]
SAME, WRONG, EVALUATION = 0.65, 0.05, 0.75  # cosines: centres of one person; photo to its own; see clean
FEWEST = 3  # photos, for a centre that says something


def centres(vectors: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit centre (mean vector) of each person: names (p,), centres (p, d), number of photos (p,)."""
    names, who, photos = np.unique(people, return_inverse=True, return_counts=True)
    total = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(total, who, vectors)
    return names, total / np.linalg.norm(total, axis=1, keepdims=True), photos


def own_cosines(vectors: np.ndarray, people: np.ndarray) -> np.ndarray:
    """(n,) cosine of each photo to the mean of the person's other photos; NaN below FEWEST photos."""
    _, who, photos = np.unique(people, return_inverse=True, return_counts=True)
    total = np.zeros((len(photos), vectors.shape[1]), np.float32)
    np.add.at(total, who, vectors)
    others = total[who] - vectors
    cosines = (vectors * others).sum(1) / np.maximum(np.linalg.norm(others, axis=1), 1e-6)
    return np.where(photos[who] >= FEWEST, cosines, np.nan)


def source(person: str) -> str:
    """The data set of a person, by the key: "celeba", "pins", "fiw", ..."""
    return person.split("_")[0]


def same_people(vectors: np.ndarray, people: np.ndarray, threshold: float) -> list[tuple[str, str, float]]:
    """Pairs of keys of two sources, each the other's nearest and closer than `threshold`.

    Within a source a key is taken for a person: look-alikes and relatives would outnumber what is found.

    Returns:
        (key with more photos, other key, cosine of the centres), closest first; no key twice.
    """
    names, points, photos = centres(vectors, people)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.argmax(1)
    sources = np.array([source(name) for name in names])
    pairs = []
    for i, j in enumerate(nearest):
        if (
            i < j
            and nearest[j] == i
            and sources[i] != sources[j]
            and cosines[i, j] >= threshold
            and min(photos[i], photos[j]) >= FEWEST
        ):
            first, second = (i, j) if photos[i] >= photos[j] else (j, i)
            pairs.append((str(names[first]), str(names[second]), float(cosines[i, j])))
    return sorted(pairs, key=lambda pair: -pair[2])


def clean(weights: Path, same: float, least: float, out: Path | None, device: str | None = None) -> None:
    """Print who may be one person, or in an evaluation set, and which photos show somebody else.

    Args:
        weights: of one network, see `load_embedder`.
        same: cosine of the centres of two keys from which they may be one person.
        least: cosine of a photo to its person's others, below which it shows somebody else.
        out: folder to write dropped_photos.txt into; None: nothing is written.
    """
    landmarker, embedder = load_landmarker(device=device), load_embedder(weights, device, flip=False)

    def embed(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        aligned, faces = aligned_set(name, landmarker, embedder.crop_mode)
        return embedder.embed(aligned), faces.people, np.array([photo_key(file) for file in faces.files])

    vectors, people, keys = (np.concatenate(columns) for columns in zip(*map(embed, SETS)))
    kept = ~np.isin(people, (LISTS / "excluded_people.txt").read_text().split())
    vectors, people, keys = vectors[kept], people[kept], keys[kept]
    for first, second, cosine in same_people(vectors, people, same):
        print(f"perhaps one person: {first} {second} ({cosine:.2f})")
    # Relatives' photos lie decades apart: far from their own centre, and right.
    aged = np.array([source(person) == "fiw" for person in people])
    wrong = np.sort(keys[(own_cosines(vectors, people) < least) & ~aged])
    print(f"{len(wrong)} of {len(keys)} photos do not show their person", *wrong, sep="\n")
    if out:
        with atomic_write(out / "dropped_photos.txt") as path:
            path.write_text("".join(f"{key}\n" for key in wrong))
    names, points, _ = centres(vectors, people)
    for name in EVALUATION_SETS:
        others, theirs, _ = centres(*embed(name)[:2])
        cosines = points @ theirs.T
        for j, i in enumerate(cosines.argmax(0)):
            if cosines[i].argmax() == j and cosines[i, j] >= EVALUATION:
                print(f"perhaps in {name}: {names[i]} is {others[j]} ({cosines[i, j]:.2f})")
