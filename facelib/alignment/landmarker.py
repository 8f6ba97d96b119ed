"""From a face box to five landmarks: square crop, stacked hourglass, heatmap decoding."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from facelib.alignment.crop import CROP_SCALE, check_rgb, crop_matrix, image_to_input, transform_points, warp_image
from facelib.alignment.heatmaps import DECODERS, cells_to_image, heatmap_confidence, heatmaps_to_points, spatial_softmax
from facelib.runtime.batching import batches, forbid_fork
from facelib.runtime.manifest import check_architecture, manifest_value, read_preprocessing, weights_entry
from facelib.runtime.networks import Network, as_network, open_network
from facelib.settings import MODELS

LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
MIRRORED = [1, 0, 2, 4, 3]  # order of the landmarks after a horizontal flip: left and right are those of the image
SHIPPED = "hourglass_keypoints.pt"
# Preprocessing that a manifest may prescribe: field -> supported values.
PREPROCESSING: dict[str, range | tuple] = {
    "input_size": range(32, 1025, 32),
    "crop_scale": (CROP_SCALE,),
    "range": ([-1, 1],),
    "colour": ("RGB",),
    "activation": ("softmax", "none"),
    "decoder": DECODERS,
}


class HourglassLandmarker:
    """A trained stacked hourglass with its pre- and postprocessing. Made by `load_landmarker`.

    Args:
        network: a `Network`, or a PyTorch module such as `StackedHourglass`: images (n, 3, s, s) from -1 to 1 ->
            heatmaps (stacks, n, 5, s / 4, s / 4).
        input_size: side s of the network's input in pixels.
        activation: "softmax" for a network trained with `distribution_loss`, whose outputs become
            distributions over cells; "none" for one whose outputs are heatmaps.
        decoder: see `heatmaps_to_points`.
        batch_size: faces that go through the network together.
        flip: average with the prediction for the mirrored crop; more accurate, twice as slow.
        model_id: first digits of the hash of the weights; "unknown" where they are not from a file.
    """

    def __init__(
        self,
        network: Any,
        input_size: int,
        activation: str = "none",
        decoder: str = "gaussian",
        batch_size: int = 16,
        flip: bool = False,
        model_id: str = "unknown",
    ):
        self.network: Network = as_network(network)
        self.input_size = input_size
        self.activation, self.decoder = activation, decoder
        self.batch_size, self.flip = batch_size, flip
        self.model_id = model_id

    @property
    def model(self) -> Any:
        """The PyTorch module. Raises RuntimeError where the network runs in ONNX Runtime."""
        return self.network.model  # type: ignore[attr-defined]

    def fingerprint(self) -> str:
        """A hash of weights and settings: equal fingerprints mean equal landmarks."""
        weights = self.network.fingerprint() if self.model_id == "unknown" else self.model_id
        settings = f"{weights} {self.input_size} {self.activation} {self.decoder} {self.flip}"
        return hashlib.sha256(settings.encode()).hexdigest()

    def predict(self, images: list[np.ndarray], boxes: list[np.ndarray], stack: int = -1) -> list[np.ndarray]:
        """Landmarks of all faces of several photos; batches span photos.

        Args:
            images: RGB uint8 photos (H, W, 3).
            boxes: for each photo (n, 4) face boxes x1, y1, x2, y2 in its pixels. They may extend beyond it, but the
                centre of a box must not lie further outside than the side of the box.
            stack: index of the hourglass whose heatmaps are decoded; the last one is the most accurate.

        Returns:
            For each photo (n, 5, 2) float32 in its pixels, in the order of `LANDMARKS`; a landmark
            may lie outside the photo.

        Raises:
            ValueError: an image that is not RGB uint8, boxes of another shape or without area.
        """
        return self.predict_with_confidence(images, boxes, stack)[0]

    def predict_with_confidence(
        self, images: list[np.ndarray], boxes: list[np.ndarray], stack: int = -1
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """As `predict`, and for each photo the confidence (n, 5) float32 of each landmark, see `heatmap_confidence`."""
        boxes = _checked_boxes(images, boxes)
        faces = [(image, crop_matrix(box, self.input_size)) for image, many in zip(images, boxes) for box in many]
        landmarks, confidence = [np.zeros((0, 5, 2), np.float32)], [np.zeros((0, 5), np.float32)]
        for part in batches(len(faces), self.batch_size, self.network.few_sizes):
            crops = np.stack([warp_image(image, matrix, self.input_size) for image, matrix in faces[part]])
            maps = self.heatmaps(crops)[stack]
            cells = heatmaps_to_points(maps, self.decoder)
            confidence.append(heatmap_confidence(maps, cells))
            inverse = [np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2] for _, matrix in faces[part]]
            points = zip(cells_to_image(cells), inverse)
            landmarks.append(np.stack([transform_points(in_crop, to_photo) for in_crop, to_photo in points]))
        if not boxes:
            return [], []
        ends = np.cumsum([len(many) for many in boxes])[:-1]
        return np.split(np.concatenate(landmarks), ends), np.split(np.concatenate(confidence), ends)

    def predict_crops(self, crops: np.ndarray, stack: int = -1) -> np.ndarray:
        """Square crops (n, s, s, 3) uint8 -> landmarks (n, 5, 2) in pixels of the crops, float32."""
        return cells_to_image(heatmaps_to_points(self.heatmaps(crops)[stack], self.decoder))

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """Square crops (n, s, s, 3) uint8, s = `input_size` -> heatmaps of all stacks (stacks, n, 5, s/4, s/4).

        Raises:
            ValueError: crops of another size or type.
            ForkError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        side = self.input_size
        if crops.shape[1:] != (side, side, 3) or crops.dtype != np.uint8:
            raise ValueError(
                f"crops of shape {crops.shape} and type {crops.dtype}: expected uint8 (n, {side}, {side}, 3); "
                "cut them with warp_image(image, crop_matrix(box, input_size), input_size)"
            )
        if len(crops) == 0:
            return self.heatmaps_of(np.zeros((1, 3, side, side), np.float32))[:, :0]
        return self.heatmaps_of(image_to_input(crops))

    def heatmaps_of(self, images: np.ndarray) -> np.ndarray:
        """As `heatmaps`, for network inputs (n, 3, s, s) from `image_to_input`."""
        maps = self._activated(images)
        if not self.flip:
            return maps
        mirrored = self._activated(images[..., ::-1])
        return (maps + mirrored[..., ::-1][:, :, MIRRORED]) / 2

    def _activated(self, images: np.ndarray) -> np.ndarray:
        maps = self.network(images)
        return spatial_softmax(maps) if self.activation == "softmax" else maps


def _checked_boxes(images: list[np.ndarray], boxes: list[np.ndarray]) -> list[np.ndarray]:
    """The boxes of each image as (n, 4) float64.

    Raises:
        ValueError: see `HourglassLandmarker.predict`.
    """
    if len(images) != len(boxes):
        raise ValueError(f"{len(images)} images but {len(boxes)} lists of boxes")
    arrays = [np.asarray(many, np.float64) for many in boxes]
    for i, (image, many) in enumerate(zip(images, arrays)):
        check_rgb(image, f"image {i}")
        if many.size and (many.ndim != 2 or many.shape[1] != 4):
            raise ValueError(f"boxes {i} of shape {many.shape}: expected (n, 4), x1 y1 x2 y2 for each face")
    arrays = [many.reshape(-1, 4) for many in arrays]
    for i, (image, many) in enumerate(zip(images, arrays)):
        _check_position(many, image, f"boxes {i}")
    return arrays


def _check_position(boxes: np.ndarray, image: np.ndarray, name: str) -> None:
    """Raise ValueError for boxes smaller than a pixel or far from the photo: they are in other units."""
    sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    size = np.array(image.shape[1::-1])
    far = ((centres < -sides) | (centres > size + sides)).any(1)
    wrong = np.flatnonzero(far | ((sides > 0) & (sides < 1)).any(1))
    if len(wrong):
        raise ValueError(
            f"{name}: {boxes[wrong[0]].tolist()} is no face box of a photo of {size[0]} x {size[1]} pixels: expected "
            "x1, y1, x2, y2 in its pixels, at least one pixel large and near the photo"
        )


def load_landmarker(
    weights: str | Path | None = None,
    device: Any = None,
    batch_size: int = 16,
    flip: bool = False,
    runtime: str = "auto",
) -> HourglassLandmarker:
    """Load a trained hourglass.

    Args:
        weights: a .pt file that the manifest beside it lists; None: the shipped one.
        device: see `resolve_device`; with PyTorch `select_torch_device`.
        batch_size, flip: see `HourglassLandmarker`.
        runtime: "auto" and "onnx": ONNX Runtime, with the .onnx file beside the weights; "auto" uses PyTorch for
            weights without one. "torch": PyTorch.

    Raises:
        FileNotFoundError, WeightsError: see `open_network`; WeightsError also for preprocessing that is not supported.
        RuntimeError: PyTorch is needed and not installed.
        ValueError: an unknown runtime, or a device that is not available.
    """
    path = Path(weights) if weights else MODELS / SHIPPED
    entry = weights_entry(path)
    check_architecture(path, entry, "StackedHourglass")
    load_module = functools.partial(_load_module, path, device)
    network = open_network(path, load_module, device, runtime, batch_axis=1)
    fields = read_preprocessing(path, entry, PREPROCESSING)
    return HourglassLandmarker(
        network,
        fields["input_size"],
        fields["activation"],
        fields["decoder"],
        batch_size,
        flip,
        model_id=manifest_value(path, entry, "sha256", among=str)[:8],
    )


def _load_module(path: Path, device: Any) -> Any:
    """The hourglass as a PyTorch module."""
    from facelib.alignment.hourglass import StackedHourglass
    from facelib.runtime.weights import load_weights

    return load_weights(path, StackedHourglass, device)[0]
