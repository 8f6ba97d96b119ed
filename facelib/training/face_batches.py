"""Training faces of the embedder as tensors: crops are aligned, augmented and resized on the device, in batches.

The images equal those of `align_faces` and `faces_to_input`; a test checks how close they are.
"""

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
HEAD_AXIS = (55.5, 62.0)  # where the axis of a head meets the aligned face, pixels


@dataclass(frozen=True)
class FaceAugmentation:
    """How training faces are augmented.

    strength: of geometry, light, colour and everything in `degrade`, 0 to 1; 0: mirror images only.
    tight_crop_probability: of a crop whose border is repeated from a random frame around the face outwards. Some
        sources are cropped like that, others never; without it a network learns sources instead of people.
    pose_std: standard deviation of the yaw in radians (pitch: half of it) by which heads are rotated in space, in
        three fifths of the crops.
    side_light_std: standard deviation of `side_light`.
    """

    strength: float = 1.0
    tight_crop_probability: float = 0.25
    pose_std: float = 0.0
    side_light_std: float = 0.0


class FaceBatches(EpochDataset):
    """A dataset whose items are their own indices; `batch` makes the images of a batch of indices at once.

    Args:
        crops: see `load_training_crops`.
        labels: (n,) int.
        rows: crops that are used; None: all.
        size: side of the network's input, pixels.
        augment: None for the images that the pipeline would show.
        device: where the crops lie; on a CPU they stay memory-mapped in their files.
    """

    def __init__(
        self,
        crops: TrainingCrops,
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        size: int = SIZE,
        augment: FaceAugmentation | None = None,
        device: torch.device | str = "cpu",
    ):
        self.labels, self.size, self.augment, self.device = labels, size, augment, torch.device(device)
        self.rows = np.arange(len(labels)) if rows is None else np.asarray(rows)
        self.crops, self.side = crops, crops.side
        self.on_device = None if self.device.type == "cpu" else copy_to_device(crops, self.device)
        self.matrices = torch.as_tensor(crops.matrices, dtype=torch.float32).to(self.device)
        side = torch.arange(SIZE, dtype=torch.float32, device=self.device)
        self.pixels = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return index

    def without_augmentation(self, rows: np.ndarray, size: int) -> "FaceBatches":
        """Other rows of the same crops, as the pipeline would show them."""
        other = copy.copy(self)
        other.rows, other.size, other.augment = np.asarray(rows), size, None
        return other

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b,) indices -> images (b, 3, size, size) from -1 to 1, labels (b,), and rows (b,) of the crops."""
        rows = torch.from_numpy(self.rows[indices.cpu().numpy() % len(self)])
        labels = torch.from_numpy(self.labels)[rows].to(self.device)
        rows = rows.to(self.device)
        if self.augment is None:
            faces = self.aligned(rows)
        else:
            faces = self.augmented(rows, PerSampleRNG(self.epoch, indices, self.device))
        return faces_to_tensor(faces, self.size), labels, rows

    def aligned(self, rows: Tensor) -> Tensor:
        """(b,) rows of the crops -> aligned faces (b, 3, 112, 112) from 0 to 255, whole numbers."""
        return self.sample(rows, self.pixels.expand(len(rows), -1, -1)).round()

    def augmented(self, rows: Tensor, rng: PerSampleRNG) -> Tensor:
        """As `aligned`, with augmentation."""
        augment = self.augment
        frame = self._frames(rng, len(rows))
        grid_points = augmented_grid(self.pixels, rng, augment.strength)
        if augment.pose_std:
            turning = torch.nonzero(~rng.bernoulli(0.4))[:, 0]
            yaw, pitch = (
                rng.normal(std=augment.pose_std).clamp(-0.55, 0.55),
                rng.normal(std=0.45 * augment.pose_std).clamp(-0.3, 0.3),
            )
            grid_points[turning] = unrotate_head(grid_points[turning], yaw[turning], pitch[turning])
        images = self.sample(rows, grid_points, frame=frame)
        return degrade(images, rng, augment.strength, augment.side_light_std).clamp_(0, 255).round_()

    def _frames(self, rng: PerSampleRNG, count: int) -> tuple[Tensor, Tensor]:
        """Corners (b, 2) of the visible part of each crop; mostly all of it."""
        side = self.side
        low, high = rng.uniform(2, low=0.055 * side, high=0.22 * side), rng.uniform(2, high=0.167 * side)
        tight = rng.bernoulli(self.augment.tight_crop_probability * min(1.0, self.augment.strength))[:, None]
        last = torch.full((count, 2), side - 1.0, device=self.device)
        return torch.where(tight, low, 0.0), torch.where(tight, last - 0.055 * side - high, last)

    def sample(
        self,
        rows: Tensor,
        grid_points: Tensor,
        side: int = SIZE,
        frame: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Colours (b, 3, side, side) at points (b, side * side, 2) of the aligned faces.

        `frame`: corners (b, 2) of the visible part of each crop; outside, its border is repeated. None: all of it.
        """
        matrices = self.matrices[rows]
        grid_points = torch.baddbmm(matrices[:, None, :, 2], grid_points, matrices[:, :, :2].transpose(1, 2))
        if frame is not None:
            grid_points.clamp_(frame[0][:, None], frame[1][:, None])
        grid = grid_points.mul_(2 / (self.side - 1)).sub_(1).reshape(len(rows), side, side, 2)
        crops = torch.from_numpy(self.crops.take(rows.numpy())) if self.on_device is None else self.on_device[rows]
        crops = crops.permute(0, 3, 1, 2).float()
        return F.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=True)


def copy_to_device(crops: TrainingCrops, device: torch.device) -> Tensor:
    """All crops (n, s, s, 3) uint8 as one tensor on the device, copied piece by piece."""
    result = torch.empty((len(crops), crops.side, crops.side, 3), dtype=torch.uint8, device=device)
    for start in range(0, len(crops), 8192):
        rows = np.arange(start, min(start + 8192, len(crops)))
        result[start : start + 8192] = torch.from_numpy(crops.take(rows)).to(device)
    return result


def augmented_grid(pixels: Tensor, rng: PerSampleRNG, strength: float) -> Tensor:
    """Geometric augmentation: where the pixels (1, n, 2) of augmented faces lie in the original ones, (b, n, 2).

    Half of the faces are mirrored; all are rotated (7 degrees), scaled (7 %), stretched (3 %) and shifted (2.5 pixels;
    standard deviations at strength 1)."""
    angle, shift = rng.normal(std=np.deg2rad(7) * strength), rng.normal(2, std=2.5 * strength)
    scale, aspect = rng.normal(std=0.07 * strength).exp(), rng.normal(std=0.03 * strength).exp()
    mirror = torch.where(rng.bernoulli(0.5), -1.0, 1.0)
    x = torch.stack([mirror * angle.cos() * scale * aspect, mirror * angle.sin() * scale], -1)
    y = torch.stack([-angle.sin() * scale, angle.cos() * scale / aspect], -1)
    matrices = torch.stack([x, y], 1)  # rows: steps along x and y of the new image, in the old one
    return torch.baddbmm(MIDDLE + shift[:, None], (pixels - MIDDLE).expand(len(matrices), -1, -1), matrices)


def head_depth(x: Tensor, y: Tensor) -> Tensor:
    """Depth of a generic face in pixels, at positions relative to `HEAD_AXIS`: a smooth head and a nose."""
    x_square = x.square()
    head = (x_square * (-0.8 / 46**2)).add_(y.square(), alpha=-0.8 / 62**2).exp_()
    nose = (x_square * (-1 / 9**2)).add_((y - 8).square_(), alpha=-1 / 11**2).exp_()
    return head.mul_(46).add_(nose, alpha=8)


def unrotate_head(grid_points: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Pose augmentation: where points (b, n, 2) of heads that are rotated by yaw and pitch (b,), in radians, and
    aligned again, lie in the original faces. Points that a rotated head would hide show what lies nearest."""
    middle = torch.tensor(HEAD_AXIS, device=grid_points.device)
    yaw, pitch = yaw[:, None], pitch[:, None]
    template = torch.from_numpy(TEMPLATE).to(grid_points.device)[None] - middle
    depth = head_depth(*template.unbind(-1))
    rotated = torch.stack(
        [
            template[..., 0] * yaw.cos() + depth * yaw.sin(),
            template[..., 1] * pitch.cos() - depth * pitch.sin(),
        ],
        -1,
    )
    # The similarity transform that alignment undoes, from the template to the rotated landmarks, in complex numbers.
    to, start = (torch.view_as_complex(p.contiguous()) for p in (rotated, template.expand_as(rotated)))
    to_mean, start_mean = to.mean(1, keepdim=True), start.mean(1, keepdim=True)
    start_spread = (start - start_mean).abs().square().sum(1, keepdim=True)
    factor = ((start - start_mean).conj() * (to - to_mean)).sum(1, keepdim=True) / start_spread
    seen = torch.view_as_complex((grid_points - middle).contiguous())
    seen = torch.view_as_real((seen - start_mean) * factor + to_mean)
    x, y = (part.contiguous() for part in seen.unbind(-1))
    straight_x, straight_y = x / yaw.cos(), y / pitch.cos()
    for _ in range(6):  # fixed point: the depth that shifts a point is that of its origin
        depth = head_depth(x, y)
        x = x.lerp(straight_x - depth * yaw.tan(), 0.7)
        y = y.lerp(straight_y + depth * pitch.tan(), 0.7)
    return torch.stack([x, y], -1) + middle
