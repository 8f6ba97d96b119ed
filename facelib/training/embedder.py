"""Recipe -> embedding network."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facelib.alignment.landmarker import load_landmarker
from facelib.datasets.face_list import photo_key
from facelib.datasets.splits import sample_per_person
from facelib.embedding.embedder import NetworkEmbedder, TrainedNetwork, load_embedder
from facelib.embedding.losses import LOSSES, IdentityLoss, make_loss, margin_schedule
from facelib.embedding.network import EmbeddingNetwork
from facelib.io.files import files_key
from facelib.metrics import top_k_accuracy, tpr_at_fprs, triplet_accuracy
from facelib.settings import data_folder
from facelib.training.configuration import EmbedderConfig
from facelib.training.distillation import distillation_loss, initialise_distill_head
from facelib.training.face_batches import FaceAugmentation, FaceBatches
from facelib.training.initial_weights import average_with_initial, check_arguments
from facelib.training.loop import Run, Task, fit, make_accelerator
from facelib.training.sampling import EpochSampler
from facelib.training.training_set import TrainingSet, load_training_set, sources_of

CENTRE_PHOTOS = 4  # of each person, from which class vectors get their first values


class EmbeddingClassifier(nn.Module):
    """Embedding network and loss in one, so that checkpoints and optimizer hold both."""

    def __init__(self, network: EmbeddingNetwork, loss: IdentityLoss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n, 3, s, s) -> what the heads give, see `EmbeddingNetwork.heads`: the loss is given the first."""
        return self.network.heads(images)

    def parameter_groups(self, head_lr_mult: float = 4.0) -> list[dict]:
        """The new layers, class vectors included, learn `head_lr_mult` times as fast as the ImageNet backbone. Weight
        decay is for kernels and matrices, not for norms and biases."""
        groups, backbone = [], list(self.network.backbone.parameters())
        known = {id(p) for p in backbone}
        new = [p for p in self.parameters() if id(p) not in known]
        for parameters, rate in ((backbone, 1.0), (new, head_lr_mult)):
            groups.append({"params": [p for p in parameters if p.ndim > 1], "lr": rate})
            groups.append({"params": [p for p in parameters if p.ndim <= 1], "lr": rate, "weight_decay": 0.0})
        return groups


@dataclass(frozen=True)
class Objective:
    """What a network learns, and how much each part counts.

    margin, initial_margin: of the labels' loss, see `margin_schedule`. label_loss_weight: its factor. goals: (n, 128) the
    teacher's vectors of all pictures, or None; distill_loss_weight: factor of the squared distance to them.
    """

    margin: float = 0.4
    initial_margin: float = 0.0
    label_loss_weight: float = 1.0
    teacher_embeddings: Tensor | None = None
    distill_loss_weight: float = 0.0


def embedding_task(
    model: EmbeddingClassifier,
    faces: FaceBatches,
    objective: Objective = Objective(),
    head_lr_mult: float = 4.0,
    length: int | None = None,
) -> Task:
    """What `fit` trains: the model on these faces.

    `head_lr_mult`: see `EmbeddingClassifier.parameter_groups`. `length`: photos in an epoch; None: all.
    """

    def loss_of(heads: tuple[Tensor, Tensor | None], batch: list[Tensor], progress: float) -> Tensor:
        own, distilled = heads
        loss = own.new_zeros(())
        if objective.label_loss_weight:
            margin = margin_schedule(progress, objective.margin, before=objective.initial_margin)
            loss = objective.label_loss_weight * model.loss(own, batch[1], margin)
        if objective.teacher_embeddings is not None:
            loss = loss + objective.distill_loss_weight * distillation_loss(
                distilled, objective.teacher_embeddings[batch[2]]
            )
        return loss

    labels, together = faces.labels[faces.rows], model.loss.samples_per_class
    return Task(
        model=model,
        dataset=faces,
        loss_of=loss_of,
        sampler=EpochSampler(len(faces), length=length, labels=labels, samples_per_class=together),
        prepare=lambda indices, _: list(faces.batch(indices)),
        groups=model.parameter_groups(head_lr_mult),
    )


@torch.inference_mode()
def label_embeddings(network: EmbeddingNetwork, faces: FaceBatches) -> Tensor:
    """What the first head gives, (n, d), for all rows of `faces`, as the pipeline would show them."""
    vectors = []
    for start in range(0, len(faces), 64):
        indices = torch.arange(start, min(start + 64, len(faces)))
        vectors.append(network.heads(faces.batch(indices)[0])[0])
    return torch.cat(vectors)


def mean_class_embeddings(network: EmbeddingNetwork, faces: FaceBatches, classes: int) -> Tensor:
    """Mean unit vector (classes, d) of the faces of each label."""
    vectors = nn.functional.normalize(label_embeddings(network, faces))
    labels = torch.from_numpy(faces.labels[faces.rows]).to(vectors.device)
    return torch.zeros(classes, vectors.shape[1], device=vectors.device).index_add_(0, labels, vectors)


@dataclass
class Training:
    """A recipe in work: the model, its photos, and what has been measured in each epoch."""

    recipe: EmbedderConfig
    model: EmbeddingClassifier
    training_set: TrainingSet
    faces: FaceBatches
    history: list[dict[str, float]]

    def validate(self, progress: float) -> dict[str, float]:
        """Closed-set accuracy on held-out photos, TPR and triplets on open_val, at the size of the moment; and the
        margin of the moment. What has no photos has no figure."""
        size = self.recipe.size(progress - 1e-3)
        figures = {"input_size": size, "margin": self.margin(progress)}
        aligned, people = self.training_set.unseen
        if len(aligned):
            vectors = NetworkEmbedder(TrainedNetwork(self.model.network, size)).embed(aligned)
            figures |= {f"tpr_at_{fpr}": rate for fpr, rate in tpr_at_fprs(vectors, people).items()}
            figures["triplets"] = triplet_accuracy(vectors, people)
        return figures | self.closed_set("val", size, {"top1": 1})

    def closed_set(self, split: str, size: int, ranks: dict[str, int]) -> dict[str, float]:
        """Top-k accuracy by name, from margin-free logits of the held-out photos of a split."""
        rows = self.training_set.rows(split)
        if not len(rows) or not self.model.loss.classes:
            return {}
        shown = self.shown(rows, size)
        with torch.inference_mode():
            logits = self.model.loss.logits(label_embeddings(self.model.network, shown)).float().cpu().numpy()
        return {name: top_k_accuracy(logits, self.training_set.labels[rows], k) for name, k in ranks.items()}

    def shown(self, rows: np.ndarray, size: int) -> FaceBatches:
        """Rows of the pictures as the pipeline makes them."""
        return self.faces.unchanged(rows, size)

    @property
    def network(self) -> EmbeddingNetwork:
        """What is saved."""
        return self.model.network

    def metrics(self) -> dict[str, float]:
        """Measured once, at the end."""
        return self.closed_set("test", self.recipe.size(1.0), {"closed_set_top1": 1, "closed_set_top5": 5})

    def entry(self) -> dict[str, Any]:
        """What the manifest says of the weights, beside their hash."""
        fields = {"input_size": self.recipe.size(1.0), "alignment": self.recipe.alignment}
        return {
            "architecture": "facelib.embedding.network.EmbeddingNetwork",
            "arguments": self.network.arguments,
            "learned_from": f"labels and {self.recipe.teacher}" if self.recipe.teacher else "labels",
            "preprocessing": fields | {"range": [-1, 1], "colour": "RGB"},
        }

    def data(self) -> str:
        """The training data in words."""
        rows = self.training_set.rows("train")
        people = len(set(self.training_set.faces.people[rows].tolist()))
        sets = Path(self.recipe.folder).name if self.recipe.folder else ", ".join(self.recipe.faces)
        return f"{len(rows)} photos of {people} people of {sets}"

    def margin(self, progress: float) -> float:
        """At this share of the run."""
        if not self.model.loss.has_margin:
            return 0.0
        return margin_schedule(progress, self.recipe.margin, before=self.recipe.initial_margin)


def make_network(recipe: EmbedderConfig, pretrained: bool) -> EmbeddingNetwork:
    """The network that the recipe describes."""
    return EmbeddingNetwork(
        recipe.backbone,
        recipe.embedding_size,
        recipe.dropout,
        recipe.output_stride,
        recipe.pooling,
        recipe.drop_path,
        recipe.distill_head_scale,
        recipe.distill_centering,
        pretrained=pretrained,
    )


def make_model(
    recipe: EmbedderConfig, training_set: TrainingSet, start: Path | None, device: str
) -> tuple[EmbeddingClassifier, bool]:
    """Network and loss as the recipe wants them, and whether a second head is still to be begun with.

    `start`: the weights that the recipe names by their hash, which need not have the second head.
    """
    torch.manual_seed(recipe.seed)
    network, bare = make_network(recipe, pretrained=recipe.start == "imagenet"), bool(recipe.teacher)
    if start:
        started = load_embedder(start, device="cpu").networks[0].model
        free = {
            name: getattr(recipe, name) for name in ("drop_path", "dropout", "distill_head_scale", "distill_centering")
        }
        check_arguments(started.arguments | free, recipe)
        network.load_state_dict(started.state_dict(), strict=False)
        bare = bare and started.distill_head is None
    groups = sources_of(training_set.faces) if recipe.within_source_weight else None
    size, classes = recipe.embedding_size, len(training_set.names)
    loss = make_loss(recipe.loss, size, classes, recipe.scale, groups, recipe.within_source_weight)
    return EmbeddingClassifier(network, loss).to(device, memory_format=torch.channels_last), bare


def check_network(recipe: EmbedderConfig, start: Path | None, processes: int) -> None:
    """Before anything is aligned: is there such a network, and does the loss allow as many processes?

    Raises:
        ValueError: no.
    """
    if processes > 1 and LOSSES[recipe.loss](2, 2, 1.0, None).samples_per_class > 1:
        raise ValueError(f"loss: {recipe.loss} compares the photos of a whole batch, so it is trained in one process")
    if not start:
        with torch.device("meta"):
            make_network(recipe, pretrained=False)


def train(
    recipe: EmbedderConfig, weights: dict[str, Path | None], checkpoints: Path, settings: dict[str, Any]
) -> Training:
    """Everything that a recipe says.

    Args:
        weights: the file that the recipe names by its hash as "start", or None.
        checkpoints: the checkpoint's path without ending.
        settings: workers, device, progress, stop_after, about, as `Run` has them.

    Raises:
        FileNotFoundError, ValueError: see `load_training_set`, `load_embedder` and `fit`.
    """
    accelerator = make_accelerator(settings.get("device"), recipe.precision)
    device = str(accelerator.device)
    check_network(recipe, weights["start"], accelerator.num_processes)
    with accelerator.main_process_first():  # which writes the caches
        training_set = load_training_set(recipe, load_landmarker(device=device))
    rows = training_set.rows("train")
    # A checkpoint is of the same photos: of one's own by place, size and time, of prepared sets by name.
    files, keys = training_set.faces.files, [photo_key(file) for file in training_set.faces.files]
    data = files_key(files) if recipe.folder else files_key([], keys)
    augment = FaceAugmentation(recipe.strength, recipe.tight_crop_share, recipe.pose, recipe.light)
    faces = FaceBatches(training_set.pictures, training_set.labels, rows, recipe.size(0.0), augment, device)
    model, bare = make_model(recipe, training_set, weights["start"], device)
    training = Training(recipe, model, training_set, faces, [])
    teacher_embeddings = None
    if recipe.teacher:
        cache = data_folder() / "cache" / f"{recipe.teacher}_{len(faces.pictures)}.npz"
        with accelerator.main_process_first():
            teacher_embeddings = teacher_embeddings(faces, cache, f"{data} {hash_of(training_set.pictures.matrices)}")
        if recipe.distill_centering:
            model.network.teacher_mean.copy_(
                teacher_embeddings[torch.from_numpy(rows).to(teacher_embeddings.device)].mean(0)
            )
    checkpoint = checkpoints.with_name(f"{checkpoints.name}.pt")
    if weights["start"] and not checkpoint.exists():
        if recipe.label_loss_weight and model.loss.classes:
            shown = training.shown(rows[sample_per_person(training_set.faces.select(rows), CENTRE_PHOTOS)], faces.size)
            model.loss.init_class_centres(mean_class_embeddings(model.network, shown, len(training_set.names)))
        if bare:
            initialise_distill_head(model.network, faces, rows, teacher_embeddings)
    if accelerator.is_main_process:
        explain_progress(training)
    about = f"{settings['about']}, {training.data()} ({data[:8]})"
    batch_size = batch_size_for(recipe, len(rows), accelerator.num_processes)
    run = run_of(recipe, batch_size, checkpoint, settings | {"about": about})
    objective = Objective(
        recipe.margin, recipe.initial_margin, recipe.label_loss_weight, teacher_embeddings, recipe.distill_loss_weight
    )
    task = embedding_task(model, faces, objective, recipe.head_lr_mult, recipe.epoch_photos or None)

    def prepare(indices: Tensor, progress: float) -> list[Tensor]:
        faces.size = recipe.size(progress)
        return list(faces.batch(indices))

    training.history = fit(replace(task, prepare=prepare, validate=training.validate), run, accelerator)
    whole = not recipe.epochs or len(training.history) == recipe.epochs
    if recipe.weight_average_alpha and whole:
        before = load_embedder(weights["start"], device="cpu").networks[0].model.state_dict()
        average_with_initial(model.network, before, recipe.weight_average_alpha)
        if accelerator.is_main_process:
            training.history[-1] |= training.validate(1.0)
    return training


def batch_size_for(recipe: EmbedderConfig, photos: int, processes: int) -> int:
    """The recipe's, or less: few photos make small batches, because a pass that is one step teaches nothing."""
    size = min(recipe.batch_size, max(8, photos // 50), photos)
    return max(size // processes, 1) * processes


def run_of(recipe: EmbedderConfig, batch_size: int, checkpoint: Path, settings: dict[str, Any]) -> Run:
    """What the recipe says of the loop; the learning rate in proportion to the batch."""
    return Run(
        epochs=recipe.epochs,
        minutes=recipe.minutes or None,
        batch_size=batch_size,
        learning_rate=recipe.learning_rate * batch_size / recipe.batch_size,
        warm_up=recipe.warm_up,
        optimizer=recipe.optimizer,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
        clip=recipe.clip or None,
        average=recipe.average,
        precision=recipe.precision,
        seed=recipe.seed,
        checkpoint=checkpoint,
        **settings,
    )


def hash_of(values: np.ndarray) -> str:
    """Eight digits that change with the values."""
    return hashlib.sha256(values.tobytes()).hexdigest()[:8]


def explain_progress(training: Training) -> None:
    """What a reader of the first lines should know: why the loss may rise, and whether there is an accuracy."""
    before, margin = training.recipe.initial_margin, training.margin(1.0)
    if margin > before:
        print(
            f"The margin rises to {margin:g} until the middle of the run, and the loss with it: that is no fault. "
            "It falls once the margin stays."
        )
    if held_out := len(training.training_set.rows("val")):
        print(f"top1: the share of {held_out} held-out photos that get the right name.")
    elif training.recipe.folder:
        print("No photo is held out, because nobody has three: there is no accuracy to watch, only the loss.")
    else:
        print("The tables hold no photo out (split val): there is no accuracy to watch, only the loss.")
