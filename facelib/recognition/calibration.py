"""Calibration: from a score to measured error rates, and from those to a decision.

The score of two faces is their cosine, less how near both are to a cohort of impostors (`facelib.recognition.cohort`).
The false match rate (FMR) of a score is the share of impostor pairs with that score or a higher one, its true match
rate the share of genuine pairs. Both are measured once for each embedder (`facelib.recognition.match_rates`). The FMR
is that of the group of people who have the highest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from facelib.embedding.similarity import unit_vectors
from facelib.recognition.cohort import Cohort, score_offsets
from facelib.settings import DIFFERENT, SAME

MAX_SCORE = 3.001  # of the size of a score: 1 + the weight of a cohort, and what rounding adds
EVERYONE = "all"  # group of a calibration that was measured without groups


@dataclass(frozen=True)
class Decision:
    """What the score of two faces means.

    distance: cosine distance, 0 to 2; NaN where only the score is known.
    score: higher is more alike, see the docstring of this module.
    false_match_rate: share of impostor pairs with such a score, in the group of people where it is highest.
    true_match_rate: share of genuine pairs, of single photos, with such a score.
    verdict: "same", "different" or "unsure".
    reason: why the verdict is "unsure", else "".
    """

    distance: float
    score: float
    false_match_rate: float
    true_match_rate: float
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Calibration:
    """Error rates of one embedder at increasing scores, measured on identities not seen in training.

    model_id: the embedder, see `facelib.types.Embedder`.
    scores: (k,) increasing.
    false_match_rates: (k,) FMR at each score, decreasing: that of the group where it is highest.
    false_match_bounds: (k, 2) bounds of the 95 % interval of each FMR, by bootstrap over people; [] where they were not
        measured.
    true_match_rates: (k,) true match rate at each score, decreasing; [] where there were no genuine pairs.
    fmr_of_means: number of photos -> (k,) FMR where one side is the mean embedding of so many photos of a person.
    lowest_rate: the lowest FMR that the pairs can bear; lower ones are extrapolated.
    data: name of the data they were measured on.
    group_fmrs: group -> (k,) FMR of its impostor pairs; {} where there were no groups.
    fmr_of_tracks: number of frames -> (k,) FMR where both sides are embeddings of tracks of a video, the mean of so
        many frames; {} where it was not measured.
    cohort: by which scores are normalised; None: the score is the cosine.

    Raises:
        ValueError: rates or scores that cannot be (not in order, below 0, above 1, of different lengths, without
            impostor pairs, as of one person).
    """

    model_id: str
    scores: list[float]
    false_match_rates: list[float]
    false_match_bounds: list[list[float]]
    true_match_rates: list[float]
    fmr_of_means: dict[str, list[float]]
    lowest_rate: float
    data: str
    group_fmrs: dict[str, list[float]] = field(default_factory=dict)
    cohort: Cohort | None = None
    fmr_of_tracks: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.lowest_rate <= 1:
            raise ValueError(f"lowest_rate is {self.lowest_rate}, expected above 0 and up to 1: no impostor pairs?")
        if len(self.scores) != len(set(self.scores)):
            raise ValueError("scores has equal values")
        _check_order("scores", self.scores, len(self.scores), -MAX_SCORE, MAX_SCORE, 1)
        curves = {"false_match_rates": self.false_match_rates, "true_match_rates": self.true_match_rates}
        curves |= {f"fmr_of_means of {photos} photos": rates for photos, rates in self.fmr_of_means.items()}
        curves |= {f"fmr_of_tracks of {frames} frames": rates for frames, rates in self.fmr_of_tracks.items()}
        curves |= {f"group_fmrs of {group}": rates for group, rates in self.group_fmrs.items()}
        for name, rates in curves.items():
            if name == "true_match_rates" and not rates:
                continue
            _check_order(name, rates, len(self.scores), 0.0, 1.0, -1)
            if name != "true_match_rates" and not rates[0]:
                raise ValueError(f"{name} is 0 at all scores")
        bounds = np.asarray(self.false_match_bounds or [[0.0, 1.0]] * len(self.scores), float)
        if bounds.shape != (len(self.scores), 2) or not ((bounds >= 0) & (bounds <= 1)).all():
            raise ValueError(f"false_match_bounds of shape {bounds.shape}: expected two rates for each score")
        if self.false_match_rates[0] < DIFFERENT:
            raise ValueError(f"false_match_rates never reach {DIFFERENT}: at no score two faces would be different")
        if not all(photos.isdecimal() and int(photos) > 1 for photos in self.fmr_of_means):
            raise ValueError(f"fmr_of_means has the keys {list(self.fmr_of_means)}, expected numbers of photos above 1")

    def cohort_similarity(self, embeddings: np.ndarray) -> np.ndarray:
        """(n,) float32, how near embeddings (n, d) of unit length are to the cohort; zeros without one."""
        return np.zeros(len(embeddings), np.float32) if self.cohort is None else self.cohort.similarity(embeddings)

    def score_matrix(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Scores (n, m) float32 of embeddings (n, d) with embeddings (m, d), of any length.

        Raises:
            ValueError: embeddings without a direction, see `unit_vectors`, or of another size than the cohort's.
        """
        a, b = unit_vectors(a), unit_vectors(b)
        return a @ b.T - score_offsets(a, self.cohort)[:, None] - score_offsets(b, self.cohort)

    def false_match_rate(self, score: float, photos: int = 1) -> float:
        """FMR of a score: share of impostor pairs with it or a higher one, at least `lowest_rate`.

        Args:
            photos: number of photos whose mean embedding one side is. Between two measured numbers the higher rate
                counts; above the largest measured number, its rate.
        """
        return max(self.extrapolated_fmr(score, photos), self.lowest_rate)

    def extrapolated_fmr(self, score: float, photos: int = 1) -> float:
        """As `false_match_rate`, also below `lowest_rate`: above the highest measured score the rate keeps falling,
        log-linearly as in its lowest decade. For searches, where one false match among many comparisons needs a low
        rate."""
        return _rate_at(score, *self._log_curve(self._rates(photos)))

    def false_match_interval(self, score: float) -> tuple[float, float]:
        """95 % interval over people of the `false_match_rate` of single photos, which lies in it; 0 to 1 where it was
        not measured."""
        if not self.false_match_bounds:
            return 0.0, 1.0
        low, high = (float(np.interp(score, self.scores, bounds)) for bounds in np.array(self.false_match_bounds).T)
        rate = self.false_match_rate(score)
        return min(low, rate), max(high, rate)

    def true_match_rate(self, score: float) -> float:
        """Share of genuine pairs, of single photos, with this score or a higher one; NaN where it was not measured."""
        if not self.true_match_rates:
            return math.nan
        return float(np.interp(score, self.scores, self.true_match_rates))

    def group_rates(self, score: float) -> dict[str, float]:
        """Group -> its FMR, at least `lowest_rate`, highest first; of `EVERYONE` where no groups were measured."""
        curves = self.group_fmrs or {EVERYONE: self.false_match_rates}
        rates = {
            group: max(_rate_at(score, *self._log_curve(np.array(curve))), self.lowest_rate)
            for group, curve in curves.items()
        }
        return dict(sorted(rates.items(), key=lambda item: -item[1]))

    def track_fmr(self, score: float) -> float:
        """FMR of the score of two tracks of a video, at least `lowest_rate`: the highest of `fmr_of_tracks`, that of
        single photos where it was not measured."""
        return max(_rate_at(score, *self._log_curve(self._track_rates())), self.lowest_rate)

    def score_at(self, rate: float, extrapolate: bool = False, tracks: bool = False) -> float:
        """The lowest score with at most this FMR.

        Args:
            tracks: of two tracks of a video, see `track_fmr`, not of two photos.
            extrapolate: also answer for a rate below `lowest_rate`, see `extrapolated_fmr`; with a score above
                `MAX_SCORE`, which no faces have, where the rate does not fall that far.

        Raises:
            ValueError: a rate not between 0 and 1, or one that is not known.
        """
        if not 0 < rate < 1 or (rate < self.lowest_rate and not extrapolate):
            raise ValueError(
                f"the score at a false match rate of {rate:g} is not known: the impostor pairs that were measured give "
                f"rates from {self.lowest_rate:.2g} to below 1"
            )
        scores, log_rates = self._log_curve(self._track_rates() if tracks else self._rates(1))
        return float(np.interp(np.log(rate), log_rates[::-1], scores[::-1]))  # of equal rates that of the lowest score

    def decide(
        self,
        score: float,
        same: float = SAME,
        different: float = DIFFERENT,
        quality_issue: str = "",
        photos: int = 1,
        distance: float = math.nan,
    ) -> Decision:
        """Decide whether a score is that of one person.

        Args:
            score: of two faces, see `score_matrix`.
            same: largest FMR with the verdict "same".
            different: smallest FMR with the verdict "different"; between the two it is "unsure".
            quality_issue: why the faces cannot be compared reliably, then the verdict is "unsure"; else "".
            photos: see `false_match_rate`.
            distance: their cosine distance, which the decision repeats.

        Raises:
            ValueError: `same` and `different` are not in order between 0 and 1.
        """
        if not 0 < same <= different < 1:
            raise ValueError(f"same={same}, different={different}: expected rates with 0 < same <= different < 1")
        if math.isnan(score):
            return Decision(distance, score, 1.0, 1.0, "unsure", "the score is not a number")
        fmr = self.false_match_rate(score, photos)
        tmr = self.true_match_rate(score)
        verdict = "same" if fmr <= same else "different"
        reason = ""
        if quality_issue:
            verdict = "unsure"
            reason = quality_issue
        elif same < fmr < different:
            verdict = "unsure"
            reason = f"{fmr:.2%} of impostor pairs are as close"
            if photos == 1 and not math.isnan(tmr):  # true match rates are those of single photos
                reason += f", {1 - tmr:.0%} of genuine pairs are farther apart"
        return Decision(float(distance), float(score), fmr, tmr, verdict, reason)

    def _rates(self, photos: int) -> np.ndarray:
        """(k,) FMR at each score where one side is the mean of so many photos, see `false_match_rate`."""
        if photos <= 1 or not self.fmr_of_means:
            return np.array(self.false_match_rates)
        measured = sorted(map(int, self.fmr_of_means))
        above = next((number for number in measured if number >= photos), measured[-1])
        below = max((number for number in measured if number <= photos), default=above)
        return np.maximum(self.fmr_of_means[str(above)], self.fmr_of_means[str(below)])

    def _track_rates(self) -> np.ndarray:
        """(k,) FMR of two tracks at each score."""
        return np.max(list(self.fmr_of_tracks.values()) or [self.false_match_rates], axis=0)

    def _log_curve(self, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores, increasing, and the logarithm of the FMR at each, of rates (k,) that do not increase; the last one
        is that of a score that no faces have, see `extrapolated_fmr`."""
        scores, log_rates = np.array(self.scores)[rates > 0], np.log(rates[rates > 0])
        ten_times = np.interp(log_rates[-1] + np.log(10), log_rates[::-1], scores[::-1])
        fall = np.interp(ten_times, scores, log_rates) - log_rates[-1]
        slope = fall / max(scores[-1] - ten_times, 1e-9)
        beyond = MAX_SCORE + 1
        return np.r_[scores, beyond], np.r_[log_rates, log_rates[-1] - slope * (beyond - scores[-1])]


def _rate_at(score: float, scores: np.ndarray, log_rates: np.ndarray) -> float:
    return float(np.exp(np.interp(score, scores, log_rates)))


def _check_order(
    name: str, values: Sequence[float], length: int, smallest: float, largest: float, direction: int
) -> None:
    """Raise ValueError unless there are `length` > 0 values in a range, rising (direction 1) or falling (-1)."""
    array = np.asarray(values, float)
    if array.shape != (length,) or not length:
        raise ValueError(f"{name} has the shape {array.shape}, expected ({length or 'k'},), one value a score")
    if not ((array >= smallest) & (array <= largest)).all():  # also refuses NaN
        raise ValueError(f"{name} has values outside {smallest:g} to {largest:g}")
    if (direction * np.diff(array) < 0).any():
        raise ValueError(f"{name} {'decreases' if direction > 0 else 'increases'} with the score")
