"""What a teacher says of the training faces, and how a network begins to learn it."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from facelib.embedding.dlib import CHIP, CHIP_TO_ALIGNED, chip_vectors, load_dlib_network
from facelib.embedding.network import EmbeddingNetwork, faces_to_tensor
from facelib.io.files import atomic_write
from facelib.training.face_batches import FaceBatches

FITTED = 40_000  # faces from which the second head gets its first weights
RIDGE = 0.02  # of the mean variance of the features


@torch.inference_mode()
def teacher_embeddings(faces: FaceBatches, cache: Path, key: str) -> Tensor:
    """dlib's vectors (n, 128) of length 1, photo and mirror image averaged, of all pictures of `faces`.

    Args:
        cache: .npz file to keep them in; key: what they were made of.
    """
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["key"]) == key:
                return torch.from_numpy(kept["vectors"]).float().to(faces.device)
    network = load_dlib_network().to(faces.device, memory_format=torch.channels_last)
    places = chip_places(faces.device)
    vectors = torch.zeros(len(faces.pictures), network.last.out_features)
    for start in tqdm(range(0, len(vectors), 256), "asking the teacher", unit="batch", leave=False):
        rows = torch.arange(start, min(start + 256, len(vectors)), device=faces.device)
        chips = faces.sample(rows, places.expand(len(rows), -1, -1), CHIP).round()
        with torch.autocast(faces.device.type, torch.bfloat16):
            vectors[start : start + 256] = chip_vectors(network, chips).cpu()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(cache) as path, open(path, "wb") as file:
        np.savez(file, key=key, vectors=vectors.half().numpy())
    return vectors.to(faces.device)


def chip_places(device: torch.device) -> Tensor:
    """(1, 150 * 150, 2): where the pixels of dlib's chip lie in the aligned face."""
    side = torch.arange(float(CHIP), device=device)
    pixels = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)
    matrix = torch.tensor(CHIP_TO_ALIGNED, dtype=torch.float32, device=device)
    return pixels @ matrix[:, :2].T + matrix[:, 2]


@torch.inference_mode()
def initialise_distill_head(
    network: EmbeddingNetwork, faces: FaceBatches, rows: np.ndarray, teacher_embeddings: Tensor
) -> None:
    """Give the second head the best linear reading of the features that are there (ridge regression)."""
    features, network = [], network.eval()
    rows = np.random.default_rng(0).permutation(rows)[:FITTED]
    for start in tqdm(range(0, len(rows), 256), "reading features", unit="batch", leave=False):
        chosen = torch.from_numpy(rows[start : start + 256]).to(faces.device)
        images = faces_to_tensor(faces.aligned(chosen), faces.size)
        with torch.autocast(faces.device.type, torch.bfloat16):
            features.append(network.backbone(images).float())
    x, y = (
        torch.cat(features).double().cpu(),
        teacher_embeddings[torch.from_numpy(rows).to(teacher_embeddings.device)].double().cpu(),
    )
    x_mean, y_mean = x.mean(0), y.mean(0)
    square = (x - x_mean).T @ (x - x_mean)
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weight = torch.linalg.solve(square, (x - x_mean).T @ (y - y_mean)).T
    network.distill_head.weight.copy_(weight)
    network.distill_head.bias.copy_(y_mean - weight @ x_mean)


def distillation_loss(distilled: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Mean squared distance of what the second head gives (n, 128) to the teacher's vectors, of length 1."""
    return F.mse_loss(distilled.float(), teacher_embeddings) * teacher_embeddings.shape[1]
