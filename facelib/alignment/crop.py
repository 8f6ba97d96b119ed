"""Square crops of RGB uint8 images (H, W, 3): the affine warp of all crops, and the conversion to network inputs."""

import cv2
import numpy as np

CROP_SCALE = 1.4  # side of the crop of a face / longer side of its box, so that a rotated head still fits


def check_rgb(image: np.ndarray, name: str = "an image") -> None:
    """Raise ValueError unless `image` is what `read_image` gives: RGB uint8 (H, W, 3), not empty."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{name} is a {type(image).__name__}: expected an RGB uint8 array from read_image")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"{name} of shape {image.shape} and type {image.dtype}: expected RGB uint8 (H, W, 3) from read_image"
        )


def crop_matrix(box: np.ndarray, size: int, angle: float = 0.0, scale: float = CROP_SCALE) -> np.ndarray:
    """Affine map (2, 3) from a photo to the square crop around a box; pixel centres have integer coordinates.

    Args:
        box: (4,) x1, y1, x2, y2 in edges: a photo of width w spans 0 to w in edges, -0.5 to w - 0.5 in pixel centres.
        size: side of the crop in pixels.
        angle: rotation of the crop in degrees, for augmentation.
        scale: side of the crop / longer side of the box.

    Raises:
        ValueError: a box that is not four finite numbers with x1 < x2 and y1 < y2.
    """
    box = np.asarray(box, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"box {box.tolist()}: expected x1, y1, x2, y2 with x1 < x2 and y1 < y2")
    side = scale * max(box[2] - box[0], box[3] - box[1])
    centre = (box[:2] + box[2:]) / 2 - 0.5
    radians = np.deg2rad(angle)
    linear = size / side * np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    return np.hstack([linear, ((size - 1) / 2 - linear @ centre)[:, None]])


def warp_image(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Warp an image to a square by an affine map; all crops and aligned faces are made by this function.

    Where the map shrinks by a factor of 2 or more, the image is averaged over blocks first, so that large faces do
    not alias. Outside the image its border is repeated.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3) from image to output; pixel centres have integer coordinates.
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
    # Compose the map with that from the shrunk part to the image: full = (small + 0.5) * factor - 0.5 + low.
    factor = (high - low) / shrunk
    offset = 0.5 * factor - 0.5 + low
    matrix = np.hstack([matrix[:, :2] * factor, (matrix[:, :2] @ offset + matrix[:, 2])[:, None]])
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply an affine map (2, 3) to points (..., 2) -> float32."""
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def image_to_input(image: np.ndarray) -> np.ndarray:
    """Network input of an image: RGB uint8 (h, w, 3) -> float32 (3, h, w) from -1 to 1; also (n, h, w, 3) at once."""
    return np.ascontiguousarray(np.moveaxis(image, -1, -3), np.float32) / np.float32(127.5) - np.float32(1)
