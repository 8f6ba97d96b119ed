"""Train the face embedder: `python -m facelib.train_embedder --help`."""

import argparse
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from facelib.alignment import SIZE
from facelib.checkpoints import MODELS, data_folder, pick_device, save_weights
from facelib.datasets import FaceList, assert_people_apart, load_faces
from facelib.embedding import LITE0, Embedder, EmbeddingNetwork, face_to_tensor
from facelib.landmarks import load_landmarker
from facelib.losses import ArcFace, CrossEntropy, margin_schedule
from facelib.metrics import identification_rate, top_k_accuracy
from facelib.preparation import align_photos
from facelib.training import EpochSampler, fit

CENTRE_FACES = 4000  # training faces whose mean vector becomes zero
# Keys of training people who are also in an evaluation set, found by eye.
EXCLUDED = Path(__file__).parent.parent / "data" / "excluded_people.txt"


class AlignedDataset(Dataset):
    """(index, seed) -> (image (3, size, size) float32, label).

    With `augment` off, the image is exactly what `Embedder.embed` shows to the network.

    Args:
        aligned: (n, 112, 112, 3) uint8; labels: (n,) int.
        rows: which of them are used; None: all.
        size: side of the network's input.
    """

    def __init__(
        self,
        aligned: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray | None = None,
        size: int = SIZE,
        augment: bool = True,
    ):
        self.aligned, self.labels, self.size = aligned, labels, size
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.augment = face_augmentation() if augment else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = int(self.rows[item[0]]), item[1]
        face = np.array(self.aligned[index])
        if self.augment:
            self.augment.set_random_seed(seed)
            face = self.augment(image=face)["image"]
        return face_to_tensor(face, self.size), int(self.labels[index])


def face_augmentation() -> A.Compose:
    """Flip, small moves, light, colour, low resolution and occlusion."""
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(scale=(0.9, 1.1), translate_percent=(-0.04, 0.04), rotate=(-8, 8), border_mode=1, p=0.7),
            A.RandomBrightnessContrast(0.3, 0.3, p=0.5),
            A.HueSaturationValue(6, 40, 0, p=0.2),
            A.ToGray(p=0.15),
            A.OneOf([A.Downscale(scale_range=(0.2, 0.6)), A.GaussianBlur(sigma_limit=(0.5, 2.5))], p=0.25),
            A.CoarseDropout((1, 1), (0.2, 0.45), (0.2, 0.45), fill="random_uniform", p=0.2),
        ]
    )


class EmbeddingClassifier(nn.Module):
    """Embedding network and loss head in one, so that checkpoints hold both."""

    def __init__(self, network: EmbeddingNetwork, head: ArcFace | CrossEntropy):
        super().__init__()
        self.network, self.head = network, head

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        """The new layers learn four times as fast as the ImageNet backbone; class weights included."""
        new = [*self.network.head.parameters(), *self.head.parameters()]
        return [
            {"params": list(self.network.backbone.parameters()), "lr": learning_rate},
            {"params": new, "lr": 4 * learning_rate},
        ]


def train_embedder(
    model: EmbeddingClassifier,
    dataset: AlignedDataset,
    *,
    margin: float = 0.4,
    margin_start: float = 0.1,
    margin_end: float = 0.5,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 0.05,
    seed: int = 0,
    **options,
) -> list[dict[str, float]]:
    """Train with SGD, the margin rising between two shares of the run; `options` go to `fit`."""

    def loss_of(batch: tuple[Tensor, ...], progress: float) -> Tensor:
        images, people = batch
        vectors = model.network(images.contiguous(memory_format=torch.channels_last))
        return model.head(vectors, people, margin_schedule(progress, margin, margin_start, margin_end))

    return fit(
        model,
        dataset,
        loss_of,
        model.parameter_groups(learning_rate),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer="sgd",
        weight_decay=5e-4,
        sampler=EpochSampler(len(dataset), seed),
        **options,
    )


@torch.inference_mode()
def closed_set_logits(model: EmbeddingClassifier, aligned: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Margin-free logits (n, classes) of aligned faces (n, 112, 112, 3)."""
    device = next(model.parameters()).device
    rows = []
    for start in range(0, len(aligned), 64):
        batch = torch.stack([face_to_tensor(face, size) for face in aligned[start : start + 64]])
        vectors = model.network(batch.to(device, memory_format=torch.channels_last))
        rows.append(model.head.logits(vectors).float().cpu().numpy())
    return np.concatenate(rows)


@torch.inference_mode()
def centre_embeddings(network: EmbeddingNetwork, aligned: np.ndarray, size: int = SIZE) -> None:
    """Make the mean vector of these faces (n, 112, 112, 3) zero, by the bias of the last batch norm.

    Trained for few epochs, all vectors lean towards one direction, which no loss of classes
    forbids; strangers then look alike. Give it training faces only.
    """
    device = next(network.parameters()).device
    total = torch.zeros(network.arguments["embedding_size"], device=device)
    for start in range(0, len(aligned), 64):
        batch = torch.stack([face_to_tensor(face, size) for face in aligned[start : start + 64]]).to(device)
        total += network.eval()(batch).sum(0)
    network.head[-1].bias -= total / len(aligned)


def training_faces(names: list[str]) -> FaceList:
    """The prepared crops of several folders as one list, without data/excluded_people.txt."""
    lists = [load_faces(name) for name in names]
    assert_people_apart(**dict(zip(names, lists)))
    faces = FaceList.join(lists)
    return faces.where(~np.isin(faces.people, EXCLUDED.read_text().split()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--faces", nargs="+", default=["faces_train", "faces_more"], help="folders under FACELIB_DATA")
    parser.add_argument("--loss", choices=["arcface", "cross_entropy"], default="arcface")
    parser.add_argument("--backbone", default=LITE0)
    parser.add_argument("--embedding-size", type=int, default=256)
    parser.add_argument("--margin", type=float, default=0.4)
    parser.add_argument("--stages", nargs="+", default=["64:9", "112:2"], help="size:epochs, in this order")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[0.05, 0.02], help="one for each stage")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--out", help="default: models/model_<loss>.pt")
    parser.add_argument("--checkpoints", default=str(data_folder() / "checkpoints"))
    args = parser.parse_args()
    if len(args.stages) != len(args.learning_rates):
        parser.error(f"{len(args.stages)} stages but {len(args.learning_rates)} learning rates: give one for each")

    landmarker, cache = load_landmarker(device=args.device), data_folder() / "cache"
    faces = training_faces(args.faces)
    aligned, faces = align_photos(faces, landmarker, cache=cache / f"{'_'.join(args.faces)}.npy")
    unseen = load_faces("faces_unseen")
    open_val, val_faces = align_photos(
        unseen.where(unseen.splits == "open_val"), landmarker, cache=cache / "open_val.npy"
    )
    assert_people_apart(training=faces, unseen=unseen, lfw=load_faces("lfw"))
    names, labels = np.unique(faces.people, return_inverse=True)
    train, held_out = np.flatnonzero(faces.splits == "train"), np.flatnonzero(faces.splits == "val")

    torch.manual_seed(0)
    device = pick_device(args.device)
    network = EmbeddingNetwork(args.backbone, args.embedding_size, pretrained=True)
    kind = ArcFace if args.loss == "arcface" else CrossEntropy
    model = EmbeddingClassifier(network, kind(args.embedding_size, len(names)))
    model = model.to(device, memory_format=torch.channels_last)
    history = []
    for stage, (text, rate) in enumerate(zip(args.stages, args.learning_rates)):
        size, epochs = map(int, text.split(":"))

        def validate(_, size=size):
            embedder = Embedder(network, size, flip=False)
            rates = identification_rate(embedder.embed(open_val), val_faces.people)
            figures = {f"tpr_at_{row['fpr']:g}": row["tpr"] for row in rates}
            if len(held_out):
                figures["top1"] = top_k_accuracy(closed_set_logits(model, aligned[held_out], size), labels[held_out])
            return figures

        history += train_embedder(
            model,
            AlignedDataset(aligned, labels, train, size),
            margin=args.margin,
            margin_start=0.1 if stage == 0 else -1.0,
            margin_end=0.5 if stage == 0 else 0.0,
            epochs=epochs,
            batch_size=args.batch_size,
            learning_rate=rate,
            seed=stage,
            workers=args.workers,
            device=device,
            validate=validate,
            checkpoint=Path(args.checkpoints) / f"{args.loss}_{stage}.pt",
        )
    test = np.flatnonzero(faces.splits == "test")
    figures = {}
    if len(test):
        logits = closed_set_logits(model, aligned[test], size)
        figures = {f"closed_set_test_top{k}": top_k_accuracy(logits, labels[test], k) for k in (1, 5)}
        print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    centre_embeddings(network, aligned[train[:: max(1, len(train) // CENTRE_FACES)]], size)
    command = f"python -m facelib.train_embedder --faces {' '.join(args.faces)} --loss {args.loss} --stages "
    command += f"{' '.join(args.stages)} --learning-rates {' '.join(f'{r:g}' for r in args.learning_rates)}"
    save_weights(
        network,
        args.out or MODELS / f"model_{args.loss}.pt",
        architecture="facelib.embedding.EmbeddingNetwork",
        arguments=network.arguments,
        preprocessing={"input_size": size, "alignment": "five_points", "range": [-1, 1], "colour": "RGB"},
        training={
            "data": f"{' and '.join(args.faces)}: {len(train)} photos of {len(names)} people",
            "command": command,
            "history": history,
        },
        figures=figures,
    )


if __name__ == "__main__":
    main()
