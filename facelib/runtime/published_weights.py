"""Weights that a manifest names and its folder lacks, fetched by their SHA-256 from where versions publish them."""

import hashlib
import logging
import re
from pathlib import Path

from facelib.io.files import atomic_write, file_hash
from facelib.settings import cache_folder, weights_url
from facelib.types import DownloadError

logger = logging.getLogger(__name__)


def find_published(path: Path, sha256: str) -> Path | None:
    """A copy of a weights file that is missing, from the cache folder, or fetched into it.

    Args:
        path: the missing file; its ending is that of the published one.
        sha256: of its content, in hexadecimal digits, as the manifest has it.

    Returns:
        Path of the copy, its content checked; None where there is none and no address is set (see `weights_url`).

    Raises:
        DownloadError: it cannot be fetched, or has another SHA-256; nothing is written then.
        ValueError: see `facelib.io.downloads.timeout`.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        return None
    name = sha256 + path.suffix
    copy = cache_folder() / "weights" / name
    if copy.is_file() and file_hash(copy) == sha256:
        return copy
    if not (base := weights_url()):
        return None
    from facelib.io.downloads import fetch, timeout

    url, seconds = f"{base}/{name}", timeout()
    logger.warning("%s is missing; downloading %s, once", path, url)
    try:
        content = fetch(url, seconds)
    except (OSError, ValueError) as error:  # ValueError: no address
        raise DownloadError(
            f"{path} is missing, and {url} cannot be downloaded ({error}): restore the file from the repository, put "
            f"it at {copy}, or correct FACELIB_WEIGHTS_URL"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DownloadError(f"{path} is missing, and {url} is another file: its SHA-256 is not {sha256[:8]}...")
    copy.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(copy) as new:
        new.write_bytes(content)
    return copy
