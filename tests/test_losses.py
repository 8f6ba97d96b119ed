import math

import pytest
import torch
import torch.nn.functional as F

from facelib.losses import ArcFace, margin_schedule


def test_arcface_is_the_formula():
    torch.manual_seed(0)
    head = ArcFace(8, 5, scale=16.0)
    vectors, labels = torch.randn(6, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    angles = torch.acos(F.normalize(vectors) @ F.normalize(head.weight).T)
    assert angles.max() + 0.3 < math.pi
    logits = 16 * torch.cos(angles)
    torch.testing.assert_close(head.logits(vectors), logits)
    logits[range(6), labels] = 16 * torch.cos(angles[range(6), labels] + 0.3)
    torch.testing.assert_close(head(vectors, labels, 0.3), F.cross_entropy(logits, labels))


def test_margin_makes_it_harder_up_to_the_opposite_direction():
    torch.manual_seed(0)
    head = ArcFace(4, 3)
    vectors, labels = torch.randn(9, 4), torch.arange(9) % 3
    losses = [head(vectors, labels, m) for m in (0.0, 0.2, 0.5)]
    assert losses[0] < losses[1] < losses[2]
    opposite = -head.weight.detach()[:1] * 3
    assert head(opposite, torch.tensor([0]), 0.5) >= head(opposite, torch.tensor([0]), 0.0) - 1e-4


def test_gradients_are_finite_at_the_ends():
    head = ArcFace(4, 3)
    vectors = torch.cat([head.weight.detach()[:1], -head.weight.detach()[:1]]).requires_grad_()
    head(vectors, torch.tensor([0, 0]), 0.5).backward()
    assert torch.isfinite(vectors.grad).all()
    assert torch.isfinite(head.weight.grad).all()


def test_wrong_labels_and_schedule():
    with pytest.raises(ValueError, match="from 0 to 3 do not fit 3 classes"):
        ArcFace(4, 3)(torch.randn(2, 4), torch.tensor([0, 3]), 0.0)
    assert margin_schedule(0.05, 0.4) == 0
    assert margin_schedule(0.3, 0.4) == pytest.approx(0.2)
    assert margin_schedule(0.9, 0.4) == 0.4
