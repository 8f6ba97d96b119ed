"""What the embedder is trained on: all pictures as one tensor on the device, aligned, augmented and resized there in
batches. The pictures are those of `align_faces` and `face_to_tensor`; a test holds how close they are."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facelib.alignment.align import SIZE, TEMPLATE
from facelib.datasets.training_crops import TrainingCrops
from facelib.embedding.network import faces_to_tensor
from facelib.training.augmentation import degrade
from facelib.training.rng import PerSampleRNG
from facelib.training.sampling import EpochDataset

MIDDLE = (SIZE - 1) / 2  # pixels, of an aligned face
HEAD = (55.5, 62.0)  # where the axis of a head meets the aligned face, pixels


@dataclass(frozen=True)
class FaceAugmentation:
    """How training faces are changed.

    strength: of moves, light, colour and of everything in `degrade`; 0: mirror images only.
    tight_crop_share: share of pictures whose border is repeated from a random frame around the face outwards. Some sources
        are cut like that, others never; without this a network tells sources apart instead of people.
    pose: standard deviation in radians by which a head is turned to the side (up and down by half of that), of three
        fifths of the pictures.
    light: standard deviation of light from one side.
    """

    strength: float = 1.0
    tight_crop_share: float = 0.25
    pose: float = 0.0
    light: float = 0.0


class FaceBatches(EpochDataset):
    """index -> index; what belongs to a batch of indices is made at once, by `batch`.

    Args:
        pictures: see `load_training_crops`. labels: (n,) int. rows: which are used; None: all.
        size: side of the network's input.
        augment: None for the pictures as the pipeline makes them.
        device: where the pictures lie; on a CPU they stay in their files and are not copied.
    """

    def __init__(
        self,
        pictures: TrainingCrops,
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        size: int = SIZE,
        augment: FaceAugmentation | None = None,
        device: torch.device | str = "cpu",
    ):
        self.labels, self.size, self.augment, self.device = labels, size, augment, torch.device(device)
        self.rows = np.arange(len(labels)) if rows is None else np.asarray(rows)
        self.pictures, self.side = pictures, pictures.side
        self.there = None if self.device.type == "cpu" else on_device(pictures, self.device)
        self.matrices = torch.as_tensor(pictures.matrices, dtype=torch.float32).to(self.device)
        side = torch.arange(SIZE, dtype=torch.float32, device=self.device)
        self.pixels = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return index

    def unchanged(self, rows: np.ndarray, size: int) -> "FaceBatches":
        """Other rows of the same pictures, without augmentation."""
        other = copy.copy(self)
        other.rows, other.size, other.augment = np.asarray(rows), size, None
        return other

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b,) indices -> images (b, 3, size, size) from -1 to 1, labels (b,), and rows (b,) of the pictures."""
        rows = torch.from_numpy(self.rows[indices.cpu().numpy() % len(self)])
        labels = torch.from_numpy(self.labels)[rows].to(self.device)
        rows = rows.to(self.device)
        if self.augment is None:
            faces = self.aligned(rows)
        else:
            faces = self.augmented(rows, PerSampleRNG(self.epoch, indices, self.device))
        return faces_to_tensor(faces, self.size), labels, rows

    def aligned(self, rows: Tensor) -> Tensor:
        """(b,) rows of the pictures -> aligned faces (b, 3, 112, 112) from 0 to 255, whole numbers."""
        return self.sample(rows, self.pixels.expand(len(rows), -1, -1)).round()

    def augmented(self, rows: Tensor, rng: PerSampleRNG) -> Tensor:
        """As `aligned`, each picture changed as `augment` says."""
        how, frame = self.augment, self._frames(rng, len(rows))
        places = geometric_places(self.pixels, rng, how.strength)
        if how.pose:
            turning = torch.nonzero(~rng.bernoulli(0.4))[:, 0]
            yaw, pitch = (
                rng.normal(std=how.pose).clamp(-0.55, 0.55),
                rng.normal(std=0.45 * how.pose).clamp(-0.3, 0.3),
            )
            places[turning] = unrotate_head(places[turning], yaw[turning], pitch[turning])
        images = self.sample(rows, places, frame=frame)
        return degrade(images, rng, how.strength, how.light).clamp_(0, 255).round_()

    def _frames(self, rng: PerSampleRNG, count: int) -> tuple[Tensor, Tensor]:
        """Corners (b, 2) of what is seen of each picture; mostly all of it."""
        side = self.side
        low, high = rng.uniform(2, low=0.055 * side, high=0.22 * side), rng.uniform(2, high=0.167 * side)
        tight = rng.bernoulli(self.augment.tight_crop_share * min(1.0, self.augment.strength))[:, None]
        last = torch.full((count, 2), side - 1.0, device=self.device)
        return torch.where(tight, low, 0.0), torch.where(tight, last - 0.055 * side - high, last)

    def sample(
        self,
        rows: Tensor,
        places: Tensor,
        side: int = SIZE,
        frame: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Colours (b, 3, side, side) at places (b, side * side, 2) of the aligned faces.

        `frame`: corners (b, 2) of what is seen of each picture; outside, its border is repeated. None: all of it.
        """
        matrices = self.matrices[rows]
        places = torch.baddbmm(matrices[:, None, :, 2], places, matrices[:, :, :2].transpose(1, 2))
        if frame is not None:
            places.clamp_(frame[0][:, None], frame[1][:, None])
        grid = places.mul_(2 / (self.side - 1)).sub_(1).reshape(len(rows), side, side, 2)
        pictures = torch.from_numpy(self.pictures.take(rows.numpy())) if self.there is None else self.there[rows]
        pictures = pictures.permute(0, 3, 1, 2).float()
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=True)


def on_device(pictures: TrainingCrops, device: torch.device) -> Tensor:
    """All pictures (n, s, s, 3) uint8 as one tensor there, copied piece by piece."""
    result = torch.empty((len(pictures), pictures.side, pictures.side, 3), dtype=torch.uint8, device=device)
    for start in range(0, len(pictures), 8192):
        rows = np.arange(start, min(start + 8192, len(pictures)))
        result[start : start + 8192] = torch.from_numpy(pictures.take(rows)).to(device)
    return result


def geometric_places(pixels: Tensor, rng: PerSampleRNG, strength: float) -> Tensor:
    """Where the pixels (1, n, 2) of faces that are mirrored (half of them), turned in the plane (7 degrees), scaled
    (7 %), stretched (3 %) and shifted (2.5 pixels; all standard deviations at strength 1) lie in the faces as they
    are: (b, n, 2)."""
    angle, shift = rng.normal(std=np.deg2rad(7) * strength), rng.normal(2, std=2.5 * strength)
    scale, aspect = rng.normal(std=0.07 * strength).exp(), rng.normal(std=0.03 * strength).exp()
    mirror = torch.where(rng.bernoulli(0.5), -1.0, 1.0)
    x = torch.stack([mirror * angle.cos() * scale * aspect, mirror * angle.sin() * scale], -1)
    y = torch.stack([-angle.sin() * scale, angle.cos() * scale / aspect], -1)
    matrices = torch.stack([x, y], 1)  # rows: what a step along x, and along y, of the new picture is in the old one
    return torch.baddbmm(MIDDLE + shift[:, None], (pixels - MIDDLE).expand(len(matrices), -1, -1), matrices)


def head_depth(x: Tensor, y: Tensor) -> Tensor:
    """How far a generic face comes forward, in pixels, at places about `HEAD`: a smooth head and a nose."""
    x_square = x.square()
    head = (x_square * (-0.8 / 46**2)).add_(y.square(), alpha=-0.8 / 62**2).exp_()
    nose = (x_square * (-1 / 9**2)).add_((y - 8).square_(), alpha=-1 / 11**2).exp_()
    return head.mul_(46).add_(nose, alpha=8)


def unrotate_head(places: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Where places (b, n, 2) of faces lie that are turned in space by yaw and pitch (b,), in radians, and aligned
    again, before the turn. Places that a turned head would hide show what lies nearest."""
    middle = torch.tensor(HEAD, device=places.device)
    yaw, pitch = yaw[:, None], pitch[:, None]
    template = torch.from_numpy(TEMPLATE).to(places.device)[None] - middle
    depth = head_depth(*template.unbind(-1))
    turned = torch.stack(
        [
            template[..., 0] * yaw.cos() + depth * yaw.sin(),
            template[..., 1] * pitch.cos() - depth * pitch.sin(),
        ],
        -1,
    )
    # The similarity that alignment takes back, from the template to the turned landmarks, in complex numbers.
    to, start = (torch.view_as_complex(p.contiguous()) for p in (turned, template.expand_as(turned)))
    to_mean, start_mean = to.mean(1, keepdim=True), start.mean(1, keepdim=True)
    start_spread = (start - start_mean).abs().square().sum(1, keepdim=True)
    factor = ((start - start_mean).conj() * (to - to_mean)).sum(1, keepdim=True) / start_spread
    seen = torch.view_as_complex((places - middle).contiguous())
    seen = torch.view_as_real((seen - start_mean) * factor + to_mean)
    x, y = (part.contiguous() for part in seen.unbind(-1))
    straight_x, straight_y = x / yaw.cos(), y / pitch.cos()
    for _ in range(6):  # the depth that moved a place is that of where it came from
        depth = head_depth(x, y)
        x = x.lerp(straight_x - depth * yaw.tan(), 0.7)
        y = y.lerp(straight_y + depth * pitch.tan(), 0.7)
    return torch.stack([x, y], -1) + middle
