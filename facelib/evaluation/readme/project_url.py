"""Everything that names the repository's address, written from `facelib.settings.PROJECT_URL`; nothing while it is
empty."""

import json
import re

from facelib.settings import MODELS, PROJECT_URL

ROOT = MODELS.parent
COLAB = "https://colab.research.google.com"


def badge(url: str = PROJECT_URL) -> str:
    """The badge of the tests on the front page, or an empty line."""
    return f"[![tests]({url}/actions/workflows/ci.yml/badge.svg)]({url}/actions)\n" if url else ""


def clone(url: str = PROJECT_URL) -> str:
    """The command that fetches the repository."""
    return f"```bash\ngit clone {url or 'ADDRESS_OF_THIS_PAGE'} facelib && cd facelib\n```"


def pyproject(text: str, url: str = PROJECT_URL) -> str:
    """pyproject.toml with its table [project.urls], or without one."""
    text = re.sub(r"\[project\.urls\]\n(?:[^\n\[]+\n)*\n?", "", text)
    if not url:
        return text
    urls = (
        f'[project.urls]\nHomepage = "{url}"\nIssues = "{url}/issues"\nChangelog = "{url}/blob/main/CHANGELOG.md"\n\n'
    )
    return text.replace("[project.scripts]", f"{urls}[project.scripts]")


def notebook(text: str, name: str, url: str = PROJECT_URL) -> str:
    """A notebook with the address in the cell that sets Colab up and in its links, so that they work where it is opened
    alone; with an address at GitHub also with a badge that opens it in Colab.

    Args:
        name: of its file.
    """
    content = json.loads(text)
    for cell in content["cells"]:
        source = re.sub(r'^REPOSITORY = ".*"', f'REPOSITORY = "{url}"', "".join(cell["source"]), flags=re.MULTILINE)
        cell["source"] = _with_links(source, url)
        for output in cell.get("outputs", []):
            if shown := output.get("data", {}).get("text/markdown"):
                output["data"]["text/markdown"] = _with_links("".join(shown), url)
    title = content["cells"][0]
    without = re.sub(r"\[!\[Colab\][^\n]*\n\n", "", "".join(title["source"]))
    if at_github := re.fullmatch(r"https://github\.com/(.+?)/?", url):
        badge = f"[![Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{at_github[1]}/blob/main/notebooks/{name})"
        without = without.replace("\n\n", f"\n\n{badge}\n\n", 1)
    title["source"] = without.splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _with_links(source: str, url: str) -> list[str]:
    """The lines of a cell; links to pages of the repository are relative where there is no address."""
    link = r"\]\(https?://[^)\s]*/blob/main/(notebooks/(?=Face_))?"
    source = re.sub(link, lambda found: "](" if found[1] else "](../", source)
    if url:
        source = source.replace("](../", f"]({url}/blob/main/").replace("](Face_", f"]({url}/blob/main/notebooks/Face_")
    return source.splitlines(keepends=True)
