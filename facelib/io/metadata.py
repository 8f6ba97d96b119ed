"""Regions of people in the metadata of a photo: read from its sidecars and from the photo, written to a sidecar.

Photo managers keep names of people like this. `photo.jpg.xmp` and `photo.xmp` are read, and the XMP inside the photo;
only `photo.jpg.xmp` is ever written.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facelib.io.files import atomic_write
from facelib.io.images import read_header
from facelib.io.pixels import PhotoHeader
from facelib.io.xmp import EMPTY_PACKET, Region, Regions, read_regions, with_own_regions

MAX_SIDECAR = 20_000_000  # bytes
ASPECT_TOLERANCE = 0.02  # by which the shapes of a photo and of the one that regions were made for may differ


@dataclass(frozen=True)
class Metadata:
    """The regions of a photo.

    header: of the photo.
    own: regions in `photo.jpg.xmp`.
    others: regions in `photo.xmp`, then those in the photo.
    problems: file that cannot be read -> why.
    """

    header: PhotoHeader
    own: list[Region]
    others: list[Region]
    problems: dict[Path, str]


def sidecar_path(photo: Path) -> Path:
    """The sidecar of a photo that is written: `photo.jpg.xmp`."""
    return photo.with_name(f"{photo.name}.xmp")


def read_metadata(photo: Path) -> Metadata:
    """The regions of a photo. Those that were made for another shape are left out: it was cropped or rotated since.

    Raises:
        OSError, ImageError: the photo cannot be read.
    """
    header = read_header(photo)
    sources: list[list[Region]] = []
    problems = {}
    for path in (sidecar_path(photo), photo.with_suffix(".xmp"), photo):
        found = Regions()
        try:
            if packet := header.xmp.strip(b"\0") if path == photo else _read_sidecar(path):
                found = read_regions(packet)
        except (OSError, ValueError) as error:
            problems[path] = reason(error)
        sources.append(found.regions if _has_shape(header.size, found.size) else [])
    own, beside, inside = sources
    return Metadata(header, own, beside + inside, problems)


def reason(error: Exception) -> str:
    """Why a file could not be read or written, without its name."""
    return getattr(error, "strerror", None) or str(error)


def _read_sidecar(path: Path) -> bytes | None:
    """The content of a sidecar, None where there is none."""
    if not os.path.lexists(path):
        return None
    if path.stat().st_size > MAX_SIDECAR:
        raise ValueError(f"it has more than {MAX_SIDECAR / 1e6:g} MB")
    return path.read_bytes()


def _has_shape(size: tuple[int, int], other: tuple[float, ...]) -> bool:
    """Whether two widths and heights have one ratio; also where the other is not known."""
    return not other or abs(size[0] / size[1] / (other[0] / other[1]) - 1) < ASPECT_TOLERANCE


def write_regions(photo: Path, size: tuple[int, int], regions: Sequence[Region]) -> None:
    """Put regions into `photo.jpg.xmp`, in place of those that this package has written there before.

    Everything else in the file stays. A new file may be read by whoever may read the photo. One that has held nothing
    but regions of this package is removed with the last of them.

    Args:
        size: width and height of the photo as it is stored, in pixels.

    Raises:
        ValueError: the file is no XMP that can be changed. OSError: it cannot be read or written.
    """
    path = Path(os.path.realpath(sidecar_path(photo)))  # a link stays one
    before = _read_sidecar(path)
    content = with_own_regions(EMPTY_PACKET if before is None else before, regions, size)
    if content == EMPTY_PACKET:
        path.unlink(missing_ok=True)
    elif content != before:
        with atomic_write(path) as new:
            new.write_bytes(content)
            with contextlib.suppress(OSError):  # a file system without rights
                shutil.copymode(photo if before is None else path, new)


def upright_box(region: Region, header: PhotoHeader) -> tuple[float, ...]:
    """The box of a region, x1 y1 x2 y2 in pixels of the upright photo."""
    x, y, width, height = region.area
    if header.orientation >= 5:
        x, y, width, height = y, x, height, width
    x, y = _flipped(x, y, header.orientation)
    across, down = _upright_size(header)
    return (x - width / 2) * across, (y - height / 2) * down, (x + width / 2) * across, (y + height / 2) * down


def stored_area(box: Sequence[float], header: PhotoHeader) -> tuple[float, ...]:
    """The area of a region, see `Region`, of a box x1 y1 x2 y2 in pixels of the upright photo."""
    across, down = _upright_size(header)
    x, y = _flipped((box[0] + box[2]) / 2 / across, (box[1] + box[3]) / 2 / down, header.orientation)
    width, height = (box[2] - box[0]) / across, (box[3] - box[1]) / down
    return (y, x, height, width) if header.orientation >= 5 else (x, y, width, height)


def _upright_size(header: PhotoHeader) -> tuple[int, int]:
    width, height = header.size
    return (height, width) if header.orientation >= 5 else (width, height)


def _flipped(x: float, y: float, orientation: int) -> tuple[float, float]:
    """A point as shares of width and height, mirrored as `upright` does, which undoes itself."""
    return (1 - x if orientation in (2, 3, 6, 7) else x), (1 - y if orientation in (3, 4, 7, 8) else y)
