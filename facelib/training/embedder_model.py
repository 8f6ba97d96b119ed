"""The network and the loss that an embedder's configuration describes."""

from pathlib import Path
from typing import cast

import torch

from facelib.embedding.losses import LOSSES, hyperparameters, make_loss
from facelib.embedding.network import EmbeddingNetwork
from facelib.runtime.weights import load_weights
from facelib.training.embedder_config import EmbedderConfig
from facelib.training.embedder_task import EmbeddingClassifier
from facelib.training.initial_weights import check_arguments
from facelib.training.training_set import TrainingSet


def make_network(config: EmbedderConfig, pretrained: bool) -> EmbeddingNetwork:
    """The network of a configuration; `pretrained`: with ImageNet weights."""
    return EmbeddingNetwork(
        backbone=config.backbone,
        embedding_size=config.embedding_size,
        dropout=config.dropout,
        output_stride=config.output_stride,
        pooling=config.pooling,
        drop_path=config.drop_path,
        distill_head_scale=config.distill_head_scale,
        distill_centering=config.distill_centering,
        pretrained=pretrained,
    )


def make_model(
    config: EmbedderConfig, training_set: TrainingSet, initial: Path | None, device: str
) -> tuple[EmbeddingClassifier, bool]:
    """Network and loss of a configuration, and whether its distillation head is new.

    `initial`: the file of the initial weights, which need not have a distillation head.
    """
    torch.manual_seed(config.seed)
    network = make_network(config, pretrained=config.initial_weights == "imagenet")
    new_head = bool(config.teacher)
    if initial:
        loaded = cast(EmbeddingNetwork, load_weights(initial, EmbeddingNetwork, "cpu")[0])
        may_differ = ("drop_path", "dropout", "distill_head_scale", "distill_centering")
        check_arguments(loaded.arguments | {name: getattr(config, name) for name in may_differ}, config)
        network.load_state_dict(loaded.state_dict(), strict=False)
        new_head = new_head and loaded.distill_head is None
    groups = training_set.sources() if config.within_source_weight else None
    loss = make_loss(config.loss, config.embedding_size, len(training_set.names), groups, **loss_options(config))
    model = EmbeddingClassifier(network, loss, config.frozen_stages)
    return model.to(device).to(memory_format=torch.channels_last), new_head


def loss_options(config: EmbedderConfig) -> dict[str, float]:
    """The hyperparameters of the loss of a configuration: those of its fields that have the same name."""
    values = vars(config) | {"group_loss_weight": config.within_source_weight}
    return {name: values[name] for name in hyperparameters(config.loss)}


def check_network(config: EmbedderConfig, initial: Path | None, processes: int) -> None:
    """Check the network and the number of processes before any photo is aligned.

    Raises:
        ValueError: there is no such network, or the loss needs the whole batch in one process.
    """
    if processes > 1 and LOSSES[config.loss].samples_per_class > 1:
        raise ValueError(f"loss: {config.loss} compares the photos of a whole batch, so it is trained in one process")
    if not initial:
        with torch.device("meta"):
            make_network(config, pretrained=False)
