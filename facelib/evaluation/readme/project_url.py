"""Everything that names the repository's address, written from `facelib.settings.PROJECT_URL`; nothing while it is
empty."""

import json
import re

from facelib.settings import MODELS, PROJECT_URL

ROOT = MODELS.parent


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


def notebook(text: str, url: str = PROJECT_URL) -> str:
    """A notebook with the address in the cell that sets Colab up."""
    content = json.loads(text)
    for cell in content["cells"]:
        cell["source"] = [re.sub(r'^REPOSITORY = ".*"', f'REPOSITORY = "{url}"', line) for line in cell["source"]]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
