import cv2
import numpy as np
from PIL import Image

from facelib.alignment.heatmaps import cells_to_image
from facelib.alignment.landmarker import MIRRORED
from facelib.datasets.face_list import FaceList
from facelib.training.landmark_data import LandmarkDataset, degradation, jitter_box


def test_augmentation_moves_image_and_points_together(tmp_path):
    """A spot of its own colour at each landmark is still there after turning, scaling and mirroring."""
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]])
    points = np.array([[80.3, 85.1], [112.2, 80.0], [97.5, 100.7], [85.0, 115.5], [112.8, 112.2]], np.float32)
    y, x = np.mgrid[:192, :192]
    spots = np.exp(-((x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2) / (2 * 3.0**2))
    image = np.einsum("phw,pc->hwc", spots, colours).clip(0, 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "spots.png")
    box = np.array([[53, 50, 139, 142]], np.float32)
    listed = FaceList([tmp_path / "spots.png"], np.zeros(1), np.full(1, "train"), box, points[None])
    dataset = LandmarkDataset(listed, 128)
    dataset.degrade = None
    mirrored = 0
    for seed in range(40):
        tensor, cells = dataset[seed]
        crop, found = ((tensor + 1) * 127.5).permute(1, 2, 0).numpy(), cells_to_image(cells, 4).numpy()
        at = np.array([crop[round(float(py)), round(float(px))] for px, py in found])
        nearest = np.abs(at[:, None] - colours).sum(2).argmin(1).tolist()
        assert nearest in ([0, 1, 2, 3, 4], MIRRORED)
        mirrored += nearest == MIRRORED
        assert np.abs(at - colours[nearest]).max() < 40  # the middle of the spot, not its slope
    assert 10 <= mirrored <= 30
    assert dataset[5][0].equal(dataset[5][0])


def test_degrading_moves_nothing(photo):
    """What is meant to change no landmark keeps the picture where it is."""
    degrade = degradation()
    face = np.ascontiguousarray(photo[:128, :128])
    before = cv2.cvtColor(cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).ravel()
    alike = []
    for seed in range(30):
        degrade.set_random_seed(seed)
        after = cv2.resize(degrade(image=face)["image"], (16, 16), interpolation=cv2.INTER_AREA)
        alike.append(np.corrcoef(before, cv2.cvtColor(after, cv2.COLOR_RGB2GRAY).ravel())[0, 1])
    assert np.median(alike) > 0.9


def test_jitter_stays_close():
    rng = np.random.default_rng(0)
    box = np.array([10.0, 10, 110, 90])
    for _ in range(50):
        moved = jitter_box(box, rng)
        assert np.abs((moved[:2] + moved[2:]) / 2 - [60, 50]).max() <= 8
        assert 80 <= moved[2] - moved[0] <= 125
