"""Each augmentation of an image does what it says."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from facelib.training.augmentation import (
    SIDES,
    apply_where,
    blur,
    brightness,
    degrade,
    jpeg,
    low_resolution,
    random_erasing,
    relight,
    saturate,
    side_light,
)
from facelib.training.rng import PerSampleRNG


@pytest.fixture(scope="module")
def images(pipeline, photo):
    faces = np.stack([face.aligned for face in pipeline(photo)])
    return torch.from_numpy(faces).permute(0, 3, 1, 2).float()


def test_jpeg_is_that_of_pillow(images):
    """Far nearer to what Pillow writes at the same quality than to the picture itself where that matters."""
    for quality, ratio in ((10, 0.25), (30, 0.6), (75, 0.8)):
        ours = jpeg(images, torch.full((6,), float(quality))).permute(0, 2, 3, 1).numpy()
        for mine, image in zip(ours, images.permute(0, 2, 3, 1).byte().numpy()):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=quality)
            theirs = np.asarray(Image.open(file)).astype(float)
            assert np.abs(mine - theirs).mean() < ratio * np.abs(theirs - image).mean()


def test_numbers_that_change_nothing(images):
    one, zero = torch.ones(6), torch.zeros(6)
    assert torch.allclose(relight(images, one, one, one, torch.ones(6, 3)), images, atol=0.05)
    assert torch.equal(side_light(images, zero, zero), images)
    assert torch.allclose(saturate(images, one), images, atol=1e-3)
    assert torch.equal(low_resolution(images, -one), images)
    sharp = torch.zeros(6, 7)
    sharp[:, 3] = 1
    assert torch.allclose(blur(images, sharp, one.bool()), images)
    assert torch.equal(degrade(images, PerSampleRNG(0, torch.arange(6)), 0.0), images)


def test_what_each_does(images):
    one = torch.ones(6)
    grey = saturate(images, 0 * one)
    assert torch.allclose(grey[:, 0], grey[:, 1])
    assert torch.allclose(brightness(grey), brightness(images), atol=1e-2)
    assert torch.allclose(relight(images, one, one, 0.5 * one, torch.ones(6, 3)), images / 2, atol=0.05)
    flat = torch.full((1, 3, 112, 112), 100.0)
    lit = side_light(flat, torch.tensor([0.5]), torch.tensor([0.0]))
    assert lit[0, 0, 50, 111] / lit[0, 0, 50, 0] == pytest.approx(np.e, rel=1e-3)
    detail = [(low_resolution(images, level * one) - images).abs().mean().item() for level in range(len(SIDES))]
    assert detail == sorted(detail, reverse=True)
    assert detail[-1] > 0.5
    smooth = torch.full((6, 7), 1 / 7)
    down, across = (blur(images, smooth, torch.full((6,), upright)) for upright in (True, False))
    assert (down.diff(dim=2).abs().mean()) < (across.diff(dim=2).abs().mean())
    assert (across.diff(dim=3).abs().mean()) < (down.diff(dim=3).abs().mean())
    hidden = random_erasing(images, torch.full((6, 2), 50.0), torch.full((6, 2), 10.0), torch.full((6, 3), 7.0))
    assert (hidden == 7).all(1).float().sum((1, 2)).tolist() == pytest.approx([19 * 19] * 6, abs=3)


def test_some_only(images):
    chosen = torch.tensor([True, False, False, True, False, False])
    result = apply_where(saturate, images, chosen, torch.zeros(6))
    assert torch.equal(result[~chosen], images[~chosen])
    assert (result[chosen] != images[chosen]).any()
    assert apply_where(saturate, images, torch.zeros(6, dtype=torch.bool), torch.zeros(6)) is images


def test_spoiled_pictures_stay_pictures(images):
    many = images.repeat(20, 1, 1, 1)
    result = degrade(many, PerSampleRNG(1, torch.arange(120)), 1.0, side_light_std=0.2)
    assert result.shape == many.shape
    assert result.isfinite().all()
    assert 0 <= result.min() <= result.max() <= 255
    grey = (result[:, 0] - result[:, 1]).abs().amax((1, 2)) < 1
    assert 3 <= grey.sum() <= 40


def test_chance_is_uniform_normal_and_the_pictures_own():
    rng = PerSampleRNG(5, torch.arange(20_000))
    uniform, normal = rng.uniform(3), rng.normal(2)
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)
    assert uniform.std() == pytest.approx(12**-0.5, abs=0.01)
    assert abs(np.corrcoef(uniform.T.numpy())[np.triu_indices(3, 1)]).max() < 0.03
    assert normal.mean() == pytest.approx(0, abs=0.02)
    assert normal.std() == pytest.approx(1, abs=0.02)
    again = PerSampleRNG(5, torch.tensor([17, 3]))
    assert torch.equal(again.uniform(3), uniform[[17, 3]])
    assert torch.equal(again.normal(2), normal[[17, 3]])
    assert not torch.equal(PerSampleRNG(6, torch.tensor([17, 3])).uniform(3), uniform[[17, 3]])
