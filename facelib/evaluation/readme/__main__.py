"""Write the tables of README.md and other pages from models/results, and the repository's address where it belongs:
`python -m facelib.evaluation.readme`.

A table stands between the marks `<!-- NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit code
says whether the pages are up to date.
"""

import argparse
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from facelib.evaluation.readme import (
    archive_tables,
    detection_tables,
    fairness_tables,
    project_url,
    recognition_tables,
    training_tables,
    video_tables,
)
from facelib.io.files import atomic_write
from facelib.io.records import RESULTS
from facelib.settings import MODELS, one_line_errors

ROOT = MODELS.parent
PAGES = (
    ROOT / "README.md",
    MODELS / "README.md",
    ROOT / "facelib/archive/README.md",
    ROOT / "facelib/recognition/README.md",
)
MARKED = re.compile(r"<!-- (\w+) -->\n.*?\n?<!-- end -->", flags=re.DOTALL)
# Name between the marks -> function that writes the table.
TABLES: dict[str, Callable[[], str]] = {
    **recognition_tables.TABLES,
    **training_tables.TABLES,
    **detection_tables.TABLES,
    **archive_tables.TABLES,
    **fairness_tables.TABLES,
    **video_tables.TABLES,
    "badge": project_url.badge,
    "clone": project_url.clone,
}


def update_tables(text: str) -> str:
    """A page with each table between its marks written again.

    Raises:
        ValueError: a mark names no table.
    """

    def write(match: re.Match) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"<!-- {name} -->: unknown table; expected one of {', '.join(TABLES)}")
        return f"<!-- {name} -->\n{TABLES[name]()}\n<!-- end -->"

    return MARKED.sub(write, text)


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is out of date")
    options = parser.parse_args()
    outdated = False
    updates: dict[Path, Callable[[str], str]] = {page: update_tables for page in PAGES}
    updates |= {
        page: partial(project_url.notebook, name=page.name) for page in sorted((ROOT / "notebooks").glob("*.ipynb"))
    }
    updates[ROOT / "pyproject.toml"] = project_url.pyproject
    for page, update in updates.items():
        text = page.read_text()
        updated = update(text)
        if updated == text:
            continue
        outdated = True
        if options.check:
            print(f"{page}: differs from {RESULTS}")
        else:
            with atomic_write(page) as path:
                path.write_text(updated)
            print(f"{page}: written")
    if not outdated:
        print(f"{len(updates)} files are up to date")
    return int(options.check and outdated)


if __name__ == "__main__":
    sys.exit(main())
