"""Measure weights on the test sets and write models/results: `python -m facelib.evaluation [NAME ...]`."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facelib.alignment.landmarker import SHIPPED, HourglassLandmarker, load_landmarker
from facelib.datasets.splits import EVALUATION_SETS, FAMILIES
from facelib.embedding.embedder import NetworkEmbedder, load_embedder
from facelib.evaluation import calibration, closed_set, identification, landmarks, same_photo, verification
from facelib.io.records import results_folder, write_record, write_table
from facelib.recognition.calibration import FOLDER, Calibration, own_folder, save_calibration
from facelib.runtime.manifest import (
    embedder_networks,
    embedder_uses_flip,
    file_hash,
    named_embedders,
    read_manifest,
    short_hashes,
    write_manifest,
)
from facelib.settings import LISTS, MODELS, data_folder, one_line_errors

TRAINED_ON = [
    "faces_train",
    "faces_more",
    "faces_celeba",
    "faces_celebrities",
]  # what the shipped networks learned from, for the closed set
ASKED_FOR = ("closed_set", "dlib")  # what is measured only when it is named
TABLES = {"landmarks": "landmarks.csv"}  # of the other sets it is faces.csv


@dataclass(frozen=True)
class Evaluation:
    """The weights in a folder, measured with the landmarks of its own hourglass, or of the shipped one."""

    models: Path
    device: str | None = None

    @property
    def hourglass(self) -> Path:
        """Whose landmarks align the faces."""
        own = self.models / SHIPPED
        return own if own.exists() else MODELS / SHIPPED

    @property
    def networks(self) -> list[str]:
        """The embedding networks that the manifest lists."""
        return self._of("EmbeddingNetwork")

    def _of(self, architecture: str) -> list[str]:
        entries = read_manifest(self.models).items()
        return [name for name, entry in entries if str(entry.get("architecture")).endswith(architecture)]

    @property
    def names(self) -> list[str]:
        """What can be measured; `ASKED_FOR` not by default."""
        named = named_embedders(self.models)
        alone = [embedder_networks(self.models, name) for name in named]
        alone = {networks[0].name for networks in alone if len(networks) == 1}  # measured under that name
        there = self._of("StackedHourglass") + [name for name in self.networks if name not in alone] + named
        there += ["identification"] * ("default" in there)
        return there + list(ASKED_FOR) * (self.models.resolve() == MODELS.resolve())

    def run(self, name: str) -> None:
        """Measure one of `names`, and write what comes out."""
        if name in self._of("StackedHourglass"):
            plain, flipped = (
                load_landmarker(self.models / name, self.device, flip=flip, runtime="auto") for flip in (False, True)
            )
            self.write(name, landmarks.test_set_metrics(plain, flipped), [name], ["landmarks"])
        elif name == "closed_set":
            self.closed_set()
        elif name == "identification":
            self.identification()
        else:
            self.embedder(name)

    def embedder(self, name: str) -> None:
        """Threshold and metrics of one network, of an embedder that the manifest names, or of dlib's network."""
        networks, landmarker, embedder = self.loaded(name)
        meaning = self.calibrated(embedder, landmarker)
        distance = meaning.distance_at(max(0.001, 1 / meaning.pairs))
        metrics = verification.embedder_metrics(embedder, landmarker, 1 - distance)
        metrics["calibration"] = calibration.check(meaning, embedder, landmarker)
        if (data_folder() / "photos").is_dir():
            metrics["same_photo"] = same_photo.same_photo_metrics(embedder, landmarker, meaning)
        if networks:
            manifest = read_manifest(self.models)  # only now: a training may have ended since
            chosen = {"cosine_distance": distance, "chosen": f"FPR 0.001 on {meaning.data}"}
            manifest[name]["threshold"] = chosen | {"weights": short_hashes(manifest, networks)}
            write_manifest(manifest, self.models)
        self.write(name, metrics, [SHIPPED, *networks], [*EVALUATION_SETS, FAMILIES])
        if name == "default":
            rows = verification.choice_rows(self.candidates(), landmarker)
            self.write_rows("embedder_choice.csv", rows, [*EVALUATION_SETS[:1], FAMILIES])

    def loaded(self, name: str) -> tuple[list[str], HourglassLandmarker, NetworkEmbedder]:
        """The networks of an embedder (none for dlib's), and what measures them."""
        landmarker = load_landmarker(self.hourglass, self.device, runtime="auto")
        if name == "dlib":
            return [], landmarker, load_embedder(name, self.device)
        named = name in named_embedders(self.models)
        networks = [path.name for path in embedder_networks(self.models, name)] if named else [name]
        flip = embedder_uses_flip(self.models, name)
        embedder = load_embedder([self.models / file for file in networks], self.device, flip=flip, runtime="auto")
        return networks, landmarker, embedder

    def calibrated(self, embedder: NetworkEmbedder, landmarker: HourglassLandmarker) -> Calibration:
        """What distances of an embedder mean, measured and kept."""
        measured = calibration.measure(embedder, landmarker)
        save_calibration(measured, FOLDER if self.models.resolve() == MODELS.resolve() else own_folder())
        return measured

    def identification(self) -> None:
        """Naming, sorting and quality with the embedder that the pipeline uses."""
        networks, landmarker, embedder = self.loaded("default")
        metrics = identification.identification_metrics(embedder, landmarker, self.calibrated(embedder, landmarker))
        self.write("identification", metrics, [SHIPPED, *networks], [*EVALUATION_SETS, FAMILIES])

    def closed_set(self) -> None:
        """The networks of the named embedders, on held-out photos of training people."""
        landmarker = load_landmarker(self.hourglass, self.device, runtime="auto")
        each = {path.name: load_embedder(path, self.device, runtime="auto") for path in self.named_networks()}
        rows = closed_set.closed_set_rows(each, TRAINED_ON, landmarker)
        self.write_rows("closed_set.csv", rows, TRAINED_ON)

    def candidates(self) -> dict[str, NetworkEmbedder]:
        """What the embedders are chosen among: the networks of the named ones, each alone and all together, with and
        without mirror images."""
        files = self.named_networks()
        choices = [[path] for path in files] + [files] * (len(files) > 1)
        return {
            " + ".join(path.name for path in chosen) + ", mirror images" * flip: load_embedder(
                chosen, self.device, flip=flip, runtime="auto"
            )
            for chosen in choices
            for flip in (False, True)
        }

    def named_networks(self) -> list[Path]:
        """The networks of all named embedders."""
        named = [embedder_networks(self.models, name) for name in named_embedders(self.models)]
        return list(dict.fromkeys(path for networks in named for path in networks))

    def measured(self, weights: list[str], sets: list[str]) -> dict[str, Any]:
        """How a result came about, for `write_record`."""
        files = {file: self.hourglass if file == SHIPPED else self.models / file for file in weights}
        return {
            "command": " ".join(["python -m facelib.evaluation", *sys.argv[1:]]),
            "weights": {file: file_hash(place)[:8] for file, place in files.items()},
            "data": {name: described(name) for name in sets} | {"lists": frozen_lists()},
        }

    def write(self, name: str, metrics: dict[str, Any], weights: list[str], sets: list[str]) -> None:
        """The record of one of `names`."""
        path = results_folder(self.models) / f"{Path(name).stem}.json"
        write_record(path, metrics, **self.measured(weights, sets))
        print(f"{path}: written", flush=True)

    def write_rows(self, name: str, rows: list[dict[str, Any]], sets: list[str]) -> None:
        """A table of embedders, and beside it how it was measured."""
        path = results_folder(self.models) / name
        write_table(path, rows)
        write_record(
            path.with_suffix(".json"),
            {},
            **self.measured([SHIPPED, *(path.name for path in self.named_networks())], sets),
        )
        print(f"{path}: written", flush=True)


def described(name: str) -> str:
    """How much there is of a set, and the hash of its table."""
    table = data_folder() / name / TABLES.get(name, "faces.csv")
    rows = len(table.read_text().splitlines()) - 1
    return f"{rows} photos, {table.name} {file_hash(table)[:8]}"


def frozen_lists() -> str:
    """The hash of who is left out of the training sets."""
    return " ".join(file_hash(path)[:8] for path in sorted(LISTS.glob("*.txt")))


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser("python -m facelib.evaluation", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="weights of the manifest; default: the embedder that the pipeline uses; identification: naming and sorting with it; "
        "closed_set: held-out photos of training people, which aligns all their photos first; dlib: dlib's network, "
        "with the extra teacher; default: all but the last two",
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the weights and their manifest")
    parser.add_argument("--device")
    options = parser.parse_args()
    evaluation = Evaluation(options.models, options.device)
    if not evaluation.names:
        parser.error(f"{options.models / 'manifest.json'} lists no weights")
    if unknown := [name for name in options.names if name not in evaluation.names]:
        manifest = options.models / "manifest.json"
        parser.error(f"{' '.join(unknown)}: {manifest} has {', '.join(evaluation.names) or 'nothing'}")
    for name in options.names or [name for name in evaluation.names if name not in ASKED_FOR]:
        evaluation.run(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
