"""Configuration -> embedding network."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelib.alignment.landmarker import load_landmarker
from facelib.datasets.face_list import photo_key
from facelib.datasets.splits import sample_per_person
from facelib.embedding.embedder import NetworkEmbedder, TrainedNetwork
from facelib.embedding.network import EmbeddingNetwork
from facelib.io.files import files_key
from facelib.metrics import top_k_accuracy, tpr_at_fprs, triplet_accuracy
from facelib.runtime.weights import load_weights
from facelib.settings import data_folder, own_cache_name
from facelib.training.distillation import density_weights, initialise_distill_head, teacher_embeddings
from facelib.training.embedder_config import EmbedderConfig
from facelib.training.embedder_model import check_network, make_model
from facelib.training.embedder_task import (
    EmbeddingClassifier,
    Objective,
    embedding_task,
    label_embeddings,
    mean_class_embeddings,
)
from facelib.training.face_batches import FaceAugmentation, FaceBatches
from facelib.training.initial_weights import average_with_initial
from facelib.training.loop import RunConfig, fit, make_accelerator
from facelib.training.training_set import TrainingSet, load_training_set, sampling_weights

CENTRE_PHOTOS = (
    1  # of each person, from which class vectors are initialised when a network is fine-tuned; more take long
)
MIN_BATCH = 8  # photos


@dataclass
class EmbedderTraining:
    """A training in progress: configuration, model, photos, and the figures of each epoch."""

    config: EmbedderConfig
    model: EmbeddingClassifier
    training_set: TrainingSet
    faces: FaceBatches
    objective: Objective
    history: list[dict[str, float]]

    @property
    def network(self) -> EmbeddingNetwork:
        """The network that is saved."""
        return self.model.network

    def validate(self, progress: float) -> dict[str, float]:
        """Figures after an epoch: closed-set accuracy on held-out photos, TPR and triplet accuracy on open_val, input
        size and margin. Figures whose photos are not there are missing."""
        size = self.config.input_size(progress - 1e-3)
        margin = self.objective.margin_at(progress) if self.model.loss.has_margin else 0.0
        figures: dict[str, float] = {"input_size": size, "margin": margin}
        aligned, people = self.training_set.open_val
        if len(aligned):
            embeddings = NetworkEmbedder(TrainedNetwork(self.network, size)).embed(aligned)
            figures |= {f"tpr_at_{fpr}": rate for fpr, rate in tpr_at_fprs(embeddings, people).items()}
            figures["triplets"] = triplet_accuracy(embeddings, people)
        return figures | self.closed_set("val", size, {"top1": 1})

    def closed_set(self, split: str, size: int, ranks: dict[str, int]) -> dict[str, float]:
        """Top-k accuracy (name -> k) from margin-free logits on the held-out photos of a split."""
        rows = self.training_set.rows(split)
        rows = rows[self.training_set.labels[rows] >= 0]
        if not len(rows) or not self.model.loss.classes:
            return {}
        faces = self.faces.without_augmentation(rows, size)
        with torch.inference_mode():
            logits = self.model.loss.logits(label_embeddings(self.network, faces)).float().cpu().numpy()
        return {name: top_k_accuracy(logits, self.training_set.labels[rows], k) for name, k in ranks.items()}

    def final_metrics(self) -> dict[str, float]:
        """Figures that are measured once, at the end."""
        return self.closed_set("test", self.config.input_size(1.0), {"closed_set_top1": 1, "closed_set_top5": 5})

    def manifest_entry(self) -> dict[str, Any]:
        """The manifest entry of the weights, without their hash."""
        teacher = self.config.teacher
        return {
            "architecture": "facelib.embedding.network.EmbeddingNetwork",
            "arguments": self.network.arguments,
            "learned_from": f"labels and {teacher}" if teacher else "labels",
            "preprocessing": {
                "input_size": self.config.input_size(1.0),
                "alignment": self.config.alignment,
                "range": [-1, 1],
                "colour": "RGB",
            },
        }

    def data(self) -> str:
        """The training data in words."""
        rows = self.training_set.rows("train")
        people = len(set(self.training_set.faces.people[rows].tolist()))
        folder = self.config.people_folder
        sets = Path(folder).name if folder else ", ".join(self.config.train_sets)
        return f"{len(rows)} photos of {people} people of {sets}"


def train(
    config: EmbedderConfig, weights: dict[str, Path | None], checkpoints: Path, settings: dict[str, Any]
) -> EmbedderTraining:
    """Train by a configuration, or resume from its checkpoint.

    Args:
        weights: "initial_weights" -> the file that the configuration names by its hash, or None.
        checkpoints: path of the checkpoint without ending.
        settings: workers, device, progress, stop_after, description, as in `RunConfig`.

    Raises:
        FileNotFoundError, ValueError: see `load_training_set`, `load_weights` and `fit`.
    """
    initial, checkpoint = weights["initial_weights"], checkpoints.with_name(f"{checkpoints.name}.pt")
    accelerator = make_accelerator(settings.get("device"), config.precision)
    device = str(accelerator.device)
    check_network(config, initial, accelerator.num_processes)
    with accelerator.main_process_first():  # which writes the caches
        training_set = load_training_set(config, load_landmarker(device="cpu" if device == "cpu" else None))
    data = _data_key(config, training_set)
    model, new_head = make_model(config, training_set, initial, device)
    faces = _training_batches(config, training_set, device)
    with accelerator.main_process_first():
        teacher = _teacher_embeddings(config, faces, model, training_set)
    objective = _objective(config, teacher, training_set)
    training = EmbedderTraining(config, model, training_set, faces, objective, [])
    if initial and not checkpoint.exists():
        _initialise_heads(training, new_head)
    if accelerator.is_main_process:
        explain_progress(training)
    settings = settings | {"description": f"{settings['description']}, {training.data()} ({data[:8]})"}
    batch_size = batch_size_for(config, len(faces), accelerator.num_processes)
    frequencies = sampling_weights(config, training_set)
    task = embedding_task(model, faces, objective, config.head_lr_mult, config.epoch_size or None, frequencies)

    def prepare(indices: Tensor, progress: float) -> list[Tensor]:
        faces.size = config.input_size(progress)
        return list(faces.batch(indices))

    task = replace(task, prepare=prepare, validate=training.validate)
    training.history = fit(task, run_config(config, batch_size, checkpoint, settings), accelerator)
    finished = not config.epochs or len(training.history) == config.epochs
    if config.weight_average_alpha and finished:
        before = load_weights(initial, EmbeddingNetwork, "cpu")[0].state_dict()
        average_with_initial(model.network, before, config.weight_average_alpha)
        if accelerator.is_main_process:
            training.history[-1] |= training.validate(1.0)
    return training


def _data_key(config: EmbedderConfig, training_set: TrainingSet) -> str:
    """A hash of the photos, by which a checkpoint belongs to them: of one's own folder by path, size and time, of
    prepared sets by name."""
    files = training_set.faces.files
    return files_key(files) if config.people_folder else files_key([], [photo_key(file) for file in files])


def _training_batches(config: EmbedderConfig, training_set: TrainingSet, device: str) -> FaceBatches:
    augmentation = FaceAugmentation(
        strength=config.augmentation_strength,
        tight_crop_probability=config.tight_crop_probability,
        pose_std=config.pose_std,
        side_light_std=config.side_light_std,
    )
    rows, size = training_set.rows("train"), config.input_size(0.0)
    return FaceBatches(training_set.crops, training_set.labels, rows, size, augmentation, device)


def _teacher_embeddings(
    config: EmbedderConfig, faces: FaceBatches, model: EmbeddingClassifier, training_set: TrainingSet
) -> Tensor | None:
    """The teacher's embeddings of all crops, None without a teacher; the network is given their mean."""
    if not config.teacher:
        return None
    name: str = config.teacher
    if config.people_folder:  # so that it is removed with the other caches of the folder
        name = f"{own_cache_name(Path(config.people_folder))}_{config.teacher}"
    cache = data_folder() / "cache" / f"{name}.npz"
    embeddings = teacher_embeddings(faces, cache, [photo_key(file) for file in training_set.faces.files])
    if config.distill_centering:
        rows = torch.from_numpy(faces.rows).to(embeddings.device)
        model.network.teacher_mean.copy_(embeddings[rows].mean(0))
    return embeddings


def _objective(config: EmbedderConfig, teacher: Tensor | None, training_set: TrainingSet) -> Objective:
    weights = None
    if teacher is not None and config.distill_density_exponent:
        people, rows = training_set.faces.people, training_set.rows("train")
        weights = density_weights(teacher, people, rows, config.distill_density_exponent)
    return Objective(
        margin=config.margin,
        initial_margin=config.initial_margin,
        margin_ramp=(config.margin_ramp_start, config.margin_ramp_end),
        label_loss_weight=config.label_loss_weight,
        teacher_embeddings=teacher,
        distill_loss_weight=config.distill_loss_weight,
        photo_weights=weights,
    )


def _initialise_heads(training: EmbedderTraining, new_head: bool) -> None:
    """Class vectors at the people's mean embeddings, and a new distillation head by ridge regression."""
    faces, loss = training.faces, training.model.loss
    if training.objective.label_loss_weight and loss.classes:
        rows = faces.rows[faces.labels[faces.rows] >= 0]
        few = rows[sample_per_person(training.training_set.faces.select(rows), CENTRE_PHOTOS)]
        shown = faces.without_augmentation(few, faces.size)
        loss.init_class_centres(mean_class_embeddings(training.network, shown, len(training.training_set.names)))
    if new_head and training.objective.teacher_embeddings is not None:
        initialise_distill_head(training.network, faces, faces.rows, training.objective.teacher_embeddings)


def batch_size_for(config: EmbedderConfig, photos: int, processes: int) -> int:
    """The batch size of a configuration, smaller where there are few photos (an epoch should have 50 steps), and
    divisible by the number of processes."""
    size = min(config.batch_size, max(MIN_BATCH, photos // 50), photos)
    return max(size // processes, 1) * processes


def run_config(config: EmbedderConfig, batch_size: int, checkpoint: Path, settings: dict[str, Any]) -> RunConfig:
    """The loop's settings; the learning rate is proportional to the batch size."""
    return RunConfig(
        epochs=config.epochs,
        minutes=config.minutes or None,
        batch_size=batch_size,
        learning_rate=config.learning_rate * batch_size / config.batch_size,
        warmup_fraction=config.warmup_fraction,
        optimizer=config.optimizer,
        betas=config.betas,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        gradient_clip_norm=config.gradient_clip_norm or None,
        ema=config.ema,
        precision=config.precision,
        seed=config.seed,
        checkpoint=checkpoint,
        **settings,
    )


def explain_progress(training: EmbedderTraining) -> None:
    """Print what the user should know about the figures to come."""
    initial, margin = training.config.initial_margin, training.config.margin
    if training.model.loss.has_margin and margin > initial:
        print(
            f"The margin rises to {margin:g} until the middle of the run, and the loss rises with it. The loss falls "
            "once the margin is constant."
        )
    if held_out := len(training.training_set.rows("val")):
        print(f"top1: accuracy on {held_out} held-out photos of the training people.")
    elif training.config.people_folder:
        print("No photo is held out, because nobody has three photos: there is no accuracy, only the loss.")
    else:
        print("The tables have no held-out photos (split val): there is no accuracy, only the loss.")
