"""Find people with two IDs, training people who are in an evaluation set, and photos that do not show their person.

`python -m facelib.datasets clean` prints candidates, and with --out writes dropped_photos.txt. Check each pair of IDs
by eye before it goes into data/same_people.txt or data/excluded_people.txt: a weak embedder takes people who look alike
for one person.
"""

from pathlib import Path

import numpy as np

from facelib.alignment.landmarker import load_landmarker
from facelib.datasets.aligned_faces import aligned_set
from facelib.datasets.face_list import photo_key
from facelib.datasets.splits import EVALUATION_SETS
from facelib.embedding.embedder import load_embedder
from facelib.embedding.similarity import group_sums, person_means
from facelib.io.files import atomic_write
from facelib.settings import LISTS

SETS = ["faces_train", "faces_more"]
SAME_COSINE = 0.65  # between the means of two IDs, from which they may be one person
WRONG_COSINE = 0.05  # between a photo and the person's other photos, below which it may show another person
EVALUATION_COSINE = 0.75  # between the means of a training and an evaluation ID, from which they may be one person
MIN_PHOTOS = 3  # of a person, for a mean that is compared


def cosines_to_others(embeddings: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Cosine between each photo and the mean of the person's other photos.

    Args:
        embeddings: (n, d) float32 of unit length.
        people: (n,) person ID of each photo.

    Returns:
        (n,) float32; NaN for people with fewer than `MIN_PHOTOS` photos.
    """
    _, person, photos = np.unique(people, return_inverse=True, return_counts=True)
    others = group_sums(embeddings, person, len(photos))[person] - embeddings
    cosines = (embeddings * others).sum(1) / np.maximum(np.linalg.norm(others, axis=1), 1e-6)
    return np.where(photos[person] >= MIN_PHOTOS, cosines, np.nan)


def source(person: str) -> str:
    """Data set of a person by the prefix of the ID: "celeba", "pins", "fiw", ..."""
    return person.split("_")[0]


def same_people(embeddings: np.ndarray, people: np.ndarray, threshold: float) -> list[tuple[str, str, float]]:
    """Pairs of IDs of different sources that may be one person: each has the other's nearest mean embedding.

    Pairs of one source are not reported, because look-alikes and relatives would outnumber true findings.

    Args:
        embeddings: (n, d) float32 of unit length.
        people: (n,) person ID of each photo.
        threshold: smallest cosine between the two means.

    Returns:
        (ID with more photos, other ID, cosine between the means), highest cosine first; each ID at most once.
    """
    names, means, photos = person_means(embeddings, people)
    cosines = means @ means.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.argmax(1)
    sources = np.array([source(name) for name in names])
    pairs = []
    for i, j in enumerate(nearest):
        mutual = i < j and nearest[j] == i
        enough_photos = min(photos[i], photos[j]) >= MIN_PHOTOS
        if mutual and enough_photos and sources[i] != sources[j] and cosines[i, j] >= threshold:
            first, second = (i, j) if photos[i] >= photos[j] else (j, i)
            pairs.append((str(names[first]), str(names[second]), float(cosines[i, j])))
    return sorted(pairs, key=lambda pair: -pair[2])


def clean(weights: Path, same_cosine: float, wrong_cosine: float, out: Path | None, device: str | None = None) -> None:
    """Print candidates of `SETS`, see the docstring of this module.

    Args:
        weights: of one network, see `load_embedder`.
        same_cosine: see `SAME_COSINE`.
        wrong_cosine: see `WRONG_COSINE`.
        out: folder for dropped_photos.txt; None: nothing is written.
    """
    landmarker = load_landmarker(device=device)
    embedder = load_embedder(weights, device, flip=False)

    def embed(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        aligned, faces = aligned_set(name, landmarker, embedder.crop_mode)
        return embedder.embed(aligned), faces.people, np.array([photo_key(file) for file in faces.files])

    embeddings, people, keys = (np.concatenate(columns) for columns in zip(*map(embed, SETS)))
    kept = ~np.isin(people, (LISTS / "excluded_people.txt").read_text().split())
    embeddings, people, keys = embeddings[kept], people[kept], keys[kept]
    for first, second, cosine in same_people(embeddings, people, same_cosine):
        print(f"perhaps one person: {first} {second} ({cosine:.2f})")
    # Families in the Wild has photos decades apart, which are right although they are far from the others.
    decades_apart = np.array([source(person) == "fiw" for person in people])
    wrong = np.sort(keys[(cosines_to_others(embeddings, people) < wrong_cosine) & ~decades_apart])
    print(f"{len(wrong)} of {len(keys)} photos may not show their person", *wrong, sep="\n")
    if out:
        with atomic_write(out / "dropped_photos.txt") as path:
            path.write_text("".join(f"{key}\n" for key in wrong))
    names, means, _ = person_means(embeddings, people)
    for name in EVALUATION_SETS:
        evaluation_embeddings, evaluation_people, _ = embed(name)
        evaluation_names, evaluation_means, _ = person_means(evaluation_embeddings, evaluation_people)
        cosines = means @ evaluation_means.T
        for j, i in enumerate(cosines.argmax(0)):
            if cosines[i].argmax() == j and cosines[i, j] >= EVALUATION_COSINE:
                print(f"perhaps in {name}: {names[i]} is {evaluation_names[j]} ({cosines[i, j]:.2f})")
