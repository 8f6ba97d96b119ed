"""Weights in, results out: measures the weights of a folder on the data sets that are there."""

import contextlib
import datetime
import sys
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facelib.alignment.landmarker import SHIPPED, HourglassLandmarker, load_landmarker
from facelib.embedding.embedder import load_embedder
from facelib.evaluation import calibration, closed_set, fairness, identification, landmarks, same_photo, verification
from facelib.evaluation.environment import environment
from facelib.evaluation.sets import (
    CALIBRATION_SETS,
    EMBEDDER_SETS,
    FAIRNESS_SETS,
    FAMILIES,
    GROUPS,
    LANDMARKS,
    LFW,
    OPEN_SET,
    PHOTOS,
    TRAIN_SETS,
    available_sets,
    describe_set,
    hash_of_lists,
    with_earlier,
)
from facelib.io.records import RESULTS, results_folder, write_record, write_table
from facelib.recognition.calibration import Calibration
from facelib.recognition.calibration_files import load_calibration, save_calibration, user_calibrations_folder
from facelib.runtime.manifest import (
    embedder_networks,
    embedder_uses_flip,
    named_embedders,
    read_manifest,
    short_hashes,
    write_manifest,
)
from facelib.settings import MODELS
from facelib.types import CalibrationMissingError, NamedEmbedder

ON_REQUEST = ("closed_set", "dlib", "fairness")  # measured only when named


@dataclass(frozen=True)
class Evaluation:
    """Measures the weights of a folder.

    models: folder of the weights and their manifest.
    device: see `resolve_device`.
    sets: the data sets that are measured, all of them there.
    """

    models: Path
    device: str | None = None
    sets: Set[str] = field(default_factory=available_sets)

    @property
    def hourglass(self) -> Path:
        """Landmark network that aligns the faces: the folder's own, or the shipped one."""
        return (self.models if SHIPPED in read_manifest(self.models) else MODELS) / SHIPPED

    @property
    def is_shipped(self) -> bool:
        """Whether these are the weights of the repository."""
        return self.models.resolve() == MODELS.resolve()

    @property
    def embedder_names(self) -> list[str]:
        """Embedding networks and embedders of the manifest; a network that alone is an embedder goes by its name."""
        embedders = named_embedders(self.models)
        by_embedder = [embedder_networks(self.models, name) for name in embedders]
        measured_as_embedder = {networks[0].name for networks in by_embedder if len(networks) == 1}
        networks = self._weights_of("EmbeddingNetwork")
        return [name for name in networks if name not in measured_as_embedder] + embedders

    @property
    def names(self) -> list[str]:
        """What can be measured: weights and embedders of the manifest, "identification", and `ON_REQUEST`, of which
        one's own weights have "fairness"."""
        embedders = self.embedder_names
        names = self._weights_of("StackedHourglass") + embedders
        if "default" in embedders:
            names.append("identification")
        if self.is_shipped:
            return [*names, *ON_REQUEST]
        return [*names, "fairness"] if embedders else names

    def _weights_of(self, architecture: str) -> list[str]:
        entries = read_manifest(self.models).items()
        return [name for name, entry in entries if str(entry.get("architecture")).endswith(architecture)]

    def sets_for(self, name: str) -> tuple[str, ...]:
        """The sets that one of `names` can be measured on."""
        if name in self._weights_of("StackedHourglass"):
            return (LANDMARKS,)
        others = {"closed_set": TRAIN_SETS, "fairness": FAIRNESS_SETS, "identification": (OPEN_SET, LFW)}
        return others.get(name, EMBEDDER_SETS)

    def run(self, name: str) -> bool:
        """Measure one of `names` and write its results; False where a set is missing without which nothing can be."""
        sets = self.sets & set(self.sets_for(name))
        required = {"closed_set": set(TRAIN_SETS), "fairness": {GROUPS, OPEN_SET}}
        if not sets or not required.get(name, set()) <= sets:
            return False
        if name in self._weights_of("StackedHourglass"):
            self.measure_landmarks(name)
        elif name == "closed_set":
            self.measure_closed_set()
        elif name == "identification":
            return self.measure_identification()
        elif name == "fairness":
            self.measure_fairness()
        else:
            return self.measure_embedder(name)
        return True

    def measure_landmarks(self, name: str) -> None:
        """Landmark errors of a hourglass."""
        plain = load_landmarker(self.models / name, self.device, flip=False, runtime="auto")
        flipped = load_landmarker(self.models / name, self.device, flip=True, runtime="auto")
        self.write(name, landmarks.test_set_metrics(plain, flipped), [name], [LANDMARKS])

    def measure_embedder(self, name: str) -> bool:
        """Calibration, threshold and metrics of a network, of an embedder of the manifest, or of dlib's network; False
        where the sets are for calibrations only."""
        networks, embedder = self.load(name)
        landmarker = self.landmarker()
        calibrated, changed = self.calibrate(embedder, landmarker)
        metrics = verification.embedder_metrics(embedder, landmarker, calibrated, self.sets)
        if calibrated and {OPEN_SET, LFW} & self.sets:
            metrics["calibration"] = calibration.check(calibrated, embedder, landmarker, self.sets)
        if calibrated and PHOTOS in self.sets:
            metrics["same_photo"] = same_photo.same_photo_metrics(embedder, landmarker, calibrated)
        if not metrics:
            return False
        if networks and calibrated and (changed or "threshold" not in read_manifest(self.models)[name]):
            self.write_threshold(name, networks, calibrated)
        self.write(name, metrics, [SHIPPED, *networks], EMBEDDER_SETS, changed)
        if name == "default" and {OPEN_SET, FAMILIES} <= self.sets:
            self.compare_candidates()
        return True

    def write_threshold(self, name: str, networks: list[str], calibrated: Calibration) -> None:
        """Write the threshold of an embedder or network into the manifest, with the weights that it is valid for."""
        manifest = read_manifest(self.models)  # read again: a training may have written it meanwhile
        score, fmr = verification.threshold_score(calibrated), verification.THRESHOLD_FMR
        threshold = {"score": score, "chosen": f"FMR {fmr:g} on {calibrated.data}"}
        manifest[name]["threshold"] = threshold | {"weights": short_hashes(manifest, networks)}
        write_manifest(manifest, self.models)

    def measure_identification(self) -> bool:
        """Identification, clustering and quality with the default embedder; False where it has no calibration."""
        networks, embedder = self.load("default")
        landmarker = self.landmarker()
        calibrated, changed = self.calibrate(embedder, landmarker)
        if calibrated is None:
            return False
        metrics = identification.identification_metrics(embedder, landmarker, calibrated, self.sets)
        self.write("identification", metrics, [SHIPPED, *networks], (*CALIBRATION_SETS, LFW), changed)
        return True

    def measure_closed_set(self) -> None:
        """Closed-set accuracy of the networks of the manifest's embedders."""
        embedders: dict[str, NamedEmbedder] = {
            path.name: load_embedder(path, self.device, runtime="auto") for path in self.embedder_files()
        }
        rows = closed_set.closed_set_rows(embedders, list(TRAIN_SETS), self.landmarker())
        self.write_rows("closed_set.csv", rows, TRAIN_SETS)

    def measure_fairness(self) -> None:
        """Error rates by group of people: of all embedders that can be loaded, or of those of the folder beside the
        shipped default, with which people who are there twice are found."""
        if self.is_shipped:
            embedders = fairness.load_embedders(self.device)
        else:
            own = {Path(name).stem: self.load(name)[1] for name in self.embedder_names}
            embedders = own | {"shipped default": load_embedder(device=self.device)}
        figures, rows = fairness.measure(embedders, self.landmarker(), self.sets)
        self.write_rows("fairness.csv", rows, FAIRNESS_SETS, figures)

    def compare_candidates(self) -> None:
        """The figures by which the default embedder is chosen."""
        rows = verification.choice_rows(self.candidates(), self.landmarker())
        self.write_rows("embedder_choice.csv", rows, [OPEN_SET, FAMILIES])

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

    def calibrate(self, embedder: NamedEmbedder, landmarker: HourglassLandmarker) -> tuple[Calibration | None, bool]:
        """Calibrate an embedder and save the calibration, where that takes no fewer sets than the saved one took.

        Returns:
            The calibration; without open_val the saved one, or None. Whether it differs from what was saved.
        """
        folder = RESULTS if self.is_shipped else user_calibrations_folder()
        path = folder / f"calibration_{embedder.model_id}.json"
        before, saved = path.read_text() if path.is_file() else "", None
        with contextlib.suppress(CalibrationMissingError):
            saved = load_calibration(embedder.model_id, [folder])
        if OPEN_SET not in self.sets or (saved and not calibration.sets_of(saved) <= self.sets):
            return saved, False
        measured = calibration.measure(embedder, landmarker, self.sets)
        return measured, save_calibration(measured, folder).read_text() != before

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

    def provenance(self, weights: list[str], sets: Iterable[str]) -> dict[str, Any]:
        """Date, command, weights, data and environment of a result, as `write_record` writes them."""
        files = {file: self.hourglass if file == SHIPPED else self.models / file for file in weights}
        return {
            "date": datetime.date.today().isoformat(),
            "command": " ".join(["python -m facelib.evaluation", *sys.argv[1:]]),
            "weights": {file: short_hashes(read_manifest(path.parent), [file])[0] for file, path in files.items()},
            "data": {name: describe_set(name) for name in sets if name in self.sets} | {"lists": hash_of_lists()},
            "environment": environment(),
        }

    def write(
        self, name: str, metrics: Mapping[str, Any], weights: list[str], sets: Iterable[str], recalibrated: bool = False
    ) -> None:
        """Write the record of one of `names`; see `with_earlier` for what it keeps."""
        path = results_folder(self.models) / f"{Path(name).stem}.json"
        figures, measured = with_earlier(path, metrics, self.provenance(weights, sets), recalibrated)
        write_record(path, figures, **measured)
        print(f"{path}: written", flush=True)

    def write_rows(
        self, file: str, rows: list[dict[str, Any]], sets: Iterable[str], metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Write a CSV table of embedders, and a JSON file beside it with its provenance and other metrics."""
        path = results_folder(self.models) / file
        write_table(path, rows)
        weights = self._weights_of("EmbeddingNetwork")
        if self.is_shipped:
            weights = [network.name for network in self.embedder_files()]
        self.write(path.stem, metrics or {}, [SHIPPED, *weights], sets)
