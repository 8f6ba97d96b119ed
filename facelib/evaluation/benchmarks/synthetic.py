"""Embeddings of synthetic people, distributed like those of real ones, for benchmarks of large archives."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from facelib.alignment.landmarker import load_landmarker
from facelib.archive.schema import PHOTO_SCHEMA
from facelib.archive.table import Archive
from facelib.datasets.aligned_faces import aligned_open_set, aligned_set
from facelib.types import NamedEmbedder

MAX_PHOTOS = 5_000  # of a synthetic person
ROWS_PER_WRITE = 20_000  # rows written to an archive at a time
SAMPLED_TOGETHER = 50_000  # embeddings that are sampled at a time
MIN_PHOTOS = 4  # of a real person whose photos the distribution is fitted to
ZIPF_EXPONENT = 1.8  # of the number of photos per person


def real_faces(embedder: NamedEmbedder, *splits: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) and people (n,) of some of "open_val", "open_test" and "lfw"."""
    landmarker = load_landmarker(runtime="auto")
    sets = [
        aligned_set(split, landmarker) if split == "lfw" else aligned_open_set(split, landmarker) for split in splits
    ]
    embeddings = np.concatenate([embedder.embed(aligned) for aligned, _ in sets])
    return embeddings, np.concatenate([faces.people for _, faces in sets])


@dataclass(frozen=True)
class Distribution:
    """Normal distributions fitted to the embeddings of real people, of d dimensions."""

    mean: np.ndarray  # (d,) of the people's centres
    axes: np.ndarray  # (d, d) eigenvectors of the covariance between people
    variances: np.ndarray  # (d,) along these axes
    root: np.ndarray  # (d, d) Cholesky factor of the covariance within a person
    offset_lengths: np.ndarray  # (m,) distances of real photos from the centre of their person


def fit_distribution(embeddings: np.ndarray, people: np.ndarray) -> Distribution:
    """Fit the covariances between and within people to embeddings (n, d) of people (n,)."""
    _, person, photos = np.unique(people, return_inverse=True, return_counts=True)
    centres = np.zeros((len(photos), embeddings.shape[1]))
    np.add.at(centres, person, embeddings)
    centres /= photos[:, None]
    fitted = photos[person] >= MIN_PHOTOS
    # The mean of n photos is closer to them than the true centre is, by the factor sqrt((n - 1) / n).
    correction = np.sqrt(photos[person] / (photos[person] - 1 + 1e-9))
    offsets = (embeddings - centres[person])[fitted] * correction[fitted][:, None]
    within = np.cov(offsets.T)
    known = centres[photos >= MIN_PHOTOS]
    between = np.cov(known.T) - (1 / photos[photos >= MIN_PHOTOS]).mean() * within
    variances, axes = np.linalg.eigh(between)
    root = np.linalg.cholesky(within + 1e-9 * np.eye(len(within)))
    return Distribution(known.mean(0), axes, variances.clip(min=0), root, np.linalg.norm(offsets, axis=1))


def synthetic_faces(
    embeddings: np.ndarray, people: np.ndarray, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Sample embeddings of synthetic people.

    The centre of each person is drawn from the distribution of real people's centres. Each photo adds an offset in a
    direction drawn from the distribution within real people, as long as that of some real photo. The number of photos
    per person follows Zipf's law.

    Args:
        embeddings: (n, d) of real people, unit length; people: (n,).
        count: number of embeddings to sample.

    Returns:
        (count, d) float32 of unit length, and the index of each one's person (count,).
    """
    fitted = fit_distribution(embeddings, people)
    rng = np.random.default_rng(seed)
    photos = rng.zipf(ZIPF_EXPONENT, count).clip(max=max(1, min(MAX_PHOTOS, count // 20)))
    photos = photos[: np.searchsorted(photos.cumsum(), count) + 1]
    owner = np.repeat(np.arange(len(photos)), photos)[:count]
    scales = np.sqrt(fitted.variances)
    centres = fitted.mean + rng.normal(size=(len(photos), len(scales))) * scales @ fitted.axes.T
    result = np.empty((count, embeddings.shape[1]), np.float32)
    for rows in np.array_split(np.arange(count), -(-count // SAMPLED_TOGETHER)):
        offsets = rng.normal(size=(len(rows), len(fitted.root))) @ fitted.root.T
        lengths = rng.choice(fitted.offset_lengths, len(rows))
        offsets *= (lengths / np.linalg.norm(offsets, axis=1))[:, None]
        sampled = centres[owner[rows]] + offsets
        result[rows] = sampled / np.linalg.norm(sampled, axis=1, keepdims=True)
    return result, owner


def fill_archive(location: Path, embeddings: np.ndarray, model_id: str) -> tuple[Archive, float]:
    """An archive with these embeddings (n, d), one face per photo, and the rows written per second."""
    archive = Archive(str(location), model_id, embeddings.shape[1])
    similarities = archive.cohort.similarity(embeddings) if archive.cohort else np.zeros(len(embeddings), np.float32)
    face = {"face": 0, "box": [10.0, 20.0, 110.0, 140.0], "score": 0.9, "landmarks": list(map(float, range(10)))}
    face |= {"landmark_confidence": 0.9, "quality": 0.9, "quality_issue": ""}
    seconds = 0.0
    for rows in np.array_split(np.arange(len(embeddings)), -(-len(embeddings) // ROWS_PER_WRITE)):
        photos = []
        for index in rows:
            name = photo_name(index)
            own = {"photo": name, "cohort_similarity": float(similarities[index])}
            faces = [face | own | {"vector": embeddings[index].astype(np.float16)}]
            photos.append({"photo": name, "width": 1, "height": 1, "error": "", "faces": faces})
        table = pa.Table.from_pylist(photos, PHOTO_SCHEMA)
        start = time.perf_counter()
        archive.write(table)
        seconds += time.perf_counter() - start
    archive.compact()
    return archive, len(embeddings) / seconds


def photo_name(index: int) -> str:
    """Name of the synthetic photo of an embedding, as long as real paths are."""
    return f"/photos/of/a/library/{index:09d}.jpg"


def photo_index(name: str) -> int:
    """Inverse of `photo_name`."""
    return int(name[-13:-4])
