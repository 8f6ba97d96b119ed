"""From a distance to error rates that were measured: how often two strangers, and how often two photos of one person,
are that close."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from facelib.io.files import atomic_write
from facelib.io.records import significant
from facelib.settings import DIFFERENT, MODELS, SAME, cache_folder

FOLDER = MODELS / "results"


@dataclass(frozen=True)
class Decision:
    """What a distance between two faces means.

    distance: cosine, 0 to 2. false_match_rate: share of pairs of strangers that are as close or closer.
    true_match_rate: share of pairs of single photos of one person that are. verdict: "same", "different" or
    "unsure". reason: why it is unsure, or "".
    """

    distance: float
    false_match_rate: float
    true_match_rate: float
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Calibration:
    """Rates at rising distances, of one embedder, measured on people whom no training has seen.

    embedder: whose distances these are, see `Embedder.model_id`. distances: (k,) rising. false_match_rates,
    true_match_rates: (k,) rising, each with the bounds (k, 2) of its 95 % interval over people. fmr_of_means: number
    of photos -> false positive rates (k,) where one side is the mean of so many photos of a person, see `mean_embedding`.
    pairs: how many of strangers were looked at; a rate below one of them is not known. data: which people.
    """

    model_id: str
    distances: list[float]
    false_match_rates: list[float]
    false_match_bounds: list[list[float]]
    true_match_rates: list[float]
    fmr_of_means: dict[str, list[float]]
    pairs: int
    data: str

    def false_match_rate(self, distance: float, photos: int = 1) -> float:
        """Of pairs of strangers, the share that is as close; at least one of the pairs that were looked at.

        `photos`: how many the nearer side is the mean of. Between the numbers that were measured the higher rate
        counts, above the largest that of the largest.
        """
        return float(np.exp(np.interp(distance, self.distances, np.log(self._rates(photos)))))

    def extrapolated_fmr(self, distance: float, photos: int = 1) -> float:
        """As `false_match_rate`; below the distance of the closest pair that was looked at, where nothing was
        measured, the rate falls on as it does in the lowest decade. For many comparisons at once, of which each has to
        be wrong far more rarely than that."""
        rates = np.log(self._rates(photos))
        decade = int(np.searchsorted(rates, rates[0] + np.log(10)))
        if distance >= self.distances[0] or decade >= len(rates):
            return self.false_match_rate(distance, photos)
        slope = (rates[decade] - rates[0]) / max(self.distances[decade] - self.distances[0], 1e-9)
        return float(np.exp(rates[0] + slope * (distance - self.distances[0])))

    def false_match_interval(self, distance: float) -> tuple[float, float]:
        """95 % interval over people of `false_match_rate`, of single photos."""
        low, high = np.array(self.false_match_bounds).T
        return tuple(float(np.interp(distance, self.distances, bound)) for bound in (low, high))

    def _rates(self, photos: int) -> np.ndarray:
        """At `distances`."""
        rates = np.array(self.false_match_rates)
        if photos > 1 and self.fmr_of_means:
            numbers = sorted(map(int, self.fmr_of_means))
            above = next((n for n in numbers if n >= photos), numbers[-1])
            below = max((n for n in numbers if n <= photos), default=above)
            rates = np.maximum(self.fmr_of_means[str(above)], self.fmr_of_means[str(below)])
        return np.maximum(rates, 1 / self.pairs)

    def true_match_rate(self, distance: float) -> float:
        """Of pairs of one person, the share that is as close."""
        return float(np.interp(distance, self.distances, self.true_match_rates))

    def distance_at(self, rate: float) -> float:
        """The largest distance at which not more than this share of the pairs of strangers is as close.

        Raises:
            ValueError: a rate below one of the pairs that were looked at.
        """
        if not 1 / self.pairs <= rate < 1:
            raise ValueError(
                f"a false positive rate of {rate:g} is not known: {self.pairs:,} pairs of strangers were looked at, so "
                f"rates from {1 / self.pairs:.2g} to below 1 are"
            )
        rates = np.log(np.maximum(self.false_match_rates, 1 / self.pairs))
        return float(np.interp(np.log(rate), rates, self.distances))

    def decide(
        self,
        distance: float,
        same: float = SAME,
        different: float = DIFFERENT,
        quality_issue: str = "",
        photos: int = 1,
    ) -> Decision:
        """What a distance means.

        Args:
            same, different: false positive rates that part "same", "unsure" and "different".
            quality_issue: why nothing can be known of these faces, or "". photos: see `false_match_rate`.

        Raises:
            ValueError: rates that are none, or in the wrong order.
        """
        if not 0 < same <= different < 1:
            raise ValueError(f"same={same}, different={different}: expected rates with 0 < same <= different < 1")
        wrong, right = self.false_match_rate(distance, photos), self.true_match_rate(distance)
        verdict, reason = ("same" if wrong <= same else "different"), ""
        if quality_issue:
            verdict, reason = "unsure", quality_issue
        elif same < wrong < different:
            others = f", {1 - right:.0%} of one person further" if photos == 1 else ""
            verdict, reason = "unsure", f"{wrong:.2%} of pairs of strangers are as close{others}"
        return Decision(float(distance), wrong, right, verdict, reason)


def own_folder() -> Path:
    """Where calibrations of embedders that are not shipped are kept."""
    return cache_folder() / "calibrations"


def load_calibration(model_id: str, folders: Sequence[Path] | None = None) -> Calibration:
    """What was measured of an embedder, see `Embedder.model_id`.

    `folders`: where to look; None: among the shipped ones, then those of one's own.

    Raises:
        FileNotFoundError: nothing. ValueError: a file that is none, or of another embedder.
    """
    name = f"calibration_{model_id}.json"
    paths = [folder / name for folder in folders or (FOLDER, own_folder())]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{paths[0]}: what a distance of this embedder means has not been measured. `python -m "
            "facelib.evaluation.calibration --embedder NAME` does it, on the full-size data"
        )
    try:
        calibration = Calibration(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no calibration ({str(error)[:80]}): restore it from the repository") from None
    if calibration.model_id != model_id:
        raise ValueError(f"{path} is of the embedder {calibration.model_id}, not of {model_id}: restore it")
    return calibration


def save_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write what `load_calibration` reads, four significant digits."""
    path = folder / f"calibration_{calibration.model_id}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as new:
        new.write_text(json.dumps(significant(asdict(calibration))) + "\n")
    return path
