"""Find the clips in folders, by the rules of the search for photos."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from facelib.io.formats import is_photo, is_video
from facelib.io.photo_search import FoundPhotos, search_photos

NOT_A_VIDEO = "not a video"
A_PHOTO = "a photo"


def is_clip(head: bytes, name: str) -> bool:
    """Whether a file in a folder is a clip: by its first `HEAD_BYTES` bytes and the suffix of its name.

    Animated pictures count as photos: they are clips where they are named.
    """
    return is_video(head, name)


def search_clips(
    paths: str | os.PathLike | Sequence[str | os.PathLike], skip_folder: Callable[[Path], bool] = lambda folder: False
) -> FoundPhotos:
    """Clips among the given files and in the given folders: `photos` of the result, see `search_photos`.

    A given path is kept whatever it is, so that reading it raises the error; that of a sequence (frames/%04d.png) too.
    """
    return search_photos(paths, skip_folder, _why_no_clip)


def _why_no_clip(head: bytes, path: Path) -> str | None:
    if is_clip(head, path.name):
        return None
    return A_PHOTO if is_photo(head) else NOT_A_VIDEO
