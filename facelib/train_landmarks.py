"""Train the stacked hourglass: `python -m facelib.train_landmarks --help`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facelib.checkpoints import MODELS, data_folder, pick_device, save_weights
from facelib.datasets import FaceList, load_landmark_list
from facelib.heatmap_losses import HEATMAP_LOSSES
from facelib.hourglass import StackedHourglass
from facelib.images import CROP_SCALE
from facelib.label_offsets import label_set_offsets, move_labels
from facelib.landmark_data import LandmarkDataset, find_landmarks, landmark_training_faces, sampling_weights
from facelib.landmarks import Landmarker, load_landmarker
from facelib.metrics import landmark_errors
from facelib.training import EpochSampler, finished_epochs, fit


def decoding_of(loss: str) -> tuple[str, str]:
    """Activation and decoder (see `Landmarker`) that suit a network trained with this loss."""
    return ("softmax", "soft_argmax") if loss == "distribution" else ("none", "gaussian")


def relabel(faces: FaceList, rows: np.ndarray, teacher: Landmarker) -> FaceList:
    """The list with what `teacher` finds in place of the points of the faces at `rows`."""
    points = faces.points.copy()
    points[rows] = find_landmarks(teacher, faces.where(rows))
    return replace(faces, points=points)


def evaluate_landmarks(landmarker: Landmarker, faces: FaceList, stack: int = -1) -> dict[str, dict]:
    """For each data set in `faces`: "nme", "above_10" (share of faces), "per_point", "faces" (number),
    "errors" (n,) and "found" (n, 5, 2), the landmarks."""
    results = {}
    for name in sorted(set(faces.sets.tolist())):
        part = faces.where(faces.sets == name)
        found = find_landmarks(landmarker, part, stack)
        errors = landmark_errors(found, part.points)
        results[name] = {
            "nme": float(errors.mean()),
            "above_10": float((errors.mean(1) > 0.1).mean()),
            "per_point": errors.mean(0).tolist(),
            "faces": len(part),
            "errors": errors.mean(1),
            "found": found,
        }
    return results


def train_landmarker(
    model: StackedHourglass,
    faces: FaceList,
    input_size: int,
    loss: str = "distribution",
    weights: np.ndarray | None = None,
    epoch_size: int | None = None,
    cache: Path | None = None,
    seed: int = 0,
    **options,
) -> list[dict[str, float]]:
    """Train on labelled faces with AdamW; `options` go to `fit`.

    Args:
        loss: a name in `HEATMAP_LOSSES`.
        weights: (n,) how often a face is drawn, relative to the others; None: all alike.
        epoch_size: faces drawn in an epoch; None: as many as there are.
        cache: see `LandmarkDataset`.
    """
    heatmap_loss = HEATMAP_LOSSES[loss]

    def loss_of(batch: tuple[torch.Tensor, ...], _: float) -> torch.Tensor:
        images, points = batch
        return heatmap_loss(model(images.contiguous(memory_format=torch.channels_last)), points).sum()

    tensor = None if weights is None else torch.from_numpy(weights)
    return fit(
        model,
        LandmarkDataset(faces, input_size, cache=cache),
        loss_of,
        sampler=EpochSampler(len(faces), seed, tensor, epoch_size),
        **options,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--stages", nargs="+", default=["96:11", "128:10"], help="size:epochs, in this order")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[2e-3, 1.5e-3], help="one for each stage")
    parser.add_argument("--epoch-size", type=int, default=20000, help="faces drawn in an epoch")
    parser.add_argument("--pseudo", nargs="*", default=[], help="face crops whose detector's points serve as labels")
    parser.add_argument("--pseudo-shares", nargs="+", type=float, default=[0, 0], help="of the faces drawn, by stage")
    parser.add_argument("--relabel", action="store_true", help="instead, points of the network a stage starts from")
    parser.add_argument("--unify-labels", action="store_true", help="move labels of all sets to CelebA's convention")
    parser.add_argument("--start", type=Path, help="weights to go on from, of any size, trained with --loss")
    parser.add_argument("--loss", choices=HEATMAP_LOSSES, default="distribution")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--stacks", type=int, default=2)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare pictures beside the training")
    parser.add_argument("--bfloat16", action="store_true", help="twice as fast on CPUs that have it")
    parser.add_argument("--device")
    parser.add_argument("--out", default=str(MODELS / "hourglass_keypoints.pt"))
    parser.add_argument("--checkpoints", type=Path, default=data_folder() / "checkpoints")
    args = parser.parse_args()
    if not len(args.stages) == len(args.learning_rates) == len(args.pseudo_shares):
        parser.error("give as many --learning-rates and --pseudo-shares as --stages")

    if (args.unify_labels or args.relabel) and len(args.stages) == 1 and not args.start:
        parser.error("--unify-labels and --relabel need a network: give --start, or more than one stage")

    device = pick_device(args.device)
    torch.manual_seed(0)
    faces = load_landmark_list()
    labelled, val = landmark_training_faces(faces, args.pseudo), faces.where(faces.splits == "val")
    pseudo = np.flatnonzero(labelled.sets == "detector")
    sets = ", ".join(sorted(set(labelled.sets.tolist()) - {"detector"}))
    data = f"landmarks: {len(labelled) - len(pseudo)} labelled faces of {sets}"
    if args.pseudo:
        data += f"; {len(pseudo)} faces of {' and '.join(args.pseudo)}, pseudo-labelled by a detector"
        data += " or the network a stage starts from" if args.relabel else ""

    activation, decoder = decoding_of(args.loss)
    if args.start:
        started = load_landmarker(args.start, str(device))
        if (started.activation, started.decoder) != (activation, decoder):
            parser.error(f"--start {args.start}: was not trained with the loss {args.loss}")
        model = started.model
    else:
        model = StackedHourglass(5, args.stacks, args.channels).to(device, memory_format=torch.channels_last)
    history, offsets = [], {}
    stages = [tuple(map(int, text.split(":"))) for text in args.stages]
    for stage, ((size, epochs), rate, share) in enumerate(zip(stages, args.learning_rates, args.pseudo_shares)):
        checkpoint = args.checkpoints / f"{Path(args.out).stem}_{stage}.pt"
        train, measured = labelled, val
        if stage or args.start:
            last_size = stages[stage - 1][0] if stage else started.input_size
            teacher = Landmarker(model, last_size, activation, decoder, flip=True)
            if args.unify_labels:
                offsets = label_set_offsets(teacher, val)
                train, measured = move_labels(labelled, offsets), move_labels(val, offsets)
            if args.relabel and share and finished_epochs(checkpoint) < epochs:
                train = relabel(train, pseudo, teacher)

        def validate(_, size=size, measured=measured):
            figures = {}
            for stack in range(model.arguments["stacks"]):
                results = evaluate_landmarks(Landmarker(model, size, activation, decoder), measured, stack)
                figures[f"nme_stack{stack + 1}"] = float(np.mean([result["nme"] for result in results.values()]))
            return figures | {f"nme_{name}": result["nme"] for name, result in results.items()}

        history += train_landmarker(
            model,
            train,
            size,
            args.loss,
            sampling_weights(train, share),
            args.epoch_size,
            data_folder() / "cache" / f"landmark_photos_{len(train)}.bin",
            seed=stage,
            epochs=epochs,
            batch_size=args.batch_size,
            learning_rate=rate,
            workers=args.workers,
            device=device,
            bfloat16=args.bfloat16,
            validate=validate,
            checkpoint=checkpoint,
        )
    save_weights(
        model,
        args.out,
        architecture="facelib.hourglass.StackedHourglass",
        arguments=model.arguments,
        preprocessing={
            "input_size": size,
            "crop_scale": CROP_SCALE,
            "range": [-1, 1],
            "colour": "RGB",
            "activation": activation,
            "decoder": decoder,
        },
        training={
            "data": data,
            "command": " ".join(["python -m facelib.train_landmarks", *sys.argv[1:]]),
            "label_offsets": {name: offset.round(4).tolist() for name, offset in offsets.items()},
            "history": history,
        },
    )


if __name__ == "__main__":
    main()
