"""Measure weights on the test sets, into models/results: `python -m facelib.evaluation [NAME ...] [--sets SET ...]`.

What is there is measured; a line says how to get each set that is missing. Figures of other sets stay as they are.
`python -m facelib.evaluation report` writes one page with all figures.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from facelib.evaluation.run import ON_REQUEST, Evaluation
from facelib.evaluation.sets import EVALUATED, report_missing
from facelib.settings import MODELS, one_line_errors


def parse_arguments() -> tuple[Evaluation, list[str]]:
    """The evaluation, and the names to measure."""
    parser = argparse.ArgumentParser("python -m facelib.evaluation", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="weights of the manifest; an embedder: default, arcface, triplet or accurate; identification: open-set "
        "identification and clustering with the default embedder; closed_set: held-out photos of training identities, "
        "for which all photos of the training sets are aligned first; dlib: the teacher, needs the extra `teacher`; "
        "fairness: error rates by group of people, of all embedders. Without a name: all but the last three",
    )
    parser.add_argument(
        "--sets", nargs="+", choices=EVALUATED, metavar="SET", help=f"only these: {', '.join(EVALUATED)} (default: all)"
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the weights and their manifest")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    options = parser.parse_args()
    evaluation = Evaluation(options.models, options.device)
    manifest = options.models / "manifest.json"
    if not evaluation.names:
        parser.error(f"{manifest} lists no weights")
    if unknown := [name for name in options.names if name not in evaluation.names]:
        parser.error(f"{' '.join(unknown)}: {manifest} has {', '.join(evaluation.names)}")
    names = options.names or [name for name in evaluation.names if name not in ON_REQUEST]
    sets = options.sets or [data for name in names for data in evaluation.sets_for(name)]
    report_missing(sets)
    return replace(evaluation, sets=evaluation.sets & set(sets)), names


@one_line_errors
def main() -> int:
    if sys.argv[1:2] == ["report"]:
        from facelib.evaluation import report

        return report.main(sys.argv[2:])
    evaluation, names = parse_arguments()
    if not any([evaluation.run(name) for name in names]):
        raise ValueError(f"{', '.join(names)}: nothing was measured, because data sets are missing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
