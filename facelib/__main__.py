"""`python -m facelib` is the command `facelib`, see `facelib.cli.main`."""

import sys

from facelib.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
