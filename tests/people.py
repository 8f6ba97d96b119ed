"""People made up of vectors, whose answer is known."""

import numpy as np


def made_up(people=40, photos=8, spread=0.6, size=32, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(people, 1, size)) + spread * rng.normal(size=(people, photos, size))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    names = np.repeat([f"p{number:03d}" for number in range(people)], photos)
    return vectors.reshape(-1, size).astype(np.float32), names
