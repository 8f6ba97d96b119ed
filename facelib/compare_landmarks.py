"""Equal short runs that compare what goes into the landmark training: `python -m facelib.compare_landmarks`.

About half an hour on two CPU cores. Each run's result is kept under FACELIB_DATA/comparisons, so an
interrupted comparison goes on where it stopped; all of them then go into the manifest.
"""

import argparse
import json
import time

import numpy as np
import torch

from facelib.benchmark import network_cost
from facelib.checkpoints import MODELS, data_folder, pick_device, read_manifest, write_manifest
from facelib.datasets import load_landmark_list
from facelib.hourglass import StackedHourglass
from facelib.label_offsets import label_offsets, move_labels
from facelib.landmark_data import landmark_training_faces, sampling_weights
from facelib.landmarks import Landmarker
from facelib.train_landmarks import decoding_of, evaluate_landmarks, train_landmarker

INPUT_SIZE, EPOCHS, EPOCH_SIZE = 96, 5, 6000
SIXTY_EIGHT = ("afw", "helen", "ytf")  # sets whose five points come from 68
# name -> (what it is, changes to the standard run: 2 stacks of 64 channels, distribution loss, labels as they are)
RUNS = {
    "distribution": ("distribution loss, 2 x 64 channels", {}),
    "weighted_mse": ("weighted MSE", {"loss": "weighted_mse"}),
    "mse": ("plain MSE", {"loss": "mse"}),
    "adaptive_wing": ("Adaptive Wing", {"loss": "adaptive_wing"}),
    "pseudo_half": ("half of the faces pseudo-labelled", {"pseudo_share": 0.5}),
    "small": ("1 x 32 channels", {"stacks": 1, "channels": 32}),
    "large": ("2 x 96 channels", {"channels": 96}),
    "sixty_eight": ("trained on the 68-point sets alone", {"sets": SIXTY_EIGHT}),
    "offsets_removed": ("labels of the 68-point sets moved to CelebA's", {"move_labels": True}),
}


def run(
    loss: str = "distribution",
    stacks: int = 2,
    channels: int = 64,
    pseudo_share: float = 0.0,
    sets: tuple[str, ...] | None = None,
    move_labels_by: list | None = None,
    device: str | None = None,
) -> dict:
    """One run: trains, and measures on the validation faces, with their labels as they are.

    With `move_labels_by`, an offset (5, 2) for the 68-point sets, both are moved: of such a run only the
    figure of CelebA, whose labels stay, has the same yardstick as those of the others.
    """
    torch.manual_seed(0)
    faces = load_landmark_list()
    train = landmark_training_faces(faces, ["faces_train", "faces_more"] if pseudo_share else [])
    if sets:
        train = train.where(np.isin(train.sets, sets))
    moved = dict.fromkeys(SIXTY_EIGHT, -np.array(move_labels_by)) if move_labels_by else {}
    train = move_labels(train, moved)
    model = StackedHourglass(5, stacks, channels).to(pick_device(device), memory_format=torch.channels_last)
    cache = data_folder() / "cache" / f"landmark_photos_{len(train)}.bin"
    start = time.time()
    options = dict(epochs=EPOCHS, batch_size=32, learning_rate=2e-3, bfloat16=True, device=pick_device(device))
    weights = sampling_weights(train, pseudo_share)
    train_landmarker(model, train, INPUT_SIZE, loss, weights, EPOCH_SIZE, cache, **options)
    seconds = time.time() - start
    landmarker = Landmarker(model, INPUT_SIZE, *decoding_of(loss))
    val = move_labels(faces.where(faces.splits == "val"), moved)
    result = {"faces_seen": EPOCHS * EPOCH_SIZE, "input_size": INPUT_SIZE, "stacks": stacks, "channels": channels}
    result |= {"loss": loss, "seconds": round(seconds), **network_cost(model, INPUT_SIZE)}
    result["val"] = {name: figures["nme"] for name, figures in evaluate_landmarks(landmarker, val).items()}
    result["val"]["mean"] = float(np.mean(list(result["val"].values())))
    if sets:
        celeba = faces.where((faces.sets == "celeba") & (faces.splits == "train"))
        result["label_offsets"] = label_offsets(landmarker, celeba).round(4).tolist()
    return result


def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.compare_landmarks", description=__doc__)
    parser.add_argument("--device")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="these runs")
    options = parser.parse_args()
    folder = data_folder() / "comparisons"
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, (what, changes) in RUNS.items():
        path, changes = folder / f"{name}.json", dict(changes)
        if name in options.only and not path.exists():
            if changes.pop("move_labels", False):
                changes["move_labels_by"] = results["sixty_eight"]["label_offsets"]
            path.write_text(json.dumps(run(device=options.device, **changes)))
        if path.exists():
            results[name] = {"what": what, **json.loads(path.read_text())}
            print(f"{name:16} {results[name]['val']['mean']:.4f}")
    manifest = read_manifest(MODELS)
    manifest["hourglass_keypoints.pt"]["comparisons"] = results
    write_manifest(manifest, MODELS)


if __name__ == "__main__":
    main()
