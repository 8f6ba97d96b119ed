"""What the tests share. They run on photos that come inside pip packages, without network."""

import os

os.environ["FACELIB_SIZE"] = "embedded"  # for the notebooks, which pytest runs in the same go

import matplotlib

matplotlib.use("Agg")

import pytest
import torch

from facelib import FacePipeline, load_detector, read_image, sample_photo
from facelib.checkpoints import data_folder


@pytest.fixture(scope="session")
def photo():
    """insightface's sample photo, six people, RGB uint8 (886, 1280, 3)."""
    return read_image(sample_photo())


@pytest.fixture(scope="session", params=["retinaface", "insightface"])
def detector(request):
    """Both detectors; insightface's only where its file is, so that no test needs the network."""
    if request.param == "insightface" and not (data_folder() / "models/buffalo_sc/det_500m.onnx").is_file():
        pytest.skip("det_500m.onnx is not under FACELIB_DATA")
    return load_detector(request.param, "cpu")


@pytest.fixture(scope="session")
def pipeline():
    """The shipped weights with the packaged detector, on the CPU."""
    torch.set_num_threads(2)
    return FacePipeline.from_pretrained("retinaface", device="cpu")
