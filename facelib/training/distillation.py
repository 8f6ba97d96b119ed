"""Knowledge distillation: the embeddings of the teacher network, and how the student's second head learns them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from facelib.embedding.dlib import embed_chips, load_dlib_network
from facelib.embedding.dlib_chips import CHIP, CHIP_TO_ALIGNED
from facelib.embedding.network import EmbeddingNetwork, faces_to_tensor
from facelib.io.files import atomic_write, digest, private_files
from facelib.training.face_batches import FaceBatches

REGRESSION_FACES = 40_000  # faces that the distillation head is initialised from
RIDGE = 0.02  # of the mean variance of the features
BATCH = 256
DENSE_NEIGHBOURS = 30
DENSITY_SAMPLE = 8_192  # people, one photo of each, among whom neighbours are looked for


@torch.inference_mode()
def teacher_embeddings(faces: FaceBatches, cache: Path, photos: list[str]) -> Tensor:
    """dlib's embeddings (n, 128) of unit length of all crops of `faces`, averaged over the photo and its mirror image.

    Args:
        cache: .npz file to keep them in; only photos that are not in it are computed.
        photos: n keys, one for each crop.
    """
    matrices = faces.crops.matrices
    keys = [digest(f"{photo} {matrix.tobytes().hex()}")[:16] for photo, matrix in zip(photos, matrices)]
    known: dict[str, np.ndarray] = {}
    if cache.exists():
        with np.load(cache) as kept:
            known = dict(zip(kept["keys"].tolist(), kept["vectors"]))
    if missing := [row for row, key in enumerate(keys) if key not in known]:
        known |= zip([keys[row] for row in missing], _embed_by_teacher(faces, torch.tensor(missing)))
        with private_files():
            cache.parent.mkdir(parents=True, exist_ok=True)
        with private_files(), atomic_write(cache) as path, open(path, "wb") as file:
            np.savez(file, keys=list(known), vectors=np.stack(list(known.values())))
    return torch.from_numpy(np.stack([known[key] for key in keys])).float().to(faces.device)


def _embed_by_teacher(faces: FaceBatches, rows: Tensor) -> np.ndarray:
    """(m, 128) float16 of the crops with these rows (m,)."""
    network = load_dlib_network().to(faces.device).to(memory_format=torch.channels_last)
    grid = chip_grid(faces.device)
    embeddings = []
    for part in tqdm(rows.to(faces.device).split(BATCH), "teacher embeddings", unit="batch", leave=False):
        chips = faces.sample(part, grid.expand(len(part), -1, -1), CHIP).round()
        with torch.autocast(faces.device.type, torch.bfloat16):
            embeddings.append(embed_chips(network, chips).half().cpu())
    return torch.cat(embeddings).numpy()


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


def distillation_loss(student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared Euclidean distance between the second head's output (n, 128) and the teacher's embeddings (n, 128),
    which are of unit length.

    weights: (n,) of the photos; None: all equal.
    """
    squared = (student.float() - teacher).square().sum(1)
    return (squared if weights is None else squared * weights).mean()


def density_weights(embeddings: Tensor, people: np.ndarray, rows: np.ndarray, exponent: float) -> Tensor:
    """Weight of each photo (n,) for the distillation: (1 - m) ** -exponent, with the mean m of its `DENSE_NEIGHBOURS`
    largest cosines with photos of other people, divided by the mean weight.

    Where the teacher's embeddings are dense, a small error of the student takes one person for another.

    Args:
        embeddings: (n, 128) of the teacher, unit length. people: (n,) person of each photo.
        rows: photos that may be used.
    """
    first = rows[np.unique(people[rows], return_index=True)[1]]
    chosen = np.random.default_rng(0).permutation(first)[:DENSITY_SAMPLE]
    sample, sample_people = embeddings[torch.from_numpy(chosen)], people[chosen]
    density = torch.empty(len(embeddings), device=embeddings.device)
    for start in range(0, len(embeddings), 4096):
        part = slice(start, start + 4096)
        cosines = embeddings[part] @ sample.T
        cosines[torch.from_numpy(people[part, None] == sample_people).to(cosines.device)] = -1
        density[part] = cosines.topk(min(DENSE_NEIGHBOURS, max(len(chosen) - 1, 1))).values.mean(1)
    weights = (1 - density).clamp(min=1e-3) ** -exponent
    return weights / weights[torch.from_numpy(rows)].mean()
