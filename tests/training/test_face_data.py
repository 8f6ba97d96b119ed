import numpy as np

from facelib.training.face_data import AlignedDataset, TightCrop


def test_tight_crops_repeat_the_border():
    face = np.random.default_rng(1).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    crop = TightCrop(p=1.0)
    heights = []
    for seed in range(20):
        crop.set_random_seed(seed)
        cut = crop(image=face)["image"]
        assert cut.shape == face.shape
        assert (cut[40:95, 25:87] == face[40:95, 25:87]).all()  # eyes, nose and mouth are never cut
        top = int(np.argmax((cut[:, 56] == face[:, 56]).all(1)))
        assert (cut[:top, 56] == face[top, 56]).all()
        heights.append(top)
    assert max(heights) > 20
    assert min(heights) < 10


def test_strength_of_the_augmentation():
    """None shows the faces as they are, 0 also mirrored; the stronger, the more of them are changed otherwise."""
    faces = np.random.default_rng(0).integers(0, 255, (60, 112, 112, 3), dtype=np.uint8)

    def shown(strength):
        dataset = AlignedDataset(faces, np.zeros(60, int), size=112, strength=strength)
        return [dataset[i][0].numpy() for i in range(60)]

    plain = shown(None)
    as_they_are, mirrored, changed = {}, {}, {}
    for strength in (0.0, 0.3, 1.0):
        pictures = shown(strength)
        as_they_are[strength] = sum((a == b).all() for a, b in zip(plain, pictures))
        mirrored[strength] = sum((a[..., ::-1] == b).all() for a, b in zip(plain, pictures))
        changed[strength] = 60 - as_they_are[strength] - mirrored[strength]
    assert changed[0.0] == 0
    assert 15 < mirrored[0.0] < 45
    assert 10 < changed[0.3] < changed[1.0]


def test_epochs_and_repetitions_are_augmented_differently():
    """Plain indices: what is left of an index beyond the dataset tells the times apart that an item is shown."""
    faces = np.random.default_rng(0).integers(0, 255, (4, 112, 112, 3), dtype=np.uint8)
    dataset = AlignedDataset(faces, np.arange(4), size=32)
    first, again, repeated = dataset[1][0], dataset[1][0], dataset[1 + 4][0]
    dataset.start_epoch(1)
    assert first.equal(again)
    assert not first.equal(repeated)
    assert not first.equal(dataset[1][0])
    assert dataset[1 + 4][1] == 1
