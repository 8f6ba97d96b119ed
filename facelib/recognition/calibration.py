"""Calibration: from a cosine distance to measured error rates, and from those to a decision.

The false match rate (FMR) of a distance is the share of impostor pairs that are as close or closer, its true match
rate the share of genuine pairs. Both are measured once for each embedder and kept as JSON.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facelib.io.files import atomic_write, printable
from facelib.io.records import RESULTS, significant
from facelib.settings import DIFFERENT, SAME, cache_folder
from facelib.types import CalibrationMissingError

# Field names of calibration files that version 0.2 wrote -> today's.
NAMES_OF_VERSION_0_2 = {
    "embedder": "model_id",
    "false_positive_rates": "false_match_rates",
    "false_positive_bounds": "false_match_bounds",
    "true_positive_rates": "true_match_rates",
    "of_several": "fmr_of_means",
}
UNUSED_NAMES_OF_VERSION_0_2 = ("true_positive_bounds",)
MAX_DISTANCE = 2.001  # 2, and what rounding adds


@dataclass(frozen=True)
class Decision:
    """What the distance between two faces means.

    distance: cosine distance, 0 to 2.
    false_match_rate: share of impostor pairs that are as close or closer.
    true_match_rate: share of genuine pairs, of single photos, that are as close or closer.
    verdict: "same", "different" or "unsure".
    reason: why the verdict is "unsure", else "".
    """

    distance: float
    false_match_rate: float
    true_match_rate: float
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Calibration:
    """Error rates of one embedder at increasing distances, measured on identities not seen in training.

    model_id: the embedder, see `facelib.types.Embedder`.
    distances: (k,) cosine distances, increasing.
    false_match_rates: (k,) FMR at each distance, increasing.
    false_match_bounds: (k, 2) bounds of the 95 % interval of each FMR, by bootstrap over people.
    true_match_rates: (k,) true match rate at each distance, increasing.
    fmr_of_means: number of photos -> (k,) FMR where one side is the mean embedding of so many photos of a person.
    pairs: number of impostor pairs measured; a rate below 1 / pairs is not known.
    data: name of the data they were measured on.

    Raises:
        ValueError: rates or distances that cannot be (not increasing, below 0, above 1, of different lengths, without
            impostor pairs, as of one person).
    """

    model_id: str
    distances: list[float]
    false_match_rates: list[float]
    false_match_bounds: list[list[float]]
    true_match_rates: list[float]
    fmr_of_means: dict[str, list[float]]
    pairs: int
    data: str

    def __post_init__(self) -> None:
        if not 1 <= self.pairs < math.inf:
            raise ValueError(f"pairs is {self.pairs}, expected at least 1: impostor pairs need two people")
        _check_increasing("distances", self.distances, len(self.distances), MAX_DISTANCE)
        curves = {"false_match_rates": self.false_match_rates, "true_match_rates": self.true_match_rates}
        curves |= {f"fmr_of_means of {photos} photos": rates for photos, rates in self.fmr_of_means.items()}
        for name, rates in curves.items():
            _check_increasing(name, rates, len(self.distances), 1.0)
        if self.false_match_rates[-1] < DIFFERENT:
            raise ValueError(f"false_match_rates never reach {DIFFERENT}: at no distance two faces would be different")
        if not all(photos.isdecimal() and int(photos) > 1 for photos in self.fmr_of_means):
            raise ValueError(f"fmr_of_means has the keys {list(self.fmr_of_means)}, expected numbers of photos above 1")

    def false_match_rate(self, distance: float, photos: int = 1) -> float:
        """FMR of a distance: share of impostor pairs that are as close or closer, at least 1 / `pairs`.

        Args:
            photos: number of photos whose mean embedding one side is. Between two measured numbers the higher rate
                counts; above the largest measured number, its rate.
        """
        return float(np.exp(np.interp(distance, self.distances, np.log(self._fmr_curve(photos)))))

    def extrapolated_fmr(self, distance: float, photos: int = 1) -> float:
        """As `false_match_rate`, but below the smallest measured distance the rate keeps falling, log-linearly as in
        its lowest decade. For searches, where one false match among many comparisons needs a rate below 1 / `pairs`.
        """
        log_rates = np.log(self._fmr_curve(photos))
        decade = int(np.searchsorted(log_rates, log_rates[0] + np.log(10)))
        if distance >= self.distances[0] or decade >= len(log_rates):
            return self.false_match_rate(distance, photos)
        slope = (log_rates[decade] - log_rates[0]) / max(self.distances[decade] - self.distances[0], 1e-9)
        return float(np.exp(log_rates[0] + slope * (distance - self.distances[0])))

    def false_match_interval(self, distance: float) -> tuple[float, float]:
        """95 % interval over people of the `false_match_rate` of single photos."""
        low, high = np.array(self.false_match_bounds).T
        return float(np.interp(distance, self.distances, low)), float(np.interp(distance, self.distances, high))

    def true_match_rate(self, distance: float) -> float:
        """Share of genuine pairs, of single photos, that are as close or closer."""
        return float(np.interp(distance, self.distances, self.true_match_rates))

    def distance_at(self, rate: float) -> float:
        """The largest distance with at most this FMR.

        Raises:
            ValueError: a rate below 1 / `pairs`, or not below 1.
        """
        if not 1 / self.pairs <= rate < 1:
            raise ValueError(
                f"the distance at a false match rate of {rate:g} is not known: it was measured on {self.pairs:,} "
                f"impostor pairs, which give rates from {1 / self.pairs:.2g} to below 1"
            )
        return float(np.interp(np.log(rate), np.log(self._fmr_curve(1)), self.distances))

    def decide(
        self,
        distance: float,
        same: float = SAME,
        different: float = DIFFERENT,
        quality_issue: str = "",
        photos: int = 1,
    ) -> Decision:
        """Decide whether a distance is that of one person.

        Args:
            distance: cosine distance.
            same: largest FMR with the verdict "same".
            different: smallest FMR with the verdict "different"; between the two it is "unsure".
            quality_issue: why the faces cannot be compared reliably, then the verdict is "unsure"; else "".
            photos: see `false_match_rate`.

        Raises:
            ValueError: `same` and `different` are not in order between 0 and 1.
        """
        if not 0 < same <= different < 1:
            raise ValueError(f"same={same}, different={different}: expected rates with 0 < same <= different < 1")
        if math.isnan(distance):
            return Decision(distance, 1.0, 1.0, "unsure", "the distance is not a number")
        fmr = self.false_match_rate(distance, photos)
        tmr = self.true_match_rate(distance)
        verdict = "same" if fmr <= same else "different"
        reason = ""
        if quality_issue:
            verdict = "unsure"
            reason = quality_issue
        elif same < fmr < different:
            verdict = "unsure"
            reason = f"{fmr:.2%} of impostor pairs are as close"
            if photos == 1:  # true match rates are those of single photos
                reason += f", {1 - tmr:.0%} of genuine pairs are farther apart"
        return Decision(float(distance), fmr, tmr, verdict, reason)

    def _fmr_curve(self, photos: int) -> np.ndarray:
        """(k,) FMR at `distances`, see `false_match_rate`."""
        rates = np.array(self.false_match_rates)
        if photos > 1 and self.fmr_of_means:
            measured = sorted(map(int, self.fmr_of_means))
            above = next((number for number in measured if number >= photos), measured[-1])
            below = max((number for number in measured if number <= photos), default=above)
            rates = np.maximum(self.fmr_of_means[str(above)], self.fmr_of_means[str(below)])
        return np.maximum(rates, 1 / self.pairs)


def user_calibrations_folder() -> Path:
    """Folder of the calibrations that a user measured, of embedders that are not shipped."""
    return cache_folder() / "calibrations"


def load_calibration(model_id: str, folders: Sequence[Path] | None = None) -> Calibration:
    """The calibration of an embedder.

    Args:
        model_id: see `facelib.types.Embedder`.
        folders: where to look, in this order; None: the shipped calibrations, then `user_calibrations_folder`.

    Raises:
        CalibrationMissingError: there is none.
        ValueError: the file is damaged, has impossible rates, or is of another embedder.
    """
    name = f"calibration_{model_id}.json"
    paths = [folder / name for folder in folders or (RESULTS, user_calibrations_folder())]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise CalibrationMissingError(
            f"{paths[0]}: the error rates of this embedder have not been measured. Measure them with `python -m "
            "facelib.evaluation.calibration --embedder NAME`, on the full-size data"
        )
    try:
        calibration = Calibration(**_current_names(json.loads(path.read_text())))
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a valid calibration ({str(error)[:120]}): restore it from the repository, or measure it "
            "again with `python -m facelib.evaluation.calibration`"
        ) from None
    if calibration.model_id != model_id:
        other = printable(calibration.model_id)[:60]
        raise ValueError(f"{path} is of the embedder {other}, not of {model_id}: restore the file")
    return calibration


def save_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write a calibration where `load_calibration` finds it, with four significant digits; returns the path."""
    path = folder / f"calibration_{calibration.model_id}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as new:
        new.write_text(json.dumps(significant(asdict(calibration))) + "\n")
    return path


def _current_names(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a calibration file under today's names."""
    kept = {name: value for name, value in fields.items() if name not in UNUSED_NAMES_OF_VERSION_0_2}
    return {NAMES_OF_VERSION_0_2.get(name, name): value for name, value in kept.items()}


def _check_increasing(name: str, values: Sequence[float], length: int, largest: float) -> None:
    """Raise ValueError unless there are `length` > 0 values from 0 to `largest` in increasing order."""
    array = np.asarray(values, float)
    if array.shape != (length,) or not length:
        raise ValueError(f"{name} has the shape {array.shape}, expected ({length or 'k'},), one value a distance")
    if not ((array >= 0) & (array <= largest)).all():  # also refuses NaN
        raise ValueError(f"{name} has values outside 0 to {largest:g}")
    if (np.diff(array) < 0).any():
        raise ValueError(f"{name} decreases with the distance")
