"""Aligned faces by classical warping: the landmarks go to fixed places of a 112 x 112 picture."""

import numpy as np

from facelib.alignment.crop import check_rgb, warp_image

SIZE = 112
# Where the landmarks go, in pixels of the aligned face. Symmetric about the middle column (55.5), so that
# a mirrored face is aligned like its original; otherwise close to the customary template of ArcFace.
TEMPLATE = np.array([[38.0, 51.6], [73.0, 51.6], [55.5, 71.7], [41.0, 92.3], [70.0, 92.3]], np.float32)
METHODS = ("five_points", "eyes")


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation, scale and shift that bring `source` closest to `target` in least squares.

    The closed form of Umeyama (1991) for two dimensions, without mirroring: with points as complex
    numbers z and w about their means, the best factor is sum(conj(z) w) / sum(|z|^2). Points
    less than a pixel apart, which have no direction, are treated as if they spread over one pixel.

    Args:
        source, target: (n, 2), n >= 2.

    Returns:
        (2, 3) matrix.

    Raises:
        ValueError: other shapes, or NaN.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"points of shape {source.shape} and {target.shape}: expected both (n, 2) with n >= 2")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("points hold NaN or infinity: drop faces without landmarks before aligning")
    z, w = ((p - p.mean(0)) @ [1, 1j] for p in (source, target))
    spread = (np.abs(z) ** 2).sum()
    factor = (z.conj() * w).sum() / spread if spread >= 1 else np.sqrt((np.abs(w) ** 2).sum())
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.hstack([linear, (target.mean(0) - linear @ source.mean(0))[:, None]])


def alignment_matrix(landmarks: np.ndarray, method: str = "five_points") -> np.ndarray:
    """Map (2, 3) from photo to aligned face for the landmarks (5, 2) of one face.

    "eyes": the eyes come to lie level, 35 pixels apart, exactly at their places.
    "five_points": the least-squares similarity of all five; it holds when the head turns and the
    eyes come close to each other.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    landmarks = np.asarray(landmarks)
    if landmarks.shape != (5, 2):
        raise ValueError(f"landmarks of shape {landmarks.shape}: expected (5, 2)")
    count = 2 if method == "eyes" else 5
    return similarity_transform(landmarks[:count], TEMPLATE[:count])


def align_faces(image: np.ndarray, landmarks: np.ndarray, method: str = "five_points") -> np.ndarray:
    """Cut all faces of a photo out, upright and of one size.

    Args:
        image: RGB uint8 (H, W, 3).
        landmarks: (n, 5, 2) in photo coordinates: the eye that is left in the picture of an upright face, the other
            eye, nose tip, mouth corners in the same order.
        method: see `alignment_matrix`.

    Returns:
        (n, 112, 112, 3) RGB uint8.

    Raises:
        ValueError: an image or landmarks of another shape, or landmarks in another order (see `check_order`).
    """
    check_rgb(image)
    landmarks = np.asarray(landmarks, np.float32)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (5, 2):
        raise ValueError(f"landmarks of shape {landmarks.shape}: expected (n, 5, 2)")
    check_order(landmarks)
    return warp_faces(image, landmarks, method)


def check_order(landmarks: np.ndarray) -> None:
    """Raise ValueError where a face's eyes are in the order that other libraries have: the person's left eye first.

    From the first eye to the second, the mouth has to lie to the right hand of the way, however the face is turned.
    Faces so far turned away that both eyes are nearly in one place are not judged.
    """
    eyes = landmarks[:, 1] - landmarks[:, 0]
    down = landmarks[:, 3:].mean(1) - landmarks[:, :2].mean(1)
    side = eyes[:, 0] * down[:, 1] - eyes[:, 1] * down[:, 0]
    plain = np.linalg.norm(eyes, axis=1) > 0.3 * np.linalg.norm(down, axis=1)
    mirrored = np.flatnonzero(plain & (side < 0))
    if len(mirrored):
        raise ValueError(
            f"landmarks of face {mirrored[0]}: the first eye lies right of the second, with the mouth below them; "
            "expected the eye on the left of the picture first, the person's right one: landmarks[:, [1, 0, 2, 4, 3]]"
        )


def warp_faces(image: np.ndarray, landmarks: np.ndarray, method: str = "five_points") -> np.ndarray:
    """As `align_faces`, for landmarks that our network found: whatever they are, something is cut."""
    faces = [warp_image(image, alignment_matrix(points, method), SIZE) for points in landmarks]
    return np.stack(faces) if faces else np.zeros((0, SIZE, SIZE, 3), np.uint8)
