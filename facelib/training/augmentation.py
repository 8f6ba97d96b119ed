"""Augmentation that degrades whole batches of images on their device: light, blur, low resolution, noise, JPEG
compression, random erasing.

All functions take images (b, 3, h, w) float32 from 0 to 255 and parameters (b,), one for each image, and return images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from facelib.training.rng import PerSampleRNG

GREY = (0.299, 0.587, 0.114)  # share of red, green and blue in the brightness (ITU-R BT.601)
# The tables of the JPEG standard (ITU-T T.81, annex K) for quality 50.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))  # and 99 everywhere else
SIDES = (16, 20, 25, 32, 40, 51, 64, 80)  # that pictures are shrunk to


def as_column(values: Tensor) -> Tensor:
    """(b,) -> (b, 1, 1, 1)."""
    return values[:, None, None, None]


def brightness(images: Tensor) -> Tensor:
    """(b, 3, h, w) -> (b, 1, h, w)."""
    red, green, blue = images.split(1, 1)
    return (GREY[0] * red).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def relight(images: Tensor, gamma: Tensor, contrast: Tensor, gain: Tensor, tint: Tensor) -> Tensor:
    """Gamma, contrast about the mean, brightness, and a factor for each colour, `tint` (b, 3)."""
    images = (images / 255).clamp_(1e-4, 1).pow_(as_column(gamma))
    mean, factor = images.mean((1, 2, 3), keepdim=True), 255 * as_column(gain) * tint[:, :, None, None]
    return images.mul_(factor * as_column(contrast)).add_(factor * mean * (1 - as_column(contrast)))


def side_light(images: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Light from one side: its logarithm rises by `across` from the centre to the right border, and by `down` to the
    lower border."""
    height, width = images.shape[2:]
    x, y = (torch.linspace(-1, 1, n, device=images.device) for n in (width, height))
    ramp = as_column(across) * x + as_column(down) * y[:, None]
    return images * ramp.clamp_(-1.2, 1.2).exp_()


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Change the saturation; factor 0: grey."""
    return brightness(images).lerp(images, as_column(factor))


def blur(images: Tensor, weights: Tensor, vertical: Tensor) -> Tensor:
    """Blur along one direction with weights (b, k) of sum 1, k odd; `vertical` (b,) bool."""
    b, c, h, w = images.shape
    half = weights.shape[1] // 2
    images = torch.where(as_column(vertical), images, images.transpose(2, 3))  # so that all run down; h equals w
    padded = F.pad(images, (0, 0, half, half), mode="replicate").reshape(1, b * c, h + 2 * half, w)
    kernels = weights.repeat_interleave(c, 0)[:, None, :, None]
    images = F.conv2d(padded, kernels, groups=b * c).reshape(b, c, h, w)
    return torch.where(as_column(vertical), images, images.transpose(2, 3))


def low_resolution(images: Tensor, level: Tensor) -> Tensor:
    """Low resolution: shrink to `SIDES[level]` pixels and enlarge again; level -1: unchanged."""
    result = images.clone()
    for number, side in enumerate(SIDES):
        rows = torch.nonzero(level == number)[:, 0]
        if len(rows):
            small = F.interpolate(images[rows], size=(side, side), mode="bilinear", antialias=True)
            how = ("bilinear", "bicubic")[number % 2]
            result[rows] = F.interpolate(small, size=images.shape[2:], mode=how).clamp(0, 255)
    return result


def _dct_matrix(device: torch.device) -> Tensor:
    """(8, 8) orthonormal matrix of the discrete cosine transform; row k is a wave with k half periods."""
    k, i = torch.arange(8.0, device=device)[:, None], torch.arange(8.0, device=device)
    matrix = torch.cos((2 * i + 1) * k * torch.pi / 16) / 2
    matrix[0] /= 2**0.5
    return matrix


def _quantise(planes: Tensor, table: Tensor) -> Tensor:
    """Quantise the DCT of each 8 x 8 block of planes (b, c, h, w) in steps of table (b, 8, 8)."""
    b, c, h, w = planes.shape
    dct, steps = _dct_matrix(planes.device), table[:, None, None, :, None, :]
    blocks = planes.reshape(b, c, h // 8, 8, w // 8, 8)
    waves = torch.einsum("ij,bcujvk,lk->bcuivl", dct, blocks, dct)
    waves = (waves / steps).round() * steps
    return torch.einsum("ij,bcuivl,lk->bcujvk", dct, waves, dct).reshape(b, c, h, w)


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """JPEG compression with 4:2:0 chroma subsampling; quality (b,) from 1 to 100. Height and width: multiples of 16."""
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None]
    chrominance = torch.full((8, 8), 99.0)
    chrominance[:4, :4] = torch.tensor(CHROMINANCE)
    light_steps, colour_steps = (
        (table.to(images.device) * scale).clamp(1, 255) for table in (torch.tensor(LUMINANCE).float(), chrominance)
    )
    y = brightness(images)
    blue, red = (images[:, 2:] - y) / 1.772, (images[:, :1] - y) / 1.402
    y = _quantise(y - 128, light_steps) + 128
    colour = _quantise(F.avg_pool2d(torch.cat([blue, red], 1), 2), colour_steps)
    blue, red = F.interpolate(colour, scale_factor=2, mode="bilinear").split(1, 1)
    red, blue = y + 1.402 * red, y + 1.772 * blue
    green = (y - GREY[0] * red - GREY[2] * blue) / GREY[1]
    return torch.cat([red, green, blue], 1).clamp(0, 255)


def random_erasing(images: Tensor, centre: Tensor, half: Tensor, colour: Tensor) -> Tensor:
    """Cover a rectangle with one colour (Zhong et al. 2020, "Random Erasing Data Augmentation").

    Args:
        centre, half: (b, 2), its centre and half its sides, x and y in pixels. colour: (b, 3).
    """
    height, width = images.shape[2:]
    x, y = (torch.arange(float(n), device=images.device) for n in (width, height))
    inside_x = (x - centre[:, :1]).abs() < half[:, :1]
    inside_y = (y - centre[:, 1:]).abs() < half[:, 1:]
    inside = inside_y[:, None, :, None] & inside_x[:, None, None, :]
    return torch.where(inside, colour[:, :, None, None], images)


def add_noise(images: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian noise."""
    return (images + as_column(deviation) * torch.randn_like(images)).clamp_(0, 255)


def apply_where(operation, images: Tensor, chosen: Tensor, *values: Tensor) -> Tensor:
    """`operation(images, *values)` for the chosen (b,) images only."""
    rows = torch.nonzero(chosen)[:, 0]
    if not len(rows):
        return images
    return images.index_copy(0, rows, operation(images[rows], *(value[rows] for value in values)))


def degrade(images: Tensor, rng: PerSampleRNG, strength: float, side_light_std: float = 0.0) -> Tensor:
    """Degrade images as bad cameras, small photos and compression do; some are partly covered.

    Args:
        strength: 0 returns them unchanged; 1: a third has low resolution, a third is compressed, a seventh grey, an
            eighth dark, a tenth blurred, a seventh noisy, a fifth partly covered.
        side_light_std: standard deviation of `side_light`.
    """
    if not strength:
        return images
    s, side = strength, images.shape[-1]
    if side_light_std:
        across, down = rng.normal(std=side_light_std), rng.normal(std=0.6 * side_light_std)
        images = side_light(images, across, down)
    gain = rng.normal(std=0.22 * s).exp()
    gain = torch.where(rng.bernoulli(0.12 * s), gain * rng.uniform(low=0.2, high=0.7), gain)
    gamma, contrast = rng.normal(std=0.18 * s).exp(), rng.normal(std=0.2 * s).exp()
    images = relight(images, gamma, contrast, gain, rng.normal(3, std=0.06 * s).exp())
    colourful = rng.normal(std=0.3 * s).exp()
    images = saturate(images, torch.where(rng.bernoulli(0.15 * s), 0.0, colourful)).clamp(0, 255)
    weights = rng.uniform(7) ** 2
    images = apply_where(
        blur, images, rng.bernoulli(0.1 * s), weights / weights.sum(1, keepdim=True), rng.bernoulli(0.5)
    )
    level = rng.uniform(high=len(SIDES)).floor()
    images = low_resolution(images, torch.where(rng.bernoulli(0.33 * s), level, -1.0))
    noise = torch.where(rng.bernoulli(0.15 * s), rng.uniform(low=3, high=18), 0.0)
    images = apply_where(add_noise, images, noise > 0, noise)
    quality = torch.exp(rng.uniform(low=2.08, high=4.32))  # 8 to 75
    images = apply_where(jpeg, images, rng.bernoulli(0.33 * s), quality)
    centre, half = rng.uniform(2, high=side), rng.uniform(2, low=0.07 * side, high=0.27 * side)
    # A mask: from below the eyes to the chin.
    masked = rng.bernoulli(0.04 * s)
    mask = torch.tensor([side / 2, 0.85 * side], device=images.device), torch.tensor([0.41, 0.2], device=images.device)
    centre, half = (
        torch.where(masked[:, None], covering, value) for covering, value in ((mask[0], centre), (mask[1] * side, half))
    )
    return apply_where(random_erasing, images, masked | rng.bernoulli(0.2 * s), centre, half, rng.uniform(3, high=255))
