"""Configuration -> stacked hourglass."""

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
from facelib.landmark_metrics import landmark_metrics
from facelib.runtime.batching import batches
from facelib.settings import data_folder
from facelib.training.checkpoints import completed_epochs
from facelib.training.heatmap_losses import HEATMAP_LOSSES
from facelib.training.initial_weights import check_arguments
from facelib.training.landmark_config import LandmarkConfig, Stage
from facelib.training.landmark_data import Augmentation, LandmarkDataset, sampling_weights, training_faces
from facelib.training.loop import RunConfig, Task, fit, make_accelerator
from facelib.training.sampling import EpochSampler


def decoding_of(loss: str) -> tuple[str, str]:
    """Activation and decoder (see `HourglassLandmarker`) of a network that was trained with this loss."""
    return ("softmax", "soft_argmax") if loss == "distribution" else ("none", "gaussian")


def landmark_task(
    model: StackedHourglass,
    dataset: LandmarkDataset,
    loss: str = "distribution",
    weights: np.ndarray | None = None,
    epoch_size: int | None = None,
) -> Task:
    """The `Task` of `fit`: the model on labelled faces, its loss summed over the stacks (intermediate supervision).

    Args:
        loss: a name in `HEATMAP_LOSSES`.
        weights: (n,) relative sampling frequency of each face; None: all alike.
        epoch_size: faces drawn in an epoch; None: as many as there are.
    """
    heatmap_loss = HEATMAP_LOSSES[loss]

    def summed_loss(heatmaps: Tensor, batch: list[Tensor], _: float) -> Tensor:
        return heatmap_loss(heatmaps, batch[1]).sum()

    sampler = EpochSampler(len(dataset), weights, epoch_size)
    return Task(model=model, dataset=dataset, loss=summed_loss, sampler=sampler)


@dataclass
class LandmarkTraining:
    """A training in progress.

    config: its configuration. model: the network.
    labelled, val: training and validation faces.
    accelerator: device and processes.
    label_network: predicts points in place of the trained network itself, or None.
    input_size: of the stage before, pixels.
    history: figures of each epoch.
    offsets: by how much the labels of each set were moved, (5, 2).
    """

    config: LandmarkConfig
    model: StackedHourglass
    labelled: FaceList
    val: FaceList
    accelerator: Accelerator
    label_network: HourglassLandmarker | None = None
    input_size: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    offsets: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def network(self) -> StackedHourglass:
        """The network that is saved."""
        return self.model

    def final_metrics(self) -> dict[str, Any]:
        """By how much the labels of each set were moved."""
        return {"label_offsets": {name: offset.tolist() for name, offset in self.offsets.items()}}

    def manifest_entry(self) -> dict[str, Any]:
        """The manifest entry of the weights, without their hash."""
        activation, decoder = decoding_of(self.config.loss)
        return {
            "architecture": "facelib.alignment.hourglass.StackedHourglass",
            "arguments": self.model.arguments,
            "preprocessing": {
                "input_size": self.input_size,
                "crop_scale": CROP_SCALE,
                "range": [-1, 1],
                "colour": "RGB",
                "activation": activation,
                "decoder": decoder,
            },
        }

    def data(self) -> str:
        """The training data in words."""
        pseudo = int((self.labelled.sets == "detector").sum())
        sets = ", ".join(sorted(set(self.labelled.sets.tolist()) - {"detector"}))
        words = f"{len(self.labelled) - pseudo} labelled faces of {sets}"
        folders = ", ".join(self.config.pseudo_label_sets)
        return words + (f"; {pseudo} pseudo-labelled faces of {folders}" if pseudo else "")

    def landmarker(self, input_size: int, flip: bool = False) -> HourglassLandmarker:
        """The network in its current state, as a landmarker."""
        return HourglassLandmarker(self.model, input_size, *decoding_of(self.config.loss), flip=flip)

    def __post_init__(self) -> None:
        if not len(self.val):
            raise ValueError("no validation faces: give some rows of landmarks.csv the split 'val'")

    def run_stage(self, number: int, checkpoint: Path, settings: dict[str, Any]) -> None:
        """Train one stage; labels are moved and pseudo-labels predicted as it begins."""
        config, stage = self.config, self.config.stages[number]
        train, val = self._labels(stage, checkpoint)
        cache = data_folder() / "cache" / f"landmark_photos_{len(train)}.bin"
        with self.accelerator.main_process_first():  # which writes the cache
            augmentation = Augmentation(config.large_rotation_probability, config.truncation_probability)
            dataset = LandmarkDataset(train, stage.input_size, augmentation, cache)
        weights = sampling_weights(train, stage.pseudo_label_fraction)
        task = landmark_task(self.model, dataset, config.loss, weights, config.epoch_size)
        val_faces = LandmarkDataset(val, stage.input_size, augment=None)
        task = replace(task, validate=lambda _: self._validate(val_faces))
        self.history += fit(task, run_config(config, stage, checkpoint, settings), self.accelerator)
        self.input_size = stage.input_size

    def _labels(self, stage: Stage, checkpoint: Path) -> tuple[FaceList, FaceList]:
        """Training and validation faces with the labels of this stage."""
        train, val = self.labelled, self.val
        if not (stage.unify_labels or stage.refresh_pseudo_labels):
            return train, val
        landmarker = self.label_network or self.landmarker(self.input_size, flip=True)
        if stage.unify_labels:
            given = {name: np.array(offset, np.float32) for name, offset in self.config.label_offsets.items()}
            self.offsets = given or label_set_offsets(landmarker, val)
            train, val = move_labels(train, self.offsets), move_labels(val, self.offsets)
        refresh = stage.refresh_pseudo_labels and bool(stage.pseudo_label_fraction)
        if refresh and completed_epochs(checkpoint) < stage.epochs:
            rows = np.flatnonzero(train.sets == "detector")
            points = train.points.copy()
            points[rows] = find_landmarks(landmarker, train.select(rows))
            train = replace(train, points=points)
        return train, val

    def _validate(self, val: LandmarkDataset) -> dict[str, float]:
        """Mean NME of each stack, and the last stack's NME on each set."""
        landmarker, found, labels = self.landmarker(val.input_size), [], []
        for part in batches(len(val), 64):
            images, points = zip(*(val[i] for i in range(part.start, part.stop)))
            heatmaps = landmarker.heatmaps_of(torch.stack(images).numpy())
            found.append(heatmaps_to_points(heatmaps, landmarker.decoder))
            labels.append(torch.stack(points).numpy())
        labelled = np.concatenate(labels)
        results = [landmark_metrics(points, labelled, val.faces.sets) for points in np.concatenate(found, 1)]
        figures = {
            f"nme_stack{number}": float(np.mean([one["nme"] for one in result.values()]))
            for number, result in enumerate(results, 1)
        }
        return figures | {f"nme_{name}": one["nme"] for name, one in results[-1].items()}


def run_config(config: LandmarkConfig, stage: Stage, checkpoint: Path, settings: dict[str, Any]) -> RunConfig:
    """The loop's settings of one stage."""
    return RunConfig(
        epochs=stage.epochs,
        batch_size=config.batch_size,
        learning_rate=stage.learning_rate,
        warmup_fraction=config.warmup_fraction,
        optimizer=config.optimizer,
        betas=config.betas,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        precision=config.precision,
        seed=stage.seed,
        checkpoint=checkpoint,
        **settings,
    )


def train(
    config: LandmarkConfig, weights: dict[str, Path | None], checkpoints: Path, settings: dict[str, Any]
) -> LandmarkTraining:
    """Train all stages of a configuration, or resume from their checkpoints.

    Args:
        weights: files of "initial_weights" and "label_network", or None.
        checkpoints: their path without ending; each stage has one.
        settings: workers, device, progress, stop_after, description, as in `RunConfig`.

    Raises:
        FileNotFoundError, ValueError: see `load_landmark_list` and `initial_network`.
    """
    torch.manual_seed(0)
    accelerator = make_accelerator(settings.get("device"), config.precision)
    faces = FaceList.join([load_landmark_list(name=name) for name in config.train_sets])
    labelled = training_faces(faces, config.pseudo_label_sets, config.annotation_sets)
    val = faces.select(faces.splits == "val")
    measures_offsets = any(stage.unify_labels for stage in config.stages) and not config.label_offsets
    if measures_offsets and "celeba" not in val.sets:
        raise ValueError("unify_labels: no validation faces of celeba, whose convention the labels are moved to")
    keys = [*map(photo_key, labelled.files), labelled.points.tobytes()]
    settings = settings | {"description": f"{settings['description']}, data {files_key([], keys)[:8]}"}
    label_network = load_landmarker(weights["label_network"], flip=True) if weights["label_network"] else None
    model, input_size = initial_network(config, weights["initial_weights"])
    model.to(accelerator.device).to(memory_format=torch.channels_last)
    training = LandmarkTraining(config, model, labelled, val, accelerator, label_network, input_size)
    stop = settings.get("stop_after")
    for number, stage in enumerate(config.stages):
        completed = len(training.history)
        remaining = None if stop is None else stop - completed
        if remaining is not None and remaining <= 0:
            break
        checkpoint = checkpoints.with_name(f"{checkpoints.name}_{number}.pt")
        training.run_stage(number, checkpoint, settings | {"stop_after": remaining})
        if len(training.history) - completed < stage.epochs:
            break  # stop_after
    return training


def initial_network(config: LandmarkConfig, weights: Path | None) -> tuple[StackedHourglass, int]:
    """The network that a training starts from, and the input size it was trained at (0 for random weights).

    Raises:
        ValueError: the weights were trained with another loss or architecture.
    """
    if weights is None:
        return StackedHourglass(5, config.stacks, config.channels, config.depth), 0
    landmarker = load_landmarker(weights, device="cpu", runtime="torch")
    if (landmarker.activation, landmarker.decoder) != decoding_of(config.loss):
        raise ValueError(f"initial_weights: {weights} were not trained with the loss {config.loss}")
    check_arguments(landmarker.model.arguments, config)
    return landmarker.model, landmarker.input_size
