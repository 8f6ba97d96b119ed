"""Synthetic embeddings of people, whose identities are known."""

import numpy as np


def synthetic_embeddings(people=40, photos=8, spread=0.6, size=32, seed=0):
    """Embeddings (people * photos, size) around a random centre for each person, and the person of each."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(people, 1, size)) + spread * rng.normal(size=(people, photos, size))
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    names = np.repeat([f"p{number:03d}" for number in range(people)], photos)
    return embeddings.reshape(-1, size).astype(np.float32), names
