"""`python -m facelib.training RECIPE [--set KEY=VALUE ...]`: the only trainer."""

import argparse
import sys
from pathlib import Path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m facelib.training",
        description="Train by a recipe, or go on where the same recipe was interrupted. Weights, manifest, history and "
        "the recipe as it was used are written beside each other. Several processes: torchrun --nproc-per-node=2 "
        "-m facelib.training RECIPE.",
    )
    parser.add_argument("recipe", type=Path, help="a TOML file, see models/recipes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another value for a key of the recipe"
    )
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is if not given")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare pictures beside the training")
    parser.add_argument("--checkpoints", type=Path, help="their folder; default: FACELIB_DATA/checkpoints")
    parser.add_argument("--stop-after", type=int, metavar="EPOCH", help="end after this epoch, as if interrupted")
    options = parser.parse_args()
    if options.stop_after is not None and options.stop_after < 1:
        parser.error(f"--stop-after {options.stop_after}: at least 1")
    return options


def main() -> int:
    options = parse_arguments()
    try:
        from facelib.training.configuration import load_config
        from facelib.training.loop import end_processes
        from facelib.training.run import run

        recipe = load_config(options.recipe, options.set)
        settings = {"device": options.device, "workers": options.workers, "stop_after": options.stop_after}
        run(recipe, options.checkpoints, **settings)
        end_processes()
    except ModuleNotFoundError as error:
        print(f'error: {error}; training needs the extra "train": pip install -e ".[train]"', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; every epoch that ended is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
