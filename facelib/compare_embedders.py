r"""Equal short runs that compare what goes into the embedder's training: `python -m facelib.compare_embedders`.

Runs that go on from a first model compare losses where they are used; runs from ImageNet compare what has
to be there from the start. About two hours on two CPU cores. Each run's result is kept under
FACELIB_DATA/comparisons/embedder, so an interrupted comparison goes on where it stopped; all of them then
go into the manifest, which keeps what it has of earlier runs. The shipped comparisons were made by (the
first model with earlier landmarks and lists of people):

    python -m facelib.train_embedder --stages 64:5 --optimizer adamw --learning-rate 1.5e-3 --margin 0.2 \
        --embedding-size 256 --pooling average --strength 1 --out first.pt
    python -m facelib.compare_embedders --first first.pt
"""

import argparse
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facelib.checkpoints import MODELS, data_folder, pick_device, read_manifest, write_manifest
from facelib.datasets import FaceList, load_faces
from facelib.embedding import Embedder, EmbeddingNetwork, load_embedder
from facelib.face_data import AlignedDataset, cut_faces, face_augmentation, family_faces, photo_key, training_faces
from facelib.landmarks import Landmarker, load_landmarker
from facelib.losses import PHOTOS_TOGETHER, make_head
from facelib.metrics import rates_of, top_k_accuracy, triplet_accuracy
from facelib.train_embedder import (
    BATCH_SIZE,
    EmbeddingClassifier,
    class_centres,
    closed_set_logits,
    sources_of,
    train_embedder,
    unseen_faces,
)

PHOTOS, LEARNING_RATE = 30_000, 1e-3  # of the runs that go on from a first model
FEW_PHOTOS, EPOCHS = 10_000, 5  # of the runs from ImageNet, on 1,000 people
ALL_EPOCHS = 3  # of the runs on all photos
SETS = ["faces_train", "faces_more"]
LOW = "celeba_low"  # the source of blurred, enlarged photos
ALL_PHOTOS = {"people": None, "size": 64, "margin": 0.2, "learning_rate": 1.5e-3}
# table -> name -> (what it is, changes to the standard run of the table)
GO_ON = {
    "loss": {
        "arcface": ("ArcFace, margin 0.3, scale 32", {}),
        "cosface": ("CosFace, margin 0.3", {"loss": "cosface"}),
        "adaface": ("AdaFace, margin 0.3", {"loss": "adaface"}),
        "arcface_triplet": ("ArcFace and triplet mixed", {"loss": "arcface_triplet"}),
        "sub_centre": ("ArcFace with three centres a person", {"loss": "sub_centre"}),
        "cross_entropy": ("cross-entropy", {"loss": "cross_entropy"}),
        "triplet": ("triplet loss, semi-hard", {"loss": "triplet"}),
    },
    "margin and scale": {
        "margin_5": ("margin 0.5", {"margin": 0.5}),
        "margin_0": ("margin 0", {"margin": 0.0}),
        "scale_64": ("scale 64", {"scale": 64.0}),
        "scale_16": ("scale 16", {"scale": 16.0}),
    },
    "training": {
        "by_source": ("compared with people of the same source only", {"by_source": True}),
        "no_tight_crops": ("no tight crops among the augmentation", {"tight_crop": 0.0}),
        "mirror_only": ("mirror images as the only augmentation", {"strength": 0.0}),
    },
}
FROM_IMAGENET = {
    "start": {
        "imagenet": ("ImageNet's weights, AdamW, five points of the hourglass, 48 px, 256 numbers, 1,000 people", {}),
        "random": ("random weights", {"start": "random"}),
        "sgd": ("SGD with learning rate 0.03 instead of AdamW", {"optimizer": "sgd", "learning_rate": 0.03}),
        "free_bias": ("last batch norm with a bias that learns", {"free_bias": True}),
    },
    "alignment": {
        "box": ("the detector's box, no alignment", {"alignment": "box"}),
        "eyes": ("eyes level at a fixed distance", {"alignment": "eyes"}),
        "detector": ("five points of the detector", {"alignment": "detector"}),
    },
    "people, equal photos": {
        "people_500": ("500 people, 20 photos each", {"people": 500}),
        "people_2500": ("2,500 people, 4 photos each", {"people": 2500}),
        "no_low": ("1,000 people without the low-resolution source", {"low": False}),
    },
    "input size and pooling": {
        "size_64": ("64 px instead of 48", {"size": 64}),
        "fine_64": ("64 px, pooled from 4 x 4 cells instead of 2 x 2", {"size": 64, "output_stride": 16}),
        "weighted_64": ("64 px, each channel pooled with weights for its cells", {"size": 64, "pooling": "weighted"}),
        "size_96": ("96 px", {"size": 96}),
        "size_112": ("112 px", {"size": 112}),
    },
    "embedding size": {
        "embedding_64": ("64 numbers", {"embedding_size": 64}),
        "embedding_512": ("512 numbers", {"embedding_size": 512}),
    },
    "all photos, three passes at 64 px": {
        "all_arcface": ("ArcFace, margin 0.2, faces_train and faces_more", ALL_PHOTOS),
        "all_faces_train": ("ArcFace, margin 0.2, faces_train alone", ALL_PHOTOS | {"only": "faces_train"}),
    },
}
# The second kind start without margin: so far from the goal, a margin only delays.
STANDARD = {"imagenet": {"start": "imagenet", "margin": 0.0, "size": 48}, "first": {}}
RUNS = {
    name: (table, what, STANDARD[start] | changes)
    for start, tables in (("first", GO_ON), ("imagenet", FROM_IMAGENET))
    for table, runs in tables.items()
    for name, (what, changes) in runs.items()
}


def choose_rows(faces: FaceList, people: int, low: bool) -> np.ndarray:
    """Rows of FEW_PHOTOS training photos, equally many of each of `people` people, always the same ones."""
    each = FEW_PHOTOS // people
    photos: dict[str, list[int]] = {}
    for i in _in_hash_order(faces):
        if low or faces.sets[i] != LOW:
            photos.setdefault(str(faces.people[i]), []).append(i)
    rows = [mine[:each] for mine in photos.values() if len(mine) >= each][:people]
    if len(rows) < people:
        raise ValueError(f"only {len(rows)} people have {each} photos or more, {people} are asked for")
    return np.sort(np.concatenate(rows))


def _in_hash_order(faces: FaceList) -> list[int]:
    train = np.flatnonzero(faces.splits == "train")
    return sorted(train, key=lambda i: hashlib.sha256(photo_key(faces.files[i]).encode()).digest())


@dataclass
class Material:
    """What all runs share: aligned faces and who they are, the first model and its class centres."""

    landmarker: Landmarker
    first: Path
    pictures: np.ndarray
    faces: FaceList
    centres: torch.Tensor  # (people, d), in the order of np.unique(faces.people)

    @classmethod
    def load(cls, first: Path, device: str | None) -> "Material":
        landmarker, embedder = load_landmarker(device=device), load_embedder(first, device)
        pictures, faces = training_faces(SETS, landmarker)
        rows = np.flatnonzero(faces.splits == "train")
        names, labels = np.unique(faces.people, return_inverse=True)
        size = embedder.input_size
        centres = class_centres(embedder.model, pictures[rows], labels[rows], len(names), size)
        return cls(landmarker, first, pictures, faces, centres)


def run(
    material: Material,
    *,
    start: str = "first",
    loss: str = "arcface",
    margin: float = 0.3,
    scale: float = 32.0,
    people: int | None = 1000,
    only: str | None = None,
    low: bool = True,
    alignment: str = "five_points",
    size: int = 64,
    embedding_size: int = 256,
    output_stride: int = 32,
    pooling: str = "average",
    strength: float = 1.0,
    tight_crop: float = 0.3,
    by_source: bool = False,
    free_bias: bool = False,
    optimizer: str = "adamw",
    learning_rate: float = LEARNING_RATE,
    device: str | None = None,
) -> dict:
    """One run, measured on open_val with and without flip averaging, and on the held-out families.

    `start`: "first" goes on from the first model with PHOTOS photos of all people; "imagenet" and "random"
    see FEW_PHOTOS photos of `people` people EPOCHS times, or with `people` None all photos, or all of the
    set `only`, ALL_EPOCHS times.
    """
    faces, go_on = material.faces, start == "first"
    if go_on:
        rows = np.sort(_in_hash_order(faces)[:PHOTOS])
    elif people:
        rows = choose_rows(faces, people, low)
    else:
        sets = np.array([file.parent.parent.name for file in faces.files])
        rows = np.flatnonzero((faces.splits == "train") & ((sets == only) | (only is None)))
    chosen = faces.where(rows)
    if alignment == "five_points":
        train, (seen, strangers) = material.pictures[rows], unseen_faces(material.landmarker)
    else:
        unseen = load_faces("faces_unseen")
        seen, kept = cut_faces(unseen.where(unseen.splits == "open_val"), alignment, material.landmarker)
        train, strangers = cut_faces(chosen, alignment, material.landmarker)[0], kept.people
    everybody = np.unique(faces.people)
    names = everybody if go_on else np.unique(chosen.people)
    labels = np.searchsorted(names, chosen.people)

    torch.manual_seed(0)
    if go_on:
        network = load_embedder(material.first, device).model
        embedding_size = network.arguments["embedding_size"]
    head = make_head(loss, embedding_size, len(names), scale)
    if not go_on:
        network = EmbeddingNetwork(
            embedding_size=embedding_size,
            output_stride=output_stride,
            pooling=pooling,
            pretrained=start == "imagenet",
        )
    elif hasattr(head, "start_from"):
        head.start_from(material.centres)
    network.head[-1].bias.requires_grad_(free_bias)
    if by_source:
        head.groups = sources_of(faces)
    model = EmbeddingClassifier(network, head).to(pick_device(device), memory_format=torch.channels_last)
    dataset = AlignedDataset(train, labels, size=size)
    dataset.augment = face_augmentation(strength, tight_crop)
    epochs = 1 if go_on else EPOCHS if people else ALL_EPOCHS
    clock = time.time()
    history = train_embedder(
        model,
        dataset,
        margin=margin,
        margin_before=margin if go_on else 0.0,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=learning_rate,
        optimizer=optimizer,
        photos_together=PHOTOS_TOGETHER.get(loss, 1),
        device=pick_device(device),
        progress=False,
    )
    result = {"start": start, "photos_seen": epochs * len(rows), "people": len(names), "input_size": size}
    result |= {"seconds": round(time.time() - clock), "loss": history[-1]["loss"]}
    for flip in (False, True):
        vectors = Embedder(network, size, flip=flip).embed(seen)
        result["open_val_flip" if flip else "open_val"] = rates_of(vectors, strangers)
    result["triplets"] = triplet_accuracy(vectors, strangers)
    if alignment == "five_points":
        pictures, relatives = family_faces(material.landmarker)
        result["families"] = rates_of(Embedder(network, size).embed(pictures), relatives.people)
        held_out = np.flatnonzero((faces.splits == "val") & np.isin(faces.people, names))
        if len(held_out) and hasattr(head, "logits"):
            logits = closed_set_logits(model, material.pictures[held_out], size)
            result["top1"] = top_k_accuracy(logits, np.searchsorted(names, faces.people[held_out]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m facelib.compare_embedders", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=Path, help="first model; default: FACELIB_DATA/models/first.pt")
    parser.add_argument("--device")
    parser.add_argument(
        "--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help="these runs; default: all"
    )
    options = parser.parse_args()
    folder = data_folder() / "comparisons" / "embedder"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(MODELS)
    known = manifest["model_arcface.pt"].get("comparisons", {})
    material, results = None, {}
    for name, (table, what, changes) in RUNS.items():
        path = folder / f"{name}.json"
        if name in options.only and not path.exists():
            first = options.first or data_folder() / "models" / "first.pt"
            material = material or Material.load(first, options.device)
            path.write_text(json.dumps(run(material, device=options.device, **changes)))
        if path.exists():
            known[name] = json.loads(path.read_text())
        if name in known:
            results[name] = known[name] | {"table": table, "what": what}
            rates = results[name]["open_val_flip"]
            print(f"{name:18}", "  ".join(f"{rate:.3f}" for rate in rates.values()), flush=True)
    manifest["model_arcface.pt"]["comparisons"] = results
    write_manifest(manifest, MODELS)


if __name__ == "__main__":
    main()
