"""Prepare face crops from downloads, from data sets as their authors publish them, and from your own photos.

`python -m facelib.datasets NAME [PATH ...]`; data/README.md says where each data set comes from.
"""

import argparse
import sys
from pathlib import Path

from facelib.datasets import cleaning
from facelib.datasets.celeba import CELEBA_CROPS, fetch_celeba, fetch_open_set
from facelib.datasets.crops import prepare_crops
from facelib.datasets.group_sets import GROUP_SETS, convert_groups
from facelib.datasets.landmark_sets import LANDMARK_SETS, convert_landmarks, fetch_celeba_landmarks
from facelib.datasets.lfw import fetch_lfw
from facelib.datasets.sources import load_people_folder
from facelib.datasets.splits import GROUPS, OPEN_SET, hold_out_photos
from facelib.settings import MODELS, one_line_errors

LANDMARKS = "landmarks"  # the set that landmark converters add to
DOWNLOADS = {
    "lfw": (fetch_lfw, "LFW, the photos of View 2"),
    "celeba": (fetch_celeba, f"CelebA's people for training, as {CELEBA_CROPS}"),
    "open_set": (fetch_open_set, f"open_val and open_test from CelebA, as {OPEN_SET}"),
    "celeba_landmarks": (fetch_celeba_landmarks, f"CelebA's landmarks, added to {LANDMARKS}"),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m facelib.datasets", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, content) in DOWNLOADS.items():
        command = commands.add_parser(name, help=content, description=f"{content}. Without PATH it is downloaded.")
        _add_paths(command, "*", LANDMARKS if name == "celeba_landmarks" else "")
        command.add_argument("--unchecked", action="store_true", help="take files whose hash is not the published one")
    for names, target in ((LANDMARK_SETS, LANDMARKS), (GROUP_SETS, GROUPS)):
        for name in names:
            content = f"{name} from its authors' archives, added to {target}"
            _add_paths(commands.add_parser(name, help=content, description=f"{content}."), "+", target)
    prepare = commands.add_parser("prepare", help="prepare crops of your own photos, FOLDER/<person>/<photo>")
    prepare.add_argument("folder", type=Path, help="folder with one folder of photos for each person")
    prepare.add_argument("--name", required=True, help="name of the set; the crops go to <FACELIB_DATA>/<name>")
    prepare.add_argument(
        "--held-out", type=float, default=0.1, help="share of photos held out, of people with ten or more"
    )
    _add_clean(commands.add_parser("clean", help="find people with two IDs and wrong photos"))
    options = parser.parse_args()
    if options.command == "prepare" and not 0 <= options.held_out < 1:
        parser.error(f"--held-out {options.held_out}: expected a share from 0 to below 1")
    return options


def _add_paths(command: argparse.ArgumentParser, count: str, target: str) -> None:
    command.add_argument("paths", type=Path, nargs=count, metavar="PATH", help="archive, file or folder with them")
    if target:
        command.add_argument("--name", default=target, help=f"set that the faces are added to (default: {target})")
        command.add_argument("--replace", action="store_true", help="replace the faces that it has of this data set")


def _add_clean(clean: argparse.ArgumentParser) -> None:
    clean.description = cleaning.__doc__
    clean.add_argument("--weights", type=Path, default=MODELS / "model_arcface.pt", help="of one network")
    clean.add_argument("--same", type=float, default=cleaning.SAME_COSINE, help="cosine of the means of one person")
    clean.add_argument(
        "--photo", type=float, default=cleaning.WRONG_COSINE, help="smallest cosine to the person's other photos"
    )
    clean.add_argument("--out", type=Path, help="folder for dropped_photos.txt; default: print only")
    clean.add_argument("--device", help="cpu, cuda or mps; default: the best available")


def prepare(options: argparse.Namespace) -> Path:
    """Run the command, and return the folder of the crops."""
    command = options.command
    if command == "prepare":
        return prepare_crops(hold_out_photos(load_people_folder(options.folder), options.held_out), options.name)
    if command in LANDMARK_SETS:
        return convert_landmarks(command, options.paths, options.name, options.replace)
    if command in GROUP_SETS:
        return convert_groups(command, options.paths, options.name, options.replace)
    if command == "celeba_landmarks":
        return fetch_celeba_landmarks(options.paths, not options.unchecked, options.name, options.replace)
    return DOWNLOADS[command][0](options.paths, not options.unchecked)


@one_line_errors
def main() -> int:
    options = parse_arguments()
    if options.command == "clean":
        cleaning.clean(options.weights, options.same, options.photo, options.out, options.device)
        return 0
    print(f"crops and their table are in {prepare(options)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
