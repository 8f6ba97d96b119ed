"""Parts of a network that keep their weights, and photos without a class."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facelib.datasets.training_crops import TrainingCrops
from facelib.embedding.backbones import LITE0, first_stages, make_backbone
from facelib.embedding.losses import ArcFace
from facelib.embedding.network import EmbeddingNetwork
from facelib.training.embedder_task import (
    EmbeddingClassifier,
    Objective,
    embedding_task,
    mean_class_embeddings,
)
from facelib.training.face_batches import FaceBatches


def classifier(frozen_stages=0):
    network = EmbeddingNetwork(LITE0, 16, pretrained=False)
    return EmbeddingClassifier(network, ArcFace(16, 3), frozen_stages)


def shown(labels):
    aligned = np.random.default_rng(0).integers(0, 255, (len(labels), 112, 112, 3)).astype(np.uint8)
    return FaceBatches(TrainingCrops.from_aligned(aligned), np.array(labels), size=32)


def step(model, faces):
    """One step of SGD."""
    task = embedding_task(model, faces)
    optimizer = torch.optim.SGD([group | {"lr": 0.1} for group in model.parameter_groups()])
    batch = task.prepare(torch.arange(len(faces)), 1.0)
    loss = task.loss(model.train()(batch[0]), batch, 1.0)
    loss.backward()
    optimizer.step()


def test_frozen_stages_keep_weights_and_statistics():
    model = classifier(3)
    before = {name: value.clone() for name, value in model.network.backbone.state_dict().items()}
    step(model, shown([0, 1, 2, 0]))
    after = model.network.backbone.state_dict()
    frozen = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.")
    for name, value in before.items():
        if name.startswith(frozen):
            assert torch.equal(value, after[name]), name
    changed = {name.split(".")[1] for name, value in before.items() if not torch.equal(value, after[name])}
    assert {"3", "4", "5", "6"} <= changed
    assert any("running_mean" in name and not torch.equal(value, after[name]) for name, value in before.items())
    free = classifier()
    in_groups = [sum(p.numel() for group in m.parameter_groups() for p in group["params"]) for m in (model, free)]
    stages = first_stages(model.network.backbone, 3)
    assert in_groups[1] - in_groups[0] == sum(p.numel() for stage in stages for p in stage.parameters())
    assert not any(stage.training for stage in stages) and model.network.backbone.blocks[3].training


def test_class_vectors_are_initialised_without_a_change_of_the_network():
    """Before the first epoch, when a network is still in training mode."""
    model = classifier()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    faces = shown([0, 1, 2, 0])
    centres = mean_class_embeddings(model.network, faces, 3)
    torch.testing.assert_close(mean_class_embeddings(model.network, faces, 3), centres)  # no dropout
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_stages_that_are_not_there():
    backbone = make_backbone(LITE0, pretrained=False)[0]
    assert len(first_stages(backbone, 7)) == 9
    with pytest.raises(ValueError, match="frozen_stages: 8, but the backbone has 7 stages"):
        first_stages(backbone, 8)
    for other in ("resnet18", "vit_tiny_patch16_224"):  # the second has blocks, but no such stem
        with pytest.raises(ValueError, match="frozen_stages: 1, but the backbone has no stages that could be frozen"):
            first_stages(make_backbone(other, pretrained=False)[0], 1)


def test_photos_without_a_class_are_for_the_teacher_alone():
    """The loss on labels counts by the share of photos that have one; the teacher's is that of all photos."""
    torch.manual_seed(0)
    model = classifier()
    images = torch.randn(4, 16)
    labelled = embedding_task(model, shown([0, 1]), Objective())
    mixed = embedding_task(model, shown([0, 1, -1, -1]), Objective())
    nobody = embedding_task(model, shown([-1, -1]), Objective())
    batch = [None, torch.tensor([0, 1, -1, -1]), torch.arange(4)]
    half = mixed.loss((images, None), batch, 1.0)
    whole = labelled.loss((images[:2], None), [None, batch[1][:2], batch[2][:2]], 1.0)
    torch.testing.assert_close(half, whole / 2)
    assert nobody.loss((images[2:], None), [None, batch[1][2:], batch[2][2:]], 1.0) == 0
    targets = torch.nn.functional.normalize(torch.randn(4, 128))
    objective = Objective(label_loss_weight=0.0, teacher_embeddings=targets, distill_loss_weight=2.0)
    taught = embedding_task(model, shown([0, 1, -1, -1]), objective)
    assert taught.loss((images, targets + 1), batch, 1.0) == pytest.approx(2 * 128, rel=1e-4)
    weighted = replace(objective, photo_weights=torch.tensor([0.0, 0.0, 0.0, 4.0]))
    one = targets.clone()
    one[3] += 1
    taught = embedding_task(model, shown([0, 1, -1, -1]), weighted)
    assert taught.loss((images, one), batch, 1.0) == pytest.approx(2 * 128, rel=1e-4)
