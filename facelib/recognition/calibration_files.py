"""The files of calibrations: JSON, and the cohort beside it."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from facelib.io.files import atomic_write, printable
from facelib.io.records import RESULTS, significant
from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import load_cohort, save_cohort
from facelib.settings import MODELS, cache_folder, own_cache_name
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


def user_calibrations_folder() -> Path:
    """Folder of the calibrations that a user measured, which are preferred over the shipped ones."""
    return cache_folder() / "calibrations"


def load_calibration(model_id: str, folders: Sequence[Path] | None = None) -> Calibration:
    """The calibration of an embedder, with its cohort.

    Args:
        model_id: see `facelib.types.Embedder`.
        folders: where to look, in this order; None: `user_calibrations_folder`, then the shipped calibrations.

    Raises:
        CalibrationMissingError: there is none.
        ValueError: a file is damaged, has impossible rates, or is of another embedder; or the cohort is damaged, of
            another calibration, or missing.
    """
    name = f"calibration_{model_id}.json"
    paths = [folder / name for folder in folders or (user_calibrations_folder(), RESULTS)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise CalibrationMissingError(
            f"{paths[-1]}: the error rates of this embedder have not been measured. Measure them with `facelib "
            "calibrate`, on photos of people who are in no training set of it"
        )
    restore = (
        "restore it from the repository" if path.parent == RESULTS else "remove it with `facelib calibrate --reset`"
    )
    advice = f"{restore}, or measure it again with `facelib calibrate`"
    try:
        content = _todays_fields(json.loads(path.read_text()))
        cohort_id = content.pop("cohort", "")
        calibration = Calibration(**content)
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, LookupError) as error:
        raise ValueError(f"{path} is not a valid calibration ({str(error)[:160]}): {advice}") from None
    if calibration.model_id != model_id:
        other = printable(calibration.model_id)[:60]
        raise ValueError(f"{path} is of the embedder {other}, not of {model_id}: {advice}")
    if not cohort_id:
        return calibration
    try:
        return replace(calibration, cohort=load_cohort(cohort_file(path.parent, model_id), cohort_id))
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}: {advice}") from None


def cohort_file(folder: Path, model_id: str) -> Path:
    """The file of the cohort that belongs to the calibration in `folder`."""
    return (MODELS if folder == RESULTS else folder) / f"cohort_{model_id}.npz"


def save_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write a calibration, and its cohort, where `load_calibration` finds them; returns the path of the calibration.

    Rates and scores are written with four significant digits.
    """
    path = folder / f"calibration_{calibration.model_id}.json"
    folder.mkdir(parents=True, exist_ok=True)
    cohort = cohort_file(folder, calibration.model_id)
    if calibration.cohort:
        save_cohort(calibration.cohort, cohort)
    content = {each.name: getattr(calibration, each.name) for each in fields(calibration)}
    content["cohort"] = calibration.cohort.id if calibration.cohort else ""
    with atomic_write(path) as new:
        new.write_text(json.dumps(significant(content)) + "\n")
    if not calibration.cohort:
        cohort.unlink(missing_ok=True)  # of an earlier calibration
    return path


def own_calibrations(folder: Path) -> list[Path]:
    """The files of the calibrations that `facelib calibrate` measured on a folder of photos."""
    name = json.dumps(own_cache_name(folder))[1:-1]  # as it is in the file, the last word of `data`
    measured = sorted(user_calibrations_folder().glob("calibration_*.json"))
    found = [path for path in measured if f' {name}"' in path.read_text(errors="replace")]
    return [file for path in found for file in (path, _cohort_of(path)) if file.exists()]


def remove_own_calibration(model_id: str) -> list[Path]:
    """Remove the user's calibration of an embedder, and its cohort; returns the files that were there."""
    path = user_calibrations_folder() / f"calibration_{model_id}.json"
    removed = [file for file in (path, _cohort_of(path)) if file.exists()]
    for file in removed:
        file.unlink()
    return removed


def _cohort_of(path: Path) -> Path:
    return cohort_file(path.parent, path.stem.removeprefix("calibration_"))


def _todays_fields(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a calibration file in today's form: before version 0.3 rates were kept by cosine distance."""
    kept = {name: value for name, value in content.items() if name not in UNUSED_NAMES_OF_VERSION_0_2}
    kept = {NAMES_OF_VERSION_0_2.get(name, name): value for name, value in kept.items()}
    if "distances" not in kept:
        return kept
    distances, first = np.unique(kept.pop("distances"), return_index=True)
    falling = first[::-1]
    for name in ("false_match_rates", "false_match_bounds", "true_match_rates"):
        kept[name] = [kept[name][i] for i in falling] if kept[name] else []
    kept["fmr_of_means"] = {photos: [rates[i] for i in falling] for photos, rates in kept["fmr_of_means"].items()}
    return kept | {"scores": (1 - distances[::-1]).tolist(), "lowest_rate": 1 / kept.pop("pairs")}
