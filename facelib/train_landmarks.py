"""Train the stacked hourglass: `python -m facelib.train_landmarks --help`."""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from torch.utils.data import Dataset

from facelib.checkpoints import MODELS, data_folder, pick_device, save_weights
from facelib.datasets import FaceList, load_faces, load_landmark_list
from facelib.heatmap_losses import HEATMAP_LOSSES
from facelib.heatmaps import image_to_cells
from facelib.hourglass import StackedHourglass
from facelib.images import read_image, warp_image
from facelib.landmarks import CROP_SCALE, MIRRORED, Landmarker, crop_matrix, image_to_tensor, transform_points
from facelib.metrics import landmark_errors
from facelib.preparation import decode_photos
from facelib.training import EpochSampler, fit

YTF_WEIGHT = 1 / 3  # YouTube frames repeat themselves


class LandmarkDataset(Dataset):
    """(index, seed) -> (image (3, s, s) float32, landmarks (5, 2) float32 in heatmap cells).

    With `augment` off, an item is exactly what `Landmarker.predict` shows to the network. With it on
    the box is shifted and scaled like that of a sloppy detector, picture and points are turned and
    mirrored together, and the crop is recoloured, blurred, made grey or partly covered.

    `cache`: file to keep the decoded pictures in, see `decode_photos`; None: they are read each time.
    """

    def __init__(self, faces: FaceList, input_size: int = 128, augment: bool = True, cache: Path | None = None):
        self.faces, self.input_size = faces, input_size
        self.images = decode_photos(faces.files, cache) if cache else None
        self.move, self.spoil = (move_augmentation(), spoil_augmentation()) if augment else (None, None)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, item: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        index, seed = item
        image = self.images[index] if self.images else read_image(self.faces.files[index])
        box, points = self.faces.boxes[index], self.faces.points[index]
        if self.move:
            box = jitter_box(box, np.random.default_rng(seed))
            self.move.set_random_seed(seed)
            # The box travels as its centre and two axes, whose order tells whether the picture was mirrored.
            half, centre = (box[2:] - box[:2]) / 2, (box[:2] + box[2:]) / 2 - 0.5
            moved = self.move(image=image, keypoints=np.vstack([points, centre, centre + [1, 0], centre + [0, 1]]))
            image, points, (centre, x, y) = moved["image"], moved["keypoints"][:5], moved["keypoints"][5:]
            if np.linalg.det([x - centre, y - centre]) < 0:
                points = points[MIRRORED]
            box = np.concatenate([centre + 0.5 - half, centre + 0.5 + half])
        matrix = crop_matrix(box, self.input_size)
        crop = warp_image(image, matrix, self.input_size)
        if self.spoil:
            self.spoil.set_random_seed(seed)
            crop = self.spoil(image=crop)["image"]
        points = torch.from_numpy(transform_points(points, matrix))
        return image_to_tensor(crop), image_to_cells(points, StackedHourglass.STRIDE)


def jitter_box(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box shifted by up to 8 % of its side and scaled by 0.8 to 1.25."""
    side = max(box[2] - box[0], box[3] - box[1])
    centre = (box[:2] + box[2:]) / 2 + side * rng.uniform(-0.08, 0.08, 2)
    half = side / 2 * np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    return np.concatenate([centre - half, centre + half])


def move_augmentation() -> A.Compose:
    """Turns up to 40 degrees, a little shear, and mirroring, of picture and points together."""
    return A.Compose(
        [
            A.Affine(rotate=(-40, 40), shear=(-4, 4), scale=1.0, border_mode=1, p=0.8),
            A.HorizontalFlip(p=0.5),
        ],
        keypoint_params=A.KeypointParams("xy", remove_invisible=False),
    )


def spoil_augmentation() -> A.Compose:
    """Colour, grey, blur, low resolution and occlusion: what moves no landmark."""
    return A.Compose(
        [
            A.RandomBrightnessContrast(0.35, 0.35, p=0.6),
            A.HueSaturationValue(8, 40, 0, p=0.2),
            A.ToGray(p=0.15),
            A.OneOf(
                [
                    A.Downscale(scale_range=(0.25, 0.6)),
                    A.GaussianBlur(sigma_limit=(0.5, 3.0)),
                    A.MotionBlur(blur_limit=(3, 9)),
                    A.ImageCompression(quality_range=(20, 70)),
                ],
                p=0.4,
            ),
            A.CoarseDropout((1, 2), (0.1, 0.35), (0.1, 0.35), fill="random_uniform", p=0.2),
        ]
    )


def decoding_of(loss: str) -> tuple[str, str]:
    """Activation and decoder (see `Landmarker`) that suit a network trained with this loss."""
    return ("softmax", "soft_argmax") if loss == "distribution" else ("none", "gaussian")


def landmark_training_faces(faces: FaceList, pseudo: list[str]) -> FaceList:
    """The labelled training faces, and those of the face crops `pseudo` with a detector's points (set "detector")."""
    train = faces.where(faces.splits == "train")
    if not pseudo:
        return train
    return FaceList.join([train, pseudo_labelled_faces(pseudo, set(faces.people[faces.splits != "train"].tolist()))])


def sampling_weights(faces: FaceList, pseudo_share: float = 0.0) -> np.ndarray:
    """(n,) how often each face is drawn: pseudo-labelled ones `pseudo_share` of the time, YouTube frames seldom."""
    pseudo = faces.sets == "detector"
    labelled = np.where(pseudo, 0.0, np.where(faces.sets == "ytf", YTF_WEIGHT, 1.0))
    return (1 - pseudo_share) * labelled / labelled.sum() + pseudo_share * pseudo / max(pseudo.sum(), 1)


def pseudo_labelled_faces(names: list[str], forbidden: set[str], per_person: int = 4) -> FaceList:
    """Face crops with the detector's points instead of labels: up to `per_person` photos of each person.

    `forbidden`: people of the validation and test sets, whose photos are left out. Which photos of a
    person are taken is decided by the hash of their names, so it is always the same.
    """
    parts = []
    for name in names:
        faces = load_faces(name)
        if faces.points is None:
            raise ValueError(f"{name}/faces.csv has no columns left_eye_x ... right_mouth_y: no pseudo-labels")
        hashes = np.array([hashlib.sha256(f"{f.parent.name}/{f.name}".encode()).hexdigest() for f in faces.files])
        taken: dict[str, int] = {}
        keep = np.zeros(len(faces), bool)
        for i in np.argsort(hashes):
            person = faces.people[i]
            taken[person] = taken.get(person, 0) + 1
            keep[i] = taken[person] <= per_person and person not in forbidden
        parts.append(replace(faces, sets=np.full(len(faces), "detector")).where(keep))
    return FaceList.join(parts)


def relabel(faces: FaceList, rows: np.ndarray, teacher: Landmarker) -> FaceList:
    """The list with what `teacher` finds in place of the points of the faces at `rows`."""
    points = faces.points.copy()
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        images = [read_image(faces.files[i]) for i in part]
        points[part] = np.concatenate(teacher.predict(images, list(faces.boxes[part][:, None])))
    return replace(faces, points=points)


def evaluate_landmarks(landmarker: Landmarker, faces: FaceList, stack: int = -1) -> dict[str, dict]:
    """For each data set in `faces`: "nme", "above_10" (share of faces), "per_point", "faces" (number),
    "errors" (n,) and "found" (n, 5, 2), the landmarks."""
    results = {}
    for name in sorted(set(faces.sets.tolist())):
        part = faces.where(faces.sets == name)
        found = np.concatenate(
            landmarker.predict([read_image(f) for f in part.files], list(part.boxes[:, None]), stack=stack)
        )
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
    parser.add_argument("--stages", nargs="+", default=["96:12", "128:12"], help="size:epochs, in this order")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[2e-3, 1e-3], help="one for each stage")
    parser.add_argument("--epoch-size", type=int, default=12000, help="faces drawn in an epoch")
    parser.add_argument("--pseudo", nargs="*", default=[], help="face crops whose detector's points serve as labels")
    parser.add_argument("--pseudo-shares", nargs="+", type=float, default=[0, 0], help="of the faces drawn, by stage")
    parser.add_argument("--relabel", action="store_true", help="from the second stage on, our own points instead")
    parser.add_argument("--loss", choices=HEATMAP_LOSSES, default="distribution")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--stacks", type=int, default=2)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare pictures beside the training")
    parser.add_argument("--bfloat16", action="store_true", help="twice as fast on CPUs that have it")
    parser.add_argument("--device")
    parser.add_argument("--out", default=str(MODELS / "hourglass_keypoints.pt"))
    parser.add_argument("--checkpoints", type=Path, default=data_folder() / "checkpoints")
    args = parser.parse_args()
    if not len(args.stages) == len(args.learning_rates) == len(args.pseudo_shares):
        parser.error("give as many --learning-rates and --pseudo-shares as --stages")

    device = pick_device(args.device)
    torch.manual_seed(0)
    faces = load_landmark_list()
    train, val = landmark_training_faces(faces, args.pseudo), faces.where(faces.splits == "val")
    pseudo = np.flatnonzero(train.sets == "detector")
    sets = ", ".join(sorted(set(train.sets.tolist()) - {"detector"}))
    data = f"landmarks: {len(train) - len(pseudo)} labelled faces of {sets}"
    if args.pseudo:
        data += f"; {len(pseudo)} faces of {' and '.join(args.pseudo)}, pseudo-labelled by a detector"
        data += ", from the second stage on by the first stage's network" if args.relabel else ""

    model = StackedHourglass(5, args.stacks, args.channels).to(device, memory_format=torch.channels_last)
    activation, decoder = decoding_of(args.loss)
    history = []
    stages = [tuple(map(int, text.split(":"))) for text in args.stages]
    for stage, ((size, epochs), rate, share) in enumerate(zip(stages, args.learning_rates, args.pseudo_shares)):
        if stage and share and args.relabel:
            teacher = Landmarker(model, stages[stage - 1][0], activation, decoder, flip=True)
            train = relabel(train, pseudo, teacher)

        def validate(_, size=size):
            figures = {}
            for stack in range(args.stacks):
                results = evaluate_landmarks(Landmarker(model, size, activation, decoder), val, stack)
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
            checkpoint=args.checkpoints / f"{Path(args.out).stem}_{stage}.pt",
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
            "history": history,
        },
    )


if __name__ == "__main__":
    main()
