"""Recipe -> embedding network."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facelib.datasets.lists import photo_key
from facelib.datasets.splits import some_of_each
from facelib.embedding import Embedder, EmbeddingNetwork, TrainedNetwork, load_embedder
from facelib.files import files_key
from facelib.landmarks import load_landmarker
from facelib.losses import LOSSES, IdentityLoss, make_loss, margin_schedule
from facelib.metrics import rates_of, top_k_accuracy, triplet_accuracy
from facelib.settings import data_folder
from facelib.training.face_batches import FaceAugmentation, FaceBatches
from facelib.training.loop import Run, Task, fit, make_accelerator
from facelib.training.material import Material, load_material, sources_of
from facelib.training.recipes import EmbedderRecipe
from facelib.training.sampling import EpochSampler
from facelib.training.start import mix_with_start, same_arguments
from facelib.training.teaching import squared_distance, start_second_head, teacher_vectors

CENTRE_PHOTOS = 4  # of each person, from which class vectors get their first values


class EmbeddingClassifier(nn.Module):
    """Embedding network and loss in one, so that checkpoints and optimizer hold both."""

    def __init__(self, network: EmbeddingNetwork, loss: IdentityLoss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n, 3, s, s) -> what the heads give, see `EmbeddingNetwork.heads`: the loss is given the first."""
        return self.network.heads(images)

    def parameter_groups(self, head_rate: float = 4.0) -> list[dict]:
        """The new layers, class vectors included, learn `head_rate` times as fast as the ImageNet backbone. Weight
        decay is for kernels and matrices, not for norms and biases."""
        groups, backbone = [], list(self.network.backbone.parameters())
        known = {id(p) for p in backbone}
        new = [p for p in self.parameters() if id(p) not in known]
        for parameters, rate in ((backbone, 1.0), (new, head_rate)):
            groups.append({"params": [p for p in parameters if p.ndim > 1], "lr": rate})
            groups.append({"params": [p for p in parameters if p.ndim <= 1], "lr": rate, "weight_decay": 0.0})
        return groups


@dataclass(frozen=True)
class Aims:
    """What a network learns, and how much each part counts.

    margin, margin_before: of the labels' loss, see `margin_schedule`. label_share: its factor. goals: (n, 128) the
    teacher's vectors of all pictures, or None; teacher_share: factor of the squared distance to them.
    """

    margin: float = 0.4
    margin_before: float = 0.0
    label_share: float = 1.0
    goals: Tensor | None = None
    teacher_share: float = 0.0


def embedding_task(
    model: EmbeddingClassifier,
    faces: FaceBatches,
    aims: Aims = Aims(),
    head_rate: float = 4.0,
    length: int | None = None,
) -> Task:
    """What `fit` trains: the model on these faces.

    `head_rate`: see `EmbeddingClassifier.parameter_groups`. `length`: photos in an epoch; None: all.
    """

    def loss_of(heads: tuple[Tensor, Tensor | None], batch: list[Tensor], progress: float) -> Tensor:
        own, taught = heads
        loss = own.new_zeros(())
        if aims.label_share:
            margin = margin_schedule(progress, aims.margin, before=aims.margin_before)
            loss = aims.label_share * model.loss(own, batch[1], margin)
        if aims.goals is not None:
            loss = loss + aims.teacher_share * squared_distance(taught, aims.goals[batch[2]])
        return loss

    labels, together = faces.labels[faces.rows], model.loss.samples_per_class
    return Task(
        model=model,
        dataset=faces,
        loss_of=loss_of,
        sampler=EpochSampler(len(faces), length=length, labels=labels, samples_per_class=together),
        prepare=lambda indices, _: list(faces.batch(indices)),
        groups=model.parameter_groups(head_rate),
    )


@torch.inference_mode()
def own_vectors(network: EmbeddingNetwork, faces: FaceBatches) -> Tensor:
    """What the first head gives, (n, d), for all rows of `faces`, as the pipeline would show them."""
    vectors = []
    for start in range(0, len(faces), 64):
        indices = torch.arange(start, min(start + 64, len(faces)))
        vectors.append(network.heads(faces.batch(indices)[0])[0])
    return torch.cat(vectors)


def class_centres(network: EmbeddingNetwork, faces: FaceBatches, classes: int) -> Tensor:
    """Mean unit vector (classes, d) of the faces of each label."""
    vectors = nn.functional.normalize(own_vectors(network, faces))
    labels = torch.from_numpy(faces.labels[faces.rows]).to(vectors.device)
    return torch.zeros(classes, vectors.shape[1], device=vectors.device).index_add_(0, labels, vectors)


@dataclass
class Training:
    """A recipe in work: the model, its photos, and what has been measured in each epoch."""

    recipe: EmbedderRecipe
    model: EmbeddingClassifier
    material: Material
    faces: FaceBatches
    history: list[dict[str, float]]

    def validate(self, progress: float) -> dict[str, float]:
        """Closed-set accuracy on held-out photos, TPR and triplets on open_val, at the size of the moment; and the
        margin of the moment. What has no photos has no figure."""
        size = self.recipe.size(progress - 1e-3)
        figures = {"input_size": size, "margin": self.margin(progress)}
        aligned, people = self.material.unseen
        if len(aligned):
            vectors = Embedder(TrainedNetwork(self.model.network, size)).embed(aligned)
            figures |= {f"tpr_at_{fpr}": rate for fpr, rate in rates_of(vectors, people).items()}
            figures["triplets"] = triplet_accuracy(vectors, people)
        return figures | self.closed_set("val", size, {"top1": 1})

    def closed_set(self, split: str, size: int, ranks: dict[str, int]) -> dict[str, float]:
        """Top-k accuracy by name, from margin-free logits of the held-out photos of a split."""
        rows = self.material.rows(split)
        if not len(rows) or not self.model.loss.classes:
            return {}
        shown = self.shown(rows, size)
        with torch.inference_mode():
            logits = self.model.loss.logits(own_vectors(self.model.network, shown)).float().cpu().numpy()
        return {name: top_k_accuracy(logits, self.material.labels[rows], k) for name, k in ranks.items()}

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
            "architecture": "facelib.embedding.EmbeddingNetwork",
            "arguments": self.network.arguments,
            "learned_from": f"labels and {self.recipe.teacher}" if self.recipe.teacher else "labels",
            "preprocessing": fields | {"range": [-1, 1], "colour": "RGB"},
        }

    def data(self) -> str:
        """The training data in words."""
        rows = self.material.rows("train")
        people = len(set(self.material.faces.people[rows].tolist()))
        sets = Path(self.recipe.folder).name if self.recipe.folder else ", ".join(self.recipe.faces)
        return f"{len(rows)} photos of {people} people of {sets}"

    def margin(self, progress: float) -> float:
        """At this share of the run."""
        if not self.model.loss.has_margin:
            return 0.0
        return margin_schedule(progress, self.recipe.margin, before=self.recipe.margin_before)


def make_network(recipe: EmbedderRecipe, pretrained: bool) -> EmbeddingNetwork:
    """The network that the recipe describes."""
    return EmbeddingNetwork(
        recipe.backbone,
        recipe.embedding_size,
        recipe.dropout,
        recipe.output_stride,
        recipe.pooling,
        recipe.drop_path,
        recipe.taught_weight,
        recipe.taught_centre,
        pretrained=pretrained,
    )


def make_model(
    recipe: EmbedderRecipe, material: Material, start: Path | None, device: str
) -> tuple[EmbeddingClassifier, bool]:
    """Network and loss as the recipe wants them, and whether a second head is still to be begun with.

    `start`: the weights that the recipe names by their hash, which need not have the second head.
    """
    torch.manual_seed(recipe.seed)
    network, bare = make_network(recipe, pretrained=recipe.start == "imagenet"), bool(recipe.teacher)
    if start:
        started = load_embedder(start, device="cpu").networks[0].model
        free = {name: getattr(recipe, name) for name in ("drop_path", "dropout", "taught_weight", "taught_centre")}
        same_arguments(started.arguments | free, recipe)
        network.load_state_dict(started.state_dict(), strict=False)
        bare = bare and started.taught is None
    groups = sources_of(material.faces) if recipe.by_source else None
    size, classes = recipe.embedding_size, len(material.names)
    loss = make_loss(recipe.loss, size, classes, recipe.scale, groups, recipe.by_source)
    return EmbeddingClassifier(network, loss).to(device, memory_format=torch.channels_last), bare


def check_network(recipe: EmbedderRecipe, start: Path | None, processes: int) -> None:
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
    recipe: EmbedderRecipe, weights: dict[str, Path | None], checkpoints: Path, settings: dict[str, Any]
) -> Training:
    """Everything that a recipe says.

    Args:
        weights: the file that the recipe names by its hash as "start", or None.
        checkpoints: the checkpoint's path without ending.
        settings: workers, device, progress, stop_after, about, as `Run` has them.

    Raises:
        FileNotFoundError, ValueError: see `load_material`, `load_embedder` and `fit`.
    """
    accelerator = make_accelerator(settings.get("device"), recipe.precision)
    device = str(accelerator.device)
    check_network(recipe, weights["start"], accelerator.num_processes)
    with accelerator.main_process_first():  # which writes the caches
        material = load_material(recipe, load_landmarker(device=device))
    rows = material.rows("train")
    # A checkpoint is of the same photos: of one's own by place, size and time, of prepared sets by name.
    files, keys = material.faces.files, [photo_key(file) for file in material.faces.files]
    data = files_key(files) if recipe.folder else files_key([], keys)
    augment = FaceAugmentation(recipe.strength, recipe.tight_crop, recipe.pose, recipe.light)
    faces = FaceBatches(material.pictures, material.labels, rows, recipe.size(0.0), augment, device)
    model, bare = make_model(recipe, material, weights["start"], device)
    training = Training(recipe, model, material, faces, [])
    goals = None
    if recipe.teacher:
        cache = data_folder() / "cache" / f"{recipe.teacher}_{len(faces.pictures)}.npz"
        with accelerator.main_process_first():
            goals = teacher_vectors(faces, cache, f"{data} {hash_of(material.pictures.matrices)}")
        if recipe.taught_centre:
            model.network.taught_mean.copy_(goals[torch.from_numpy(rows).to(goals.device)].mean(0))
    checkpoint = checkpoints.with_name(f"{checkpoints.name}.pt")
    if weights["start"] and not checkpoint.exists():
        if recipe.label_share and model.loss.classes:
            shown = training.shown(rows[some_of_each(material.faces.where(rows), CENTRE_PHOTOS)], faces.size)
            model.loss.start_from(class_centres(model.network, shown, len(material.names)))
        if bare:
            start_second_head(model.network, faces, rows, goals)
    if accelerator.is_main_process:
        say_what_to_watch(training)
    about = f"{settings['about']}, {training.data()} ({data[:8]})"
    batch_size = batch_size_for(recipe, len(rows), accelerator.num_processes)
    run = run_of(recipe, batch_size, checkpoint, settings | {"about": about})
    aims = Aims(recipe.margin, recipe.margin_before, recipe.label_share, goals, recipe.teacher_share)
    task = embedding_task(model, faces, aims, recipe.head_rate, recipe.epoch_photos or None)

    def prepare(indices: Tensor, progress: float) -> list[Tensor]:
        faces.size = recipe.size(progress)
        return list(faces.batch(indices))

    training.history = fit(replace(task, prepare=prepare, validate=training.validate), run, accelerator)
    whole = not recipe.epochs or len(training.history) == recipe.epochs
    if recipe.start_share and whole:
        before = load_embedder(weights["start"], device="cpu").networks[0].model.state_dict()
        mix_with_start(model.network, before, recipe.start_share)
        if accelerator.is_main_process:
            training.history[-1] |= training.validate(1.0)
    return training


def batch_size_for(recipe: EmbedderRecipe, photos: int, processes: int) -> int:
    """The recipe's, or less: few photos make small batches, because a pass that is one step teaches nothing."""
    size = min(recipe.batch_size, max(8, photos // 50), photos)
    return max(size // processes, 1) * processes


def run_of(recipe: EmbedderRecipe, batch_size: int, checkpoint: Path, settings: dict[str, Any]) -> Run:
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


def say_what_to_watch(training: Training) -> None:
    """What a reader of the first lines should know: why the loss may rise, and whether there is an accuracy."""
    before, margin = training.recipe.margin_before, training.margin(1.0)
    if margin > before:
        print(
            f"The margin rises to {margin:g} until the middle of the run, and the loss with it: that is no fault. "
            "It falls once the margin stays."
        )
    if held_out := len(training.material.rows("val")):
        print(f"top1: the share of {held_out} held-out photos that get the right name.")
    elif training.recipe.folder:
        print("No photo is held out, because nobody has three: there is no accuracy to watch, only the loss.")
    else:
        print("The tables hold no photo out (split val): there is no accuracy to watch, only the loss.")
