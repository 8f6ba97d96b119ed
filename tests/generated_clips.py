"""Small pictures that clips are generated of, without any data set."""

import numpy as np

from facelib.evaluation.benchmarks.clip_sources import ClipSources


def flat_sources(people=6, photos=3):
    """People of one colour each, the same in all photos, and a background of black and one of grey."""
    colours = np.random.default_rng(0).integers(60, 255, (people, 3))
    portraits = {
        f"p{number}": np.broadcast_to(colour.astype(np.uint8), (photos, 144, 144, 3)).copy()
        for number, colour in enumerate(colours)
    }
    return ClipSources(portraits, [np.zeros((90, 160, 3), np.uint8), np.full((90, 160, 3), 50, np.uint8)])
