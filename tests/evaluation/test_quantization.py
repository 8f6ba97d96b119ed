"""The int8 trial: the quantised network computes nearly what the float32 one does."""

import numpy as np

from facelib.alignment.crop import crop_matrix, image_to_input, warp_image
from facelib.alignment.landmarker import load_landmarker
from facelib.evaluation.benchmarks.quantization import quantize
from facelib.runtime.onnx import OnnxNetwork


def test_a_quantised_hourglass_finds_the_same_peaks(tmp_path, photo, pipeline):
    landmarker = load_landmarker(runtime="onnx")
    boxes = np.stack([face.box for face in pipeline(photo)])
    side = landmarker.input_size
    images = image_to_input(np.stack([warp_image(photo, crop_matrix(box, side), side) for box in boxes]))
    quantize(landmarker.network.path, images, tmp_path / "int8.onnx", "MinMax")
    expected = landmarker.network(images)[-1]
    found = OnnxNetwork(tmp_path / "int8.onnx", batch_axis=1)(images)[-1]
    assert not np.array_equal(found, expected)
    cells = [maps.reshape(*maps.shape[:2], -1).argmax(-1) for maps in (found, expected)]
    rows, columns = np.unravel_index(np.stack(cells), expected.shape[2:])
    assert np.abs(np.diff(rows, axis=0)).max() <= 1 and np.abs(np.diff(columns, axis=0)).max() <= 1
