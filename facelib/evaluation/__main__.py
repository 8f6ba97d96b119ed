"""Measure weights on the test sets and write models/results: `python -m facelib.evaluation [NAME ...]`."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facelib.alignment.landmarker import SHIPPED, HourglassLandmarker, load_landmarker
from facelib.datasets.splits import EVALUATION_SETS, FAMILIES, GROUPS, WORLD
from facelib.embedding.embedder import load_embedder
from facelib.evaluation import calibration, closed_set, fairness, identification, landmarks, same_photo, verification
from facelib.io.records import RESULTS, results_folder, write_record, write_table
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import save_calibration, user_calibrations_folder
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
from facelib.types import NamedEmbedder

TRAIN_SETS = ["faces_train", "faces_more", "faces_celeba", "faces_celebrities"]  # of the shipped networks
ON_REQUEST = ("closed_set", "dlib", "fairness")  # measured only when named
TABLES = {"landmarks": "landmarks.csv"}  # table of a data set, where it is not faces.csv


@dataclass(frozen=True)
class Evaluation:
    """Measures the weights of a folder."""

    models: Path  # folder of the weights and their manifest
    device: str | None = None  # see `resolve_device`

    @property
    def hourglass(self) -> Path:
        """Landmark network that aligns the faces: the folder's own, or the shipped one."""
        own = self.models / SHIPPED
        return own if own.exists() else MODELS / SHIPPED

    @property
    def is_shipped(self) -> bool:
        """Whether these are the weights of the repository."""
        return self.models.resolve() == MODELS.resolve()

    @property
    def names(self) -> list[str]:
        """What can be measured: weights and embedders of the manifest, "identification", and `ON_REQUEST`."""
        embedders = named_embedders(self.models)
        by_embedder = [embedder_networks(self.models, name) for name in embedders]
        # A network that alone is a named embedder is measured under the embedder's name.
        measured_as_embedder = {networks[0].name for networks in by_embedder if len(networks) == 1}
        names = self._weights_of("StackedHourglass")
        names += [name for name in self._weights_of("EmbeddingNetwork") if name not in measured_as_embedder]
        names += embedders
        if "default" in embedders:
            names.append("identification")
        if self.is_shipped:
            names += ON_REQUEST
        return names

    def _weights_of(self, architecture: str) -> list[str]:
        entries = read_manifest(self.models).items()
        return [name for name, entry in entries if str(entry.get("architecture")).endswith(architecture)]

    def run(self, name: str) -> None:
        """Measure one of `names` and write its results."""
        if name in self._weights_of("StackedHourglass"):
            self.measure_landmarks(name)
        elif name == "closed_set":
            self.measure_closed_set()
        elif name == "identification":
            self.measure_identification()
        elif name == "fairness":
            self.measure_fairness()
        else:
            self.measure_embedder(name)
        if name == "default":
            self.compare_candidates()

    def measure_landmarks(self, name: str) -> None:
        """Landmark errors of a hourglass."""
        plain = load_landmarker(self.models / name, self.device, flip=False, runtime="auto")
        flipped = load_landmarker(self.models / name, self.device, flip=True, runtime="auto")
        self.write(name, landmarks.test_set_metrics(plain, flipped), [name], ["landmarks"])

    def measure_embedder(self, name: str) -> None:
        """Calibration, threshold and metrics of a network, of an embedder of the manifest, or of dlib's network."""
        networks, embedder = self.load(name)
        landmarker = self.landmarker()
        calibrated = self.calibrate(embedder, landmarker)
        metrics = verification.embedder_metrics(embedder, landmarker, calibrated)
        metrics["calibration"] = calibration.check(calibrated, embedder, landmarker)
        if (data_folder() / "photos").is_dir():
            metrics["same_photo"] = same_photo.same_photo_metrics(embedder, landmarker, calibrated)
        if networks:
            self.write_threshold(name, networks, calibrated)
        self.write(name, metrics, [SHIPPED, *networks], [*EVALUATION_SETS, FAMILIES])

    def write_threshold(self, name: str, networks: list[str], calibrated: Calibration) -> None:
        """Write the threshold of an embedder or network into the manifest, with the weights that it is valid for."""
        manifest = read_manifest(self.models)  # read again: a training may have written it meanwhile
        score, fmr = verification.threshold_score(calibrated), verification.THRESHOLD_FMR
        threshold = {"score": score, "chosen": f"FMR {fmr:g} on {calibrated.data}"}
        manifest[name]["threshold"] = threshold | {"weights": short_hashes(manifest, networks)}
        write_manifest(manifest, self.models)

    def measure_identification(self) -> None:
        """Identification, clustering and quality with the default embedder."""
        networks, embedder = self.load("default")
        landmarker = self.landmarker()
        calibrated = self.calibrate(embedder, landmarker)
        metrics = identification.identification_metrics(embedder, landmarker, calibrated)
        self.write("identification", metrics, [SHIPPED, *networks], [*EVALUATION_SETS, FAMILIES])

    def measure_closed_set(self) -> None:
        """Closed-set accuracy of the networks of the manifest's embedders."""
        embedders: dict[str, NamedEmbedder] = {
            path.name: load_embedder(path, self.device, runtime="auto") for path in self.embedder_files()
        }
        rows = closed_set.closed_set_rows(embedders, TRAIN_SETS, self.landmarker())
        self.write_rows("closed_set.csv", rows, TRAIN_SETS)

    def measure_fairness(self) -> None:
        """Error rates by group of people, of all embedders that can be loaded."""
        figures, rows = fairness.measure(fairness.load_embedders(self.device), self.landmarker())
        self.write_rows("fairness.csv", rows, [GROUPS, WORLD, FAMILIES, EVALUATION_SETS[0]], figures)

    def compare_candidates(self) -> None:
        """The figures by which the default embedder is chosen."""
        rows = verification.choice_rows(self.candidates(), self.landmarker())
        self.write_rows("embedder_choice.csv", rows, [*EVALUATION_SETS[:1], FAMILIES])

    def landmarker(self) -> HourglassLandmarker:
        """Loads `hourglass`."""
        return load_landmarker(self.hourglass, self.device, runtime="auto")

    def load(self, name: str) -> tuple[list[str], NamedEmbedder]:
        """The network files of an embedder (none for dlib's), and the embedder."""
        if name == "dlib":
            return [], load_embedder(name, self.device)
        networks = [name]
        if name in named_embedders(self.models):
            networks = [path.name for path in embedder_networks(self.models, name)]
        files = [self.models / network for network in networks]
        flip = embedder_uses_flip(self.models, name)
        return networks, load_embedder(files, self.device, flip=flip, runtime="auto")

    def calibrate(self, embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> Calibration:
        """Calibrate an embedder and save the calibration."""
        measured = calibration.measure(embedder, landmarker)
        save_calibration(measured, RESULTS if self.is_shipped else user_calibrations_folder())
        return measured

    def candidates(self) -> Mapping[str, NamedEmbedder]:
        """Candidates for the default embedder: each network of the manifest's embedders, and their ensemble, with and
        without flip averaging."""
        files = self.embedder_files()
        choices = [[path] for path in files]
        if len(files) > 1:
            choices.append(files)
        candidates = {}
        for chosen in choices:
            label = " + ".join(path.name for path in chosen)
            for flip in (False, True):
                embedder = load_embedder(chosen, self.device, flip=flip, runtime="auto")
                candidates[f"{label}, flip averaging" if flip else label] = embedder
        return candidates

    def embedder_files(self) -> list[Path]:
        """The networks of all embedders of the manifest, each once."""
        by_embedder = [embedder_networks(self.models, name) for name in named_embedders(self.models)]
        return list(dict.fromkeys(path for networks in by_embedder for path in networks))

    def provenance(self, weights: list[str], sets: list[str]) -> dict[str, Any]:
        """Command, weights and data of a result, for `write_record`."""
        files = {file: self.hourglass if file == SHIPPED else self.models / file for file in weights}
        return {
            "command": " ".join(["python -m facelib.evaluation", *sys.argv[1:]]),
            "weights": {file: file_hash(path)[:8] for file, path in files.items()},
            "data": {name: describe_set(name) for name in sets} | {"lists": hash_of_lists()},
        }

    def write(self, name: str, metrics: dict[str, Any], weights: list[str], sets: list[str]) -> None:
        """Write the record of one of `names`."""
        path = results_folder(self.models) / f"{Path(name).stem}.json"
        write_record(path, metrics, **self.provenance(weights, sets))
        print(f"{path}: written", flush=True)

    def write_rows(
        self, file: str, rows: list[dict[str, Any]], sets: list[str], metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Write a CSV table of embedders, and a JSON file beside it with its provenance and other metrics."""
        path = results_folder(self.models) / file
        weights = [SHIPPED, *(network.name for network in self.embedder_files())]
        write_table(path, rows)
        write_record(path.with_suffix(".json"), metrics or {}, **self.provenance(weights, sets))
        print(f"{path}: written", flush=True)


def describe_set(name: str) -> str:
    """Number of photos of a data set, and the hash of its table."""
    table = data_folder() / name / TABLES.get(name, "faces.csv")
    rows = len(table.read_text().splitlines()) - 1
    return f"{rows} photos, {table.name} {file_hash(table)[:8]}"


def hash_of_lists() -> str:
    """Hashes of the lists that keep identities out of the training sets."""
    return " ".join(file_hash(path)[:8] for path in sorted(LISTS.glob("*.txt")))


def parse_arguments() -> tuple[Evaluation, list[str]]:
    """The evaluation, and the names to measure."""
    parser = argparse.ArgumentParser("python -m facelib.evaluation", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="weights of the manifest; an embedder: default, arcface, triplet or accurate; identification: open-set "
        "identification and clustering with the default embedder; closed_set: held-out photos of training identities, "
        "for which all photos of the training sets are aligned first; dlib: the teacher, needs the extra `teacher`; "
        "fairness: error rates by group of people, of all embedders. Without a name: all but the last three",
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the weights and their manifest")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    options = parser.parse_args()
    evaluation = Evaluation(options.models, options.device)
    manifest = options.models / "manifest.json"
    if not evaluation.names:
        parser.error(f"{manifest} lists no weights")
    if unknown := [name for name in options.names if name not in evaluation.names]:
        parser.error(f"{' '.join(unknown)}: {manifest} has {', '.join(evaluation.names)}")
    return evaluation, options.names or [name for name in evaluation.names if name not in ON_REQUEST]


@one_line_errors
def main() -> int:
    evaluation, names = parse_arguments()
    for name in names:
        evaluation.run(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
