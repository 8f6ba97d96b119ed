"""A sample photo that needs no download."""

import importlib.util
from pathlib import Path


def sample_photo() -> Path:
    """Path of the sample photo of the installed package insightface, which shows six people.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    package = importlib.util.find_spec("insightface")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0]) / "data" / "images" / "t1.jpg" if folders else Path("t1.jpg")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the sample photo comes with the package insightface: pip install insightface")
    return path
