"""Recipe -> stacked hourglass."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from facelib.alignment.crop import CROP_SCALE
from facelib.alignment.heatmaps import heatmaps_to_points
from facelib.alignment.hourglass import StackedHourglass
from facelib.alignment.landmarker import HourglassLandmarker, load_landmarker
from facelib.datasets.face_list import FaceList, photo_key
from facelib.datasets.label_conventions import find_landmarks, label_set_offsets, move_labels
from facelib.datasets.sources import load_landmark_list
from facelib.io.files import files_key
from facelib.metrics import landmark_metrics
from facelib.runtime.batching import batches
from facelib.settings import data_folder
from facelib.training.checkpoints import completed_epochs
from facelib.training.configuration import LandmarkConfig, Stage
from facelib.training.heatmap_losses import HEATMAP_LOSSES
from facelib.training.initial_weights import check_arguments
from facelib.training.landmark_data import Augmentation, LandmarkDataset, sampling_weights, training_faces
from facelib.training.loop import Run, Task, fit, make_accelerator
from facelib.training.sampling import EpochSampler


def decoding_of(loss: str) -> tuple[str, str]:
    """Activation and decoder (see `HourglassLandmarker`) that suit a network trained with this loss."""
    return ("softmax", "soft_argmax") if loss == "distribution" else ("none", "gaussian")


def landmark_task(
    model: StackedHourglass,
    dataset: LandmarkDataset,
    loss: str = "distribution",
    weights: np.ndarray | None = None,
    epoch_size: int | None = None,
) -> Task:
    """What `fit` trains: the model on labelled faces, its loss summed over the stacks (intermediate supervision).

    Args:
        loss: a name in `HEATMAP_LOSSES`.
        weights: (n,) how often a face is drawn, relative to the others; None: all alike.
        epoch_size: faces drawn in an epoch; None: as many as there are.
    """
    heatmap_loss = HEATMAP_LOSSES[loss]

    def loss_of(maps: Tensor, batch: list[Tensor], _: float) -> Tensor:
        return heatmap_loss(maps, batch[1]).sum()

    sampler = EpochSampler(len(dataset), weights, epoch_size)
    return Task(model=model, dataset=dataset, loss_of=loss_of, sampler=sampler)


@dataclass
class Training:
    """A recipe in work: the network, its faces, and what the stages behind it left."""

    recipe: LandmarkConfig
    model: StackedHourglass
    labelled: FaceList
    val: FaceList
    accelerator: Accelerator
    teacher: HourglassLandmarker | None = None  # finds points in place of the network itself
    size: int = 0  # pixels, of the stage before
    history: list[dict[str, float]] = field(default_factory=list)
    offsets: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def network(self) -> StackedHourglass:
        """What is saved."""
        return self.model

    def metrics(self) -> dict[str, Any]:
        """Measured on the way: by how much the labels of each set were moved."""
        return {"label_offsets": {name: offset.tolist() for name, offset in self.offsets.items()}}

    def entry(self) -> dict[str, Any]:
        """What the manifest says of the weights, beside their hash."""
        fields = {"input_size": self.size, "crop_scale": CROP_SCALE, "range": [-1, 1], "colour": "RGB"}
        activation, decoder = decoding_of(self.recipe.loss)
        return {
            "architecture": "facelib.alignment.hourglass.StackedHourglass",
            "arguments": self.model.arguments,
            "preprocessing": fields | {"activation": activation, "decoder": decoder},
        }

    def data(self) -> str:
        """The training data in words."""
        pseudo = int((self.labelled.sets == "detector").sum())
        sets = ", ".join(sorted(set(self.labelled.sets.tolist()) - {"detector"}))
        words = f"{len(self.labelled) - pseudo} labelled faces of {sets}"
        return words + (f"; {pseudo} pseudo-labelled faces of {', '.join(self.recipe.pseudo)}" if pseudo else "")

    def landmarker(self, size: int, flip: bool = False) -> HourglassLandmarker:
        """The network as it is now."""
        return HourglassLandmarker(self.model, size, *decoding_of(self.recipe.loss), flip=flip)

    def run_stage(self, number: int, checkpoint: Path, settings: dict[str, Any]) -> None:
        """One stage, its labels moved and made anew by the network as it is when the stage begins."""
        recipe, stage = self.recipe, self.recipe.stages[number]
        train, val = self._labels(stage, checkpoint)
        run = Run(
            epochs=stage.epochs,
            batch_size=recipe.batch_size,
            learning_rate=stage.learning_rate,
            optimizer=recipe.optimizer,
            weight_decay=recipe.weight_decay,
            precision=recipe.precision,
            seed=stage.seed,
            checkpoint=checkpoint,
            **settings,
        )
        cache = data_folder() / "cache" / f"landmark_photos_{len(train)}.bin"
        with self.accelerator.main_process_first():  # which writes the cache
            augment = Augmentation(recipe.large_rotation_share, recipe.truncation_share)
            dataset = LandmarkDataset(train, stage.input_size, augment, cache)
        weights = sampling_weights(train, stage.pseudo_label_share)
        task = landmark_task(self.model, dataset, recipe.loss, weights, recipe.epoch_size)
        shown = LandmarkDataset(val, stage.input_size, augment=None)
        task = replace(task, validate=lambda _: self._validate(shown))
        self.history += fit(task, run, self.accelerator)
        self.size = stage.input_size

    def _labels(self, stage: Stage, checkpoint: Path) -> tuple[FaceList, FaceList]:
        """Training and validation faces as this stage wants their labels."""
        train, val = self.labelled, self.val
        if not (stage.unify_labels or stage.relabel):
            return train, val
        teacher = self.teacher or self.landmarker(self.size, flip=True)
        if stage.unify_labels:
            given = {name: np.array(offset, np.float32) for name, offset in self.recipe.label_offsets.items()}
            self.offsets = given or label_set_offsets(teacher, val)
            train, val = move_labels(train, self.offsets), move_labels(val, self.offsets)
        if stage.relabel and stage.pseudo_label_share and completed_epochs(checkpoint) < stage.epochs:
            rows = np.flatnonzero(train.sets == "detector")
            points = train.points.copy()
            points[rows] = find_landmarks(teacher, train.select(rows))
            train = replace(train, points=points)
        return train, val

    def _validate(self, val: LandmarkDataset) -> dict[str, float]:
        """Mean NME of each stack, and that of the last stack on each set."""
        landmarker, found, labels = self.landmarker(val.input_size), [], []
        for part in batches(len(val), 64):
            images, points = zip(*(val[i] for i in range(part.start, part.stop)))
            found.append(heatmaps_to_points(landmarker.heatmaps_of(torch.stack(images)), landmarker.decoder))
            labels.append(torch.stack(points))
        found, labels = torch.cat(found, 1).numpy(), torch.cat(labels).numpy()
        results = [landmark_metrics(points, labels, val.faces.sets) for points in found]
        figures = {
            f"nme_stack{number}": float(np.mean([one["nme"] for one in result.values()]))
            for number, result in enumerate(results, 1)
        }
        return figures | {f"nme_{name}": one["nme"] for name, one in results[-1].items()}


def train(
    recipe: LandmarkConfig, weights: dict[str, Path | None], checkpoints: Path, settings: dict[str, Any]
) -> Training:
    """All stages of a recipe.

    Args:
        weights: the files that the recipe names by their hash as "start" and "teacher", or None.
        checkpoints: their path without ending; each stage has one.
        settings: workers, device, progress, stop_after, about, as `Run` has them.

    Raises:
        FileNotFoundError, ValueError: see `load_landmark_list`; weights to start from were trained with another loss.
    """
    torch.manual_seed(0)
    accelerator = make_accelerator(settings.get("device"), recipe.precision)
    faces = FaceList.join([load_landmark_list(name=name) for name in recipe.sets])
    labelled = training_faces(faces, recipe.pseudo, recipe.label_sets)
    val = faces.select(faces.splits == "val")
    measured = any(stage.unify_labels for stage in recipe.stages) and not recipe.label_offsets
    if measured and "celeba" not in val.sets:
        raise ValueError("unify_labels: no validation faces of celeba, whose convention the labels are moved to")
    keys = [*map(photo_key, labelled.files), labelled.points.tobytes()]
    settings = settings | {"about": f"{settings['about']}, data {files_key([], keys)[:8]}"}
    device, size = str(accelerator.device), 0
    teacher = load_landmarker(weights["teacher"], device, flip=True) if weights["teacher"] else None
    if weights["start"]:
        started = load_landmarker(weights["start"], device)
        if (started.activation, started.decoder) != decoding_of(recipe.loss):
            raise ValueError(f"start: {weights['start']} was not trained with the loss {recipe.loss}")
        check_arguments(started.model.arguments, recipe)
        model, size = started.model, started.input_size
    else:
        model = StackedHourglass(5, recipe.stacks, recipe.channels, recipe.depth)
    model.to(accelerator.device, memory_format=torch.channels_last)
    stop = settings.get("stop_after")
    training = Training(recipe, model, labelled, val, accelerator, teacher, size)
    for number in range(len(recipe.stages)):
        checkpoint = checkpoints.with_name(f"{checkpoints.name}_{number}.pt")
        behind = len(training.history)
        rest = None if stop is None else stop - behind
        if rest is not None and rest <= 0:
            break
        training.run_stage(number, checkpoint, settings | {"stop_after": rest})
        if len(training.history) - behind < recipe.stages[number].epochs:
            break  # as if interrupted
    return training
