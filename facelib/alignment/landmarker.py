"""From a face box to five landmarks: the square crop, its tensor, and the stacked hourglass."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from facelib.alignment.crop import CROP_SCALE, check_rgb, crop_matrix, image_to_tensor, transform_points, warp_image
from facelib.alignment.heatmaps import DECODERS, cells_to_image, heatmap_confidence, heatmaps_to_points, spatial_softmax
from facelib.alignment.hourglass import StackedHourglass
from facelib.runtime.batching import batches, forbid_fork
from facelib.runtime.manifest import read_preprocessing
from facelib.runtime.onnx import OnnxNetwork, onnx_network
from facelib.runtime.weights import load_weights
from facelib.settings import MODELS

LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
MIRRORED = [1, 0, 2, 4, 3]  # order of the landmarks after a flip: left and right are the image's
SHIPPED = "hourglass_keypoints.pt"
# What a manifest may ask of the pictures: field -> what can be obeyed.
PREPROCESSING = {
    "input_size": range(32, 1025, 32),
    "crop_scale": (CROP_SCALE,),
    "range": ([-1, 1],),
    "colour": ("RGB",),
    "activation": ("softmax", "none"),
    "decoder": DECODERS,
}


class HourglassLandmarker:
    """A trained stacked hourglass and what is needed to use it. Made by `load_landmarker`.

    Args:
        input_size: side of the network's input in pixels.
        activation: "softmax" for a network trained with `distribution_loss`, whose maps become
            distributions over cells; "none" for one whose maps are heatmaps already.
        decoder: see `heatmaps_to_points`.
        flip: also predict the mirrored crop and average; more exact, twice as slow.
        model_id: the first digits of the hash of its weights.
    """

    def __init__(
        self,
        model: StackedHourglass,
        input_size: int,
        activation: str = "none",
        decoder: str = "gaussian",
        batch_size: int = 16,
        flip: bool = False,
        model_id: str = "unknown",
    ):
        self.model, self.input_size, self.activation, self.decoder = model.eval(), input_size, activation, decoder
        self.batch_size, self.flip = batch_size, flip
        self.model_id = model_id
        self.network: Callable[[torch.Tensor], torch.Tensor] = self.model  # what runs: it, or its ONNX form

    def fingerprint(self) -> str:
        """A hash of weights and settings: equal fingerprints give equal landmarks."""
        state = b"".join(v.cpu().numpy().tobytes() for v in self.model.state_dict().values())
        settings = f"{self.input_size} {self.activation} {self.decoder} {self.flip}"
        return hashlib.sha256(state + settings.encode()).hexdigest()

    def predict(self, images: list[np.ndarray], boxes: list[np.ndarray], stack: int = -1) -> list[np.ndarray]:
        """Landmarks of all faces of all photos, in batches over photos.

        Args:
            images: RGB uint8 photos (H, W, 3).
            boxes: for each photo (n, 4) face boxes x1, y1, x2, y2 in its pixels; they may reach beyond it, but the
                middle of a box must not lie further outside than the box is large.
            stack: whose heatmaps are read; the last one's are the best.

        Returns:
            For each photo (n, 5, 2) float32 in photo coordinates, in the order of `LANDMARKS`; a landmark
            may lie outside the photo where a face does.

        Raises:
            ValueError: an image that is not RGB uint8, boxes of another shape or without area.
        """
        return self.predict_with_confidence(images, boxes, stack)[0]

    def predict_with_confidence(
        self, images: list[np.ndarray], boxes: list[np.ndarray], stack: int = -1
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """As `predict`, and for each photo (n, 5) float32: how sure each landmark is, see `heatmap_confidence`."""
        if len(images) != len(boxes):
            raise ValueError(f"{len(images)} images but {len(boxes)} lists of boxes")
        boxes = [np.asarray(b, np.float64) for b in boxes]
        for i, (image, many) in enumerate(zip(images, boxes)):
            check_rgb(image, f"image {i}")
            if many.size and (many.ndim != 2 or many.shape[1] != 4):
                raise ValueError(f"boxes {i} of shape {many.shape}: expected (n, 4), x1 y1 x2 y2 for each face")
        boxes = [many.reshape(-1, 4) for many in boxes]
        for i, (image, many) in enumerate(zip(images, boxes)):
            _check_boxes(many, image, f"boxes {i}")
        faces = [(image, crop_matrix(box, self.input_size)) for image, many in zip(images, boxes) for box in many]
        found, sure = [np.zeros((0, 5, 2), np.float32)], [np.zeros((0, 5), np.float32)]
        for part in batches(len(faces), self.batch_size, few_sizes=not isinstance(self.network, OnnxNetwork)):
            batch = faces[part]
            crops = np.stack([warp_image(image, matrix, self.input_size) for image, matrix in batch])
            maps = self.heatmaps(crops)[stack]
            with torch.autocast("cpu", enabled=False):
                cells = heatmaps_to_points(maps, self.decoder)
                sure.append(heatmap_confidence(maps, cells).numpy())
            points = cells_to_image(cells, self.model.STRIDE).numpy()
            inverse = [np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2] for _, matrix in batch]
            found.append(np.stack([transform_points(p, m) for p, m in zip(points, inverse)]))
        if not boxes:
            return [], []
        ends = np.cumsum([len(b) for b in boxes])[:-1]
        return np.split(np.concatenate(found), ends), np.split(np.concatenate(sure), ends)

    def predict_crops(self, crops: np.ndarray, stack: int = -1) -> np.ndarray:
        """Square crops (n, s, s, 3) uint8 -> landmarks (n, 5, 2) in crop pixels, float32."""
        with torch.autocast("cpu", enabled=False):
            points = heatmaps_to_points(self.heatmaps(crops)[stack], self.decoder)
        return cells_to_image(points, self.model.STRIDE).numpy()

    def heatmaps(self, crops: np.ndarray) -> torch.Tensor:
        """Square crops (n, s, s, 3) uint8, s = `input_size` -> heatmaps of all stacks (stacks, n, 5, s/4, s/4).

        Raises:
            ValueError: crops of another size or type. RuntimeError: in a forked process, see `forbid_fork`.
        """
        forbid_fork()
        side = self.input_size
        if crops.shape[1:] != (side, side, 3) or crops.dtype != np.uint8:
            raise ValueError(
                f"crops of shape {crops.shape} and type {crops.dtype}: expected uint8 (n, {side}, {side}, 3); "
                "cut them with warp_image(image, crop_matrix(box, input_size), input_size)"
            )
        if len(crops) == 0:
            stacks, points = self.model.arguments["stacks"], self.model.arguments["points"]
            shape = (stacks, 0, points, side // self.model.STRIDE, side // self.model.STRIDE)
            return torch.zeros(shape, dtype=torch.float32, device="cpu")
        return self.heatmaps_of(torch.stack([image_to_tensor(crop) for crop in crops]))

    @torch.inference_mode()
    def heatmaps_of(self, images: torch.Tensor) -> torch.Tensor:
        """What the network sees, (n, 3, s, s) from `image_to_tensor`, -> as `heatmaps`."""
        images = images.to(next(self.model.parameters()).device, memory_format=torch.channels_last)
        activate = {"softmax": spatial_softmax, "none": lambda maps: maps}[self.activation]
        with torch.autocast(images.device.type, enabled=False):  # whatever the caller computes in
            maps = activate(self.network(images).float())
            if self.flip:
                mirrored = activate(self.network(images.flip(3)).float())
                maps = (maps + mirrored.flip(4)[:, :, MIRRORED]) / 2
        return maps.cpu()


def _check_boxes(boxes: np.ndarray, image: np.ndarray, name: str) -> None:
    """Raise ValueError for boxes that are no pixels of this photo."""
    sides, middles = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    size = np.array(image.shape[1::-1])
    far = ((middles < -sides) | (middles > size + sides)).any(1)
    wrong = np.flatnonzero(far | ((sides > 0) & (sides < 1)).any(1))
    if len(wrong):
        raise ValueError(
            f"{name}: {boxes[wrong[0]].tolist()} is no face box of a photo of {size[0]} x {size[1]} pixels: expected "
            "x1, y1, x2, y2 in its pixels, at least one pixel large and near the photo"
        )


def load_landmarker(
    weights: str | Path | None = None,
    device: str | None = None,
    batch_size: int = 16,
    flip: bool = False,
    runtime: str = "torch",
) -> HourglassLandmarker:
    """The trained hourglass.

    Args:
        weights: a file listed in the manifest beside it; None: the shipped one.
        device: see `select_device`.
        flip: also predict the mirrored crop and average, more exact and twice as slow.
        runtime: "torch", "onnx" (ONNX Runtime, on a CPU in less than half of the time, see `OnnxNetwork`), or "auto":
            the quicker one for the device.

    Raises:
        FileNotFoundError, ValueError: see `load_weights`; ValueError also for pictures that the manifest describes
            otherwise than this code makes them, and an unknown runtime.
    """
    path = Path(weights) if weights else MODELS / SHIPPED
    model, entry = load_weights(path, StackedHourglass, device)
    fields = read_preprocessing(path, entry, PREPROCESSING)
    settings = {name: fields[name] for name in ("input_size", "activation", "decoder")}
    landmarker = HourglassLandmarker(model, **settings, batch_size=batch_size, flip=flip, model_id=entry["sha256"][:8])
    if onnx := onnx_network(model, landmarker.input_size, runtime, batch_axis=1):
        landmarker.network = onnx
    return landmarker
