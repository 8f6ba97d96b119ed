"""Face alignment by a similarity transform: the landmarks are moved to fixed points of a 112 x 112 image."""

import numpy as np

from facelib.alignment.crop import check_rgb, warp_image

SIZE = 112  # side of an aligned face in pixels
# Positions of the landmarks in the aligned face, in pixels. Symmetric about the middle column (55.5), so that
# a mirrored face is aligned like its original; otherwise close to the usual template of ArcFace.
TEMPLATE = np.array([[38.0, 51.6], [73.0, 51.6], [55.5, 71.7], [41.0, 92.3], [70.0, 92.3]], np.float32)
METHODS = ("five_points", "eyes")


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity transform (rotation, scale, translation) from `source` to `target`.

    The closed form of Umeyama (1991) for two dimensions, without reflection: with points as complex
    numbers z and w about their means, the best factor is sum(conj(z) w) / sum(|z|^2). Points
    less than a pixel apart, which have no direction, are treated as if their spread were one pixel.

    Args:
        source, target: (n, 2), n >= 2.

    Returns:
        (2, 3) matrix.

    Raises:
        ValueError: other shapes, NaN or infinity.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"points of shape {source.shape} and {target.shape}: expected both (n, 2) with n >= 2")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("points hold NaN or infinity: remove faces without landmarks before aligning")
    z, w = ((p - p.mean(0)) @ [1, 1j] for p in (source, target))
    spread = (np.abs(z) ** 2).sum()
    factor = (z.conj() * w).sum() / spread if spread >= 1 else np.sqrt((np.abs(w) ** 2).sum())
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.hstack([linear, (target.mean(0) - linear @ source.mean(0))[:, None]])


def alignment_matrix(landmarks: np.ndarray, method: str = "five_points") -> np.ndarray:
    """Affine map (2, 3) from a photo to the aligned face, for the landmarks (5, 2) of one face.

    Args:
        method: "eyes": the eyes are level and 35 pixels apart, exactly at their template positions.
            "five_points": the least-squares similarity of all five landmarks; it is stable for heads in profile,
            whose eyes are close to each other.

    Raises:
        ValueError: landmarks of another shape or not finite, or an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    landmarks = np.asarray(landmarks)
    if landmarks.shape != (5, 2):
        raise ValueError(f"landmarks of shape {landmarks.shape}: expected (5, 2)")
    count = 2 if method == "eyes" else 5
    return similarity_transform(landmarks[:count], TEMPLATE[:count])


def align_faces(image: np.ndarray, landmarks: np.ndarray, method: str = "five_points") -> np.ndarray:
    """Align all faces of a photo: upright crops of one size.

    Args:
        image: RGB uint8 (H, W, 3).
        landmarks: (n, 5, 2) in pixels of the photo: the eye on the left of the image of an upright face, the other
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
    """Check the order of the eyes in landmarks (n, 5, 2).

    The cross product of the vector from the first eye to the second and that from the eyes to the mouth is positive
    at any in-plane rotation. Faces in profile, whose eyes nearly coincide, are not checked.

    Raises:
        ValueError: a face has the eyes in the order of other libraries, the person's left eye first.
    """
    eyes = landmarks[:, 1] - landmarks[:, 0]
    down = landmarks[:, 3:].mean(1) - landmarks[:, :2].mean(1)
    cross = eyes[:, 0] * down[:, 1] - eyes[:, 1] * down[:, 0]
    frontal = np.linalg.norm(eyes, axis=1) > 0.3 * np.linalg.norm(down, axis=1)
    mirrored = np.flatnonzero(frontal & (cross < 0))
    if len(mirrored):
        raise ValueError(
            f"landmarks of face {mirrored[0]}: the first eye lies right of the second, with the mouth below them; "
            "expected the eye on the left of the image first, the person's right eye: landmarks[:, [1, 0, 2, 4, 3]]"
        )


def warp_faces(image: np.ndarray, landmarks: np.ndarray, method: str = "five_points") -> np.ndarray:
    """As `align_faces`, without its checks: for landmarks that our network predicted."""
    faces = [warp_image(image, alignment_matrix(points, method), SIZE) for points in landmarks]
    return np.stack(faces) if faces else np.zeros((0, SIZE, SIZE, 3), np.uint8)
