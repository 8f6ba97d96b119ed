"""Train the stacked hourglass: `python -m facelib.train_landmarks --help`."""

import argparse

import albumentations as A
import numpy as np
import torch
from torch.utils.data import Dataset

from facelib.checkpoints import MODELS, data_folder, pick_device, save_weights
from facelib.datasets import FaceList, load_landmark_list
from facelib.heatmaps import image_to_cells, points_to_heatmaps
from facelib.hourglass import StackedHourglass
from facelib.images import read_image, warp_image
from facelib.landmarks import CROP_SCALE, MIRRORED, Landmarker, crop_matrix, image_to_tensor, transform_points
from facelib.losses import heatmap_loss
from facelib.metrics import landmark_errors
from facelib.training import EpochSampler, fit

SIGMA = 1.25  # of the target Gaussians, in heatmap cells


class LandmarkDataset(Dataset):
    """(index, seed) -> (image (3, s, s) float32, heatmaps (5, s/4, s/4) float32).

    With `augment` off, an item is exactly what `Landmarker.predict` shows to the network. With it on
    the crop is turned, scaled and shifted like that of a sloppy detector, then mirrored,
    recoloured, blurred, made grey or partly covered.
    """

    def __init__(self, faces: FaceList, input_size: int = 128, augment: bool = True):
        self.faces, self.input_size = faces, input_size
        self.augment = landmark_augmentation() if augment else None

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, item: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        index, seed = item
        image, box, angle = read_image(self.faces.files[index]), self.faces.boxes[index], 0.0
        rng = np.random.default_rng(seed)
        if self.augment:
            box, angle = jitter_box(box, rng), float(np.clip(rng.normal(0, 18), -45, 45))
        matrix = crop_matrix(box, self.input_size, angle)
        crop = warp_image(image, matrix, self.input_size)
        points = transform_points(self.faces.points[index], matrix)
        if self.augment:
            if rng.random() < 0.5:
                crop, points = np.ascontiguousarray(crop[:, ::-1]), points[MIRRORED]
                points[:, 0] = self.input_size - 1 - points[:, 0]
            self.augment.set_random_seed(seed)
            crop = self.augment(image=crop)["image"]
        stride = StackedHourglass.STRIDE
        cells = image_to_cells(torch.from_numpy(points), stride)
        return image_to_tensor(crop), points_to_heatmaps(cells, self.input_size // stride, SIGMA)


def jitter_box(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box shifted by up to 8 % of its side and scaled by 0.8 to 1.25."""
    side = max(box[2] - box[0], box[3] - box[1])
    centre = (box[:2] + box[2:]) / 2 + side * rng.uniform(-0.08, 0.08, 2)
    half = side / 2 * np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    return np.concatenate([centre - half, centre + half])


def landmark_augmentation() -> A.Compose:
    """Colour, blur, low resolution and occlusion: what moves no landmark."""
    return A.Compose(
        [
            A.RandomBrightnessContrast(0.35, 0.35, p=0.6),
            A.HueSaturationValue(8, 40, 0, p=0.3),
            A.ToGray(p=0.15),
            A.OneOf(
                [
                    A.Downscale(scale_range=(0.2, 0.6)),
                    A.GaussianBlur(sigma_limit=(0.5, 3.0)),
                    A.MotionBlur(blur_limit=(3, 9)),
                    A.ImageCompression(quality_range=(20, 70)),
                    A.GaussNoise(std_range=(0.02, 0.1)),
                ],
                p=0.5,
            ),
            A.CoarseDropout((1, 2), (0.1, 0.35), (0.1, 0.35), fill="random_uniform", p=0.25),
        ]
    )


def evaluate_landmarks(landmarker: Landmarker, faces: FaceList) -> dict[str, dict]:
    """For each data set in `faces`: NME, share above 10 %, NME per point, number of faces, errors (n,)."""
    results = {}
    for name in sorted(set(faces.sets)):
        part = faces.where(faces.sets == name)
        found = np.concatenate(landmarker.predict([read_image(f) for f in part.files], list(part.boxes[:, None])))
        errors = landmark_errors(found, part.points)
        results[name] = {
            "nme": float(errors.mean()),
            "above_10": float((errors.mean(1) > 0.1).mean()),
            "per_point": errors.mean(0).tolist(),
            "faces": len(part),
            "errors": errors.mean(1),
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--stacks", type=int, default=2)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--input-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--out", default=str(MODELS / "hourglass_keypoints.pt"))
    parser.add_argument("--checkpoint", default=str(data_folder() / "checkpoints" / "hourglass.pt"))
    args = parser.parse_args()

    device = pick_device(args.device)
    torch.manual_seed(0)
    faces = load_landmark_list()
    train = faces.where(faces.splits == "train")
    val = faces.where(faces.splits == "val")
    # YouTube frames repeat themselves: a third of the weight of a photo.
    weights = torch.tensor(np.where(train.sets == "ytf", 1 / 3, 1.0))
    sampler = EpochSampler(len(train), 0, weights, length=int(weights.sum()))
    model = StackedHourglass(5, args.stacks, args.channels).to(device, memory_format=torch.channels_last)

    def loss_of(batch, _):
        images, targets = batch
        return heatmap_loss(model(images.contiguous(memory_format=torch.channels_last)), targets).sum()

    def validate(_):
        results = evaluate_landmarks(Landmarker(model, args.input_size), val)
        return {f"nme_{name}": result["nme"] for name, result in results.items()}

    history = fit(
        model,
        LandmarkDataset(train, args.input_size),
        loss_of,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        sampler=sampler,
        workers=args.workers,
        device=device,
        validate=validate,
        checkpoint=args.checkpoint,
    )
    save_weights(
        model,
        args.out,
        architecture="facelib.hourglass.StackedHourglass",
        arguments=model.arguments,
        preprocessing={"input_size": args.input_size, "crop_scale": CROP_SCALE, "range": [-1, 1], "colour": "RGB"},
        training={
            "data": f"landmarks: {len(train)} faces of celeba, helen, afw and ytf",
            "command": f"python -m facelib.train_landmarks --epochs {args.epochs} --batch-size {args.batch_size} "
            f"--learning-rate {args.learning_rate:g} --stacks {args.stacks} --channels {args.channels}",
            "history": history,
        },
    )


if __name__ == "__main__":
    main()
