"""`python -m facelib.datasets lfw | celeba | open_set | prepare FOLDER --name NAME | clean`."""

import argparse
import sys
from pathlib import Path

from facelib.datasets import cleaning, crops
from facelib.datasets.sources import load_people_folder
from facelib.datasets.splits import hold_out_photos
from facelib.settings import MODELS, one_line_errors

DOWNLOADS = {"lfw": crops.fetch_lfw, "celeba": crops.fetch_celeba, "open_set": crops.fetch_open_set}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m facelib.datasets", description="Prepare face crops from photos.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lfw", help="download LFW (scikit-learn) and prepare the crops of View 2")
    commands.add_parser("celeba", help="download CelebA (torchvision) and prepare crops for training")
    commands.add_parser("open_set", help="download CelebA and prepare the crops of open_val and open_test")
    prepare = commands.add_parser("prepare", help="prepare crops of your own photos, FOLDER/<person>/<photo>")
    prepare.add_argument("folder", type=Path, help="folder with one folder of photos for each person")
    prepare.add_argument("--name", required=True, help="name of the set; the crops go to <FACELIB_DATA>/<name>")
    prepare.add_argument(
        "--held-out", type=float, default=0.1, help="share of photos held out, of people with ten or more"
    )
    clean = commands.add_parser("clean", help="find people with two IDs and wrong photos", description=cleaning.__doc__)
    clean.add_argument("--weights", type=Path, default=MODELS / "model_arcface.pt", help="of one network")
    clean.add_argument("--same", type=float, default=cleaning.SAME_COSINE, help="cosine of the means of one person")
    clean.add_argument(
        "--photo", type=float, default=cleaning.WRONG_COSINE, help="smallest cosine to the person's other photos"
    )
    clean.add_argument("--out", type=Path, help="folder for dropped_photos.txt; default: print only")
    clean.add_argument("--device", help="cpu, cuda or mps; default: the best available")
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
        folder = DOWNLOADS[options.command]()
    print(f"crops and faces.csv are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
