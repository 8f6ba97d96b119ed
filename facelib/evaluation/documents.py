"""The figures in README.md and the pages of models and archives, made from models/results and the manifest:
`python -m facelib.evaluation.documents` writes them between their marks, with --check it says whether they are right.
"""

import argparse
import re
import sys

from facelib.evaluation import archive_parts, parts
from facelib.files import replacing
from facelib.records import RESULTS
from facelib.settings import MODELS, one_line_errors

ROOT = MODELS.parent
PAGES = (ROOT / "README.md", MODELS / "README.md", ROOT / "facelib/archive/README.md")
PARTS = parts.PARTS | archive_parts.PARTS


def filled(text: str) -> str:
    """A page with every part between its marks, `<!-- NAME -->` and `<!-- end -->`, made anew.

    Raises:
        ValueError: a mark of no part.
    """

    def fill(match: re.Match) -> str:
        if match[1] not in PARTS:
            raise ValueError(f"<!-- {match[1]} -->: no such part; there are {', '.join(PARTS)}")
        return f"<!-- {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?\n?<!-- end -->", fill, text, flags=re.DOTALL)


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.documents", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a page is not as it should"
    )
    options = parser.parse_args()
    wrong = [page for page in PAGES if filled(page.read_text()) != page.read_text()]
    for page in wrong:
        if not options.check:
            text = filled(page.read_text())
            with replacing(page) as path:
                path.write_text(text)
        print(f"{page}: {'says something else than ' + str(RESULTS) if options.check else 'written'}")
    return int(options.check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
