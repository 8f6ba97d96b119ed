"""What counts as a photo: the content of a file, not its ending. The one rule, for reading and for looking through
folders."""

from collections.abc import Callable, Iterator

from PIL import Image

PILLOW = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # as Pillow calls them; MPO is a JPEG
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")  # after "ftyp"
HEAD_BYTES = 32  # of a file, by which it is known


def openers_of(head: bytes) -> Iterator[Callable[..., Image.Image]]:
    """What may open a file that begins with these bytes, as (file, name) -> image."""
    if head[4:8] == b"ftyp" and head[8:12] in HEIF:
        from pi_heif import HeifImageFile  # not registered with Pillow, which belongs to the whole program

        yield HeifImageFile
    Image.init()
    for factory, accept in (Image.OPEN[kind] for kind in PILLOW if kind in Image.OPEN):
        if accept is not None and accept(head) is True:
            yield factory


def is_photo(head: bytes) -> bool:
    """Whether a file that begins with these bytes is of a format that is read."""
    return next(openers_of(head), None) is not None
