"""Faces as the embedder's training sees them."""

import numpy as np
import pytest
import torch

from facelib.alignment.align import TEMPLATE, align_faces
from facelib.datasets.aligned_faces import align_photos
from facelib.datasets.face_list import load_faces
from facelib.datasets.training_crops import TrainingCrops, load_training_crops, padded_crop
from facelib.training.face_batches import FaceAugmentation, FaceBatches, augmented_grid, unrotate_head
from facelib.training.rng import PerSampleRNG


@pytest.fixture
def faces(prepared, pipeline, tmp_path):
    """Nine crops, and how the pipeline aligns them."""
    prepared("some", {person: (person, 3) for person in ("s1", "s2", "s3")})
    listed = load_faces("some")
    aligned, _ = align_photos(listed, pipeline.landmarker, progress=False)
    return load_training_crops(listed, pipeline.landmarker, tmp_path / "cache.bin")[0], aligned


def test_without_augmentation_they_are_those_of_the_pipeline(faces):
    """Grey levels: 0.02 on average at most, and no pixel more than 2 apart, which is rounding."""
    pictures, aligned = faces
    shown = FaceBatches(pictures, np.arange(9)).aligned(torch.arange(9)).permute(0, 2, 3, 1).numpy()
    difference = np.abs(shown - aligned.astype(float))
    assert difference.mean() < 0.02
    assert difference.max() <= 2


def test_strength(faces):
    """0 shows the faces as they are, or mirrored; the stronger, the more of them are changed otherwise."""
    pictures = TrainingCrops.from_aligned(faces[1])
    batches = FaceBatches(pictures, np.arange(9))
    plain, indices = batches.aligned(torch.arange(9)), torch.arange(63)
    mean_change = []
    for strength in (0.0, 0.3, 1.0):
        batches.augment = FaceAugmentation(strength)
        changed = batches.augmented(indices % 9, PerSampleRNG(0, indices)).view(7, 9, 3, 112, 112)
        same, mirrored = ((changed - p).abs().amax((2, 3, 4)) <= 1 for p in (plain, plain.flip(3)))
        nearest = torch.minimum((changed - plain).abs(), (changed - plain.flip(3)).abs())
        mean_change.append(nearest.mean().item())
        if not strength:
            assert (same | mirrored).all()
            assert 15 < mirrored.sum() < 48
    assert mean_change[0] < 0.1 < mean_change[1] < mean_change[2]


def test_a_picture_is_changed_the_same_in_any_batch_and_otherwise_the_next_time(faces):
    batches = FaceBatches(
        faces[0], np.arange(9), np.array([8, 3, 5]), 64, FaceAugmentation(0.5, side_light_std=0.2, pose_std=0.2)
    )
    torch.manual_seed(0)
    images, labels, rows = batches.batch(torch.tensor([0, 1, 2, 4]))
    assert (labels.tolist(), rows.tolist()) == ([8, 3, 5, 3], [8, 3, 5, 3])
    alone = batches.batch(torch.tensor([2]))[0]
    assert (alone - images[2:3]).abs().mean() < 0.1  # where noise falls, only its amount is the picture's own
    assert (images[1] - images[3]).abs().mean() > 0.02
    batches.start_epoch(7)
    assert (batches.batch(torch.tensor([2]))[0] - alone).abs().mean() > 0.02


def test_moves_keep_their_sizes_and_mirror_half():
    pixels = torch.tensor([[[55.5, 55.5], [75.5, 55.5], [55.5, 75.5]]])
    places = augmented_grid(pixels, PerSampleRNG(0, torch.arange(4000)), 1.0)
    middle, right, below = places.unbind(1)
    assert (middle - 55.5).std() == pytest.approx(2.5, rel=0.1)
    length = (right - middle).norm(dim=1) / 20
    assert length.log().std() == pytest.approx(np.hypot(0.07, 0.03), rel=0.1)
    down = below - middle
    assert torch.rad2deg(torch.atan2(down[:, 0], down[:, 1])).std() == pytest.approx(7, rel=0.1)
    across = right - middle
    turns = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    assert (turns < 0).float().mean() == pytest.approx(0.5, abs=0.03)


def test_turning_a_head():
    """The template's points stay where alignment puts them, the nose goes to the side, a turn of nothing is none."""
    points = torch.from_numpy(TEMPLATE)[None]
    still = unrotate_head(points, torch.zeros(1), torch.zeros(1))
    assert torch.allclose(still, points, atol=1e-3)
    left, right = (unrotate_head(points, torch.tensor([yaw]), torch.zeros(1)) - points for yaw in (-0.3, 0.3))
    # A head turned to one side shows at the nose tip's place what lay to the other side of the nose.
    assert left[0, 2, 0] * right[0, 2, 0] < 0
    assert torch.allclose(left[0, 2, 0], -right[0, 2, 0], atol=0.5)
    assert 1 < abs(left[0, 2, 0]) < 8


def test_the_border_is_repeated_from_the_frame(faces):
    batches = FaceBatches(faces[0], np.arange(9), augment=FaceAugmentation(0.0, 1.0))
    rows = torch.arange(1)
    low, high = torch.tensor([[40.0, 40.0]]), torch.tensor([[100.0, 100.0]])
    cut = batches.sample(rows, batches.pixels, frame=(low, high))
    whole = batches.sample(rows, batches.pixels)
    changed = (cut - whole).abs().amax((0, 1)) > 1
    assert changed[56, 56] == False  # noqa: E712
    assert changed.float().mean() > 0.3


def test_align_faces_is_the_judge(pipeline, photo):
    """Of a whole photo, too, training sees what the pipeline aligns: a few pixels differ by their rounding."""
    points = np.stack([face.landmarks for face in pipeline(photo)])
    made = [padded_crop(photo, p, "five_points") for p in points]
    pictures = TrainingCrops([np.stack([m[0] for m in made])], np.arange(6), np.stack([m[1] for m in made]))
    shown = FaceBatches(pictures, np.arange(6)).aligned(torch.arange(6)).permute(0, 2, 3, 1).numpy()
    difference = np.abs(shown - align_faces(photo, points).astype(float))
    assert difference.max() <= 1
    assert difference.mean() < 1e-3
