"""Write the tables of README.md and the other pages from models/results: `python -m facelib.evaluation.readme`.

A table stands between `<!-- NAME -->` and `<!-- end -->`; with --check nothing is written, and the exit code says
whether the pages are up to date.
"""

import argparse
import re
import sys

from facelib.evaluation.readme import archive_tables, tables
from facelib.io.files import atomic_write
from facelib.io.records import RESULTS
from facelib.settings import MODELS, one_line_errors

ROOT = MODELS.parent
PAGES = (ROOT / "README.md", MODELS / "README.md", ROOT / "facelib/archive/README.md")
TABLES = tables.TABLES | archive_tables.TABLES


def filled(text: str) -> str:
    """A page with every part between its marks, `<!-- NAME -->` and `<!-- end -->`, made anew.

    Raises:
        ValueError: a mark of no part.
    """

    def fill(match: re.Match) -> str:
        if match[1] not in TABLES:
            raise ValueError(f"<!-- {match[1]} -->: no such part; there are {', '.join(TABLES)}")
        return f"<!-- {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?\n?<!-- end -->", fill, text, flags=re.DOTALL)


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.readme", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a page is not as it should"
    )
    options = parser.parse_args()
    wrong = [page for page in PAGES if filled(page.read_text()) != page.read_text()]
    for page in wrong:
        if not options.check:
            text = filled(page.read_text())
            with atomic_write(page) as path:
                path.write_text(text)
        print(f"{page}: {'says something else than ' + str(RESULTS) if options.check else 'written'}")
    return int(options.check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
