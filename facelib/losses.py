"""The losses this repository teaches."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ArcFace(nn.Module):
    """Additive angular margin (Deng et al. 2019, "ArcFace").

    Holds one vector per class: give its parameters to the optimizer. With the angle t between
    an embedding and a class vector, the logits are `scale * cos(t)`, and `scale * cos(t + margin)` for
    the labelled class. The margin is an argument of `forward`, because learning starts better
    from 0: raise it with `margin_schedule`.

    Raises (in `forward`):
        ValueError: a label outside the classes.
    """

    def __init__(self, embedding_size: int, classes: int, scale: float = 32.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, classes) cosines, in float32 also under autocast."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))

    def logits(self, embeddings: Tensor) -> Tensor:
        """Margin-free logits, those from which accuracy is read."""
        return self.scale * self.cosines(embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar cross-entropy of the logits with margin."""
        cosines = self.cosines(embeddings)
        if labels.numel() and not (labels.min() >= 0 and labels.max() < len(self.weight)):
            raise ValueError(f"labels from {labels.min()} to {labels.max()} do not fit {len(self.weight)} classes")
        # Away from +-1, where the gradient of the angle is infinite.
        target = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        shifted = torch.cos((target.acos() + margin).clamp(max=torch.pi))
        return F.cross_entropy(self.scale * cosines.scatter(1, labels[:, None], shifted), labels)


def margin_schedule(progress: float, margin: float, start: float = 0.1, end: float = 0.5) -> float:
    """0 until `start` of the run, then in a straight line to `margin` at `end`."""
    return margin * min(max((progress - start) / (end - start), 0.0), 1.0)


class CrossEntropy(nn.Module):
    """The baseline: a linear classifier on the embedding, with the interface of `ArcFace`."""

    def __init__(self, embedding_size: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(embedding_size, classes)

    def logits(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> (n, classes)."""
        return self.linear(embeddings)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
        """(n, d) embeddings, (n,) labels -> scalar; `margin` is not used."""
        return F.cross_entropy(self.linear(embeddings).float(), labels)
