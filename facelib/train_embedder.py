"""Train the face embedder: `python -m facelib.train_embedder --help`."""

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from facelib.alignment import SIZE
from facelib.checkpoints import MODELS, data_folder, file_hash, read_manifest, save_weights
from facelib.datasets import FaceList, load_faces
from facelib.embedding import LITE0, Embedder, EmbeddingNetwork, face_to_tensor, load_embedder
from facelib.face_data import AlignedDataset, own_faces, photo_key, training_faces
from facelib.files import files_key
from facelib.landmarks import Landmarker, load_landmarker
from facelib.losses import LOSSES, PHOTOS_TOGETHER, MarginLoss, make_head, margin_schedule
from facelib.metrics import identification_rate, top_k_accuracy, triplet_accuracy
from facelib.preparation import align_photos
from facelib.training import EpochSampler, first_process_first, fit, start_processes

BATCH_SIZE = 128


class EmbeddingClassifier(nn.Module):
    """Embedding network and loss head in one, so that checkpoints hold both."""

    def __init__(self, network: EmbeddingNetwork, head: nn.Module):
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
    margin_before: float = 0.0,
    epochs: int,
    sizes: list[int] | None = None,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = 1e-3,
    photos_together: int = 1,
    optimizer: str = "adamw",
    **options,
) -> list[dict[str, float]]:
    """Train, the margin going from `margin_before` to `margin`; `options` go to `fit`.

    `sizes`: side of the network's input in each epoch; None: that of the dataset. Small pictures first
    save time. `photos_together`: of one person in a batch, see `EpochSampler`.

    Raises:
        ValueError: not one size for each epoch; see also `fit`.
    """
    sizes = sizes or [dataset.size] * epochs
    if len(sizes) != epochs:
        raise ValueError(f"{len(sizes)} sizes for {epochs} epochs: give one for each")

    def resize(epoch: int) -> None:
        dataset.size = sizes[epoch]

    def loss_of(batch: tuple[Tensor, ...], progress: float) -> Tensor:
        images, people = batch
        vectors = model.network(images.contiguous(memory_format=torch.channels_last))
        return model.head(vectors, people, margin_schedule(progress, margin, before=margin_before))

    return fit(
        model,
        dataset,
        loss_of,
        model.parameter_groups(learning_rate),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        weight_decay=0.05 if optimizer == "adamw" else 5e-4,
        sampler=EpochSampler(len(dataset), labels=dataset.labels[dataset.rows], together=photos_together),
        before_epoch=resize,
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


def class_centres(
    network: EmbeddingNetwork, aligned: np.ndarray, labels: np.ndarray, classes: int, size: int = SIZE
) -> Tensor:
    """Mean unit vector (classes, d) of the aligned faces (n, 112, 112, 3) of each label (n,)."""
    vectors = torch.from_numpy(Embedder(network, size, flip=False).embed(aligned))
    total = torch.zeros(classes, vectors.shape[1]).index_add_(0, torch.from_numpy(labels), vectors)
    return total.to(next(network.parameters()).device)


def sources_of(faces: FaceList) -> Tensor:
    """`MarginLoss.groups`: (people,) number of the source of each person's first photo, in the order of
    np.unique(faces.people).

    Raises:
        ValueError: the table of the faces has no column `source`.
    """
    if faces.sets is None:
        raise ValueError("--by-source: faces.csv has no column source")
    return torch.from_numpy(
        np.unique(faces.sets, return_inverse=True)[1][np.unique(faces.people, return_index=True)[1]]
    )


def unseen_faces(landmarker: Landmarker) -> tuple[np.ndarray, np.ndarray]:
    """Aligned faces and people of open_val; none where faces_unseen is not there."""
    if not (data_folder() / "faces_unseen").is_dir():
        return np.zeros((0, SIZE, SIZE, 3), np.uint8), np.zeros(0)
    faces = load_faces("faces_unseen")
    faces = faces.where(faces.splits == "open_val")
    aligned, kept = align_photos(faces, landmarker, cache=data_folder() / "cache" / "open_val.npy")
    return aligned, kept.people


def validation(
    model: EmbeddingClassifier,
    sizes: list[int],
    closed: tuple[np.ndarray, np.ndarray],
    unseen: tuple[np.ndarray, np.ndarray],
    margins: list[float],
) -> Callable[[int], dict[str, float]]:
    """For `fit`: closed-set accuracy on `closed` (aligned faces, labels), TPR and triplets on `unseen` (faces, people),
    at the size of the epoch, and the margin that the epoch ends with.

    Either may be empty.
    """

    def validate(epoch: int) -> dict[str, float]:
        size, figures = sizes[epoch], {"input_size": sizes[epoch], "margin": margins[epoch]}
        if len(unseen[0]):
            vectors = Embedder(model.network, size, flip=False).embed(unseen[0])
            figures |= {f"tpr_at_{row['fpr']:g}": row["tpr"] for row in identification_rate(vectors, unseen[1])}
            figures["triplets"] = triplet_accuracy(vectors, unseen[1])
        if len(closed[0]) and hasattr(model.head, "logits"):
            figures["top1"] = top_k_accuracy(closed_set_logits(model, closed[0], size), closed[1])
        return figures

    return validate


def say_what_to_watch(before: float, margin: float, held_out: int) -> None:
    """What a reader of the first lines should know: why the loss may rise, and whether there is an accuracy."""
    if margin > before:
        print(
            f"The margin rises to {margin:g} until the middle of the run, and the loss with it: that is no fault. "
            "It falls once the margin stays."
        )
    if held_out:
        print(f"top1: the share of {held_out} held-out photos that get the right name.")
    else:
        print("No photo is held out, because nobody has three: there is no accuracy to watch, only the loss.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m facelib.train_embedder",
        description="Train the face embedder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--faces", nargs="+", default=["faces_train", "faces_more"], help="sets under FACELIB_DATA")
    parser.add_argument("--folder", type=Path, help="instead: your own photos, FOLDER/<person>/<photo>")
    parser.add_argument("--start", type=Path, help="weights to go on from, backbone and all, with the full margin")
    parser.add_argument("--loss", choices=LOSSES, default="arcface")
    parser.add_argument("--backbone", default=LITE0)
    parser.add_argument("--embedding-size", type=int, default=512)
    parser.add_argument("--output-stride", type=int, default=32, help="of the backbone, see make_backbone")
    parser.add_argument("--pooling", choices=["average", "weighted"], help=f"default: weighted with {LITE0}")
    parser.add_argument("--scale", type=float, default=32.0)
    parser.add_argument("--stages", nargs="+", default=["64:6", "80:6", "112:4"], help="size:epochs, in this order")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=0.05,
        help=f"the highest of one cycle over all stages, for batches of {BATCH_SIZE}; for smaller ones in proportion",
    )
    parser.add_argument("--optimizer", choices=["adamw", "sgd"], default="sgd")
    parser.add_argument("--margin", type=float, default=0.4, help="reached in the middle of the run")
    parser.add_argument("--strength", type=float, default=0.7, help="of the augmentation; 0: mirror images only")
    parser.add_argument("--by-source", action="store_true", help="compare a photo with people of its source only")
    parser.add_argument("--batch-size", type=int, help=f"default: {BATCH_SIZE}, less where photos are few")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, help="default: models/model_<loss>.pt, or my_model.pt with --folder")
    parser.add_argument("--checkpoints", type=Path, help="default: FACELIB_DATA/checkpoints")
    args = parser.parse_args()
    try:
        stages = [tuple(map(int, stage.split(":"))) for stage in args.stages]
        args.sizes = [size for size, epochs in stages for _ in range(epochs)]
    except ValueError:
        parser.error(f"--stages {' '.join(args.stages)}: expected size:epochs, e.g. 64:6 112:4")
    args.pooling = args.pooling or ("weighted" if args.backbone == LITE0 else "average")
    args.out = args.out or (Path("my_model.pt") if args.folder else MODELS / f"model_{args.loss}.pt")
    args.checkpoints = args.checkpoints or data_folder() / "checkpoints"
    return args


def main() -> None:
    args = arguments()
    device = start_processes(args.device)
    landmarker = load_landmarker(device=str(device))
    with first_process_first():
        aligned, faces = own_faces(args.folder, landmarker) if args.folder else training_faces(args.faces, landmarker)
        unseen = unseen_faces(landmarker)
    names, labels = np.unique(faces.people, return_inverse=True)
    train, val, test = (np.flatnonzero(faces.splits == split) for split in ("train", "val", "test"))
    # A checkpoint is of the same photos: of one's own by place, size and time, of prepared sets by name.
    listed = hashlib.sha256("".join(f"{photo_key(f)}{i}" for f, i in zip(faces.files, labels)).encode()).hexdigest()
    listed = files_key(faces.files, labels.tolist()) if args.folder else listed

    torch.manual_seed(0)
    if args.start:
        network = load_embedder(args.start, device=str(device)).model
    else:
        network = EmbeddingNetwork(
            args.backbone,
            args.embedding_size,
            output_stride=args.output_stride,
            pooling=args.pooling,
            pretrained=True,
        )
    head = make_head(args.loss, network.arguments["embedding_size"], len(names), args.scale)
    if args.by_source:
        if not isinstance(head, MarginLoss):
            raise ValueError(f"--by-source: the loss {args.loss} has no class margins to confine to a source")
        head.groups = sources_of(faces)
    model = EmbeddingClassifier(network, head)
    model = model.to(device, memory_format=torch.channels_last)
    if args.start and hasattr(model.head, "start_from"):
        centres = class_centres(network, aligned[train], labels[train], len(names), args.sizes[0])
        model.head.start_from(centres)
    before, epochs = (args.margin if args.start else 0.0), len(args.sizes)
    margins = [margin_schedule((epoch + 1) / epochs, args.margin, before=before) for epoch in range(epochs)]
    if not isinstance(head, MarginLoss):
        margins = [0.0] * epochs
    say_what_to_watch(before, margins[-1], len(val))
    # Few photos make small batches: a pass that is one step teaches nothing.
    batch_size = min(args.batch_size or max(8, min(BATCH_SIZE, len(train) // 50)), len(train))
    history = train_embedder(
        model,
        AlignedDataset(aligned, labels, train, strength=args.strength),
        margin=args.margin,
        margin_before=before,
        epochs=epochs,
        sizes=args.sizes,
        batch_size=batch_size,
        learning_rate=args.learning_rate * batch_size / BATCH_SIZE,
        optimizer=args.optimizer,
        photos_together=PHOTOS_TOGETHER.get(args.loss, 1),
        workers=args.workers,
        device=device,
        validate=validation(model, args.sizes, (aligned[val], labels[val]), unseen, margins),
        checkpoint=args.checkpoints / f"{args.out.stem}.pt",
        about=f"{len(train)} photos of {len(names)} people ({listed[:8]}), {' '.join(args.stages)}, "
        f"augmentation {args.strength:g}, {args.loss} with margin {args.margin:g}"
        + (f", from {file_hash(args.start)[:8]}" if args.start else ""),
    )
    if dist.is_initialized() and dist.get_rank() > 0:
        return
    entry = read_manifest(args.start.parent)[args.start.name] if args.start else {}
    start = {"started_from": {k: v for k, v in entry.items() if k != "comparisons"}} if entry else {}
    figures = {}
    if len(test) and hasattr(model.head, "logits"):
        logits = closed_set_logits(model, aligned[test], args.sizes[-1])
        figures = {f"closed_set_test_top{k}": top_k_accuracy(logits, labels[test], k) for k in (1, 5)}
        print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    save_weights(
        network,
        args.out,
        architecture="facelib.embedding.EmbeddingNetwork",
        arguments=network.arguments,
        preprocessing={"input_size": args.sizes[-1], "alignment": "five_points", "range": [-1, 1], "colour": "RGB"},
        training={
            "data": f"{args.folder.name if args.folder else ' and '.join(args.faces)}: {len(train)} photos of "
            f"{len(set(labels[train].tolist()))} people",
            "command": " ".join(["python -m facelib.train_embedder", *sys.argv[1:]]),
            "history": history,
            **start,
        },
        figures=figures,
    )
    print(f"{args.out}: load it with load_embedder({str(args.out)!r})")


if __name__ == "__main__":
    main()
