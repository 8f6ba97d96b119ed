"""Identity losses for training an embedding network, all with one interface: `IdentityLoss`."""

import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IdentityLoss(nn.Module):
    """Interface of all losses: embeddings and labels in, a scalar out. Its parameters are trained with the network's.

    classes: number of training identities; 0 for a loss that only compares the photos of a batch.
    samples_per_class: photos of each identity that a batch should contain.
    has_margin: whether `forward` uses its margin.
    """

    classes = 0
    samples_per_class = 1
    has_margin = False

    def class_embeddings(self) -> Tensor:
        """Unit class vectors (classes, d): the direction that the embeddings of each class should have."""
        return torch.zeros(0, 0)

    def init_class_centres(self, centres: Tensor) -> None:
        """Initialise the class vectors with mean embeddings (classes, d), for fine-tuning."""

    def logits(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, classes) without margin, for accuracy."""
        return embeddings.new_zeros(len(embeddings), self.classes)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; a loss without a margin ignores it."""
        raise NotImplementedError


class MarginLoss(IdentityLoss):
    """Softmax cross-entropy over cosines, with a margin for the labelled class; subclasses define the margin.

    The logits are `scale * cos(t)`, with the angle t between an embedding and a class vector; for the labelled class
    the subclass's `target` replaces `cos(t)`. The margin is an argument of `forward`, because training converges
    better when it starts at 0: raise it with `margin_schedule`.

    Args:
        embedding_size: dimensions of the embeddings. classes: number of identities.
        scale: factor of the cosines, the inverse temperature of the softmax.
        groups: (classes,) int, e.g. the source of each identity; None: no groups.
        group_loss_weight: weight of the loss in which a photo is compared only with the classes of its own group; the
            rest is the weight of the usual loss. With sources as groups, the network gains nothing from telling
            sources apart.

    Raises (in `forward`):
        ValueError: a label outside the classes.
    """

    has_margin = True
    groups: Tensor | None

    def __init__(
        self,
        embedding_size: int,
        classes: int,
        scale: float = 32.0,
        *,
        groups: Tensor | None = None,
        group_loss_weight: float = 1.0,
    ):
        super().__init__()
        self.scale, self.classes = scale, classes
        self.group_loss_weight = group_loss_weight
        self.register_buffer("groups", groups)
        self.weight = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def class_embeddings(self) -> Tensor:
        """Unit class vectors (classes, d)."""
        return F.normalize(self.weight)

    @torch.no_grad()
    def init_class_centres(self, centres: Tensor) -> None:
        """See `IdentityLoss.init_class_centres`."""
        self.weight.copy_(F.normalize(centres))

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, classes) cosines, in float32 also under autocast."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))

    def logits(self, embeddings: Tensor) -> Tensor:
        """See `IdentityLoss.logits`."""
        return self.scale * self.cosines(embeddings)

    def target(self, cosines: Tensor, margin: float, embeddings: Tensor) -> Tensor:
        """Cosines (n, 1) of the labelled classes -> (n, 1), reduced by the margin."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar cross-entropy of the logits with margin."""
        cosines = self.cosines(embeddings)
        if labels.numel() and not (labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(f"labels from {labels.min()} to {labels.max()} do not fit {self.classes} classes")
        # Clamped, because the gradient of the angle is infinite at +-1.
        target = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        logits = self.scale * cosines.scatter(1, labels[:, None], self.target(target, margin, embeddings))
        if self.groups is None:
            return F.cross_entropy(logits, labels)
        within = logits.masked_fill(self.groups[labels][:, None] != self.groups, -torch.inf)
        loss = self.group_loss_weight * F.cross_entropy(within, labels)
        if self.group_loss_weight < 1:
            loss = loss + (1 - self.group_loss_weight) * F.cross_entropy(logits, labels)
        return loss


class ArcFace(MarginLoss):
    """Additive angular margin: cos(t + margin) (Deng et al. 2019, "ArcFace")."""

    def target(self, cosines: Tensor, margin: float, embeddings: Tensor) -> Tensor:
        return torch.cos((cosines.acos() + margin).clamp(max=torch.pi))


class CosFace(MarginLoss):
    """Additive cosine margin: cos(t) - margin (Wang et al. 2018, "CosFace")."""

    def target(self, cosines: Tensor, margin: float, embeddings: Tensor) -> Tensor:
        return cosines - margin


class AdaFace(MarginLoss):
    """A margin that depends on the norm of the embedding, a proxy of image quality (Kim et al. 2022, "AdaFace").

    Embeddings with a large norm (sharp photos) get a cosine margin, those with a small norm (blurred photos) an
    angular margin with a smaller gradient. Norms are compared with their running mean and standard deviation.
    """

    length_mean: Tensor
    length_std: Tensor

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

    The negative n of a pair is semi-hard: the nearest one that is farther from the anchor than the positive,
    or, where there is none, the farthest. A batch must contain several photos per identity.

    Args:
        embeddings: (n, d), not necessarily normalised. labels: (n,).
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
    """`triplet_loss` as a module; it has no classes and no logits."""

    samples_per_class = 4

    def __init__(self, triplet_margin: float = 0.2):
        super().__init__()
        self.triplet_margin = triplet_margin

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; `margin` is ignored."""
        return triplet_loss(embeddings, labels, self.triplet_margin)


class ArcFaceTriplet(ArcFace):
    """ArcFace plus `triplet_loss_weight` times the triplet loss of the same batch.

    Args:
        triplet_loss_weight, triplet_margin: of `triplet_loss`; the others: see `MarginLoss`.
    """

    samples_per_class = 4

    def __init__(self, *arguments, triplet_loss_weight: float = 5.0, triplet_margin: float = 0.2, **options):
        super().__init__(*arguments, **options)
        self.triplet_loss_weight, self.triplet_margin = triplet_loss_weight, triplet_margin

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; `margin` is that of ArcFace."""
        triplets = self.triplet_loss_weight * triplet_loss(embeddings, labels, self.triplet_margin)
        return super().forward(embeddings, labels, margin) + triplets


class CrossEntropy(IdentityLoss):
    """The baseline: a linear classifier on the embedding with softmax cross-entropy."""

    def __init__(self, embedding_size: int, classes: int):
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(embedding_size, classes)

    def class_embeddings(self) -> Tensor:
        """Unit class vectors (classes, d)."""
        return F.normalize(self.linear.weight)

    @torch.no_grad()
    def init_class_centres(self, centres: Tensor) -> None:
        """See `IdentityLoss.init_class_centres`; of length 2, so that the logits are about 32 times the cosines."""
        self.linear.weight.copy_(2 * F.normalize(centres))
        self.linear.bias.zero_()

    def logits(self, embeddings: Tensor) -> Tensor:
        """See `IdentityLoss.logits`."""
        return self.linear(embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; `margin` is ignored."""
        return F.cross_entropy(self.linear(embeddings).float(), labels)


def margin_schedule(
    progress: float, margin: float, initial: float = 0.0, start: float = 0.1, end: float = 0.5
) -> float:
    """Margin at a fraction of the run: `initial` until `start`, then linear to `margin` at `end`."""
    return initial + (margin - initial) * min(max((progress - start) / (end - start), 0.0), 1.0)


LOSSES: dict[str, type[IdentityLoss]] = {
    "arcface": ArcFace,
    "cosface": CosFace,
    "adaface": AdaFace,
    "cross_entropy": CrossEntropy,
    "triplet": Triplet,
    "arcface_triplet": ArcFaceTriplet,
}
MARGIN_LOSSES = tuple(name for name, kind in LOSSES.items() if issubclass(kind, MarginLoss))


def hyperparameters(name: str) -> list[str]:
    """The hyperparameters of a loss of `LOSSES`: the arguments with defaults of its class and base classes."""
    constructors = [vars(kind)["__init__"] for kind in LOSSES[name].__mro__ if "__init__" in vars(kind)]
    parameters = [parameter for each in constructors for parameter in inspect.signature(each).parameters.values()]
    return [each.name for each in parameters if each.default is not each.empty and each.name != "groups"]


def make_loss(
    name: str, embedding_size: int, classes: int, groups: Tensor | None = None, **options: float
) -> IdentityLoss:
    """The loss of a name in `LOSSES`.

    Args:
        groups: see `MarginLoss`; for a loss with class margins.
        options: hyperparameters, see `hyperparameters` and the classes.

    Raises:
        ValueError: unknown name, or groups for a loss without class margins.
        TypeError: an option that the loss does not have.
    """
    if name not in LOSSES:
        raise ValueError(f"loss {name!r}: expected one of {', '.join(LOSSES)}")
    if groups is not None and name not in MARGIN_LOSSES:
        raise ValueError(f"within_source_weight: the loss {name} has no class margins to restrict to a source")
    sizes: dict = {} if name == "triplet" else {"embedding_size": embedding_size, "classes": classes}
    if name in MARGIN_LOSSES:
        sizes["groups"] = groups
    return LOSSES[name](**sizes, **options)
