"""What the training loop optimises for an embedder: network and loss in one model, the objective, the task."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from facelib.embedding.backbones import first_stages
from facelib.embedding.losses import IdentityLoss, margin_schedule
from facelib.embedding.network import EmbeddingNetwork
from facelib.training.distillation import distillation_loss
from facelib.training.face_batches import FaceBatches
from facelib.training.loop import Task
from facelib.training.sampling import EpochSampler


class EmbeddingClassifier(nn.Module):
    """Embedding network and identity loss as one module, so that checkpoints and optimizer hold both.

    frozen_stages: see `EmbedderConfig`.
    """

    def __init__(self, network: EmbeddingNetwork, loss: IdentityLoss, frozen_stages: int = 0):
        super().__init__()
        self.network, self.loss = network, loss
        self.frozen = first_stages(network.backbone, frozen_stages) if frozen_stages else []
        for module in self.frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "EmbeddingClassifier":
        """As of any module; frozen stages stay in evaluation mode, so that their batch norm does not change."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n, 3, s, s) -> the outputs of both heads, see `EmbeddingNetwork.heads`; the loss takes the first."""
        return self.network.heads(images)

    def parameter_groups(self, head_lr_mult: float = 4.0) -> list[dict]:
        """Parameter groups with "lr" as a multiplier: 1 for the ImageNet backbone, `head_lr_mult` for the new layers,
        class vectors included. Weight decay is for kernels and matrices, not for norms and biases."""
        groups, backbone = [], [p for p in self.network.backbone.parameters() if p.requires_grad]
        in_backbone = {id(parameter) for parameter in self.network.backbone.parameters()}
        new = [parameter for parameter in self.parameters() if id(parameter) not in in_backbone]
        for parameters, multiplier in ((backbone, 1.0), (new, head_lr_mult)):
            groups.append({"params": [p for p in parameters if p.ndim > 1], "lr": multiplier})
            groups.append({"params": [p for p in parameters if p.ndim <= 1], "lr": multiplier, "weight_decay": 0.0})
        return groups


@dataclass(frozen=True)
class Objective:
    """The terms of the loss and their weights.

    margin: of the identity loss, at the end of its schedule.
    initial_margin: at the beginning.
    margin_ramp: fractions of the run between which it rises.
    label_loss_weight: factor of the identity loss.
    teacher_embeddings: (n, 128) of all crops, or None.
    distill_loss_weight: factor of the squared distance to them.
    photo_weights: (n,) weight of each crop in it, see `density_weights`; None: all equal.
    """

    margin: float = 0.4
    initial_margin: float = 0.0
    margin_ramp: tuple[float, float] = (0.1, 0.5)
    label_loss_weight: float = 1.0
    teacher_embeddings: Tensor | None = None
    distill_loss_weight: float = 0.0
    photo_weights: Tensor | None = None

    def margin_at(self, progress: float) -> float:
        """The margin when this fraction of the run is done."""
        return margin_schedule(progress, self.margin, self.initial_margin, *self.margin_ramp)


def embedding_task(
    model: EmbeddingClassifier,
    faces: FaceBatches,
    objective: Objective = Objective(),
    head_lr_mult: float = 4.0,
    epoch_size: int | None = None,
    weights: np.ndarray | None = None,
) -> Task:
    """The `Task` of `fit`: the model on these faces.

    Args:
        head_lr_mult: see `EmbeddingClassifier.parameter_groups`. epoch_size: photos in an epoch; None: all.
        weights: see `sampling_weights`.
    """

    def loss(heads: tuple[Tensor, Tensor | None], batch: list[Tensor], progress: float) -> Tensor:
        embeddings, distilled = heads
        total = embeddings.new_zeros(())
        labelled = batch[1] >= 0
        if objective.label_loss_weight and labelled.any():
            identity_loss = model.loss(embeddings[labelled], batch[1][labelled], objective.margin_at(progress))
            total = objective.label_loss_weight * labelled.float().mean() * identity_loss
        if objective.teacher_embeddings is not None and distilled is not None:
            targets = objective.teacher_embeddings[batch[2]]
            weights = None if objective.photo_weights is None else objective.photo_weights[batch[2]]
            total = total + objective.distill_loss_weight * distillation_loss(distilled, targets, weights)
        return total

    labels, samples_per_class = faces.labels[faces.rows], model.loss.samples_per_class
    return Task(
        model=model,
        dataset=faces,
        loss=loss,
        sampler=EpochSampler(len(faces), weights, epoch_size, labels, samples_per_class),
        prepare=lambda indices, _: list(faces.batch(indices)),
        parameter_groups=model.parameter_groups(head_lr_mult),
    )


@torch.inference_mode()
def label_embeddings(network: EmbeddingNetwork, faces: FaceBatches) -> Tensor:
    """The first head's embeddings (n, d) of all rows of `faces`, not normalised.

    The network is in evaluation mode afterwards: batch norm should learn nothing from these faces.
    """
    network.eval()
    embeddings = []
    for start in range(0, len(faces), 64):
        indices = torch.arange(start, min(start + 64, len(faces)))
        embeddings.append(network.heads(faces.batch(indices)[0])[0])
    return torch.cat(embeddings)


def mean_class_embeddings(network: EmbeddingNetwork, faces: FaceBatches, classes: int) -> Tensor:
    """Sum of the unit embeddings (classes, d) of each label's faces: the direction of their mean."""
    embeddings = nn.functional.normalize(label_embeddings(network, faces))
    labels = torch.from_numpy(faces.labels[faces.rows]).to(embeddings.device)
    sums = torch.zeros(classes, embeddings.shape[1], device=embeddings.device)
    return sums.index_add_(0, labels, embeddings)
