"""Which files are photos: recognised by their content, not by their suffix. Reading and searching share this rule."""

from collections.abc import Callable, Iterator

from PIL import Image

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # Pillow reads MPO as JPEG
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes in bytes
HEAD_BYTES = 32  # of a file, enough to recognise its format
# Raw files of cameras begin like a TIFF and contain a thumbnail, which would be read instead of the photo.
RAW_SUFFIXES = {".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".mrw", ".nef", ".nrw", ".orf", ".pef",
                ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}  # fmt: skip


def image_factories(head: bytes) -> Iterator[Callable[..., Image.Image]]:
    """Functions (file, name) -> PIL image that may open a file which begins with `head`."""
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        from pi_heif import HeifImageFile  # not registered with Pillow: its registry belongs to the whole process

        yield HeifImageFile
    Image.init()
    for name in PILLOW_FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is not None and accept is not None and accept(head) is True and not _is_text(name, head):
            yield factory


def _is_text(pillow_format: str, head: bytes) -> bool:
    """Whether a file that Pillow takes for a BMP or PPM, by its first two letters, is in fact a text."""
    if pillow_format == "BMP":
        return int.from_bytes(head[14:18], "little") not in BMP_HEADERS
    return pillow_format == "PPM" and head[2:3] not in (b" ", b"\t", b"\n", b"\r", b"#")


def is_photo(head: bytes) -> bool:
    """Whether a file that begins with `head` has a supported format."""
    return next(image_factories(head), None) is not None
