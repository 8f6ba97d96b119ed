"""Hostile and unusual inputs, generated from a seed and not stored: `python tests/hostile.py COUNT SEED FOLDER`.

Runs each input through the pipeline in this process and prints a line of JSON before and after it, so that the caller
knows on which input the process crashed, hung or used too much memory. Used by test_hostile.py.
"""

import io
import json
import os
import signal
import socket
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SECONDS = 20  # limit for one input, on busy cores
FORMATS = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm",
    "AVIF": "avif", "JPEG2000": "jp2",
}  # fmt: skip
# Input, and the expected outcome: "image", "error" (with a text that names the file), or "either".
Case = tuple[object, str]
KINDS: dict[str, Callable[[np.random.Generator, Path], Case]] = {}


def register(make: Callable[[np.random.Generator, Path], Case]) -> Callable[[np.random.Generator, Path], Case]:
    KINDS[make.__name__] = make
    return make


def gradient_image(rng: np.random.Generator, least: int = 9, most: int = 90) -> Image.Image:
    """Colour gradients with some noise, nowhere black."""
    width, height = rng.integers(least, most, 2)
    x, y = np.meshgrid(np.linspace(60, 250, width), np.linspace(60, 250, height))
    pixels = np.stack([x, y, (x + y) / 2], -1) + rng.normal(0, 3, (height, width, 3))
    return Image.fromarray(pixels.clip(30, 255).astype(np.uint8))


def encode(image: Image.Image, name: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@register
def valid_image(rng: np.random.Generator, folder: Path) -> Case:
    name = str(rng.choice(list(FORMATS)))
    image = gradient_image(rng)
    modes = {"JPEG": ["RGB", "L", "CMYK"], "PNG": ["RGB", "L", "LA", "P", "RGBA", "1", "I;16"], "TIFF": ["RGB", "CMYK", "L", "I;16"]}  # fmt: skip
    mode = str(rng.choice(modes.get(name, ["RGB"])))
    image = (
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert(mode)
    )
    return write(folder, f"valid.{FORMATS[name]}", encode(image, name)), "image"


@register
def truncated(rng: np.random.Generator, folder: Path) -> Case:
    name = str(rng.choice(list(FORMATS)))
    content = encode(gradient_image(rng, 40), name)
    return write(folder, f"truncated.{FORMATS[name]}", content[: int(len(content) * rng.uniform(0.02, 0.8))]), "error"


@register
def flipped_bits(rng: np.random.Generator, folder: Path) -> Case:
    name = str(rng.choice(list(FORMATS)))
    content = bytearray(encode(gradient_image(rng), name))
    for _ in range(rng.integers(1, 20)):
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return write(folder, f"flipped.{FORMATS[name]}", bytes(content)), "either"


@register
def shuffled_bytes(rng: np.random.Generator, folder: Path) -> Case:
    """A valid start, then the remaining bytes in random order."""
    name = str(rng.choice(list(FORMATS)))
    content = encode(gradient_image(rng), name)
    start = int(rng.integers(4, min(60, len(content))))
    rest = rng.permutation(np.frombuffer(content[start:], np.uint8)).tobytes()
    return write(folder, f"noise.{FORMATS[name]}", content[:start] + rest), "either"


@register
def not_an_image(rng: np.random.Generator, folder: Path) -> Case:
    contents = [
        b"", b"\0", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\x03\x04" + bytes(40), b"\x1f\x8b" + bytes(30),
        b"\0\0\0\x18ftypmp42" + bytes(60), b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP",
        b"II*\0", b"MM\0*\xff\xff\xff\xff", b"P6 ", b"P6 9 9 255\n", b"BM", bytes(1000), rng.bytes(500),
        b"8BPS\0\1" + bytes(40), b"\0\0\1\0\1\0", b"#define a_width 9\n#define a_height 9\n",
    ]  # fmt: skip
    suffix = rng.choice(["jpg", "png", "webp", "tif", "gif", "avif", "bmp", "jp2", "txt"])
    return write(folder, f"no_image.{suffix}", contents[rng.integers(len(contents))]), "error"


@register
def declares_too_many_pixels(rng: np.random.Generator, folder: Path) -> Case:
    """Over the limits: a side of 65,536 or more, or more than 200 megapixels."""
    sides = [(1, 178_000_000), (70_000, 8), (65_536, 3), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (15_000, 14_000)]
    width, height = sides[rng.integers(len(sides))]
    contents = {
        "png": png(width, height, b"\0" * 20),
        "ppm": b"P6 %d %d 255\n" % (width, height) + bytes(30),
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(9),
        "tif": tiff(width, height),
    }  # fmt: skip
    suffix = str(rng.choice(list(contents)))
    return write(folder, f"huge.{suffix}", contents[suffix]), "error"


@register
def declares_missing_pixels(rng: np.random.Generator, folder: Path) -> Case:
    """Within the limits, but most pixels are missing."""
    width, height = ((9_000, 5_000), (60_000, 800), (3, 65_535), (4_000, 4_000))[rng.integers(4)]
    content = {
        "png": png(width, height, b"\0" + b"\x99" * width),
        "ppm": b"P6 %d %d 255\n" % (width, height) + bytes(300),
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(9),
        "gif": encode(gradient_image(rng).convert("P"), "GIF")[:6] + struct.pack("<HH", width, height) + b"\xf0\0\0" + bytes(6)
        + b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\2\2D\1\0;",
        "tif": tiff(width, height),
    }  # fmt: skip
    suffix = str(rng.choice(list(content)))
    return write(folder, f"hollow.{suffix}", content[suffix]), "error"


def tiff(width: int, height: int) -> bytes:
    """An uncompressed grey TIFF that ends after its directory."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1), (278, 4, height), (279, 4, min(width * height, 2**32 - 1))]  # fmt: skip
    rows = b"".join(struct.pack("<HHII", tag, kind_, 1, value) for tag, kind_, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + bytes(4)


@register
def broken_metadata(rng: np.random.Generator, folder: Path) -> Case:
    """Valid pixels beside invalid EXIF, colour profiles, texts or animation data."""
    noise = rng.bytes(int(rng.integers(1, 60)))
    bomb = zlib.compress(bytes(60_000_000))
    rows = b"".join(b"\0" + bytes([90]) * 30 for _ in range(30))
    chunks = [
        chunk(b"eXIf", b"II*\0"), chunk(b"eXIf", noise), chunk(b"iCCP", b"a\0\0" + noise), chunk(b"gAMA", b"\0\0\0\0"),
        chunk(b"iCCP", b"a\0\0" + bomb), chunk(b"zTXt", b"a\0\0" + noise), chunk(b"tRNS", b"\0\x5a"),
        chunk(b"acTL", struct.pack(">II", 0, 0)), chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), chunk(b"sRGB", b"\0"),
        chunk(b"pHYs", struct.pack(">IIB", 0, 0, 9)), chunk(b"tEXt", noise), chunk(b"xxxx", noise), chunk(b"zTXt", b"a\0\0" + bomb),
    ]  # fmt: skip
    if rng.random() < 0.6:
        metadata = chunks[rng.integers(len(chunks))]
        return write(
            folder, "metadata.png", png(30, 30, rows, extra=metadata)
        ), "either" if bomb in metadata or noise in metadata else "image"
    content = encode(gradient_image(rng), "JPEG")
    start = {0: b"Exif\0\0", 1: b"Exif\0\0II*\0", 2: b"MPF\0II*\0", 3: b"ICC_PROFILE\0\1\1", 4: b"", 5: b"Adobe"}[
        int(rng.integers(6))
    ]
    marker = {b"E": 0xE1, b"M": 0xE2, b"I": 0xE2, b"A": 0xEE}.get(start[:1], 0xE1)
    segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(start) + len(noise)) + start + noise
    return write(folder, "metadata.jpg", content[:2] + segment + content[2:]), "either"


@register
def orientation(rng: np.random.Generator, folder: Path) -> Case:
    image, value = gradient_image(rng), int(rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 65535]))
    exif = image.getexif()
    exif[0x0112] = value
    name = str(rng.choice(["JPEG", "PNG", "WEBP", "TIFF"]))
    return write(folder, f"orientation{value}.{FORMATS[name]}", encode(image, name, exif=exif)), "image"


@register
def unusual_names(rng: np.random.Generator, folder: Path) -> Case:
    names = [b"$x_{$.png", b"\xff\xfe.png", b"x" * 251 + b".png", "王小明.png".encode(), b"a\nb.png", b"\x1b[31mred.png", b" .png",
             b"-rf.png", b"100% #1 [a] & (b).png", b"noending", b"%s%n.png", b"\\.png", "👩‍👩‍👧.png".encode(), b"a'b\"c.png", b"~.png"]  # fmt: skip
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + names[rng.integers(len(names))]))
    path.write_bytes(encode(gradient_image(rng), "PNG"))
    return path, "image"


@register
def not_a_file(rng: np.random.Generator, folder: Path) -> Case:
    choice = int(rng.integers(9))
    path = folder / "special.jpg"
    if choice == 0:
        os.mkfifo(path)
    elif choice == 1:
        path.mkdir()
    elif choice == 2:
        path.symlink_to(folder / "missing")
    elif choice == 3:
        path.symlink_to(path)
    elif choice == 4:
        with socket.socket(socket.AF_UNIX) as bound, _working_folder(folder):
            bound.bind("special.jpg")
    elif choice == 5:
        path.symlink_to("/dev/zero")
    elif choice == 6:
        path.symlink_to("/dev/null")
    elif choice == 7:
        path = folder / ("y" * 400 + ".jpg")
    return (str(path) + "\0") if choice == 8 else path, "error"


class _working_folder:
    """Context manager that changes the working folder, because the paths of sockets have to be short."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self):
        self.before = os.getcwd()
        os.chdir(self.folder)

    def __exit__(self, *_):
        os.chdir(self.before)


@register
def long_images(rng: np.random.Generator, folder: Path) -> Case:
    width, height = ((8, 30_000), (1080, 12_000), (1, 65_535), (65_535, 9), (20_000, 30), (3, 3))[rng.integers(6)]
    image = Image.new("RGB", (width, height), (200, 180, 90))
    return write(folder, "long.png", encode(image, "PNG", compress_level=1)), "image"


@register
def arrays(rng: np.random.Generator, folder: Path) -> Case:
    valid = np.asarray(gradient_image(rng))
    choices: list[Case] = [
        (valid, "image"), (valid[::-1, ::-1], "image"), (np.asfortranarray(valid), "image"), (valid[..., 0], "image"),
        (valid[..., :1], "image"), (np.concatenate([valid, valid[..., :1]], 2), "image"), (valid.astype(np.uint16), "image"),
        (valid.astype(np.float32), "error"), (valid * np.nan, "error"), (valid[..., :2], "error"),
        (valid[None], "error"), (valid[:0], "error"), (valid > 9, "error"), (valid.astype(object), "error"),
        (valid.astype(np.int64) - 500, "error"), (np.array("text"), "error"), (valid.astype(complex), "error"),
        (np.zeros((0, 0, 3), np.uint8), "error"), (np.zeros((5, 5, 5, 5, 5), np.uint8), "error"),
    ]  # fmt: skip
    return choices[rng.integers(len(choices))]


@register
def pil_images(rng: np.random.Generator, folder: Path) -> Case:
    image = gradient_image(rng)
    modes = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I"]
    choice = int(rng.integers(len(modes) + 4))
    if choice < len(modes):
        mode = modes[choice]
        return Image.new("LAB", image.size, (150, 128, 128)) if mode == "LAB" else image.convert(mode), "image"
    if choice == len(modes):
        return image.convert("F"), "error"
    if choice == len(modes) + 1:
        return Image.new("RGB", (0, 9)), "error"
    if choice == len(modes) + 2:
        return ImageOps.mirror(image), "image"
    with Image.open(write(folder, "closed.png", encode(image, "PNG"))) as closed:
        pass
    return closed, "error"


@register
def other_types(rng: np.random.Generator, folder: Path) -> Case:
    return [None, 7, 3.5, {}, object(), {"a"}, True, ...][rng.integers(8)], "error"


def status(name: str) -> int:
    """A value of /proc/self/status in kB, 0 on systems without it."""
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1])


def outcome(pipeline, photo: object, name: str) -> str:
    """ "image" or "error", or a description of what is wrong."""
    result = pipeline([photo])[0]
    if result.error is None:
        for face in result:
            if not all(np.isfinite(value).all() for value in (face.box, face.landmarks, face.embedding)):
                return "values that are not finite"
        return "image"
    text = str(result.error)
    if isinstance(result.error, MemoryError) or not text or len(text) > 600:
        return f"an unclear error: {result.error!r}"[:300]
    if isinstance(photo, Path) and name not in text:
        return f"an error that does not name {name}: {text}"[:300]
    if not text.isprintable():
        return f"an error with control characters: {text!r}"
    return "error"


def hang(*_: object) -> None:
    raise TimeoutError(f"took over {SECONDS} seconds")


def main() -> None:
    from facelib import FacePipeline
    from facelib.io.files import printable

    count, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    pipeline = FacePipeline.from_pretrained("retinaface", device="cpu")
    warnings.simplefilter("ignore")
    pipeline([np.zeros((64, 64, 3), np.uint8)])
    signal.signal(signal.SIGALRM, hang)
    names = list(KINDS)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        case_folder = folder / str(i)
        case_folder.mkdir()
        kind = names[i % len(names)]
        photo, expected = KINDS[kind](rng, case_folder)
        print(json.dumps({"case": i, "kind": kind, "photo": printable(photo)[-80:], "expected": expected}), flush=True)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak memory
        before, start = status("VmRSS:"), time.perf_counter()
        signal.alarm(SECONDS)
        try:
            got = outcome(pipeline, photo, printable(photo.name)[:40] if isinstance(photo, Path) else "")
        except BaseException as error:
            got = f"{type(error).__name__}: {error}"[:300]
        signal.alarm(0)
        seconds, grown = time.perf_counter() - start, (status("VmHWM:") - before) / 1000
        print(json.dumps({"case": i, "got": got, "seconds": round(seconds, 2), "MB": round(grown)}), flush=True)


if __name__ == "__main__":
    main()
