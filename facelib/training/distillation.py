"""Knowledge distillation: the embeddings of the teacher network, and how the student's second head learns them."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from facelib.embedding.dlib import embed_chips, load_dlib_network
from facelib.embedding.dlib_chips import CHIP, CHIP_TO_ALIGNED
from facelib.embedding.network import EmbeddingNetwork, faces_to_tensor
from facelib.io.files import atomic_write, private_files
from facelib.training.face_batches import FaceBatches

REGRESSION_FACES = 40_000  # faces that the distillation head is initialised from
RIDGE = 0.02  # of the mean variance of the features
BATCH = 256


@torch.inference_mode()
def teacher_embeddings(faces: FaceBatches, cache: Path, key: str) -> Tensor:
    """dlib's embeddings (n, 128) of unit length of all crops of `faces`, averaged over the photo and its mirror image.

    Args:
        cache: .npz file to keep them in; key: identifies the photos that they were computed from.
    """
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["key"]) == key:
                return torch.from_numpy(kept["vectors"]).float().to(faces.device)
    network = load_dlib_network().to(faces.device).to(memory_format=torch.channels_last)
    grid = chip_grid(faces.device)
    embeddings = torch.zeros(len(faces.crops), network.last.out_features)
    for start in tqdm(range(0, len(embeddings), BATCH), "teacher embeddings", unit="batch", leave=False):
        rows = torch.arange(start, min(start + BATCH, len(embeddings)), device=faces.device)
        chips = faces.sample(rows, grid.expand(len(rows), -1, -1), CHIP).round()
        with torch.autocast(faces.device.type, torch.bfloat16):
            embeddings[start : start + BATCH] = embed_chips(network, chips).cpu()
    with private_files():
        cache.parent.mkdir(parents=True, exist_ok=True)
    with private_files(), atomic_write(cache) as path, open(path, "wb") as file:
        np.savez(file, key=key, vectors=embeddings.half().numpy())
    return embeddings.to(faces.device)


def chip_grid(device: torch.device) -> Tensor:
    """(1, 150 * 150, 2): where the pixels of dlib's face chip lie in the aligned face."""
    side = torch.arange(float(CHIP), device=device)
    pixels = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)
    matrix = torch.tensor(CHIP_TO_ALIGNED, dtype=torch.float32, device=device)
    return pixels @ matrix[:, :2].T + matrix[:, 2]


@torch.inference_mode()
def initialise_distill_head(
    network: EmbeddingNetwork, faces: FaceBatches, rows: np.ndarray, teacher_embeddings: Tensor
) -> None:
    """Initialise the distillation head by ridge regression from the network's features to the teacher's embeddings.

    Args:
        rows: crops that may be used. teacher_embeddings: (n, 128) of all crops.
    """
    network.eval()
    features = []
    rows = np.random.default_rng(0).permutation(rows)[:REGRESSION_FACES]
    for start in tqdm(range(0, len(rows), BATCH), "backbone features", unit="batch", leave=False):
        chosen = torch.from_numpy(rows[start : start + BATCH]).to(faces.device)
        images = faces_to_tensor(faces.aligned(chosen), faces.size)
        with torch.autocast(faces.device.type, torch.bfloat16):
            features.append(network.backbone(images).float())
    x = torch.cat(features).double().cpu()
    y = teacher_embeddings[torch.from_numpy(rows).to(teacher_embeddings.device)].double().cpu()
    x_mean, y_mean = x.mean(0), y.mean(0)
    covariance = (x - x_mean).T @ (x - x_mean)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    weight = torch.linalg.solve(covariance, (x - x_mean).T @ (y - y_mean)).T
    network.distill_head.weight.copy_(weight)
    network.distill_head.bias.copy_(y_mean - weight @ x_mean)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared Euclidean distance between the second head's output (n, 128) and the teacher's embeddings (n, 128),
    which are of unit length."""
    return F.mse_loss(student.float(), teacher) * teacher.shape[1]
