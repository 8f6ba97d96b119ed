"""Measure weights on the test sets and write models/results: `python -m facelib.evaluation [NAME ...]`."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facelib.datasets.splits import EVALUATION_SETS, FAMILIES
from facelib.embedding import Embedder, load_embedder
from facelib.evaluation import closed_set, landmarks, recognition
from facelib.landmarks import SHIPPED, load_landmarker
from facelib.records import results_folder, write_record, write_table
from facelib.settings import LISTS, MODELS, data_folder, one_line_errors
from facelib.weights import embedder_networks, file_hash, hashes_of, read_manifest, write_manifest

TRAINED_ON = ["faces_train", "faces_more"]  # what the shipped networks learned from, for the closed set
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
        """What can be measured, all but the closed set by default."""
        there = self._of("StackedHourglass") + self.networks
        there += ["embedder"] * ("embedder" in read_manifest(self.models))
        return there + ["closed_set"] * (self.models.resolve() == MODELS.resolve())

    def run(self, name: str) -> None:
        """Measure one of `names`, and write what comes out."""
        if name in self._of("StackedHourglass"):
            plain, flipped = (
                load_landmarker(self.models / name, self.device, flip=flip, runtime="auto") for flip in (False, True)
            )
            self.write(name, landmarks.test_set_metrics(plain, flipped), [name], ["landmarks"])
        elif name == "closed_set":
            self.closed_set()
        else:
            networks = [path.name for path in embedder_networks(self.models)] if name == "embedder" else [name]
            self.embedder(name, networks)

    def embedder(self, name: str, networks: list[str]) -> None:
        """Threshold and metrics of one network, or of the ensemble that the manifest names."""
        landmarker = load_landmarker(self.hourglass, self.device, runtime="auto")
        embedder = load_embedder([self.models / file for file in networks], self.device, runtime="auto")
        threshold, metrics = recognition.embedder_metrics(embedder, landmarker)
        manifest = read_manifest(self.models)  # only now: a training may have ended since
        chosen = {"cosine_distance": 1 - threshold, "chosen": "FPR 0.001 on open_val"}
        manifest[name]["threshold"] = chosen | {"weights": hashes_of(manifest, networks)}
        write_manifest(manifest, self.models)
        self.write(name, metrics, [SHIPPED, *networks], [*EVALUATION_SETS, FAMILIES])
        if name == "embedder":
            rows = recognition.choice_rows(self.every(), landmarker)
            self.write_rows("embedder_choice.csv", rows, [*EVALUATION_SETS[:1], FAMILIES])

    def closed_set(self) -> None:
        """Every network and every ensemble on held-out photos of training people."""
        rows = closed_set.closed_set_rows(
            self.every(), TRAINED_ON, load_landmarker(self.hourglass, self.device, runtime="auto")
        )
        self.write_rows("closed_set.csv", rows, TRAINED_ON)

    def every(self) -> dict[str, Embedder]:
        """Each embedding network by itself."""
        return {file: load_embedder(self.models / file, self.device, runtime="auto") for file in self.networks}

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
        """A table of selections of networks, and beside it how it was measured."""
        path = results_folder(self.models) / name
        write_table(path, rows)
        write_record(path.with_suffix(".json"), {}, **self.measured([SHIPPED, *self.networks], sets))
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
        help="weights of the manifest; embedder: the ensemble that the pipeline uses; closed_set: held-out photos of "
        "training people, which aligns all their photos first; default: all but closed_set",
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
    for name in options.names or [name for name in evaluation.names if name != "closed_set"]:
        evaluation.run(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
