"""Recipe -> embedding network."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facelib.alignment import SIZE
from facelib.datasets.lists import photo_key
from facelib.embedding import Embedder, EmbeddingNetwork, TrainedNetwork, face_to_tensor, load_embedder
from facelib.files import files_key
from facelib.inference import batches
from facelib.landmarks import load_landmarker
from facelib.losses import LOSSES, IdentityLoss, make_loss, margin_schedule
from facelib.metrics import rates_of, top_k_accuracy, triplet_accuracy
from facelib.training.face_data import AlignedDataset
from facelib.training.loop import Run, Task, fit, make_accelerator
from facelib.training.material import Material, load_material, sources_of
from facelib.training.recipes import EmbedderRecipe
from facelib.training.sampling import EpochSampler
from facelib.training.start import same_arguments


class EmbeddingClassifier(nn.Module):
    """Embedding network and loss in one, so that checkpoints and optimizer hold both."""

    def __init__(self, network: EmbeddingNetwork, loss: IdentityLoss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, s, s) -> embeddings (n, d), what the loss is given."""
        return self.network(images)

    def parameter_groups(self, head_rate: float = 4.0) -> list[dict]:
        """The new layers, class vectors included, learn `head_rate` times as fast as the ImageNet backbone."""
        new = [*self.network.head.parameters(), *self.loss.parameters()]
        return [{"params": list(self.network.backbone.parameters()), "lr": 1.0}, {"params": new, "lr": head_rate}]


def embedding_task(
    model: EmbeddingClassifier,
    dataset: AlignedDataset,
    margin: float = 0.4,
    margin_before: float = 0.0,
    sizes: list[int] | None = None,
    head_rate: float = 4.0,
) -> Task:
    """What `fit` trains: the model on these faces, the margin going from `margin_before` to `margin`.

    `sizes`: side of the network's input in each epoch; None: that of the dataset. Small pictures first
    save time. `head_rate`: see `EmbeddingClassifier.parameter_groups`.
    """

    def resize(epoch: int) -> None:
        dataset.size = sizes[epoch]

    def loss_of(embeddings: Tensor, batch: list[Tensor], progress: float) -> Tensor:
        return model.loss(embeddings, batch[1], margin_schedule(progress, margin, before=margin_before))

    labels, together = dataset.labels[dataset.rows], model.loss.samples_per_class
    return Task(
        model=model,
        dataset=dataset,
        loss_of=loss_of,
        sampler=EpochSampler(len(dataset), labels=labels, samples_per_class=together),
        groups=model.parameter_groups(head_rate),
        before_epoch=resize if sizes else None,
        epochs=len(sizes) if sizes else None,
    )


@torch.inference_mode()
def closed_set_logits(model: EmbeddingClassifier, aligned: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Margin-free logits (n, classes) of aligned faces (n, 112, 112, 3)."""
    device = next(model.parameters()).device
    rows = [np.zeros((0, model.loss.classes), np.float32)]
    for part in batches(len(aligned), 64):
        images = torch.stack([face_to_tensor(face, size) for face in aligned[part]])
        vectors = model.network(images.to(device, memory_format=torch.channels_last))
        rows.append(model.loss.logits(vectors).float().cpu().numpy())
    return np.concatenate(rows)


def class_centres(
    network: EmbeddingNetwork, aligned: np.ndarray, labels: np.ndarray, classes: int, size: int = SIZE
) -> Tensor:
    """Mean unit vector (classes, d) of the aligned faces (n, 112, 112, 3) of each label (n,)."""
    vectors = torch.from_numpy(Embedder(TrainedNetwork(network, size), flip=False).embed(aligned))
    total = torch.zeros(classes, vectors.shape[1]).index_add_(0, torch.from_numpy(labels), vectors)
    return total.to(next(network.parameters()).device)


@dataclass
class Training:
    """A recipe in work: the model, its photos, and what has been measured in each epoch."""

    recipe: EmbedderRecipe
    model: EmbeddingClassifier
    material: Material
    history: list[dict[str, float]]

    def validate(self, epoch: int) -> dict[str, float]:
        """Closed-set accuracy on held-out photos, TPR and triplets on open_val, at the size of the epoch; and the
        margin that the epoch ends with. What has no photos has no figure."""
        size, figures = self.recipe.sizes[epoch], {"input_size": self.recipe.sizes[epoch], "margin": self.margin(epoch)}
        aligned, people = self.material.unseen
        if len(aligned):
            vectors = Embedder(TrainedNetwork(self.model.network, size), flip=False).embed(aligned)
            figures |= {f"tpr_at_{fpr}": rate for fpr, rate in rates_of(vectors, people).items()}
            figures["triplets"] = triplet_accuracy(vectors, people)
        return figures | self.closed_set("val", size, {"top1": 1})

    def closed_set(self, split: str, size: int, ranks: dict[str, int]) -> dict[str, float]:
        """Top-k accuracy by name, from margin-free logits of the held-out photos of a split."""
        rows = self.material.rows(split)
        if not len(rows) or not self.model.loss.classes:
            return {}
        logits = closed_set_logits(self.model, self.material.aligned[rows], size)
        return {name: top_k_accuracy(logits, self.material.labels[rows], k) for name, k in ranks.items()}

    @property
    def network(self) -> EmbeddingNetwork:
        """What is saved."""
        return self.model.network

    def metrics(self) -> dict[str, float]:
        """Measured once, at the end."""
        return self.closed_set("test", self.recipe.sizes[-1], {"closed_set_top1": 1, "closed_set_top5": 5})

    def entry(self) -> dict[str, Any]:
        """What the manifest says of the weights, beside their hash."""
        fields = {"input_size": self.recipe.sizes[-1], "alignment": self.recipe.alignment}
        return {
            "architecture": "facelib.embedding.EmbeddingNetwork",
            "arguments": self.network.arguments,
            "preprocessing": fields | {"range": [-1, 1], "colour": "RGB"},
        }

    def data(self) -> str:
        """The training data in words."""
        rows = self.material.rows("train")
        people = len(set(self.material.faces.people[rows].tolist()))
        sets = Path(self.recipe.folder).name if self.recipe.folder else ", ".join(self.recipe.faces)
        return f"{len(rows)} photos of {people} people of {sets}"

    def margin(self, epoch: int) -> float:
        """With which an epoch ends."""
        if not self.model.loss.has_margin:
            return 0.0
        share = (epoch + 1) / len(self.recipe.sizes)
        return margin_schedule(share, self.recipe.margin, before=self.recipe.margin_before)


def make_network(recipe: EmbedderRecipe, pretrained: bool) -> EmbeddingNetwork:
    """The network that the recipe describes."""
    arguments = (recipe.backbone, recipe.embedding_size, recipe.dropout, recipe.output_stride, recipe.pooling)
    return EmbeddingNetwork(*arguments, pretrained=pretrained)


def make_model(recipe: EmbedderRecipe, material: Material, start: Path | None, device: str) -> EmbeddingClassifier:
    """Network and loss as the recipe wants them; `start`: the weights that it names by their hash."""
    torch.manual_seed(recipe.seed)
    if start:
        network = load_embedder(start, device=device).networks[0].model
        same_arguments(network.arguments, recipe)
    else:
        network = make_network(recipe, pretrained=recipe.start == "imagenet")
    groups = sources_of(material.faces) if recipe.by_source else None
    size, classes = network.arguments["embedding_size"], len(material.names)
    model = EmbeddingClassifier(network, make_loss(recipe.loss, size, classes, recipe.scale, groups))
    model = model.to(device, memory_format=torch.channels_last)
    if start:
        rows = material.rows("train")
        aligned, labels = material.aligned[rows], material.labels[rows]
        model.loss.start_from(class_centres(network, aligned, labels, classes, recipe.sizes[0]))
    return model


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
    landmarker = load_landmarker(device=device)
    with accelerator.main_process_first():  # which writes the caches
        material = load_material(recipe, landmarker)
    rows = material.rows("train")
    training = Training(recipe, make_model(recipe, material, weights["start"], device), material, [])
    if accelerator.is_main_process:
        say_what_to_watch(training)
    # Few photos make small batches: a pass that is one step teaches nothing.
    batch_size = min(recipe.batch_size, max(8, len(rows) // 50), len(rows))
    batch_size = max(batch_size // accelerator.num_processes, 1) * accelerator.num_processes
    # A checkpoint is of the same photos: of one's own by place, size and time, of prepared sets by name.
    files, keys = material.faces.files, [photo_key(file) for file in material.faces.files]
    data = (files_key(files) if recipe.folder else files_key([], keys))[:8]
    run = Run(
        epochs=len(recipe.sizes),
        batch_size=batch_size,
        learning_rate=recipe.learning_rate * batch_size / recipe.batch_size,
        optimizer=recipe.optimizer,
        weight_decay=recipe.weight_decay,
        precision=recipe.precision,
        seed=recipe.seed,
        checkpoint=checkpoints.with_name(f"{checkpoints.name}.pt"),
        **settings | {"about": f"{settings['about']}, {training.data()} ({data})"},
    )
    dataset = AlignedDataset(material.aligned, material.labels, rows, SIZE, recipe.strength, recipe.tight_crop)
    task = embedding_task(training.model, dataset, recipe.margin, recipe.margin_before, recipe.sizes, recipe.head_rate)
    training.history = fit(replace(task, validate=training.validate), run, accelerator)
    return training


def say_what_to_watch(training: Training) -> None:
    """What a reader of the first lines should know: why the loss may rise, and whether there is an accuracy."""
    before, margin = training.recipe.margin_before, training.margin(len(training.recipe.sizes) - 1)
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
