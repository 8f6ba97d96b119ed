"""Compute the cohort similarities of an archive's faces, as those of an earlier version, or after a calibration with
another cohort, need: `python -m facelib.archive.upgrade ARCHIVE`."""

import argparse
import sys

from facelib.io.files import private_files
from facelib.settings import one_line_errors


@one_line_errors
@private_files()  # embeddings are biometric data
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.archive.upgrade", description=__doc__)
    parser.add_argument("archive", help="folder or address of the archive")
    options = parser.parse_args()
    from facelib.archive.cohorts import compute_similarities  # takes seconds, which `--help` should not wait for
    from facelib.archive.table import Archive

    archive = Archive(options.archive)
    with archive.write_lock():
        compute_similarities(archive.faces, archive.cohort)
    cohort = f"the cohort {archive.cohort.id}" if archive.cohort else "no cohort: scores are cosines"
    print(f"{archive.faces.count_rows():,} faces of {options.archive} have cohort similarities of {cohort}")


if __name__ == "__main__":
    sys.exit(main())
