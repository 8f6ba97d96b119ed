"""`python -m facelib.training CONFIG [--set KEY=VALUE ...]`: the only trainer."""

import argparse
import sys
from pathlib import Path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m facelib.training",
        description="Train by a configuration, or resume where the same command was interrupted. Weights (.pt and "
        ".onnx), manifest, history and the resolved configuration are written beside each other. Several processes: "
        "torchrun --nproc-per-node=2 -m facelib.training CONFIG.",
    )
    parser.add_argument("config", type=Path, help="a TOML file, see models/recipes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another value for a hyperparameter"
    )
    parser.add_argument("--out", type=Path, help="file of the weights; default: FACELIB_DATA/trained/CONFIG.pt")
    parser.add_argument("--force", action="store_true", help="allow to replace weights that are shipped in models/")
    parser.add_argument("--device", help="cpu, cuda or mps; default: the best available")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare images beside the training")
    parser.add_argument("--checkpoints", type=Path, help="their folder; default: FACELIB_DATA/checkpoints")
    parser.add_argument("--stop-after", type=int, metavar="EPOCH", help="end after this epoch, as if interrupted")
    parser.add_argument(
        "--keep-cache", action="store_true", help="keep the cached faces of people_folder for another training"
    )
    options = parser.parse_args()
    if options.stop_after is not None and options.stop_after < 1:
        parser.error(f"--stop-after {options.stop_after}: at least 1")
    return options


def main() -> int:
    options = parse_arguments()
    try:
        from facelib.training.configuration import load_config
        from facelib.training.loop import end_processes
        from facelib.training.run import default_out, run

        config = load_config(options.config, options.set)
        out = options.out or default_out(options.config.stem)
        settings = {"device": options.device, "workers": options.workers, "stop_after": options.stop_after}
        run(config, out, options.force, options.checkpoints, options.keep_cache, **settings)
        end_processes()
    except ModuleNotFoundError as error:
        print(f'error: {error}; training needs the extra "train": pip install -e ".[train]"', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; completed epochs are kept, and the same command resumes", file=sys.stderr)
        return 130
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
