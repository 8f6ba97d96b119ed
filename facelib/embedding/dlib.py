"""dlib's face recognition network in PyTorch: for comparisons, and as the teacher of the distilled embedder.

A residual network of 29 convolutions, trained on about three million photos (King 2017, "High Quality Face Recognition
with Deep Metric Learning", blog.dlib.net; weights in the public domain). The package face_recognition_models contains
the weights; dlib itself is not needed.
"""

import importlib.util
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facelib.embedding.dlib_chips import CHIP, dlib_chips
from facelib.io.files import file_hash
from facelib.runtime.batching import batches, forbid_fork
from facelib.settings import select_torch_device
from facelib.types import WeightsError

WEIGHTS_FILE = "dlib_face_recognition_resnet_model_v1.dat"
# SHA-256 of the file in face_recognition_models 0.3.0, equal to the one in github.com/davisking/dlib-models.
WEIGHTS_HASH = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
MEAN = (122.782, 117.001, 104.298)  # of red, green and blue, subtracted from the input
# Channels, whether the first block halves the resolution, and blocks (after that one, where it does).
STAGES = (
    (32, False, 3),
    (64, True, 3),
    (128, True, 2),
    (256, True, 2),
    (256, True, 0),
)


class Block(nn.Module):
    """Residual block: two 3x3 convolutions and a skip connection.

    A downsampling block halves the resolution; its skip connection is average-pooled and padded with zero channels.
    """

    def __init__(self, in_channels: int, out_channels: int, downsample: bool):
        super().__init__()
        self.downsample = downsample
        stride, padding = (2, 0) if downsample else (1, 1)
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, padding)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if self.downsample:
            x = F.avg_pool2d(x, 2)
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


class DlibNetwork(nn.Module):
    """Chips (n, 3, 150, 150) RGB from 0 to 255 -> embeddings (n, 128), not normalised, of length about 1.5."""

    mean: Tensor

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        blocks = []
        width = 32
        for channels, downsample, count in STAGES:
            flags = [True] * downsample + [False] * count
            for flag in flags:
                blocks.append(Block(width, channels, flag))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(width, 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])

    def forward(self, chips: Tensor) -> Tensor:
        x = F.relu(self.stem((chips - self.mean) / 256))
        return self.last(self.blocks(F.max_pool2d(x, 3, 2)).mean((2, 3)))


def weights_file() -> Path:
    """Path of dlib's weights in the package face_recognition_models, checked by their SHA-256.

    Raises:
        RuntimeError: the package is not installed.
        WeightsError: the file has another SHA-256.
    """
    package = importlib.util.find_spec("face_recognition_models")  # importing it would need an old setuptools
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0]) / "models" / WEIGHTS_FILE if folders else Path(WEIGHTS_FILE)
    if not path.is_file():
        raise RuntimeError("dlib's weights come with the package face_recognition_models: pip install -e .[teacher]")
    if (actual := file_hash(path)) != WEIGHTS_HASH:
        raise WeightsError(
            f"{path} is damaged or another file: its SHA-256 is {actual[:8]}..., expected {WEIGHTS_HASH[:8]}...; "
            "install face_recognition_models again"
        )
    return path


def read_dlib_tensors(data: bytes) -> list[Tensor]:
    """Find every tensor in a file of dlib, in file order: the network's input layer first.

    A tensor is stored as its version, 2, and four sizes, each as a byte with the number of bytes that follow and the
    value in those bytes (little-endian); then float32 values. The bytes between tensors are skipped.
    """
    tensors = []
    position = 0
    while position < len(data) - 25:  # 5 numbers of at most 1 + 4 bytes
        header, end = _read_dlib_header(data, position)
        size = int(np.prod(header[1:])) if len(header) == 5 and header[0] == 2 else 0
        if size >= 32 and end + 4 * size <= len(data):
            values = np.frombuffer(data, "<f4", size, end)
            if np.isfinite(values).all() and np.abs(values).max() < 1e4:  # else the header was a coincidence
                tensors.append(torch.tensor(values.copy()))
                position = end + 4 * size
                continue
        position += 1
    return tensors


def _read_dlib_header(data: bytes, position: int) -> tuple[list[int], int]:
    """Up to five numbers in dlib's encoding from a position on, and the position after them."""
    numbers = []
    for _ in range(5):
        count = data[position]
        if not 1 <= count <= 4:
            break
        numbers.append(int.from_bytes(data[position + 1 : position + 1 + count], "little"))
        position += 1 + count
    return numbers, position


def load_dlib_network(path: Path | None = None) -> DlibNetwork:
    """The network with dlib's weights; the scale and shift after each convolution are folded into it.

    Args:
        path: None: the weights of `weights_file`, with their SHA-256 checked. For an own file only the number of
            tensors is checked, not its content.

    Raises:
        RuntimeError, WeightsError: see `weights_file`; WeightsError also for another network.
    """
    path = path or weights_file()
    values = read_dlib_tensors(path.read_bytes())
    network = DlibNetwork()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if len(values) != 2 * len(convolutions) + 1:
        raise WeightsError(
            f"{path} is not dlib's face network: {len(values)} tensors, expected {2 * len(convolutions) + 1}"
        )
    with torch.no_grad():
        for conv, kernel, affine in zip(convolutions, values[::2], values[1::2]):
            scale, shift = affine.chunk(2)
            weight, bias = kernel.split([conv.weight.numel(), conv.out_channels])
            conv.weight.copy_(weight.view_as(conv.weight) * scale[:, None, None, None])
            cast(Tensor, conv.bias).copy_(bias * scale + shift)
        network.last.weight.copy_(values[-1].view(network.last.in_features, -1).T)
    return network.eval()


class DlibEmbedder:
    """dlib's network as an embedder with its own alignment. Made by `load_embedder("dlib")`.

    Args:
        network: with dlib's weights, on the device that computes.
        batch_size: faces that go through the network together.
        flip: average the embeddings of a face and of its mirror image.
    """

    alignment = "five_points"
    crop_mode = "dlib"

    def __init__(self, network: DlibNetwork, batch_size: int = 32, flip: bool = True):
        self.network = network
        self.batch_size = batch_size
        self.flip = flip
        self.model_id = "dlib" + "-mirror" * flip

    def align(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Chips (n, 150, 150, 3) uint8, see `dlib_chips`."""
        return dlib_chips(image, landmarks)

    @torch.inference_mode()
    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Chips (n, 150, 150, 3) uint8 -> embeddings (n, 128) float32 of unit length.

        Raises:
            ValueError: chips of another size or type.
            ForkError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        if aligned.ndim != 4 or aligned.shape[1:] != (CHIP, CHIP, 3) or aligned.dtype != np.uint8:
            raise ValueError(
                f"chips of shape {aligned.shape} and type {aligned.dtype}: expected uint8 (n, 150, 150, 3)"
            )
        device = self.network.mean.device
        embeddings = [np.zeros((0, 128), np.float32)]
        for part in batches(len(aligned), self.batch_size):
            chips = torch.from_numpy(np.array(aligned[part])).to(device).permute(0, 3, 1, 2).float()
            embeddings.append(embed_chips(self.network, chips, self.flip).cpu().numpy())
        return np.concatenate(embeddings)


def embed_chips(network: DlibNetwork, chips: Tensor, flip: bool = True) -> Tensor:
    """Chips (n, 3, 150, 150) from 0 to 255 -> embeddings (n, 128) of unit length.

    Args:
        flip: average the embeddings of a chip and of its mirror image.
    """
    chips = chips.contiguous(memory_format=torch.channels_last)
    embeddings = F.normalize(network(chips).float())
    if not flip:
        return embeddings
    return F.normalize(embeddings + F.normalize(network(chips.flip(3)).float()))


def load_dlib_embedder(device: str | None = None, batch_size: int = 32, flip: bool = True) -> DlibEmbedder:
    """Load dlib's network as an embedder, see `load_embedder`.

    Raises:
        RuntimeError: the package with the weights is not installed.
        WeightsError: its file is damaged.
    """
    network = load_dlib_network().to(select_torch_device(device)).to(memory_format=torch.channels_last)
    return DlibEmbedder(network, batch_size, flip)
