"""Which files are photos and videos: recognised by their content. Reading and searching share this rule."""

from collections.abc import Callable, Iterator
from pathlib import PurePath

from PIL import Image

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # Pillow reads MPO as JPEG
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes in bytes
# How videos begin: Matroska and WebM, ASF, MPEG, Flash, Ogg, YUV4MPEG, IVF.
VIDEO_HEADS = (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"\0\0\x01\xba", b"\0\0\x01\xb3",
               b"FLV\x01", b"OggS", b"YUV4MPEG2 ", b"DKIF\0\0")  # fmt: skip
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # one of them begins an MP4 or MOV
# A file with such a suffix counts as a video even if its content is none: reading it then reports the damage.
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".vob", ".mts",
                  ".m2ts", ".3gp", ".ogv", ".h264", ".h265", ".hevc", ".mjpeg", ".mjpg"}  # fmt: skip
# Sound in containers of videos.
AUDIO_SUFFIXES = {".m4a", ".m4b", ".m4r", ".aac", ".mka", ".weba", ".wma", ".ogg", ".oga", ".opus", ".spx", ".ra"}
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


def is_video(head: bytes, name: str) -> bool:
    """Whether a file is a video, by its first `HEAD_BYTES` bytes and the suffix of its name."""
    suffix = PurePath(name).suffix.lower()
    if suffix in AUDIO_SUFFIXES or head[4:12] in (b"ftypM4A ", b"ftypM4B "):
        return False
    if suffix in VIDEO_SUFFIXES:
        return True
    if is_photo(head):
        return False
    if suffix == ".ts":  # of MPEG transport streams, and of programs in TypeScript
        return head.startswith(b"G")
    is_mp4 = head[4:8] in MP4_BOXES and head[:1] < b" "  # in a text a letter would come first
    return is_mp4 or head.startswith(VIDEO_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
