"""What counts as a photo: the content of a file, not its ending. The one rule, for reading and for looking through
folders."""

from collections.abc import Callable, Iterator

from PIL import Image

PILLOW = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # as Pillow calls them; MPO is a JPEG
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")  # after "ftyp"
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes
HEAD_BYTES = 32  # of a file, by which it is known
# Raw files of cameras begin like a TIFF, and hold a thumbnail that would be taken for the photo.
RAW = {".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf",
       ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}  # fmt: skip


def openers_of(head: bytes) -> Iterator[Callable[..., Image.Image]]:
    """What may open a file that begins with these bytes, as (file, name) -> image."""
    if head[4:8] == b"ftyp" and head[8:12] in HEIF:
        from pi_heif import HeifImageFile  # not registered with Pillow, which belongs to the whole program

        yield HeifImageFile
    Image.init()
    for kind in PILLOW:
        factory, accept = Image.OPEN.get(kind, (None, None))
        if accept is not None and accept(head) is True and _is_no_text(kind, head):
            yield factory


def _is_no_text(kind: str, head: bytes) -> bool:
    """Two letters are enough for Pillow to take a file for a BMP or PPM, and many texts begin with them."""
    if kind == "BMP":
        return int.from_bytes(head[14:18], "little") in BMP_HEADERS
    return kind != "PPM" or head[2:3] in (b" ", b"\t", b"\n", b"\r", b"#")


def is_photo(head: bytes) -> bool:
    """Whether a file that begins with these bytes is of a format that is read."""
    return next(openers_of(head), None) is not None
