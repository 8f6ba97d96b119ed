import math

import pytest
import torch
import torch.nn.functional as F

from facelib.embedding.losses import (
    LOSSES,
    MARGIN_LOSSES,
    AdaFace,
    ArcFace,
    CosFace,
    Triplet,
    make_loss,
    margin_schedule,
    triplet_loss,
)


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


def test_margin_increases_the_loss_up_to_the_opposite_direction():
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
    assert margin_schedule(0.5, 0.4, initial=0.2, start=0.0, end=1.0) == pytest.approx(0.3)


@pytest.mark.parametrize("loss", ["arcface", "cosface"])
def test_the_same_as_pytorch_metric_learning(loss):
    """A third-party implementation, given the same class vectors."""
    from pytorch_metric_learning import losses

    torch.manual_seed(0)
    vectors, labels = torch.randn(32, 16, requires_grad=True), torch.arange(32) % 7
    head = make_loss(loss, 16, 7, scale=32.0)
    other = {
        "arcface": losses.ArcFaceLoss(7, 16, margin=math.degrees(0.4), scale=32),
        "cosface": losses.CosFaceLoss(7, 16, margin=0.4, scale=32),
    }[loss]
    other.W.data = head.weight.data.T.clone()
    assert (head.cosines(vectors).acos() + 0.4).max() < math.pi  # beyond it, implementations differ
    ours, theirs = head(vectors, labels, 0.4), other(vectors, labels)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(value, vectors)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_cosface_and_adaface_are_their_formulas():
    torch.manual_seed(0)
    vectors, labels = torch.randn(6, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    head = CosFace(8, 5, scale=16.0)
    logits = head.logits(vectors).detach()
    logits[range(6), labels] -= 16 * 0.3
    torch.testing.assert_close(head(vectors, labels, 0.3), F.cross_entropy(logits, labels))
    # At the mean norm AdaFace is CosFace; large norms get CosFace with twice the margin at a wider angle.
    ada = AdaFace(8, 5, scale=16.0).eval()
    ada.weight.data = head.weight.data
    ada.length_mean, ada.length_std = torch.tensor(3.0), torch.tensor(1.0)
    torch.testing.assert_close(ada(3 * F.normalize(vectors), labels, 0.3), head(vectors, labels, 0.3))
    angles = ada.cosines(vectors).acos()
    logits = ada.logits(vectors).detach()
    logits[range(6), labels] = 16 * (torch.cos(angles[range(6), labels] - 0.3) - 0.6)
    assert angles.min() > 0.3
    torch.testing.assert_close(ada(50 * F.normalize(vectors), labels, 0.3), F.cross_entropy(logits, labels))


def test_groups_compare_with_their_own_classes_only():
    """Or to the fraction `group_loss_weight`, for the rest with all classes."""
    torch.manual_seed(0)
    vectors, labels = torch.randn(4, 8), torch.tensor([0, 1, 1, 0])
    grouped, group, ungrouped = ArcFace(8, 5, groups=torch.tensor([0, 0, 1, 1, 1])), ArcFace(8, 2), ArcFace(8, 5)
    group.weight.data, ungrouped.weight.data = grouped.weight.data[:2], grouped.weight.data
    within, everywhere = group(vectors, labels, 0.2), ungrouped(vectors, labels, 0.2)
    torch.testing.assert_close(grouped(vectors, labels, 0.2), within)
    mixed = make_loss("arcface", 8, 5, groups=grouped.groups, group_loss_weight=0.25)
    mixed.weight.data = grouped.weight.data
    torch.testing.assert_close(mixed(vectors, labels, 0.2), 0.25 * within + 0.75 * everywhere)


def test_triplet_options_reach_the_losses():
    torch.manual_seed(0)
    vectors, labels = torch.randn(8, 8), torch.arange(8) % 2
    both = make_loss("arcface_triplet", 8, 2, triplet_loss_weight=3.0, triplet_margin=0.5)
    arcface = ArcFace(8, 2)
    arcface.weight.data = both.weight.data
    expected = arcface(vectors, labels, 0.2) + 3 * triplet_loss(vectors, labels, 0.5)
    torch.testing.assert_close(both(vectors, labels, 0.2), expected)
    assert make_loss("triplet", 8, 2, triplet_margin=0.5).triplet_margin == 0.5
    default = make_loss("arcface_triplet", 8, 2)
    assert (default.triplet_loss_weight, default.triplet_margin) == (5.0, 0.2)


def test_triplet_by_hand():
    """On a circle, angles 0 and 30 of one identity, 20 and 100 of another, margin 0.2."""
    angles = torch.deg2rad(torch.tensor([0.0, 30, 20, 100]))
    vectors = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1.0], [2], [3], [4]])
    labels = torch.tensor([0, 0, 1, 1])

    def squared(a, b):
        return 2 - 2 * math.cos(math.radians(a - b))

    # Anchors 0, 30, 20, 100: the semi-hard negative, or where no negative is farther, the farthest.
    pairs = [((0, 30), (0, 100)), ((30, 0), (30, 100)), ((20, 100), (20, 0)), ((100, 20), (100, 0))]
    by_hand = [max(0.0, squared(*positive) - squared(*negative) + 0.2) for positive, negative in pairs]
    assert sum(by_hand) > 0
    torch.testing.assert_close(triplet_loss(vectors, labels, 0.2), torch.tensor(sum(by_hand) / 4))
    torch.testing.assert_close(Triplet(0.2)(vectors, labels), torch.tensor(sum(by_hand) / 4))


def test_triplet_without_a_triplet_is_zero():
    vectors = torch.randn(4, 3, requires_grad=True)
    for labels in (torch.arange(4), torch.zeros(4, dtype=torch.long)):
        loss = triplet_loss(vectors, labels)
        loss.backward()
        assert loss == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss):
    """A linear layer separates four clusters with any of the losses."""
    torch.manual_seed(0)
    labels = torch.arange(32) % 4
    inputs = torch.randn(4, 10)[labels] + torch.randn(32, 10)
    layer, head = torch.nn.Linear(10, 8), make_loss(loss, 8, 4, **{"scale": 8.0} if loss in MARGIN_LOSSES else {})
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], 0.01)
    values = []
    for _ in range(200):
        value = head(layer(inputs), labels, 0.1)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("name", LOSSES)
def test_all_losses_have_one_interface(name):
    """Logits, class vectors and their initialisation for every class, and the composition of a batch."""
    loss = make_loss(name, 8, 4)
    embeddings, labels = torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 3])
    assert loss.classes in (0, 4)
    assert loss.logits(embeddings).shape == (6, loss.classes)
    assert len(loss.class_embeddings()) == loss.classes
    centres = torch.nn.functional.normalize(torch.randn(4, 8))
    loss.init_class_centres(centres)
    if loss.classes:
        torch.testing.assert_close(loss.class_embeddings(), centres, atol=0.05, rtol=0)
        assert loss.logits(centres).argmax(1).tolist() == [0, 1, 2, 3]
    assert loss.samples_per_class in (1, 4)
    assert loss.has_margin == bool(loss(embeddings, labels, 0.0) != loss(embeddings, labels, 0.5))
    assert loss(embeddings, labels).ndim == loss(embeddings, labels, 0.2).ndim == 0


def test_unknown_loss():
    with pytest.raises(ValueError, match="loss 'softmax': expected one of arcface"):
        make_loss("softmax", 8, 4)
    for name in ("cross_entropy", "triplet"):
        with pytest.raises(ValueError, match=f"the loss {name} has no class margins"):
            make_loss(name, 8, 4, groups=torch.zeros(4))
