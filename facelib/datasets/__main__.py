"""`python -m facelib.datasets lfw | celeba | open_set | prepare FOLDER --name NAME | clean`."""

import argparse
import sys
from pathlib import Path

from facelib.datasets import cleaning, crops
from facelib.datasets.sources import load_people_folder
from facelib.datasets.splits import hold_out_photos
from facelib.settings import MODELS, one_line_errors

FETCH = {"lfw": crops.fetch_lfw, "celeba": crops.fetch_celeba, "open_set": crops.fetch_open_set}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m facelib.datasets", description="Photos to face crops.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lfw", help="download LFW (scikit-learn) and prepare its crops for View 2")
    commands.add_parser("celeba", help="download CelebA (torchvision) and prepare its crops, for training")
    commands.add_parser("open_set", help="the same, the photos of open_val and open_test, to measure with")
    own = commands.add_parser("prepare", help="your own photos, FOLDER/<person>/<photo>, to crops for training")
    own.add_argument("folder", type=Path)
    own.add_argument("--name", required=True, help="the crops go to <FACELIB_DATA>/<name>")
    own.add_argument("--held-out", type=float, default=0.1, help="share of the photos of people with ten or more")
    clean = commands.add_parser("clean", help=cleaning.__doc__, description=cleaning.__doc__)
    clean.add_argument("--weights", type=Path, default=MODELS / "model_arcface.pt", help="of one network")
    clean.add_argument("--same", type=float, default=cleaning.SAME, help="cosine of the centres of one person")
    clean.add_argument("--photo", type=float, default=cleaning.WRONG, help="least cosine to one's own")
    clean.add_argument("--out", type=Path, help="folder to write dropped_photos.txt into; default: only print")
    clean.add_argument("--device")
    options = parser.parse_args()
    if options.command == "prepare" and not 0 <= options.held_out < 1:
        parser.error(f"--held-out {options.held_out}: expected a share from 0 to below 1")
    return options


@one_line_errors
def main() -> int:
    options = parse_arguments()
    if options.command == "clean":
        cleaning.clean(options.weights, options.same, options.photo, options.out, options.device)
        return 0
    if options.command == "prepare":
        faces = hold_out_photos(load_people_folder(options.folder), options.held_out)
        folder = crops.prepare_crops(faces, options.name)
    else:
        folder = FETCH[options.command]()
    print(f"crops and faces.csv are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
