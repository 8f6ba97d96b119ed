"""Reading photos, and the one warp that cuts faces out of them. RGB uint8 (H, W, 3) everywhere."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Photo = str | Path | Image.Image | np.ndarray
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
MAX_PIXELS = 200_000_000


def read_image(photo: Photo) -> np.ndarray:
    """Any photo as RGB uint8 (H, W, 3), upright.

    Takes a path, a PIL image or an array. EXIF orientation is applied, transparency is put on white,
    16 bits become 8, grey becomes RGB, of an animation the first frame counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an image, damaged, empty, over 200 megapixels, or an array that is not
            uint8 (or uint16) of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        TypeError: neither path, PIL image nor array.
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    if isinstance(photo, Image.Image):
        return _from_pil(photo, f"the {photo.mode} image")
    if not isinstance(photo, str | Path):
        raise TypeError(f"a {type(photo).__name__} is no photo: give a path, a PIL image or an RGB array")
    path = Path(photo)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a photo, or list its photos with find_photos")
    try:
        with warnings.catch_warnings():  # our own limit is higher than Pillow's warning
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _from_pil(image, str(path))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read; is its content what the name says?") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has more than {MAX_PIXELS:,} pixels: shrink it first") from None
    except (OSError, SyntaxError, EOFError, IndexError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): fetch it again") from None


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    if image.width * image.height == 0:
        raise ValueError(f"{name} is empty ({image.width} x {image.height} pixels)")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{name} has {image.width} x {image.height} pixels: shrink it below {MAX_PIXELS:,}")
    image.seek(0)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip at 255
        return _from_array(np.asarray(image).astype(np.int64).clip(0, 65535).astype(np.uint16))
    if image.mode == "F":
        raise ValueError(f"{name} holds floating-point values: convert it to 8 bits")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.size == 0:
        raise ValueError(f"the array is empty, its shape is {array.shape}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"an array of shape {array.shape} is no photo: expected RGB of shape (H, W, 3)")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8:
        nan = " with NaN" if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any() else ""
        raise ValueError(
            f"an array of {array.dtype}{nan}: expected uint8, 0 to 255; values from 0 to 1 become that with "
            "(255 * array).round().astype('uint8')"
        )
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)
    if array.shape[2] == 4:
        return _from_pil(Image.fromarray(array, "RGBA"), "the RGBA array")
    return np.ascontiguousarray(array)


def check_rgb(image: np.ndarray, name: str = "an image") -> None:
    """Raise ValueError unless `image` is what `read_image` gives: RGB uint8 (H, W, 3), not empty."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{name} is a {type(image).__name__}: expected an RGB uint8 array from read_image")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"{name} of shape {image.shape} and type {image.dtype}: expected RGB uint8 (H, W, 3) from read_image"
        )


def find_photos(paths: list[str | Path]) -> list[Path]:
    """Photos named or lying in folders (searched to the bottom, in alphabetical order).

    A named file is kept whatever its ending, so that reading it gives the error, and so is a name
    that does not exist.
    """
    photos: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            photos += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            photos.append(path)
    return photos


def warp_image(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Cut a square out of a picture by an affine map; every crop and alignment goes through here.

    Where the square is smaller than what it shows by more than a half, the picture is averaged
    over blocks first, so that large faces do not alias. Outside the picture the border is repeated.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3) from picture to output, pixel centres at whole numbers.
        size: side of the output in pixels.

    Returns:
        (size, size, 3) uint8.
    """
    matrix = np.asarray(matrix, np.float64)
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    block = 2 ** int(np.floor(np.log2(1 / scale))) if scale <= 0.5 else 1
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ back[:, :2].T + back[:, 2]
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(corners.min(0)).astype(int) - 2 * block, 0, limit - 1)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2 * block, low + 1, limit)
    shrunk = np.maximum((high - low) // block, 1)
    high = np.minimum(high, low + shrunk * block)
    image = image[low[1] : high[1], low[0] : high[0]]
    if block > 1:
        image = cv2.resize(image, [int(s) for s in shrunk], interpolation=cv2.INTER_AREA)
    # full = (small + 0.5) * factor - 0.5 + low goes in front of the map
    factor = (high - low) / shrunk
    offset = 0.5 * factor - 0.5 + low
    matrix = np.hstack([matrix[:, :2] * factor, (matrix[:, :2] @ offset + matrix[:, 2])[:, None]])
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
