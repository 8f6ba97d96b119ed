"""What the teacher says is computed once for each photo, and counts more where its embeddings are dense."""

import os
import stat

import numpy as np
import pytest
import torch

from facelib.datasets.training_crops import TrainingCrops
from facelib.training import distillation
from facelib.training.distillation import density_weights, distillation_loss, teacher_embeddings
from facelib.training.face_batches import FaceBatches


@pytest.fixture
def taught(monkeypatch):
    """Rows that a stand-in of the teacher was asked for; its embedding of a crop is made of the crop's pixels."""
    asked = []

    def embed(faces, rows):
        asked.append(rows.tolist())
        pixels = torch.from_numpy(faces.crops.take(rows.numpy())).float().flatten(1)[:, :128] + 1
        return torch.nn.functional.normalize(pixels).half().numpy()

    monkeypatch.setattr(distillation, "_embed_by_teacher", embed)
    return asked


def batches(rows, size=112):
    aligned = np.random.default_rng(0).integers(0, 255, (6, size, size, 3)).astype(np.uint8)[rows]
    return FaceBatches(TrainingCrops.from_aligned(aligned), np.arange(len(rows)))


def test_only_new_photos_are_computed(taught, tmp_path):
    """Another selection of photos, in another order, finds those that are known."""
    cache = tmp_path / "cache/dlib.npz"
    names = [f"{i}.webp" for i in range(6)]
    first = teacher_embeddings(batches([0, 1, 2]), cache, names[:3])
    assert taught == [[0, 1, 2]]
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3), atol=1e-3, rtol=0)
    rows = [4, 2, 0, 5]
    second = teacher_embeddings(batches(rows), cache, [names[row] for row in rows])
    assert taught[1:] == [[0, 3]]
    torch.testing.assert_close(second[[2, 1]], first[[0, 2]])
    everything = teacher_embeddings(batches(range(6)), cache, names)
    assert taught[2:] == [[3]]
    torch.testing.assert_close(everything[rows], second)
    teacher_embeddings(batches(range(6)), cache, names)
    assert len(taught) == 3
    if os.name == "posix":
        assert stat.S_IMODE(cache.stat().st_mode) == 0o600


def test_a_photo_that_is_cropped_otherwise_is_computed_again(taught, tmp_path):
    names = ["a.webp", "b.webp"]
    teacher_embeddings(batches([0, 1]), tmp_path / "dlib.npz", names)
    faces = batches([0, 1])
    faces.crops.matrices[1] += 0.5
    teacher_embeddings(faces, tmp_path / "dlib.npz", names)
    assert taught == [[0, 1], [1]]


def test_the_loss_is_weighted_by_photo():
    student, teacher = torch.eye(4)[:2] * 2, torch.eye(4)[[0, 2]]
    assert distillation_loss(student, teacher) == pytest.approx((1 + 5) / 2)
    assert distillation_loss(student, teacher, torch.tensor([2.0, 0.0])) == pytest.approx(1)
    assert distillation_loss(student, teacher, torch.ones(2)) == distillation_loss(student, teacher)


def test_photos_of_a_dense_region_count_more():
    """Half of the people lie in a cone. Photos of one person do not make each other dense, weights are 1 on average."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(80, 1, 128, generator=generator)
    centres[40:, :, 0] += 12
    embeddings = torch.nn.functional.normalize((centres + 0.3 * torch.randn(80, 3, 128, generator=generator)), dim=2)
    embeddings, people = embeddings.reshape(-1, 128), np.repeat(np.arange(80), 3)
    rows = np.flatnonzero(np.arange(240) % 3 < 2)
    weights = density_weights(embeddings, people, rows, 1.0)
    assert weights.shape == (240,)
    assert weights[torch.from_numpy(rows)].mean() == pytest.approx(1)
    assert weights[120:].min() > weights[:120].max()
    torch.testing.assert_close(weights, density_weights(embeddings, people, rows, 1.0))
    squared = density_weights(embeddings, people, rows, 2.0)
    ratio = float(weights[120:].mean() / weights[:120].mean())
    assert float(squared[120:].mean() / squared[:120].mean()) == pytest.approx(ratio**2, rel=0.1)


def test_density_of_few_people_by_hand():
    """Without the 30 neighbours that are looked at; a person's own photos are none of them."""
    embeddings = torch.nn.functional.pad(torch.tensor([[1, 0], [1, 0], [0.6, 0.8], [0, 1]]), (0, 126))
    weights = density_weights(embeddings, np.array(["a", "a", "b", "c"]), np.arange(4), 1.0)
    density = torch.tensor([0.3, 0.3, 0.7, 0.4])  # mean cosine with the two others
    expected = 1 / (1 - density)
    torch.testing.assert_close(weights, expected / expected.mean())
    assert density_weights(embeddings[:1], np.array(["a"]), np.arange(1), 1.0).tolist() == [1.0]
