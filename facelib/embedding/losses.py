"""The losses this repository teaches, all with one interface: `IdentityLoss`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IdentityLoss(nn.Module):
    """What all losses share: embeddings and labels in, a number out. Give its parameters to the optimizer.

    classes: people that it tells apart, 0 for a loss that compares photos with each other only.
    samples_per_class: photos of one person that should lie together in a batch. has_margin: whether `forward` uses it.
    """

    classes = 0
    samples_per_class = 1
    has_margin = False

    def class_embeddings(self) -> Tensor:
        """(classes, d): the direction in which the embeddings of each class should lie."""
        return torch.zeros(0, 0)

    def init_class_centres(self, centres: Tensor) -> None:
        """Begin with the mean embeddings (classes, d) of the people, where a network is trained on."""

    def logits(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, classes) without margin: those from which accuracy is read."""
        return embeddings.new_zeros(len(embeddings), self.classes)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; a loss without a margin does not use it."""
        raise NotImplementedError


class MarginLoss(IdentityLoss):
    """Softmax over cosines with a margin for the labelled class; the children say what the margin is.

    Holds `sub_centres` vectors per class. The logits are
    `scale * cos(t)`, with the angle t between an embedding and the nearest vector of a class; for the
    labelled class the child's `target` takes the place of `cos(t)`. The margin is an argument of
    `forward`, because learning starts better from 0: raise it with `margin_schedule`.

    Args:
        sub_centres: vectors per class; more than one lets wrong labels gather around a vector of their own
            (Deng et al. 2020, "Sub-center ArcFace").
        groups: (classes,) int; `group_loss_weight` of the loss compares a photo only with classes of its own group. With
            the source of each person as group, it does not pay to tell sources apart.

    Raises (in `forward`):
        ValueError: a label outside the classes.
    """

    has_margin = True
    group_loss_weight = 1.0

    def __init__(
        self, embedding_size: int, classes: int, scale: float = 32.0, sub_centres: int = 1, groups: Tensor | None = None
    ):
        super().__init__()
        self.scale, self.classes = scale, classes
        self.register_buffer("groups", groups)
        self.weight = nn.Parameter(torch.empty(classes * sub_centres, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def class_embeddings(self) -> Tensor:
        """(classes, d), of length 1; of several sub-centres their mean."""
        return F.normalize(F.normalize(self.weight).view(self.classes, -1, self.weight.shape[1]).mean(1))

    @torch.no_grad()
    def init_class_centres(self, centres: Tensor) -> None:
        """As `IdentityLoss.init_class_centres`."""
        self.weight.copy_(F.normalize(centres).repeat_interleave(len(self.weight) // self.classes, 0))
        if len(self.weight) > self.classes:
            self.weight.add_(0.01 * torch.randn_like(self.weight))  # vectors of one class must differ to part

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, classes) cosines, in float32 also under autocast."""
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
        return cosines.view(len(cosines), self.classes, -1).amax(2)

    def logits(self, embeddings: Tensor) -> Tensor:
        """As `IdentityLoss.logits`."""
        return self.scale * self.cosines(embeddings)

    def target(self, cosines: Tensor, margin: float, embeddings: Tensor) -> Tensor:
        """(n, 1) cosines of the labelled classes -> (n, 1), made harder by the margin."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar cross-entropy of the logits with margin."""
        cosines = self.cosines(embeddings)
        if labels.numel() and not (labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(f"labels from {labels.min()} to {labels.max()} do not fit {self.classes} classes")
        # Away from +-1, where the gradient of the angle is infinite.
        target = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        logits = self.scale * cosines.scatter(1, labels[:, None], self.target(target, margin, embeddings))
        if self.groups is None:
            return F.cross_entropy(logits, labels)
        within = logits.masked_fill(self.groups[labels][:, None] != self.groups, -torch.inf)
        inside, outside = self.group_loss_weight, 1 - self.group_loss_weight
        return inside * F.cross_entropy(within, labels) + (outside * F.cross_entropy(logits, labels) if outside else 0)


class ArcFace(MarginLoss):
    """Additive angular margin: cos(t + margin) (Deng et al. 2019, "ArcFace")."""

    def target(self, cosines: Tensor, margin: float, embeddings: Tensor) -> Tensor:
        return torch.cos((cosines.acos() + margin).clamp(max=torch.pi))


class CosFace(MarginLoss):
    """Additive cosine margin: cos(t) - margin (Wang et al. 2018, "CosFace")."""

    def target(self, cosines: Tensor, margin: float, embeddings: Tensor) -> Tensor:
        return cosines - margin


class AdaFace(MarginLoss):
    """A margin that depends on the length of the embedding, taken for the photo's quality (Kim et al. 2022).

    Long vectors (clear photos) get a cosine margin, short ones (blurred) an angular margin that asks
    less of them. Lengths are compared with their running mean and deviation.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_buffer("length_mean", torch.tensor(20.0))
        self.register_buffer("length_std", torch.tensor(100.0))

    def target(self, cosines: Tensor, margin: float, embeddings: Tensor) -> Tensor:
        length = embeddings.detach().float().norm(dim=1, keepdim=True).clamp(0.001, 100)
        if self.training and len(length) > 1:
            self.length_mean.lerp_(length.mean(), 0.01)
            self.length_std.lerp_(length.std(), 0.01)
        quality = ((length - self.length_mean) / (self.length_std + 1e-3) / 3).clamp(-1, 1)
        angle = (cosines.acos() - margin * quality).clamp(1e-3, torch.pi - 1e-3)
        return angle.cos() - margin * (1 + quality)


def triplet_loss(embeddings: Tensor, labels: Tensor, margin: float = 0.2) -> Tensor:
    """Mean over all genuine pairs of max(0, d(a, p)^2 - d(a, n)^2 + margin) (Schroff et al. 2015, "FaceNet").

    The negative n of a pair is semi-hard: the nearest that is farther from the anchor than the positive,
    or where there is none, the farthest. The batch has to hold several photos per person.

    Args:
        embeddings: (n, d) of any length; labels: (n,).
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = F.normalize(embeddings.float())
        squared = 2 - 2 * unit @ unit.T
    same = labels[:, None] == labels
    anchor, positive = torch.where(same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device))
    if len(anchor) == 0 or same.all():
        return embeddings.sum() * 0.0  # no triplet in this batch
    genuine, others = squared[anchor, positive], squared[anchor]
    negative = ~same[anchor]
    harder = others.masked_fill(~(negative & (others > genuine[:, None])), torch.inf).amin(1)
    farthest = others.masked_fill(~negative, -torch.inf).amax(1)
    return F.relu(genuine - torch.where(harder.isfinite(), harder, farthest) + margin).mean()


class Triplet(IdentityLoss):
    """`triplet_loss` as a module; it knows no classes and so has no logits."""

    samples_per_class = 4

    def __init__(self, triplet_margin: float = 0.2):
        super().__init__()
        self.triplet_margin = triplet_margin

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; `margin` is not used."""
        return triplet_loss(embeddings, labels, self.triplet_margin)


class ArcFaceTriplet(ArcFace):
    """ArcFace plus `triplet_loss_weight` times the triplet loss of the same batch."""

    samples_per_class = 4
    triplet_loss_weight = 5.0

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        mixed = self.triplet_loss_weight * triplet_loss(embeddings, labels)
        return super().forward(embeddings, labels, margin) + mixed


def margin_schedule(progress: float, margin: float, start: float = 0.1, end: float = 0.5, before: float = 0.0) -> float:
    """`before` until `start` of the run, then in a straight line to `margin` at `end`."""
    return before + (margin - before) * min(max((progress - start) / (end - start), 0.0), 1.0)


class CrossEntropy(IdentityLoss):
    """The baseline: a linear classifier on the embedding."""

    def __init__(self, embedding_size: int, classes: int):
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(embedding_size, classes)

    def class_embeddings(self) -> Tensor:
        """(classes, d), of length 1."""
        return F.normalize(self.linear.weight)

    @torch.no_grad()
    def init_class_centres(self, centres: Tensor) -> None:
        """As `IdentityLoss.init_class_centres`; of length 2, which gives cosines of the embeddings a factor of about 32."""
        self.linear.weight.copy_(2 * F.normalize(centres))
        self.linear.bias.zero_()

    def logits(self, embeddings: Tensor) -> Tensor:
        """As `IdentityLoss.logits`."""
        return self.linear(embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; `margin` is not used."""
        return F.cross_entropy(self.linear(embeddings).float(), labels)


def make_loss(
    name: str,
    embedding_size: int,
    classes: int,
    scale: float = 32.0,
    groups: Tensor | None = None,
    group_loss_weight: float = 1.0,
) -> IdentityLoss:
    """The loss of a name in `LOSSES`; `groups`, `group_loss_weight`: see `MarginLoss`.

    Raises:
        ValueError: unknown name, or groups for a loss without class vectors on a sphere.
    """
    if name not in LOSSES:
        raise ValueError(f"loss {name!r}: expected one of {', '.join(LOSSES)}")
    if groups is not None and name not in MARGIN_LOSSES:
        raise ValueError(f"within_source_weight: the loss {name} has no class margins to confine to a source")
    loss = LOSSES[name](embedding_size, classes, scale, groups)
    loss.group_loss_weight = group_loss_weight
    return loss


# name -> (embedding size, classes, scale, groups) -> loss
LOSSES: dict[str, Callable[..., IdentityLoss]] = {
    "arcface": lambda size, classes, scale, groups: ArcFace(size, classes, scale, 1, groups),
    "cosface": lambda size, classes, scale, groups: CosFace(size, classes, scale, 1, groups),
    "adaface": lambda size, classes, scale, groups: AdaFace(size, classes, scale, 1, groups),
    "sub_centre": lambda size, classes, scale, groups: ArcFace(size, classes, scale, 3, groups),
    "cross_entropy": lambda size, classes, scale, groups: CrossEntropy(size, classes),
    "triplet": lambda size, classes, scale, groups: Triplet(),
    "arcface_triplet": lambda size, classes, scale, groups: ArcFaceTriplet(size, classes, scale, 1, groups),
}
MARGIN_LOSSES = tuple(
    name for name in LOSSES if name not in ("cross_entropy", "triplet")
)  # those that can compare in groups
