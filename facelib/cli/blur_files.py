"""The files that `facelib blur` reads and writes, and how it knows again those that it wrote."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from facelib.cli.console import Console
from facelib.io.files import atomic_write, digest, printable, unique_names
from facelib.io.formats import HEAD_BYTES, image_factories, is_video
from facelib.io.photo_search import search_photos, why_no_photo

MARK = "faces hidden by facelib"  # begins the comment of every file that is written
LOSSY = {"JPEG", "WEBP", "HEIF", "AVIF", "JPEG2000"}  # Pillow's names; their copies are JPEG, all others PNG
ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Source:
    """A file whose faces are hidden.

    path: of the file. target: of the copy. is_clip: whether it is a video or an animated picture.
    """

    path: Path
    target: Path
    is_clip: bool

    @property
    def mark(self) -> str:
        """Begins the comment of its copies."""
        return f"{MARK} from {digest(os.path.realpath(self.path))[:8]}"


def list_sources(given: Sequence[Path], out: Path, console: Console) -> list[Source]:
    """The photos and clips that are named, or lie in folders that are named; `out` is not searched.

    Raises:
        ValueError: there is none, or one lies in `out`.
    """

    def reason_to_skip(head: bytes, path: Path) -> str | None:
        return None if is_video(head, path.name) else why_no_photo(head, path)

    found = search_photos(given, lambda folder: os.path.realpath(folder) == os.path.realpath(out), reason_to_skip)
    for line in found.summary():
        console.notice(line)
    if not found.photos:
        raise ValueError(f"no photos and no clips in {', '.join(map(str, given))}")
    for path in found.photos:
        for folder in (path.parent, Path(os.path.realpath(path)).parent):  # of a link, and of what it leads to
            if os.path.realpath(folder) == os.path.realpath(out):
                raise ValueError(f"{printable(path)} lies in the folder of the copies: give another --out")
    return [_source(path, out, name) for path, name in zip(found.photos, unique_names(found.photos))]


def _source(path: Path, out: Path, name: str) -> Source:
    suffix = ".jpg"  # also of a file that reading will report as an error
    is_clip = False
    with contextlib.suppress(Exception), open(path, "rb") as file:  # whatever a damaged file makes Pillow raise
        is_clip = is_video(file.read(HEAD_BYTES), path.name)
        if not is_clip:
            image = _opened(file)
            is_clip = image.format in ANIMATED and getattr(image, "is_animated", False)
            suffix = ".jpg" if image.format in LOSSY else ".png"
    return Source(path, out / f"{name}{'.mp4' if is_clip else suffix}", is_clip)


def _opened(file: BinaryIO) -> Image.Image:
    """The image in a file, pixels not decoded; unlike with `Image.open` of all formats that photos have, and without
    the limits that this process has set for Pillow."""
    file.seek(0)
    factory = next(image_factories(file.read(HEAD_BYTES)))
    file.seek(0)
    return factory(file, "")


def check_targets(sources: Sequence[Source]) -> None:
    """Check that no file of the user would be replaced.

    Raises:
        FileExistsError: it would.
    """
    for source in sources:
        comment = comment_of(source.target) if os.path.lexists(source.target) else source.mark
        if not comment.startswith(source.mark):
            whose = "is the copy of another file" if comment.startswith(MARK) else "facelib has not written it"
            raise FileExistsError(
                f"{printable(source.target)} exists, and {whose}: give another --out, or --force to replace it"
            )


def comment_of(path: Path) -> str:
    """The comment in a file that may be a copy; "" where it has none, or cannot be read."""
    with contextlib.suppress(Exception):  # whatever libraries raise for files of others
        if path.suffix == ".mp4":
            from facelib.video.reader import require_av

            options = {"protocol_whitelist": "none"}
            with (
                open(path, "rb") as file,
                require_av().open(file, container_options=options, metadata_errors="replace") as clip,
            ):
                return clip.metadata.get("comment", "")
        with Image.open(path) as image:
            comment = image.info.get("comment", image.info.get("Comment", ""))
            return comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)
    return ""


def write_photo(path: Path, image: np.ndarray, comment: str, profile: bytes | None) -> None:
    """Write a photo, RGB uint8 (H, W, 3): by its suffix as JPEG of high quality, or as PNG without loss.

    Args:
        comment: the only text in the file. profile: colour profile (ICC); None: sRGB is assumed.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        if path.suffix == ".png":
            info = PngInfo()
            info.add_text("Comment", comment)
            Image.fromarray(image).save(temporary, "PNG", pnginfo=info, icc_profile=profile)
        else:
            options = {"quality": JPEG_QUALITY, "subsampling": 0, "icc_profile": profile, "comment": comment}
            Image.fromarray(image).save(temporary, "JPEG", **options)


def rgb_profile(path: Path) -> bytes | None:
    """The colour profile (ICC) of a photo, without which its colours would change; None: it has none for RGB."""
    with contextlib.suppress(Exception), open(path, "rb") as file:
        profile = _opened(file).info.get("icc_profile")
        return profile if profile and profile[16:20] == b"RGB " else None
    return None
